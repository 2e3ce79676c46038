//! A profile, read and printed: what took most, and by which way.

use std::fmt::Write as _;
use std::path::Path;

use coral_model::num::f64_from;
use coral_model::text::{bytes, clean, count, duration, fit};
use coral_proto::pprof::{Measure, Profile};

use super::OpenError;

/// Rows of the table.
const TOP: usize = 25;
/// Rows of the tree.
const TREE: usize = 60;
/// Branches that took less than a hundredth are left out.
const LEAST: i64 = 100;

/// Reads a profile.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn read(path: &Path) -> Result<Profile, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let read = std::fs::read(path).map_err(io)?;
    Profile::read(&read).map_err(|source| OpenError::Profile { path: path.to_owned(), source })
}

/// Says what is in a profile.
#[must_use]
pub fn text(profile: &Profile, path: &Path) -> String {
    print(profile, &path.display().to_string())
}

fn print(profile: &Profile, name: &str) -> String {
    let mut out = String::new();
    let measure = profile.default;
    let Some(shown) = profile.measures.get(measure) else { return out };
    let total = profile.total(measure);
    let others: Vec<&str> = profile.measures.iter().map(|m| m.name.as_str()).collect();
    // Writing to a String cannot fail.
    _ = write!(out, "PROFILE {} · {} {}", clean(name), clean(&shown.name), amount(total, shown));
    if let Some(ns) = profile.duration_ns {
        _ = write!(out, " over {}", duration(ns));
    }
    if let Some(ns) = profile.time_ns {
        _ = write!(out, " · taken {}", coral_model::Time(ns));
    }
    _ = writeln!(out, "\nit holds {}\n", clean(&others.join(", ")));
    _ = writeln!(out, "{:>10} {:>6} {:>10} {:>6}  FUNCTION", "ITSELF", "", "WITH CALLS", "");
    for row in profile.top(measure).iter().take(TOP) {
        _ = writeln!(
            out,
            "{:>10} {:>6} {:>10} {:>6}  {}",
            amount(row.flat, shown),
            share(row.flat, total),
            amount(row.cumulative, shown),
            share(row.cumulative, total),
            fit(&clean(&row.name), 120)
        );
    }
    let tree = profile.tree(measure, total / LEAST);
    _ = writeln!(out, "\n{:>10} {:>6}  CALL", "WITH CALLS", "");
    for row in tree.iter().take(TREE) {
        _ = writeln!(
            out,
            "{:>10} {:>6}  {}{}",
            amount(row.cumulative, shown),
            share(row.cumulative, total),
            "  ".repeat(row.depth.min(30)),
            fit(&clean(&row.name), 100)
        );
    }
    if tree.len() > TREE {
        _ = writeln!(out, "and {} more", count(coral_model::num::u64_sat(tree.len() - TREE)));
    }
    out
}

/// An amount of what was measured, in its unit.
pub(crate) fn amount(n: i64, measure: &Measure) -> String {
    let size = n.unsigned_abs();
    let text = match measure.unit.as_str() {
        "nanoseconds" => duration(size),
        "microseconds" => duration(size.saturating_mul(1_000)),
        "milliseconds" => duration(size.saturating_mul(1_000_000)),
        "seconds" => duration(size.saturating_mul(1_000_000_000)),
        "bytes" => bytes(size),
        _ => count(size),
    };
    if n < 0 { format!("-{text}") } else { text }
}

/// A share in percent.
pub(crate) fn share(n: i64, of: i64) -> String {
    if of <= 0 {
        return "–".to_owned();
    }
    let percent = f64_from(n.unsigned_abs()) * 100.0 / f64_from(of.unsigned_abs());
    format!("{percent:.1}%")
}
