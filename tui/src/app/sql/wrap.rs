//! Lines of text as rows of a terminal.

use std::ops::Range;

use unicode_width::UnicodeWidthChar;

/// The rows that lines take at `width` columns: which line, and which bytes of it. The last column
/// stays free for a cursor behind the text.
#[must_use]
pub fn wrapped(lines: &[String], width: u16) -> Vec<(usize, Range<usize>)> {
    let room = usize::from(width.max(2)) - 1;
    let mut rows = Vec::with_capacity(lines.len());
    for (n, line) in lines.iter().enumerate() {
        let (mut from, mut used) = (0, 0);
        for (at, c) in line.char_indices() {
            let wide = c.width().unwrap_or(0);
            if used + wide > room && at > from {
                rows.push((n, from..at));
                (from, used) = (at, 0);
            }
            used += wide;
        }
        rows.push((n, from..line.len()));
    }
    rows
}

/// The row and the byte within its line of a cursor on `line` before byte `at`.
#[must_use]
pub fn row_of(rows: &[(usize, Range<usize>)], line: usize, at: usize) -> usize {
    let found = rows.iter().rposition(|(n, range)| *n == line && range.start <= at);
    found.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_and_wide_letters_fit() {
        let lines = ["".to_owned(), "abcdefgh".to_owned(), "日本語x".to_owned()];
        let rows = wrapped(&lines, 5);
        let shown: Vec<(usize, &str)> =
            rows.iter().map(|(n, range)| (*n, lines[*n].get(range.clone()).unwrap())).collect();
        assert_eq!(shown, [(0, ""), (1, "abcd"), (1, "efgh"), (2, "日本"), (2, "語x")]);
        assert_eq!((row_of(&rows, 0, 0), row_of(&rows, 1, 3), row_of(&rows, 1, 4)), (0, 1, 2));
        assert_eq!((row_of(&rows, 1, 8), row_of(&rows, 2, 10)), (2, 4));
        assert_eq!(wrapped(&lines, 0).len(), 1 + 8 + 4);
    }
}
