//! `/proc/pressure/*`: pressure stall information, since 4.20.

use coral_model::view::Pressure;

/// Reads one of the files; the shares are those of the last 10 s, as the kernel computes them.
#[must_use]
pub fn pressure(text: &str) -> Option<Pressure> {
    let share = |kind: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(kind)?.strip_prefix(' '))?;
        let word = line.split_ascii_whitespace().find_map(|w| w.strip_prefix("avg10="))?;
        let percent: f64 = word.parse().ok()?;
        percent.is_finite().then(|| (percent / 100.0).clamp(0.0, 1.0))
    };
    // The line `full` of cpu came with 5.13.
    Some(Pressure { some: share("some")?, full: share("full") })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn cpu_has_no_full_line_on_older_kernels() {
        let old = pressure(fixtures::PRESSURE_CPU_OLD).unwrap();
        assert!((old.some - 0.001).abs() < 1e-9 && old.full.is_none());
        let new = pressure(fixtures::PRESSURE_CPU_6).unwrap();
        assert_eq!(new.full, Some(0.0));
        assert_eq!(pressure("some avg60=1.0"), None);
    }
}
