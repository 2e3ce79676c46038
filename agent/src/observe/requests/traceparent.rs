//! `traceparent` (W3C Trace Context): which trace a request belongs to, by whose span, and whether that is recorded.

/// What the header says. Zeros where there is none, or where it is not readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceParent {
    /// The trace.
    pub trace: [u8; 16],
    /// The span of who asks.
    pub span: [u8; 8],
    /// Whether who asks may have recorded it.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads `00-<32 hex>-<16 hex>-<2 hex>`; what a later version adds behind it is passed over.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut parts = value.split(|b| *b == b'-');
        let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
        if version.len() != 2 || version == b"ff" || span.len() != 16 {
            return None;
        }
        // Bit 0 of the flags. Without readable ones nobody has said that it is not recorded.
        let flags = parts.next().and_then(hex::<1>);
        Some(Self {
            trace: hex(trace)?,
            span: hex(span).unwrap_or_default(),
            sampled: flags.is_none_or(|[flags]| flags & 1 == 1),
        })
    }

    /// Whether a trace is named at all.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.trace != [0; 16]
    }
}

/// Bytes from exactly `2 * N` hex digits.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0u8; N];
    for (slot, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?;
        *slot = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_span_and_flags_are_read() {
        let read = |text: &str| TraceParent::parse(text.as_bytes());
        let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
        let span = 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes();
        let (id, of) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let said = |sampled| Some(TraceParent { trace, span, sampled });
        assert_eq!(read(&format!("00-{id}-{of}-01")), said(true));
        assert_eq!(read(&format!("00-{id}-{of}-02")), said(false));
        assert_eq!(read(&format!("cc-{id}-{of}-03-more")), said(true));
        assert_eq!(read(&format!("00-{id}-{of}")), said(true));
        assert!(said(false).is_some_and(|parent| parent.is_there()));
        assert!(!TraceParent::default().is_there());
        for bad in [
            String::new(),
            id.to_owned(),
            format!("ff-{id}-{of}-01"),
            format!("0-{id}-{of}-01"),
            format!("00-{of}-{of}-01"),
            format!("00-{id}-{id}-01"),
            format!("00-{}-{of}-01", id.replacen('4', "+", 1)),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }
}
