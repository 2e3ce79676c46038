//! How fast the screen is here: `cargo run --release -p coral-tui --example timing`
//!
//! With `--draws N` it prints what each of N frames at 250×80 took, wall and processor time in
//! nanoseconds, a frame per line: what `make bench` reads.

use std::time::Duration;

use coral_tui::bench;

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
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("--draws") {
        let frames = args.next().and_then(|n| n.parse().ok()).unwrap_or(2_000);
        for drawn in bench::draws((250, 80), frames)? {
            println!("{} {}", drawn.wall.as_nanos(), drawn.cpu.as_nanos());
        }
        return Ok(());
    }
    println!("first frame: {:?}", bench::first_frame((80, 24))?);
    let draws = bench::draws((250, 80), 2_000)?;
    told("draw 250x80, wall", draws.iter().map(|d| d.wall).collect());
    told("draw 250x80, processor", draws.iter().map(|d| d.cpu).collect());
    told("key to bytes, 50,000 lines/s, 200x50", bench::keys_under_flood((200, 50), 50_000, 100)?);
    println!("idle: {:?} bytes, draws", bench::idle((80, 24), 60)?);
    Ok(())
}
