//! A picture of the screen as SVG on standard output, made from the program's own cells:
//! `cargo run --release -p coral-tui --example picture -- incident 80x24 dark "j enter" > picture.svg`

use coral_tui::feed::fake::Scenario;
use coral_tui::runtime::Rehearsal;
use coral_tui::theme::Depth;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize| args.get(i).map(String::as_str);
    let scenario = match arg(0) {
        Some("calm") => Some(Scenario::Calm),
        Some("empty") => Some(Scenario::Empty),
        Some("blind") => Some(Scenario::Blind),
        Some("hostile") => Some(Scenario::Hostile),
        Some("large") => Some(Scenario::Large),
        Some("none") => None,
        _ => Some(Scenario::Incident),
    };
    let (width, height) = arg(1).and_then(|s| s.split_once('x')).unwrap_or(("80", "24"));
    let theme = arg(2).unwrap_or("dark");
    let depth = if theme == "mono" { Depth::Mono } else { Depth::True };
    let mut screen = Rehearsal::new(scenario, (width.parse()?, height.parse()?), theme, depth)?;
    for word in arg(3).unwrap_or_default().split_whitespace() {
        match word.strip_prefix("text:") {
            Some(text) => screen.type_text(&text.replace('_', " ")),
            None => screen.keys(word)?,
        }
    }
    let picture = coral_tui::export::svg(screen.look(), "Coral");
    print!("{picture}");
    Ok(())
}
