//! How fast the screen is here: `cargo run --release -p coral-tui --example timing`

use std::time::Duration;

fn told(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    println!(
        "{what}: p50 {:?}  p99 {:?}  max {:?}",
        at(50),
        at(99),
        times.last().copied().unwrap_or_default()
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("first frame: {:?}", coral_tui::bench::first_frame((80, 24))?);
    told("draw 250x80", coral_tui::bench::draws((250, 80), 500)?);
    told(
        "key to bytes, 50,000 lines/s, 200x50",
        coral_tui::bench::keys_under_flood((200, 50), 50_000, 100)?,
    );
    println!("idle: {:?} bytes, draws", coral_tui::bench::idle((80, 24), 60)?);
    Ok(())
}
