//! Builds the eBPF programs in `bpf/` and hands them to the agent.
//!
//! They need a compiler with the standard library's sources, and `bpf-linker`; `make setup` brings
//! both. Without them the agent is built without eyes, says so here, and `coral doctor` says so too.
//! `CORAL_BPF=required` makes that an error: tests and releases use it.

use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rustc-check-cfg=cfg(coral_bpf)");
    for path in ["../bpf/src", "../bpf/types/src", "../bpf/Cargo.toml", "../bpf/Cargo.lock"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let linux = std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux");
    let built = if linux { build() } else { Err("they are for Linux".to_owned()) };
    match built {
        Ok(()) => {
            println!("cargo:rustc-cfg=coral_bpf");
            println!("cargo:rustc-env=CORAL_BPF_WHY=");
        }
        Err(why) => {
            let required = std::env::var("CORAL_BPF").as_deref() == Ok("required");
            assert!(!required, "the eBPF programs cannot be built: {why}");
            // Tried again as soon as that may have changed; once built, nothing of it matters.
            println!("cargo:rerun-if-env-changed=CORAL_BPF");
            println!("cargo:rerun-if-changed=no-such-file");
            println!("cargo:warning=no eBPF programs in this build: {why}");
            let line = why.lines().next().unwrap_or_default();
            println!("cargo:rustc-env=CORAL_BPF_WHY={line}");
        }
    }
}

/// A compiler that can build `core` for another machine.
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(var("OUT_DIR")?);
    let cache = match (std::env::var("CORAL_CACHE"), std::env::var("HOME")) {
        (Ok(cache), _) => PathBuf::from(cache),
        (Err(_), Ok(home)) => Path::new(&home).join(".cache/coral"),
        (Err(_), Err(_)) => out.clone(),
    };
    let linker = linker(&cache).ok_or("no bpf-linker; `make setup` brings it")?;
    let tools = toolchain().ok_or("no compiler with rust-src; `make setup` brings one")?;
    // Of this checkout alone: another one's programs have the same name.
    let mut hash = std::hash::DefaultHasher::new();
    var("CARGO_MANIFEST_DIR")?.hash(&mut hash);
    let target = cache.join("bpf-target").join(format!("{:016x}", hash.finish()));
    let mut cargo = Command::new(&tools.cargo);
    // Nothing of the build around this one holds for another machine.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let of_cargo = name.starts_with("CARGO") && name != "CARGO_HOME";
        if of_cargo || name.starts_with("RUST") && name != "RUSTUP_HOME" {
            cargo.env_remove(&*name);
        }
    }
    let output = cargo
        .current_dir(Path::new(&var("CARGO_MANIFEST_DIR")?).join("../bpf"))
        .args(["build", "--release", "--locked", "--quiet", "-Z", "build-std=core"])
        .args(["--target", "bpfel-unknown-none", "--target-dir"])
        .arg(&target)
        .env("RUSTC", &tools.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        // Without types of its own the kernel takes no program with a callback (`bpf_loop`).
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("-Clinker={}\u{1f}-Clink-arg=--btf", linker.display()),
        )
        .output()
        .map_err(|e| format!("{}: {e}", tools.cargo.display()))?;
    if !output.status.success() {
        return Err(format!("it failed\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let made = target.join("bpfel-unknown-none/release/coral-bpf");
    std::fs::copy(&made, out.join("coral-bpf.o"))
        .map(|_| ())
        .map_err(|e| format!("{}: {e}", made.display()))
}

fn var(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|e| format!("{name}: {e}"))
}

fn linker(cache: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([cache.join("bpf-linker/bin")]);
    dirs.map(|dir| dir.join("bpf-linker")).find(|program| program.exists())
}

/// rustup's nightly, else what the distribution has, else the one at work here; the first that has
/// the sources of `core`.
fn toolchain() -> Option<Toolchain> {
    let nightly =
        Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"]).output();
    let nightly = nightly.ok().filter(|output| output.status.success());
    let nightly = nightly.map(|o| PathBuf::from(String::from_utf8_lossy(&o.stdout).trim()));
    let here = std::env::var_os("RUSTC").map(PathBuf::from);
    let candidates = [nightly, Some(PathBuf::from("/usr/bin/rustc")), here];
    candidates.into_iter().flatten().find_map(|rustc| {
        let output = Command::new(&rustc).args(["--print", "sysroot"]).output().ok()?;
        let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let core = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml");
        let beside = rustc.parent()?.join("cargo");
        let cargo = if beside.exists() { beside } else { PathBuf::from("cargo") };
        core.exists().then_some(Toolchain { cargo, rustc })
    })
}
