//! Figures: printed as a table, kept as JSON lines.

use std::fs::{File, OpenOptions};
use std::io::Write as _;

/// Whether more or less is better.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Nobody has set one.
    None,
}

/// What a peer reached in the same run.
pub struct Peer<'a> {
    /// Its name and version.
    pub name: &'a str,
    /// Its value, in the figure's unit.
    pub value: f64,
}

/// Collects figures.
pub struct Report {
    file: File,
    missed: Vec<String>,
}

impl Report {
    /// Opens `target/bench/figures.jsonl` for appending.
    pub fn open() -> anyhow::Result<Self> {
        std::fs::create_dir_all("target/bench")?;
        let file =
            OpenOptions::new().create(true).append(true).open("target/bench/figures.jsonl")?;
        println!("{:<34} {:>12} {:<10} {:>14}  {:<6} peer", "figure", "value", "unit", "goal", "");
        Ok(Self { file, missed: Vec::new() })
    }

    /// Records a figure.
    pub fn add(
        &mut self,
        figure: &str,
        value: f64,
        unit: &str,
        goal: Goal,
        peer: Option<&Peer<'_>>,
    ) -> anyhow::Result<()> {
        let (limit, ok, goal) = match goal {
            Goal::AtLeast(limit) => (Some(limit), value >= limit, format!("≥ {limit}")),
            Goal::AtMost(limit) => (Some(limit), value <= limit, format!("≤ {limit}")),
            Goal::None => (None, true, "–".to_owned()),
        };
        let against = peer.map_or_else(
            || "–".to_owned(),
            |p| format!("{} {:.1} (×{:.2})", p.name, p.value, value / p.value),
        );
        let verdict = if ok { "ok" } else { "MISSED" };
        println!("{figure:<34} {value:>12.1} {unit:<10} {goal:>14}  {verdict:<6} {against}");
        let line = serde_json::json!({
            "figure": figure, "value": value, "unit": unit, "goal": limit, "ok": ok,
            "peer": peer.map(|p| p.name), "peer_value": peer.map(|p| p.value),
        });
        writeln!(self.file, "{line}")?;
        if !ok {
            self.missed.push(figure.to_owned());
        }
        Ok(())
    }

    /// Says which goals were missed. A missed goal is not a failed run.
    pub fn finish(self) -> anyhow::Result<()> {
        if !self.missed.is_empty() {
            println!("\nmissed: {}", self.missed.join(", "));
        }
        Ok(())
    }
}

/// The `q`-quantile of samples, nearest rank.
pub fn quantile(samples: &mut [f64], q: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let rank = (q * samples.len() as f64).ceil() as usize;
    samples[rank.clamp(1, samples.len()) - 1]
}
