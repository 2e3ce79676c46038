//! `coral-daemon`: see the library.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// glibc keeps what a thread once needed in that thread's arena: a third of a colony's memory under load
/// was nothing but that (`docs/store.md`). Not DuckDB's as well (`override_allocator_on_supported_platforms`):
/// that process then never starts under a preloaded libfaketime, whose clock allocates.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How many arenas glibc may have, which DuckDB allocates from; read when a program begins.
const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "2");

fn main() -> ExitCode {
    let (name, few) = ARENAS;
    if std::env::var_os(name).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        // Comes back only where it cannot be begun once more; then it goes on with more memory.
        _ = Command::new(program).args(std::env::args_os().skip(1)).env(name, few).exec();
    }
    coral_daemon::lifecycle::main()
}
