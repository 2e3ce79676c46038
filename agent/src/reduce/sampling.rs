//! How many requests a sampled span stands for.
//!
//! W3C tracestate carries OpenTelemetry's sampling threshold as `ot=th:…`: up to 14 hex digits of a
//! 56-bit number of which trailing zeros are left out. A span is kept with probability
//! (2^56 − th) / 2^56 (OpenTelemetry "TraceState: Probability Sampling").

/// The most requests one span may stand for: what a hostile threshold could claim otherwise.
const MOST: f64 = 4_294_967_296.0;
const WHOLE: u64 = 1 << 56;

/// The weight of a span: `Some(1.0)` when nothing samples, `None` when something does that does not
/// say how much.
#[must_use]
pub(super) fn weight(trace_state: &[u8]) -> Option<f64> {
    if trace_state.is_empty() {
        return Some(1.0);
    }
    let entries = trace_state.split(|&b| b == b',').map(<[u8]>::trim_ascii);
    let Some(ot) = entries.filter_map(|entry| entry.strip_prefix(b"ot=")).next() else {
        return Some(1.0);
    };
    let mut sampler = false;
    for part in ot.split(|&b| b == b';') {
        if let Some(digits) = part.strip_prefix(b"th:") {
            return threshold(digits).map(|th| {
                let kept = WHOLE - th;
                (coral_model::num::f64_from(WHOLE) / coral_model::num::f64_from(kept)).min(MOST)
            });
        }
        // The older convention: p-value or r-value of a sampler without a threshold.
        sampler |= part.starts_with(b"p:") || part.starts_with(b"r:");
    }
    if sampler { None } else { Some(1.0) }
}

/// The threshold, below 2^56.
fn threshold(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 14 {
        return None;
    }
    let mut th = 0u64;
    for place in 0..14 {
        let digit = digits.get(place).map_or(Some(0), |&b| char::from(b).to_digit(16))?;
        th = th << 4 | u64::from(digit);
    }
    Some(th)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_become_weights() {
        assert_eq!(weight(b""), Some(1.0));
        assert_eq!(weight(b"ot=th:0"), Some(1.0));
        assert_eq!(weight(b"ot=th:8"), Some(2.0));
        assert_eq!(weight(b"vendor=x, ot=rv:abc;th:c"), Some(4.0));
        assert_eq!(weight(b"ot=p:3;r:5"), None);
        assert_eq!(weight(b"vendor=ot;th:8"), Some(1.0));
        assert_eq!(weight(b"ot=th:zz"), None);
        assert_eq!(weight(b"ot=th:ffffffffffffff"), Some(MOST));
    }
}
