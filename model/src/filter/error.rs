//! What is wrong with a filter, and where.

use std::fmt;

use unicode_width::UnicodeWidthStr;

/// A filter that could not be understood. Prints as the filter, a caret line, and a hint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterError {
    /// The filter.
    pub filter: String,
    /// Byte offset of what is wrong.
    pub at: usize,
    /// Its length in bytes; 0 where something is missing.
    pub len: usize,
    /// What is wrong and what was expected.
    pub what: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl FilterError {
    /// Column of the caret, counted from 0, in terminal columns.
    #[must_use]
    pub fn column(&self) -> usize {
        self.shown(0, self.at).width()
    }

    /// On one line: for a status bar.
    #[must_use]
    pub fn short(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{} ({hint})", self.what),
            None => self.what.clone(),
        }
    }

    /// A piece of the filter as it is printed: hostile characters replaced one for one.
    fn shown(&self, from: usize, to: usize) -> String {
        crate::text::clean(self.filter.get(from..to).unwrap_or_default()).into_owned()
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let carets = self.shown(self.at, self.at.saturating_add(self.len)).width().max(1);
        writeln!(f, "{}", self.shown(0, self.filter.len()))?;
        write!(f, "{}{} {}", " ".repeat(self.column()), "^".repeat(carets), self.what)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FilterError {}
