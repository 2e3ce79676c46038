//! Numbers in as few columns as they can be read in.

use coral_model::text;
use coral_model::view::Connections;

/// A rate: `118/s`, `0.4/s`, `12.3k/s`; exactly none is `0/s`.
#[must_use]
pub fn hertz(per_second: f64) -> String {
    let r = per_second.max(0.0);
    if r == 0.0 {
        "0/s".into()
    } else if r < 0.01 {
        "<.01/s".into()
    } else if r < 1.0 {
        format!("{r:.2}/s")
    } else if r < 10.0 {
        format!("{r:.1}/s")
    } else {
        format!("{}/s", text::count(coral_model::num::u64_from_f64(r.round())))
    }
}

/// A share of failures: `0`, `<0.1%`, `9.1%`, `34%`.
#[must_use]
pub fn error_share(share: f64) -> String {
    let percent = share.clamp(0.0, 1.0) * 100.0;
    if percent == 0.0 {
        "0".into()
    } else if percent < 0.1 {
        "<0.1%".into()
    } else if percent < 9.95 {
        format!("{percent:.1}%")
    } else {
        format!("{percent:.0}%")
    }
}

/// A duration, or the mark for one that is not known.
#[must_use]
pub fn latency(ns: Option<u64>) -> String {
    ns.map_or_else(|| "–".into(), text::duration)
}

/// How far something moved: `▲18×`, `▼2.0×`, `≈`.
#[must_use]
pub fn ratio(ratio: f64) -> String {
    let (arrow, factor) = if ratio >= 1.0 {
        ("▲", ratio)
    } else if ratio > 0.0 {
        ("▼", 1.0 / ratio)
    } else {
        return "▼ to 0".into();
    };
    if factor < 1.15 {
        "≈".into()
    } else if factor < 9.95 {
        format!("{arrow}{factor:.1}×")
    } else if factor < 1000.0 {
        format!("{arrow}{factor:.0}×")
    } else {
        format!("{arrow}>999×")
    }
}

/// A signed duration: `+2.3ms`, `-14µs`.
#[must_use]
pub fn signed(ns: i64) -> String {
    let sign = if ns < 0 { '-' } else { '+' };
    format!("{sign}{}", text::duration(ns.unsigned_abs()))
}

/// Connections: how many are open and in use, how far away, and what went wrong:
/// `open 20.0 · 97% busy · rtt 213µs · 3 refused`.
#[must_use]
pub fn connections(c: &Connections) -> String {
    let mut parts = vec![format!("open {:.1}", c.open)];
    parts.extend(c.busy_share.map(|share| format!("{:.0}% busy", share * 100.0)));
    parts.extend(c.rtt_ns.map(|ns| format!("rtt {}", text::duration(ns))));
    let otherwise = c.failed.saturating_sub(c.refused);
    for (n, what) in [
        (c.refused, "refused"),
        (otherwise, "failed"),
        (c.reset, "reset"),
        (c.retransmits, "retransmits"),
    ] {
        if n > 0 {
            parts.push(format!("{} {what}", text::count(n)));
        }
    }
    for (bytes, way) in [(c.sent_bytes, "out"), (c.received_bytes, "in")] {
        if bytes > 0 {
            parts.push(format!("{} {way}", text::bytes(bytes)));
        }
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_say_what_is_known_and_what_went_wrong() {
        let mut seen = Connections {
            open: 20.0,
            busy_share: Some(1.0),
            opened: 4,
            failed: 3,
            refused: 3,
            reset: 0,
            retransmits: 0,
            sent_bytes: 0,
            received_bytes: 0,
            rtt_ns: Some(213_000),
        };
        assert_eq!(connections(&seen), "open 20.0 · 100% busy · rtt 213µs · 3 refused");
        (seen.busy_share, seen.rtt_ns) = (None, None);
        (seen.failed, seen.reset, seen.retransmits) = (5, 1, 12);
        (seen.sent_bytes, seen.received_bytes) = (1_572_864, 20_971_520);
        let all =
            "open 20.0 · 3 refused · 2 failed · 1 reset · 12 retransmits · 1.5 MiB out · 20 MiB in";
        assert_eq!(connections(&seen), all);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(hertz(118.2), "118/s");
        assert_eq!(hertz(0.0), "0/s");
        assert_eq!(hertz(0.42), "0.42/s");
        assert_eq!(hertz(12_340.0), "12.3k/s");
        assert_eq!(error_share(0.0), "0");
        assert_eq!(error_share(0.0001), "<0.1%");
        assert_eq!(error_share(0.0914), "9.1%");
        assert_eq!(error_share(0.34), "34%");
        assert_eq!(ratio(18.2), "▲18×");
        assert_eq!(ratio(0.5), "▼2.0×");
        assert_eq!(ratio(1.02), "≈");
        assert_eq!(latency(None), "–");
        assert_eq!(signed(-2_300_000), "-2.3ms");
    }
}
