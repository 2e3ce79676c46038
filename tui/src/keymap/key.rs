//! A key, as a person writes it: `j`, `G`, `ctrl-p`, `shift-left`, `enter`.

use std::fmt;
use std::str::FromStr;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Not the name of a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a key; write `x`, `X`, `ctrl-x`, `alt-x`, `shift-left`, `enter`, `esc`, `tab`, `space`, `f1`"
)]
pub struct KeyError(String);

/// Which key, without modifiers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Code {
    /// A character, shifted if it is.
    Char(char),
    /// A function key.
    F(u8),
    /// Enter.
    Enter,
    /// Escape.
    Esc,
    /// Tab.
    Tab,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Insert.
    Insert,
    /// Left.
    Left,
    /// Right.
    Right,
    /// Up.
    Up,
    /// Down.
    Down,
    /// Home.
    Home,
    /// End.
    End,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
}

const NAMES: &[(&str, Code)] = &[
    ("enter", Code::Enter),
    ("esc", Code::Esc),
    ("tab", Code::Tab),
    ("backspace", Code::Backspace),
    ("delete", Code::Delete),
    ("insert", Code::Insert),
    ("left", Code::Left),
    ("right", Code::Right),
    ("up", Code::Up),
    ("down", Code::Down),
    ("home", Code::Home),
    ("end", Code::End),
    ("pageup", Code::PageUp),
    ("pagedown", Code::PageDown),
    ("space", Code::Char(' ')),
];

/// A key with its modifiers. Shift is part of a character and only told for other keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Key {
    /// Which.
    pub code: Code,
    /// With Ctrl.
    pub ctrl: bool,
    /// With Alt.
    pub alt: bool,
    /// With Shift (never for characters).
    pub shift: bool,
}

impl Key {
    /// A key without modifiers.
    #[must_use]
    pub const fn plain(code: Code) -> Self {
        Self { code, ctrl: false, alt: false, shift: false }
    }

    /// From what the terminal sent; `None` for releases and keys that mean nothing here.
    #[must_use]
    pub fn from_event(event: &KeyEvent) -> Option<Self> {
        if event.is_release() {
            return None;
        }
        let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
        let alt = event.modifiers.contains(KeyModifiers::ALT);
        let mut shift = event.modifiers.contains(KeyModifiers::SHIFT);
        let code = match event.code {
            KeyCode::Char(c) => {
                // With Ctrl a terminal reports either case; the bindings are written in lower case.
                shift = false;
                Code::Char(if ctrl { c.to_ascii_lowercase() } else { c })
            }
            KeyCode::F(n) => Code::F(n),
            KeyCode::Enter => Code::Enter,
            KeyCode::Esc => Code::Esc,
            KeyCode::Tab => Code::Tab,
            KeyCode::BackTab => {
                shift = true;
                Code::Tab
            }
            KeyCode::Backspace => Code::Backspace,
            KeyCode::Delete => Code::Delete,
            KeyCode::Insert => Code::Insert,
            KeyCode::Left => Code::Left,
            KeyCode::Right => Code::Right,
            KeyCode::Up => Code::Up,
            KeyCode::Down => Code::Down,
            KeyCode::Home => Code::Home,
            KeyCode::End => Code::End,
            KeyCode::PageUp => Code::PageUp,
            KeyCode::PageDown => Code::PageDown,
            _ => return None,
        };
        Some(Self { code, ctrl, alt, shift })
    }

    /// As the text area takes it.
    #[must_use]
    pub fn to_input(self) -> tui_textarea::Input {
        use tui_textarea::Key as K;
        let key = match self.code {
            Code::Char(c) => K::Char(c),
            Code::F(n) => K::F(n),
            Code::Enter => K::Enter,
            Code::Esc => K::Esc,
            Code::Tab => K::Tab,
            Code::Backspace => K::Backspace,
            Code::Delete => K::Delete,
            Code::Insert => K::Null,
            Code::Left => K::Left,
            Code::Right => K::Right,
            Code::Up => K::Up,
            Code::Down => K::Down,
            Code::Home => K::Home,
            Code::End => K::End,
            Code::PageUp => K::PageUp,
            Code::PageDown => K::PageDown,
        };
        tui_textarea::Input { key, ctrl: self.ctrl, alt: self.alt, shift: self.shift }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (on, word) in [(self.ctrl, "ctrl-"), (self.alt, "alt-"), (self.shift, "shift-")] {
            if on {
                f.write_str(word)?;
            }
        }
        if let Some((name, _)) = NAMES.iter().find(|(_, code)| *code == self.code) {
            return f.write_str(name);
        }
        match self.code {
            Code::Char(c) => write!(f, "{c}"),
            Code::F(n) => write!(f, "f{n}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError(text.to_owned());
        let mut rest = text;
        let mut key = Self::plain(Code::Esc);
        while let Some((word, after)) = rest.split_once('-') {
            match word {
                "ctrl" => key.ctrl = true,
                "alt" => key.alt = true,
                "shift" => key.shift = true,
                // A lone `-`, or something unknown.
                _ => break,
            }
            rest = after;
        }
        if let Some((_, code)) = NAMES.iter().find(|(name, _)| *name == rest) {
            key.code = *code;
        } else if let Some(n) = rest.strip_prefix('f').and_then(|n| n.parse::<u8>().ok()) {
            key.code = Code::F(n);
        } else {
            let mut chars = rest.chars();
            let c = chars.next().ok_or_else(wrong)?;
            if chars.next().is_some() || c.is_control() {
                return Err(wrong());
            }
            if key.shift {
                key.shift = false;
                key.code = Code::Char(c.to_ascii_uppercase());
            } else {
                key.code = Code::Char(c);
            }
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_print_and_parse() {
        for text in
            ["j", "G", "ctrl-p", "shift-left", "enter", "space", "-", "f5", "alt-x", ":", "ctrl--"]
        {
            let key: Key = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
        }
        assert_eq!("shift-a".parse::<Key>().unwrap().to_string(), "A");
        for wrong in ["", "ctrl-", "abc", "hyper-x"] {
            assert!(wrong.parse::<Key>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn terminals_agree_on_a_key() {
        let event = KeyEvent::new(KeyCode::Char('P'), KeyModifiers::CONTROL | KeyModifiers::SHIFT);
        assert_eq!(Key::from_event(&event), "ctrl-p".parse().ok());
        let event = KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT);
        assert_eq!(Key::from_event(&event), "shift-tab".parse().ok());
    }
}
