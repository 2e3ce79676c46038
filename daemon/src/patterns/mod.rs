//! What log records have in common: lines that one statement of a program wrote.
//!
//! In: bodies of log records, one by one. Out: patterns such as `pool exhausted after <num> for
//! <str>`, with how often, when, and an example. Two steps: [`mask`] replaces what is plainly a value
//! (numbers, ids, addresses, quoted text); then Drain (He, Zhu, Zheng and Lyu, *Drain: An Online Log
//! Parsing Approach with Fixed Depth Tree*, ICWS 2017) puts lines of the same number of words and the
//! same beginning together when at least [`ALIKE`] of their words agree, and lets the others become
//! `<*>`. Drain needs one pass and little memory, and gives the same groups for the same lines in the
//! same order. Memory is bounded: so many patterns, so many words of a line; what no longer fits counts as
//! [`OTHER`].

mod mask;

use hashbrown::HashMap;

pub use mask::mask;

/// What lines beyond the bound count as.
pub const OTHER: &str = "__other__";
/// Share of words that have to agree; Drain's paper finds 0.4 to 0.5 best over sixteen data sets.
const ALIKE: f64 = 0.5;
/// Words of a line that are compared; the rest is one.
const MAX_WORDS: usize = 40;
/// What stands for words that differ.
const ANY: &str = "<*>";

/// A pattern: its words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Template(Vec<Box<str>>);

/// Finds patterns in lines.
#[derive(Debug, Default)]
pub struct Miner {
    /// By number of words and first word: indexes of templates that begin so.
    leaves: HashMap<(usize, Box<str>), Vec<usize>>,
    templates: Vec<Template>,
    most: usize,
}

impl Miner {
    /// At most `most` patterns.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// The number of the pattern `line` belongs to, from 0 as they appear; `None` where there are too
    /// many already.
    pub fn add(&mut self, line: &str) -> Option<usize> {
        let masked = mask(line);
        let words = words(&masked);
        // A first word that is a value says nothing about who wrote the line.
        let first = words.first().filter(|w| !w.contains('<')).map_or("", |w| *w);
        let key = (words.len(), Box::from(first));
        let leaf = self.leaves.get(&key).map_or(&[][..], Vec::as_slice);
        let best = leaf
            .iter()
            .filter_map(|&at| Some((alike(&self.templates.get(at)?.0, &words), at)))
            .filter(|(share, _)| *share >= ALIKE)
            // Of equals the earliest.
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        if let Some((_, at)) = best {
            if let Some(template) = self.templates.get_mut(at) {
                template.widen(&words);
            }
            return Some(at);
        }
        if self.templates.len() >= self.most {
            return None;
        }
        let at = self.templates.len();
        self.templates.push(Template(words.into_iter().map(Box::from).collect()));
        self.leaves.entry(key).or_default().push(at);
        Some(at)
    }

    /// A pattern as text.
    #[must_use]
    pub fn pattern(&self, at: usize) -> String {
        self.templates.get(at).map(|t| t.0.join(" ")).unwrap_or_default()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }
}

impl Template {
    fn widen(&mut self, words: &[&str]) {
        for (own, word) in self.0.iter_mut().zip(words) {
            if own.as_ref() != *word && own.as_ref() != ANY {
                *own = ANY.into();
            }
        }
    }
}

fn words(text: &str) -> Vec<&str> {
    let mut all: Vec<&str> = text.split_whitespace().take(MAX_WORDS + 1).collect();
    if all.len() > MAX_WORDS {
        all.truncate(MAX_WORDS);
        all.push(ANY);
    }
    all
}

/// Share of words that agree. A `<*>` agrees with nothing, as in the paper: else a pattern of only
/// those would take everything.
fn alike(template: &[Box<str>], words: &[&str]) -> f64 {
    if template.is_empty() {
        return if words.is_empty() { 1.0 } else { 0.0 };
    }
    let same = template.iter().zip(words).filter(|(a, b)| a.as_ref() == **b).count();
    coral_model::num::f64_from(coral_model::num::u64_sat(same))
        / coral_model::num::f64_from(coral_model::num::u64_sat(template.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mined(lines: &[&str]) -> Vec<String> {
        let mut miner = Miner::new(100);
        lines.iter().for_each(|line| _ = miner.add(line));
        (0..miner.len()).map(|at| miner.pattern(at)).collect()
    }

    #[test]
    fn lines_of_one_statement_are_one_pattern() {
        assert_eq!(
            mined(&[
                "pool exhausted after 30s for tenant acme",
                "pool exhausted after 12s for tenant globex",
                "user 17 logged in from 10.0.0.7",
                "pool exhausted after 5s for tenant initech",
                "user 4711 logged in from 192.168.1.2:443",
            ]),
            ["pool exhausted after <num>s for tenant <*>", "user <num> logged in from <ip>"]
        );
    }

    #[test]
    fn different_statements_stay_apart() {
        let lines =
            ["connection opened to db", "cache miss on key a", "charge failed", "charge ok now"];
        assert_eq!(mined(&lines).len(), 4);
        assert_eq!(mined(&["", " ", "\t\n"]), [""]);
    }

    #[test]
    fn bounds_hold() {
        let mut miner = Miner::new(10);
        let mut left_out = 0;
        for n in 0..1000u32 {
            // Words without digits, all different.
            let word: String = n.to_string().bytes().map(|b| char::from(b'a' + b - b'0')).collect();
            left_out += u32::from(miner.add(&format!("{word}x {word}y {word}z")).is_none());
        }
        assert_eq!((miner.len(), left_out), (10, 990));
        let long = "word ".repeat(10_000);
        let mut miner = Miner::new(10);
        miner.add(&long);
        assert!(miner.pattern(0).len() < 300);
    }
}
