//! Reading theme files.

use std::collections::BTreeMap;

use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

use super::color::Depth;
use super::{BUILT_IN, Role, Theme};

/// Why a theme cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ThemeError {
    /// No file and no built-in theme of that name.
    #[error("there is no theme `{name}`; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What ships.
        known: String,
    },
    /// Not TOML, or not a theme's fields.
    #[error("theme `{name}`: {source}")]
    Syntax {
        /// The theme.
        name: String,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A role that does not exist.
    #[error("theme `{name}`: there is no role `{role}`; there are: {known}")]
    Role {
        /// The theme.
        name: String,
        /// The word.
        role: String,
        /// The roles.
        known: String,
    },
    /// Not a colour.
    #[error(
        "theme `{name}`: `{color}` is not a colour: a name (`red`, `light-red`), an index (`208`), `#rrggbb`, `reset`, or a name from [palette]"
    )]
    Color {
        /// The theme.
        name: String,
        /// The word.
        color: String,
    },
    /// A circle.
    #[error("theme `{0}` inherits itself")]
    Circle(String),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    inherits: Option<String>,
    #[serde(default)]
    palette: BTreeMap<String, String>,
    #[serde(default)]
    roles: BTreeMap<String, Look>,
    series: Option<Vec<Look>>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields)]
struct Look {
    fg: Option<String>,
    bg: Option<String>,
    #[serde(default)]
    bold: bool,
    #[serde(default)]
    dim: bool,
    #[serde(default)]
    italic: bool,
    #[serde(default)]
    underline: bool,
    #[serde(default)]
    reverse: bool,
}

/// Loads `name` and everything it inherits.
pub(super) fn load(
    name: &str,
    depth: Depth,
    find: &dyn Fn(&str) -> Option<String>,
) -> Result<Theme, ThemeError> {
    let name = if name == "auto" { "default" } else { name };
    let mut chain: Vec<(String, File)> = Vec::new();
    let mut next = Some(name.to_owned());
    while let Some(name) = next {
        if chain.iter().any(|(seen, _)| *seen == name) {
            return Err(ThemeError::Circle(name));
        }
        let built_in = || BUILT_IN.iter().find(|(n, _)| *n == name).map(|(_, t)| (*t).to_owned());
        let text = find(&name).or_else(built_in).ok_or_else(|| ThemeError::Unknown {
            name: name.clone(),
            known: BUILT_IN.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(" "),
        })?;
        let file: File = toml::from_str(&text)
            .map_err(|e| ThemeError::Syntax { name: name.clone(), source: Box::new(e) })?;
        next = file.inherits.clone();
        chain.push((name, file));
    }

    let mut palette: BTreeMap<String, String> = BTreeMap::new();
    for (_, file) in chain.iter().rev() {
        palette.extend(file.palette.clone());
    }
    let mut styles = vec![Style::new(); Role::ALL.len()];
    let mut series = Vec::new();
    let mut own_name = name.to_owned();
    for (name, file) in chain.iter().rev() {
        own_name = file.name.clone().unwrap_or_else(|| name.clone());
        for (word, look) in &file.roles {
            let role =
                Role::ALL.iter().find(|r| r.word() == word).ok_or_else(|| ThemeError::Role {
                    name: name.clone(),
                    role: word.clone(),
                    known: Role::ALL.iter().map(|r| r.word()).collect::<Vec<_>>().join(" "),
                })?;
            if let Some(slot) = styles.get_mut(*role as usize) {
                *slot = style(name, look, &palette, depth)?;
            }
        }
        if let Some(list) = &file.series {
            series = list
                .iter()
                .map(|look| style(name, look, &palette, depth))
                .collect::<Result<_, _>>()?;
        }
    }
    Ok(Theme { name: own_name, styles, series })
}

fn style(
    theme: &str,
    look: &Look,
    palette: &BTreeMap<String, String>,
    depth: Depth,
) -> Result<Style, ThemeError> {
    let mut style = Style::new();
    let wrong = |word: &str| ThemeError::Color { name: theme.to_owned(), color: word.to_owned() };
    if let Some(word) = &look.fg {
        style = style.fg(depth.reduce(color(word, palette).ok_or_else(|| wrong(word))?));
    }
    let mut reverse = look.reverse;
    if let Some(word) = &look.bg {
        let color = color(word, palette).ok_or_else(|| wrong(word))?;
        if depth == Depth::Mono {
            // A ground that cannot be coloured must still be a ground.
            reverse |= color != Color::Reset;
        }
        style = style.bg(depth.reduce(color));
    }
    for (on, modifier) in [
        (look.bold, Modifier::BOLD),
        (look.dim, Modifier::DIM),
        (look.italic, Modifier::ITALIC),
        (look.underline, Modifier::UNDERLINED),
        (reverse, Modifier::REVERSED),
    ] {
        if on {
            style = style.add_modifier(modifier);
        }
    }
    Ok(style)
}

fn color(word: &str, palette: &BTreeMap<String, String>) -> Option<Color> {
    let word = palette.get(word).map_or(word, String::as_str);
    if let Some(hex) = word.strip_prefix('#') {
        let n = u32::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 6)?;
        let [_, r, g, b] = n.to_be_bytes();
        return Some(Color::Rgb(r, g, b));
    }
    if let Ok(index) = word.parse::<u8>() {
        return Some(Color::Indexed(index));
    }
    Some(match word {
        "reset" | "default" => Color::Reset,
        "black" => Color::Black,
        "red" => Color::Red,
        "green" => Color::Green,
        "yellow" => Color::Yellow,
        "blue" => Color::Blue,
        "magenta" => Color::Magenta,
        "cyan" => Color::Cyan,
        "gray" => Color::Gray,
        "dark-gray" => Color::DarkGray,
        "light-red" => Color::LightRed,
        "light-green" => Color::LightGreen,
        "light-yellow" => Color::LightYellow,
        "light-blue" => Color::LightBlue,
        "light-magenta" => Color::LightMagenta,
        "light-cyan" => Color::LightCyan,
        "white" => Color::White,
        _ => return None,
    })
}
