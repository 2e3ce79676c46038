//! What one process wrote last, in lines.

use std::collections::VecDeque;

use coral_model::text::clean;

/// Lines kept of a process.
pub(super) const LINES: usize = 200;
/// Bytes kept of a process.
const BYTES: usize = 64 << 10;
/// Bytes kept of a line.
pub(super) const LINE: usize = 1_024;

/// What one call wrote.
pub(super) struct Written<'a> {
    /// 1 or 2.
    pub(super) fd: u16,
    /// When, ns since boot.
    pub(super) at_ns: u64,
    /// The end of what it wrote.
    pub(super) bytes: &'a [u8],
    /// Bytes written before, of which nothing was told.
    pub(super) missed: u64,
    /// Bytes of this call that came before these.
    pub(super) cut: u64,
}

/// A line as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// When its end was, ns since boot.
    pub(super) at_ns: u64,
    /// Of standard error.
    pub(super) is_error: bool,
    /// Without its end.
    pub(super) text: String,
}

/// The last lines of a process.
#[derive(Debug, Clone, Default)]
pub(super) struct Output {
    lines: VecDeque<Line>,
    /// Begun and not ended, of standard output and of standard error.
    open: [Vec<u8>; 2],
    bytes: usize,
    missed: u64,
    last_ns: u64,
}

impl Output {
    /// Takes in what was written.
    pub(super) fn take(&mut self, written: &Written<'_>) {
        self.last_ns = written.at_ns;
        self.missed = self.missed.saturating_add(written.missed).saturating_add(written.cut);
        let is_error = written.fd == 2;
        if written.missed > 0 || written.cut > 0 {
            // What comes now does not go on with what was there.
            self.end_line(is_error, written.at_ns);
        }
        let mut parts = written.bytes.split(|byte| *byte == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.add(is_error, part);
            self.end_line(is_error, written.at_ns);
        }
        self.add(is_error, last);
    }

    fn add(&mut self, is_error: bool, bytes: &[u8]) {
        let [out, error] = &mut self.open;
        let open = if is_error { error } else { out };
        let room = LINE.saturating_sub(open.len()).min(bytes.len());
        open.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }

    fn end_line(&mut self, is_error: bool, at_ns: u64) {
        let [out, error] = &mut self.open;
        let open = std::mem::take(if is_error { error } else { out });
        let Some(text) = line(&open) else { return };
        self.bytes += text.len();
        self.lines.push_back(Line { at_ns, is_error, text });
        while self.lines.len() > LINES || self.bytes > BYTES {
            let Some(gone) = self.lines.pop_front() else { break };
            self.bytes -= gone.text.len();
        }
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let [out, error] = &self.open;
        self.bytes + out.len() + error.len()
    }

    /// When something was written last, ns since boot.
    pub(super) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// Its lines, oldest first, those that were not ended last; and bytes that were missed.
    pub(super) fn end(mut self) -> (Vec<Line>, u64) {
        self.end_line(false, self.last_ns);
        self.end_line(true, self.last_ns);
        (self.lines.into(), self.missed)
    }
}

/// A line for a person: no control characters, nothing where there is nothing to read.
pub(super) fn line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes.get(..LINE.min(bytes.len())).unwrap_or_default());
    let text = clean(text.trim_end());
    (!text.trim().is_empty()).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(fd: u16, bytes: &[u8]) -> Written<'_> {
        Written { fd, at_ns: 1, bytes, missed: 0, cut: 0 }
    }

    fn texts(output: Output) -> Vec<String> {
        output.end().0.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_are_put_together_from_pieces_each_descriptor_its_own() {
        let mut output = Output::default();
        for (fd, bytes) in [(1, "a"), (2, "oh\nno"), (1, "b\n\n \nc"), (2, " not that\n")] {
            output.take(&written(fd, bytes.as_bytes()));
        }
        assert_eq!(texts(output), ["oh", "ab", "no not that", "c"]);
    }

    #[test]
    fn what_is_missing_is_counted_and_joins_nothing() {
        let mut output = Output::default();
        output.take(&written(1, b"begun"));
        output.take(&Written { missed: 7, cut: 2, ..written(1, b"else\n") });
        let (lines, missed) = output.end();
        let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!((texts, missed), (vec!["begun", "else"], 9));
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_keeps_the_newest(
            calls in prop::collection::vec((1_u16..3, prop::collection::vec(any::<u8>(), 0..3_000)), 0..200),
        ) {
            let mut output = Output::default();
            for (fd, bytes) in &calls {
                output.take(&written(*fd, bytes));
                prop_assert!(output.bytes() <= BYTES + 4 * LINE);
            }
            output.take(&written(1, b"\nthe end\n"));
            let (lines, _) = output.end();
            prop_assert!(lines.len() <= LINES);
            let newest = lines.iter().rev().take(2).any(|line| line.text == "the end");
            prop_assert!(newest);
        }
    }
}
