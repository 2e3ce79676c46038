//! `coral-daemon`: see the library.

/// DuckDB's and this program's memory both. glibc keeps what a thread once needed in that thread's arena:
/// a third of a colony's memory under load was nothing but that (`docs/store.md`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    coral_daemon::lifecycle::main()
}
