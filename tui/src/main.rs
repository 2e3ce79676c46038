//! tui
fn main() {}
