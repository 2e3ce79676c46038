//! Text from telemetry is hostile: this is where it is made safe to look at.
//!
//! Control characters could move the cursor, bidirectional overrides could reorder a line, and a
//! megabyte could fill a screen. Everything that reaches a terminal passes through [`clean`].

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

/// What stands between the parts of a list on one line.
const BETWEEN: &str = " · ";

/// True for characters that must never reach a terminal: C0, C1, DEL, bidirectional controls,
/// zero-width joiners' invisible relatives, and the tag block used to hide text.
#[must_use]
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The text on one line, without hostile characters: newlines and tabs become a space, others `·`.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars()
            .map(|c| match c {
                '\n' | '\r' | '\t' => ' ',
                c if is_hostile(c) => '·',
                c => c,
            })
            .collect(),
    )
}

/// Cleaned and cut to `width` terminal columns, with `…` where it was cut.
#[must_use]
pub fn fit(text: &str, width: usize) -> String {
    let text = clean(text);
    let mut out = String::new();
    let mut used = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let w = c.width().unwrap_or(0);
        let room = if chars.peek().is_some() { width.saturating_sub(1) } else { width };
        if used + w > room {
            if width > used {
                out.push('…');
            }
            return out;
        }
        used += w;
        out.push(c);
    }
    out
}

/// The first parts of a list (`a · b · c`) that fit into `most` bytes, each of them whole, and how many more there are:
/// `a · … and 2 more`. One that is too long by itself is cut, with `…` where it was. Not cleaned.
#[must_use]
pub fn parts(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let rest = |left: usize| match left {
        0 => String::new(),
        n => format!("{BETWEEN}… and {n} more"),
    };
    let (all, mut kept) = (text.split(BETWEEN).count(), 0);
    let mut out = String::new();
    for part in text.split(BETWEEN) {
        let between = if kept == 0 { "" } else { BETWEEN };
        let behind = rest(all.saturating_sub(kept + 1));
        if out.len() + between.len() + part.len() + behind.len() > most {
            break;
        }
        kept += 1;
        out.push_str(between);
        out.push_str(part);
    }
    if kept == 0 {
        kept = 1;
        let room = most.saturating_sub(rest(all.saturating_sub(kept)).len() + '…'.len_utf8());
        let first = text.split(BETWEEN).next().unwrap_or_default();
        out.push_str(first.get(..first.floor_char_boundary(room)).unwrap_or_default());
        out.push('…');
    }
    out.push_str(&rest(all.saturating_sub(kept)));
    out.truncate(out.floor_char_boundary(most));
    Cow::Owned(out)
}

/// A count as people read it: `982`, `12.3k`, `4.1M`.
#[must_use]
pub fn count(n: u64) -> String {
    let x = crate::num::f64_from(n);
    match n {
        0..1_000 => n.to_string(),
        1_000..100_000 => format!("{:.1}k", x / 1e3),
        100_000..1_000_000 => format!("{:.0}k", x / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", x / 1e6),
        _ => format!("{:.1}G", x / 1e9),
    }
}

/// Bytes as people read them, in powers of 1,024: `512 B`, `1.5 MiB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut x = crate::num::f64_from(n) / 1024.0;
    let mut unit = UNITS[0];
    for next in UNITS.iter().skip(1) {
        if x < 1024.0 {
            break;
        }
        x /= 1024.0;
        unit = next;
    }
    if x < 10.0 { format!("{x:.1} {unit}") } else { format!("{x:.0} {unit}") }
}

/// Bytes as people write them: `500MB`, `4GiB`, `4 GiB`, `1048576`; `None`: it is none.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A duration in three or four characters: `870ns`, `45µs`, `12ms`, `2.31s`, `4m05s`, `3h20m`.
#[must_use]
pub fn duration(ns: u64) -> String {
    let x = crate::num::f64_from(ns);
    let seconds = ns / 1_000_000_000;
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{:.0}µs", x / 1e3),
        1_000_000..10_000_000 => format!("{:.1}ms", x / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0}ms", x / 1e6),
        1_000_000_000..10_000_000_000 => format!("{:.2}s", x / 1e9),
        10_000_000_000..60_000_000_000 => format!("{:.0}s", (x / 1e9).floor()),
        60_000_000_000..3_600_000_000_000 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ if seconds < 172_800 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read() {
        assert_eq!(parse_bytes("4GiB"), Some(4 << 30));
        assert_eq!(parse_bytes(" 500 MB "), Some(500_000_000));
        assert_eq!(parse_bytes("17"), Some(17));
        for bad in ["", "GiB", "-1", "1.5GiB", "4 bananas", "99999999999999TiB", "auto"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn nothing_hostile_survives() {
        let nasty = "ok\x1b[2J\u{202e}evil\n\u{9b}31m";
        assert!(!clean(nasty).chars().any(is_hostile));
        assert_eq!(clean("plain"), "plain");
    }

    #[test]
    fn text_is_cut_by_columns_not_bytes() {
        assert_eq!(fit("日本語テキスト", 5), "日本…");
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        assert_eq!(fit("abcd", 0), "");
    }

    #[test]
    fn a_list_keeps_whole_parts_and_says_how_many_it_left_out() {
        let list = "hooks a, b · missing c: refused · d: refused · e: é";
        assert_eq!(parts(list, list.len()), list);
        let cut = "hooks a, b · missing c: refused · … and 2 more";
        assert_eq!(parts(list, list.len() - 1), cut);
        assert_eq!(parts(list, cut.len()), cut);
        assert_eq!(parts(list, cut.len() - 1), "hooks a, b · … and 3 more");
        assert_eq!(parts(&"é".repeat(20), 10), "ééé…");
        assert_eq!(parts("one that is far too long · two", 24), "one… · … and 1 more");
        assert_eq!(parts(&" · ".repeat(100), 30), " ·  ·  · … and 98 more");
        for most in 0..list.len() {
            assert!(parts(list, most).len() <= most, "{most}");
        }
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!(duration(2_310_000_000), "2.31s");
        assert_eq!(duration(245_000_000), "245ms");
        assert_eq!(duration(245_000_000_000), "4m05s");
        assert_eq!(count(12_345), "12.3k");
        assert_eq!(bytes(1_572_864), "1.5 MiB");
    }
}
