//! Words as small numbers, so that keys compare and hash as integers.

use hashbrown::HashMap;

/// A word; 0 is "none".
pub type Symbol = u32;

/// Every word met while answering one question.
#[derive(Debug, Default, Clone)]
pub struct Symbols {
    index: HashMap<Box<str>, Symbol>,
    words: Vec<Box<str>>,
}

impl Symbols {
    /// The number of `word`; the empty word is "none".
    pub fn of(&mut self, word: &str) -> Symbol {
        if word.is_empty() {
            return 0;
        }
        if let Some(&known) = self.index.get(word) {
            return known;
        }
        let next = coral_model::num::u32_sat(self.words.len()).saturating_add(1);
        self.words.push(word.into());
        self.index.insert(word.into(), next);
        next
    }

    /// The number of a word that is already known.
    pub fn known(&self, word: &str) -> Option<Symbol> {
        self.index.get(word).copied()
    }

    /// The word; `None` for "none".
    pub fn word(&self, symbol: Symbol) -> Option<&str> {
        let at = usize::try_from(symbol).ok()?.checked_sub(1)?;
        self.words.get(at).map(AsRef::as_ref)
    }

    /// The word as its own string.
    pub fn owned(&self, symbol: Symbol) -> Option<String> {
        self.word(symbol).map(str::to_owned)
    }
}
