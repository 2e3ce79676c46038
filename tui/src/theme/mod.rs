//! Themes: what each role on the screen looks like.
//!
//! In come TOML files (ours from `themes/`, a person's from their configuration), out goes a
//! [`Style`] per [`Role`], already reduced to what the terminal can show. Panes name roles, never
//! colours; and no role is told from another by colour alone, so a monochrome terminal loses
//! nothing but comfort.

mod color;
mod file;

use ratatui::style::{Modifier, Style};

pub use color::{Background, Depth, rgb};
pub use file::ThemeError;

macro_rules! roles {
    ($($(#[$doc:meta])* $role:ident = $word:literal,)+) => {
        /// What a piece of the screen is, as far as its looks go.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Role { $($(#[$doc])* $role,)+ }

        impl Role {
            /// Every role, in the order of the theme file.
            pub const ALL: &'static [Self] = &[$(Self::$role,)+];

            /// Its name in a theme file.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$role => $word,)+ }
            }
        }
    };
}

roles! {
    /// Ordinary text.
    Text = "text",
    /// Less important: units, labels, old things.
    Dim = "dim",
    /// More important: names.
    Strong = "strong",
    /// Where the eye should find its way: the colony, the focused title.
    Accent = "accent",
    /// Fine, and worth saying so.
    Good = "good",
    /// Level 1, `!`.
    Moved = "moved",
    /// Level 2, `!!`.
    Failing = "failing",
    /// A note about data that are missing.
    Blind = "blind",
    /// Lines between panes.
    Rule = "rule",
    /// A pane's title.
    Title = "title",
    /// The focused pane's title.
    Focus = "focus",
    /// Column headings.
    Heading = "heading",
    /// The selected row, laid over whatever it says.
    Selected = "selected",
    /// The selected row of a pane that is not focused.
    Marked = "marked",
    /// A key in the bar and in help.
    Key = "key",
    /// What a key does.
    Label = "label",
    /// The rate curve.
    Rate = "rate",
    /// The error curve.
    Errors = "errors",
    /// The latency curve.
    Latency = "latency",
    /// The youngest bucket, which may still grow.
    Provisional = "provisional",
    /// The moment things began.
    Onset = "onset",
    /// A deploy or another change.
    Change = "change",
    /// Text being typed.
    Entry = "entry",
    /// A popup's ground.
    Popup = "popup",
    /// A word of SQL's own.
    Keyword = "keyword",
    /// A text or number in a statement.
    Literal = "literal",
    /// A function in a statement.
    Function = "function",
}

/// Looks for every role, reduced to a colour depth.
#[derive(Clone, Debug)]
pub struct Theme {
    name: String,
    styles: Vec<Style>,
    series: Vec<Style>,
}

/// Names and texts of the themes that ship with Coral.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("default", include_str!("../../../themes/default.toml")),
    ("dark", include_str!("../../../themes/dark.toml")),
    ("light", include_str!("../../../themes/light.toml")),
    ("color-blind", include_str!("../../../themes/color-blind.toml")),
    ("mono", include_str!("../../../themes/mono.toml")),
];

impl Theme {
    /// A theme that ships with Coral; `auto` is the default one.
    ///
    /// # Errors
    /// When no theme of that name ships.
    pub fn built_in(name: &str, depth: Depth) -> Result<Self, ThemeError> {
        file::load(name, depth, &|_| None)
    }

    /// A theme by name, looked up first with `find` (a person's own files), then among ours.
    ///
    /// # Errors
    /// When there is none of that name, or a file on its way of inheritance is not a theme.
    pub fn load(
        name: &str,
        depth: Depth,
        find: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ThemeError> {
        file::load(name, depth, find)
    }

    /// What is always there: bold, dim and reverse, without any colour.
    #[must_use]
    pub fn plain() -> Self {
        Self::built_in("mono", Depth::Mono).unwrap_or_else(|_| Self {
            name: "plain".into(),
            styles: vec![Style::new(); Role::ALL.len()],
            series: vec![Style::new()],
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How a role looks.
    #[must_use]
    pub fn style(&self, role: Role) -> Style {
        self.styles.get(role as usize).copied().unwrap_or_default()
    }

    /// One of the colours that tell equals apart (services in a waterfall), always the same one
    /// for the same name.
    #[must_use]
    pub fn series(&self, name: &str) -> Style {
        // FNV-1a: stable across runs and builds, which `DefaultHasher` does not promise.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        let n = u64::try_from(self.series.len()).unwrap_or(1).max(1);
        let i = usize::try_from((hash >> 17) % n).unwrap_or(0);
        self.series.get(i).copied().unwrap_or_default()
    }

    /// The role of a level: 0 calm, 1 moved, 2 failing.
    #[must_use]
    pub const fn level(level: u8) -> Role {
        match level {
            0 => Role::Text,
            1 => Role::Moved,
            _ => Role::Failing,
        }
    }
}

/// `style` in bold.
#[must_use]
pub fn bold(style: Style) -> Style {
    style.add_modifier(Modifier::BOLD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::style::Color;

    #[test]
    fn every_shipped_theme_loads_at_every_depth() {
        for (name, _) in BUILT_IN {
            for depth in [Depth::True, Depth::Ansi256, Depth::Ansi16, Depth::Mono] {
                let theme = Theme::built_in(name, depth).unwrap();
                assert_eq!(theme.name(), *name);
                assert_eq!(theme.styles.len(), Role::ALL.len());
            }
        }
    }

    #[test]
    fn without_colour_levels_still_differ() {
        for (name, _) in BUILT_IN {
            let theme = Theme::built_in(name, Depth::Mono).unwrap();
            for role in Role::ALL {
                let style = theme.style(*role);
                assert!(matches!(style.fg, None | Some(Color::Reset)), "{name} {role:?}");
                assert!(matches!(style.bg, None | Some(Color::Reset)), "{name} {role:?}");
            }
            assert_ne!(theme.style(Role::Text), theme.style(Role::Failing), "{name}");
            assert_ne!(theme.style(Role::Text), theme.style(Role::Selected), "{name}");
            assert_ne!(theme.style(Role::Title), theme.style(Role::Focus), "{name}");
        }
    }

    #[test]
    fn a_persons_theme_states_only_its_differences() {
        let mine = "name = \"mine\"\ninherits = \"dark\"\n[roles]\naccent = { fg = \"#102030\" }\n";
        let find = |name: &str| (name == "mine").then(|| mine.to_owned());
        let theme = Theme::load("mine", Depth::True, &find).unwrap();
        let dark = Theme::built_in("dark", Depth::True).unwrap();
        assert_eq!(theme.style(Role::Accent).fg, Some(Color::Rgb(0x10, 0x20, 0x30)));
        assert_eq!(theme.style(Role::Failing), dark.style(Role::Failing));
    }

    #[test]
    fn a_wrong_theme_says_what_is_wrong() {
        let find = |name: &str| {
            Some(match name {
                "loop" => "inherits = \"loop\"".to_owned(),
                "role" => "[roles]\nnonsense = { fg = \"red\" }".to_owned(),
                "colour" => "[roles]\ntext = { fg = \"rouge\" }".to_owned(),
                _ => return None,
            })
        };
        for (name, says) in [
            ("loop", "inherits itself"),
            ("role", "nonsense"),
            ("colour", "rouge"),
            ("no", "no theme"),
        ] {
            let error = Theme::load(name, Depth::True, &find).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
