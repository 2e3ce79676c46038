//! `coral-daemon`: see the library.

fn main() {}
