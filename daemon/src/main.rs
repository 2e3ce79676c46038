//! `coral-daemon`: see the library.

fn main() -> std::process::ExitCode {
    coral_daemon::lifecycle::main()
}
