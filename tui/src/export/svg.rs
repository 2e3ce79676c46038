//! The screen as SVG: real text in a grid, so that it stays sharp, small and searchable.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

/// Size of a cell; a monospaced font at 14 px is 8.43 px wide, which `textLength` makes exact.
const CELL: (f64, f64) = (8.4, 18.0);
const MARGIN: f64 = 14.0;
const INK: (u8, u8, u8) = (0xd7, 0xda, 0xe0);
const PAPER: (u8, u8, u8) = (0x16, 0x19, 0x1f);

/// Colours of the first 16 on a dark ground, a little quieter than xterm's.
const ANSI: [(Color, (u8, u8, u8)); 16] = [
    (Color::Black, (0x1c, 0x20, 0x27)),
    (Color::Red, (0xff, 0x6b, 0x6b)),
    (Color::Green, (0x8f, 0xce, 0x8a)),
    (Color::Yellow, (0xe6, 0xc0, 0x7b)),
    (Color::Blue, (0x6e, 0xa8, 0xfe)),
    (Color::Magenta, (0xc7, 0x92, 0xea)),
    (Color::Cyan, (0x6c, 0xc7, 0xd6)),
    (Color::Gray, (0xc5, 0xca, 0xd3)),
    (Color::DarkGray, (0x7f, 0x87, 0x94)),
    (Color::LightRed, (0xff, 0x8a, 0x80)),
    (Color::LightGreen, (0xb5, 0xe3, 0xa8)),
    (Color::LightYellow, (0xff, 0xe0, 0x9e)),
    (Color::LightBlue, (0x9d, 0xc4, 0xff)),
    (Color::LightMagenta, (0xdd, 0xb6, 0xf8)),
    (Color::LightCyan, (0x9d, 0xe2, 0xec)),
    (Color::White, (0xff, 0xff, 0xff)),
];

type Rgb = (u8, u8, u8);

fn rgb(color: Color) -> Option<Rgb> {
    ANSI.iter().find(|(c, _)| *c == color).map(|(_, rgb)| *rgb).or_else(|| crate::theme::rgb(color))
}

/// Text and ground of a cell, dim and reverse worked out.
fn looks(cell: &Cell) -> (Rgb, Option<Rgb>) {
    let mut fg = rgb(cell.fg).unwrap_or(INK);
    let mut bg = rgb(cell.bg);
    if cell.modifier.contains(Modifier::DIM) {
        let mix =
            |a: u8, b: u8| u8::try_from((u16::from(a) * 55 + u16::from(b) * 45) / 100).unwrap_or(a);
        fg = (mix(fg.0, PAPER.0), mix(fg.1, PAPER.1), mix(fg.2, PAPER.2));
    }
    if cell.modifier.contains(Modifier::REVERSED) {
        let ground = bg.unwrap_or(PAPER);
        bg = Some(fg);
        fg = ground;
    }
    (fg, bg)
}

fn hex((r, g, b): Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Bars fill their cell to its edges, which no font promises: they are drawn as rectangles.
fn block(symbol: &str) -> Option<f64> {
    Some(match symbol {
        "▁" => 0.125,
        "▂" => 0.25,
        "▃" => 0.375,
        "▄" => 0.5,
        "▅" => 0.625,
        "▆" => 0.75,
        "▇" => 0.875,
        "█" => 1.0,
        _ => return None,
    })
}

/// The picture.
#[must_use]
pub fn svg(buffer: &Buffer, title: &str) -> String {
    let (cw, ch) = CELL;
    let width = f64::from(buffer.area.width) * cw + 2.0 * MARGIN;
    let height = f64::from(buffer.area.height) * ch + 2.0 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"'DejaVu Sans Mono','JetBrains Mono',Menlo,Consolas,monospace\" \
         font-size=\"14\" xml:space=\"preserve\">\n<title>{}</title>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" \
         fill=\"{}\"/>\n",
        escape(title),
        hex(PAPER)
    );
    let columns = usize::from(buffer.area.width).max(1);
    for (row, cells) in buffer.content.chunks(columns).enumerate() {
        let y = MARGIN + f64::from(coral_model::num::u32_sat(row)) * ch;
        let mut i = 0;
        while let Some(first) = cells.get(i) {
            let look = (looks(first), first.modifier);
            let solid = block(first.symbol());
            let mut text = String::new();
            let mut n = 0;
            while let Some(cell) = cells.get(i + n) {
                if (looks(cell), cell.modifier) != look || block(cell.symbol()) != solid {
                    break;
                }
                text.push_str(cell.symbol());
                n += cell.symbol().width().max(1);
            }
            let n = n.max(1);
            let x = MARGIN + f64::from(coral_model::num::u32_sat(i)) * cw;
            let w = f64::from(coral_model::num::u32_sat(n)) * cw;
            let ((fg, bg), modifier) = look;
            if let Some(bg) = bg {
                let _ = writeln!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{ch:.1}\" fill=\"{}\"/>",
                    hex(bg)
                );
            }
            if let Some(part) = solid {
                let h = ch * part;
                let _ = writeln!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{:.2}\" width=\"{w:.1}\" height=\"{h:.2}\" fill=\"{}\"/>",
                    y + ch - h,
                    hex(fg)
                );
            } else if !text.trim().is_empty() {
                let mut extra = String::new();
                if modifier.contains(Modifier::BOLD) {
                    extra.push_str(" font-weight=\"bold\"");
                }
                if modifier.contains(Modifier::ITALIC) {
                    extra.push_str(" font-style=\"italic\"");
                }
                if modifier.contains(Modifier::UNDERLINED) {
                    extra.push_str(" text-decoration=\"underline\"");
                }
                let _ = writeln!(
                    out,
                    "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{w:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
                     fill=\"{}\"{extra}>{}</text>",
                    y + ch * 0.74,
                    hex(fg),
                    escape(&text)
                );
            }
            i += n;
        }
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_telemetry_stays_text() {
        let buffer = Buffer::with_lines(["<script>&\"x\""]);
        let svg = svg(&buffer, "a<b");
        assert!(svg.contains("&lt;script&gt;&amp;&quot;x&quot;"));
        assert!(svg.contains("<title>a&lt;b</title>"));
    }
}
