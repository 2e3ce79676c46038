//! Makes the built programs find DuckDB without `LD_LIBRARY_PATH`.
//!
//! `libduckdb.so` is linked beside the binaries (hard link, else copy), and they carry a run path
//! that looks there: `$ORIGIN` for programs, `$ORIGIN/..` for tests in `deps/`, `$ORIGIN/../lib`
//! for an installed tree. A static DuckDB (`--features bundled` of the duckdb crate) needs none of it.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-env-changed=DUCKDB_LIB_DIR");
    for path in ["$ORIGIN", "$ORIGIN/../lib", "$ORIGIN/.."] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{path}");
    }
    let Some(from) = std::env::var_os("DUCKDB_LIB_DIR").map(PathBuf::from) else {
        return Ok(());
    };
    let name = if cfg!(target_os = "macos") { "libduckdb.dylib" } else { "libduckdb.so" };
    let source = from.join(name);
    println!("cargo:rerun-if-changed={}", source.display());
    // OUT_DIR is <target>/<profile>/build/<package>-<hash>/out; the binaries lie in <profile>.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    if let Some(profile) = out.ancestors().nth(3) {
        place(&source, &profile.join(name))?;
    }
    Ok(())
}

/// Puts the library at `target`, never leaving a half-written one where a program could load it.
fn place(source: &Path, target: &Path) -> std::io::Result<()> {
    let source = source.canonicalize()?;
    let same = |a: &Path| std::fs::metadata(a).map(|m| (m.len(), m.modified().ok())).ok();
    if same(target).is_some() && same(target) == same(&source) {
        return Ok(());
    }
    let staging = target.with_extension("new");
    _ = std::fs::remove_file(&staging);
    if std::fs::hard_link(&source, &staging).is_err() {
        std::fs::copy(&source, &staging)?;
    }
    std::fs::rename(&staging, target)
}
