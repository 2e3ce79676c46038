//! The colony's library links DuckDB, which its own build puts beside the binaries.

fn main() {
    for path in ["$ORIGIN", "$ORIGIN/.."] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{path}");
    }
}
