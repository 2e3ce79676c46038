//! Cells as text; with their looks as runs, for pictures that are reviewed.

use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthStr;

fn rows(buffer: &Buffer) -> impl Iterator<Item = &[ratatui::buffer::Cell]> {
    buffer.content.chunks(usize::from(buffer.area.width).max(1))
}

fn line(row: &[ratatui::buffer::Cell]) -> String {
    let mut text = String::new();
    let mut skip = 0;
    for cell in row {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        text.push_str(cell.symbol());
        skip = cell.symbol().width().saturating_sub(1);
    }
    text.truncate(text.trim_end().len());
    text
}

/// The characters, a line per row.
#[must_use]
pub fn plain(buffer: &Buffer) -> String {
    rows(buffer).map(|row| line(row) + "\n").collect()
}

fn name(style: Style) -> String {
    let color = |c: Option<Color>| match c {
        None | Some(Color::Reset) => None,
        Some(c) => Some(c.to_string().to_lowercase()),
    };
    let mut words = Vec::new();
    words.extend(color(style.fg));
    words.extend(color(style.bg).map(|c| format!("on-{c}")));
    for (bit, word) in [
        (Modifier::BOLD, "bold"),
        (Modifier::DIM, "dim"),
        (Modifier::ITALIC, "italic"),
        (Modifier::UNDERLINED, "underline"),
        (Modifier::REVERSED, "reverse"),
    ] {
        if style.add_modifier.contains(bit) {
            words.push(word.to_owned());
        }
    }
    words.join("+")
}

/// The characters, and beside each row its looks as runs: `a12 b4` is twelve cells of look `a`,
/// then four of `b`; `.` is no look at all. The legend stands below.
#[must_use]
pub fn styled(buffer: &Buffer) -> String {
    let mut legend: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut looks = String::new();
    for (y, row) in rows(buffer).enumerate() {
        let _ = writeln!(text, "{}", line(row));
        let mut runs: Vec<(char, usize)> = Vec::new();
        for cell in row {
            let look = name(cell.style());
            let letter = if look.is_empty() {
                '.'
            } else {
                let i = legend.iter().position(|l| *l == look).unwrap_or_else(|| {
                    legend.push(look);
                    legend.len() - 1
                });
                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".chars().nth(i).unwrap_or('#')
            };
            match runs.last_mut() {
                Some((last, n)) if *last == letter => *n += 1,
                _ => runs.push((letter, 1)),
            }
        }
        if runs.last().is_some_and(|(letter, _)| *letter == '.') {
            runs.pop();
        }
        if !runs.is_empty() {
            let runs: Vec<String> = runs.iter().map(|(c, n)| format!("{c}{n}")).collect();
            let _ = writeln!(looks, "{y:>2} {}", runs.join(" "));
        }
    }
    // Empty rows at the end are as many as the size says.
    let mut all = text.trim_end().to_owned();
    all.push_str("\n----\n");
    all.push_str(&looks);
    for (letter, look) in
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".chars().zip(&legend)
    {
        let _ = writeln!(all, "{letter} = {look}");
    }
    all
}
