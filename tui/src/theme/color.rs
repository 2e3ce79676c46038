//! Colours, and their nearest match on a terminal that has fewer.

use ratatui::style::Color;

/// How many colours the terminal shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Depth {
    /// None: bold, dim, reverse and underline only.
    Mono,
    /// The 16 that the terminal's own scheme defines.
    Ansi16,
    /// xterm's 256.
    Ansi256,
    /// 24 bit.
    True,
}

/// What the terminal's ground looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Background {
    /// Nobody said.
    Unknown,
    /// Light text on dark.
    Dark,
    /// Dark text on light.
    Light,
}

impl Depth {
    /// From the environment, by the conventions of no-color.org and `COLORTERM`.
    #[must_use]
    pub fn detect(env: &dyn Fn(&str) -> Option<String>) -> Self {
        if env("NO_COLOR").is_some_and(|v| !v.is_empty()) {
            return Self::Mono;
        }
        let colorterm = env("COLORTERM").unwrap_or_default();
        if colorterm == "truecolor" || colorterm == "24bit" {
            return Self::True;
        }
        let term = env("TERM").unwrap_or_default();
        match term.as_str() {
            "dumb" | "vt100" | "vt220" => Self::Mono,
            t if t.contains("direct") => Self::True,
            t if t.contains("256color") || t.contains("kitty") || t.contains("alacritty") => {
                Self::Ansi256
            }
            _ => Self::Ansi16,
        }
    }

    /// The nearest colour this depth can show.
    #[must_use]
    pub fn reduce(self, color: Color) -> Color {
        match (self, color) {
            (Self::Mono, _) => Color::Reset,
            (Self::True, c) => c,
            (Self::Ansi256, Color::Rgb(r, g, b)) => Color::Indexed(nearest_256((r, g, b))),
            (Self::Ansi16, Color::Rgb(r, g, b)) => nearest_16((r, g, b)),
            (Self::Ansi16, Color::Indexed(i)) if i >= 16 => nearest_16(of_256(i)),
            (_, c) => c,
        }
    }
}

impl Background {
    /// From `COLORFGBG` (`fg;bg`), which several terminals set.
    #[must_use]
    pub fn detect(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let Some(value) = env("COLORFGBG") else { return Self::Unknown };
        match value.rsplit(';').next().and_then(|bg| bg.parse::<u8>().ok()) {
            Some(7 | 9..=15) => Self::Light,
            Some(_) => Self::Dark,
            None => Self::Unknown,
        }
    }
}

type Rgb = (u8, u8, u8);

/// xterm's defaults for the first 16; a person's scheme differs, the hue rarely does.
const ANSI: [(Color, Rgb); 16] = [
    (Color::Black, (0, 0, 0)),
    (Color::Red, (205, 0, 0)),
    (Color::Green, (0, 205, 0)),
    (Color::Yellow, (205, 205, 0)),
    (Color::Blue, (0, 0, 238)),
    (Color::Magenta, (205, 0, 205)),
    (Color::Cyan, (0, 205, 205)),
    (Color::Gray, (229, 229, 229)),
    (Color::DarkGray, (127, 127, 127)),
    (Color::LightRed, (255, 0, 0)),
    (Color::LightGreen, (0, 255, 0)),
    (Color::LightYellow, (255, 255, 0)),
    (Color::LightBlue, (92, 92, 255)),
    (Color::LightMagenta, (255, 0, 255)),
    (Color::LightCyan, (0, 255, 255)),
    (Color::White, (255, 255, 255)),
];

/// Levels of xterm's 6×6×6 cube.
const CUBE: [u8; 6] = [0, 95, 135, 175, 215, 255];

/// The "redmean" distance: cheap, and close enough to how far apart colours look.
/// <https://www.compuphase.com/cmetric.htm>
fn distance(a: Rgb, b: Rgb) -> i64 {
    let mean = (i64::from(a.0) + i64::from(b.0)) / 2;
    let (r, g, b) = (
        i64::from(a.0) - i64::from(b.0),
        i64::from(a.1) - i64::from(b.1),
        i64::from(a.2) - i64::from(b.2),
    );
    (((512 + mean) * r * r) >> 8) + 4 * g * g + (((767 - mean) * b * b) >> 8)
}

/// The colour of an index above 15.
#[must_use]
pub fn of_256(index: u8) -> Rgb {
    if index < 16 {
        return ANSI.get(usize::from(index)).map_or((0, 0, 0), |(_, rgb)| *rgb);
    }
    if index >= 232 {
        let grey = 8 + (index - 232) * 10;
        return (grey, grey, grey);
    }
    let i = index - 16;
    let level = |n: u8| CUBE.get(usize::from(n)).copied().unwrap_or(255);
    (level(i / 36), level(i / 6 % 6), level(i % 6))
}

fn nearest_256(rgb: Rgb) -> u8 {
    (16..=255).min_by_key(|&i| distance(rgb, of_256(i))).unwrap_or(7)
}

fn nearest_16(rgb: Rgb) -> Color {
    ANSI.iter().min_by_key(|(_, c)| distance(rgb, *c)).map_or(Color::Reset, |(c, _)| *c)
}

/// The 24-bit value of any colour, for pictures; `None` is the terminal's own.
#[must_use]
pub fn rgb(color: Color) -> Option<Rgb> {
    match color {
        Color::Reset => None,
        Color::Rgb(r, g, b) => Some((r, g, b)),
        Color::Indexed(i) => Some(of_256(i)),
        named => ANSI.iter().find(|(c, _)| *c == named).map(|(_, rgb)| *rgb),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |key| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned())
    }

    #[test]
    fn depth_follows_the_conventions() {
        assert_eq!(Depth::detect(&env(&[("TERM", "xterm-256color")])), Depth::Ansi256);
        assert_eq!(Depth::detect(&env(&[("TERM", "linux")])), Depth::Ansi16);
        assert_eq!(
            Depth::detect(&env(&[("COLORTERM", "truecolor"), ("NO_COLOR", "1")])),
            Depth::Mono
        );
        assert_eq!(
            Depth::detect(&env(&[("COLORTERM", "truecolor"), ("NO_COLOR", "")])),
            Depth::True
        );
        assert_eq!(Depth::detect(&env(&[("TERM", "dumb")])), Depth::Mono);
    }

    #[test]
    fn the_ground_is_read_from_colorfgbg() {
        assert_eq!(Background::detect(&env(&[("COLORFGBG", "0;15")])), Background::Light);
        assert_eq!(Background::detect(&env(&[("COLORFGBG", "15;default;0")])), Background::Dark);
        assert_eq!(Background::detect(&env(&[])), Background::Unknown);
    }

    #[test]
    fn reduction_finds_the_nearest() {
        assert_eq!(Depth::Ansi256.reduce(Color::Rgb(255, 0, 0)), Color::Indexed(196));
        assert_eq!(Depth::Ansi16.reduce(Color::Rgb(250, 10, 10)), Color::LightRed);
        assert_eq!(Depth::Ansi16.reduce(Color::Indexed(196)), Color::LightRed);
        assert_eq!(Depth::Mono.reduce(Color::Rgb(1, 2, 3)), Color::Reset);
        assert_eq!(Depth::Ansi16.reduce(Color::Cyan), Color::Cyan);
    }
}
