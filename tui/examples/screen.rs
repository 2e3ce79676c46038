//! The screen over a colony that is not there, to look at and to work on:
//! `cargo run --release -p coral-tui --example screen -- incident|calm|empty|blind|hostile|large [logs per second] [theme]`

use std::sync::Arc;

use coral_tui::app::{Options, run};
use coral_tui::feed::fake::{Fake, Scenario};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let scenario = match args.next().as_deref() {
        Some("calm") => Scenario::Calm,
        Some("empty") => Scenario::Empty,
        Some("blind") => Scenario::Blind,
        Some("hostile") => Scenario::Hostile,
        Some("large") => Scenario::Large,
        _ => Scenario::Incident,
    };
    let logs_per_second = args.next().and_then(|n| n.parse().ok()).unwrap_or(100);
    let options = Options { theme: args.next(), utc: true, ..Options::default() };
    let farewell = run(&options, Arc::new(Fake { scenario, logs_per_second }))?;
    println!("{}", farewell.place);
    Ok(())
}
