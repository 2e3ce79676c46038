//! Counting values of attributes on two sides.
//!
//! Memory is bounded: so many attributes, so many values of each; an attribute with more values is
//! kept as bins when all of them are numbers, else it is one whose values are nearly all different and
//! cannot tell sides apart.

use coral_model::dice::{STEP, mixed};
use coral_model::view::Origin;
use hashbrown::HashMap;

/// Attributes that are counted.
const MAX_ATTRIBUTES: usize = 2_000;
/// Values of one attribute that are counted.
const MAX_VALUES: usize = 5_000;
/// Numbers with at most so many different values are words: a status code, a port.
const FEW_NUMBERS: usize = 12;
/// Occurrences before an attribute can be called unique.
const SEEN: u64 = 20;
/// Longest value, in bytes; longer ones count as their beginning.
const MAX_TEXT: usize = 200;

/// Spans with a value: how many on each side, and which.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Selected and baseline.
    pub sides: [u64; 2],
    /// Sum over the spans of a number made of each: equal for the same spans, hardly for others.
    pub which: u64,
}

impl Count {
    fn add(&mut self, side: usize, mark: u64) {
        if let Some(n) = self.sides.get_mut(side) {
            *n += 1;
        }
        self.which = self.which.wrapping_add(mark);
    }

    /// Spans on both sides.
    pub fn all(&self) -> u64 {
        self.sides.iter().sum()
    }
}

#[derive(Debug, Default)]
struct Attribute {
    all: Count,
    values: HashMap<Box<str>, Count>,
    /// More values came than are counted.
    over: bool,
    /// Every value so far was a number.
    numbers: bool,
    bins: HashMap<i32, Count>,
    /// The last span that added to it: an attribute counts once a span and value.
    last: u64,
}

/// Everything counted.
#[derive(Debug, Default)]
pub struct Tally {
    attributes: HashMap<(Origin, Box<str>), Attribute>,
    /// Spans so far.
    spans: u64,
    whole: Count,
}

/// One span while its attributes are added.
pub struct Span<'a> {
    tally: &'a mut Tally,
    side: usize,
    mark: u64,
}

/// What is known of one attribute in the end.
#[derive(Debug)]
pub enum Values {
    /// Its values; numbers as ranges. `None` is its absence.
    Counted(Vec<(Option<String>, Count)>),
    /// Nearly every span has a value of its own.
    Unique,
}

impl Tally {
    /// Begins a span of a side, 0 or 1.
    pub fn span(&mut self, side: usize) -> Span<'_> {
        self.spans += 1;
        let mark = mixed(self.spans.wrapping_mul(STEP));
        self.whole.add(side, mark);
        Span { side, mark, tally: self }
    }

    /// Attributes with their values, columns first, then by name.
    pub fn finish(self) -> Vec<(Origin, String, Values)> {
        let whole = self.whole;
        let mut out: Vec<_> = self
            .attributes
            .into_iter()
            .map(|((origin, name), attribute)| {
                (origin, name.into_string(), attribute.finish(whole))
            })
            .collect();
        out.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        out
    }
}

impl Span<'_> {
    /// The span has this value.
    pub fn add(&mut self, origin: Origin, name: &str, value: &str) {
        let tally = &mut *self.tally;
        let full = tally.attributes.len() >= MAX_ATTRIBUTES;
        let key = (origin, Box::from(name));
        let attribute = match tally.attributes.entry(key) {
            hashbrown::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hashbrown::hash_map::Entry::Vacant(_) if full => return,
            hashbrown::hash_map::Entry::Vacant(entry) => {
                entry.insert(Attribute { numbers: true, ..Attribute::default() })
            }
        };
        if attribute.last != tally.spans {
            attribute.last = tally.spans;
            attribute.all.add(self.side, self.mark);
        }
        attribute.add(value, self.side, self.mark);
    }
}

impl Attribute {
    fn add(&mut self, value: &str, side: usize, mark: u64) {
        let end = (0..=MAX_TEXT.min(value.len())).rev().find(|&n| value.is_char_boundary(n));
        let value = value.get(..end.unwrap_or(0)).unwrap_or_default();
        match value.trim().parse::<f64>() {
            Ok(x) if x.is_finite() && self.numbers => {
                self.bins.entry(bin(x)).or_default().add(side, mark);
            }
            _ => {
                self.numbers = false;
                self.bins.clear();
            }
        }
        if let Some(count) = self.values.get_mut(value) {
            count.add(side, mark);
        } else if self.values.len() < MAX_VALUES {
            self.values.entry(value.into()).or_default().add(side, mark);
        } else {
            self.over = true;
        }
    }

    fn finish(self, whole: Count) -> Values {
        let mut out: Vec<(Option<String>, Count)> = if self.numbers
            && (self.over || self.values.len() > FEW_NUMBERS)
        {
            self.bins.into_iter().map(|(at, count)| (Some(range(at)), count)).collect()
        } else if self.over || (self.all.all() >= SEEN && count(&self.values) * 2 > self.all.all())
        {
            return Values::Unique;
        } else {
            self.values.into_iter().map(|(v, count)| (Some(v.into_string()), count)).collect()
        };
        let side = |n: usize| {
            let of = |c: &Count| c.sides.get(n).copied().unwrap_or_default();
            of(&whole).saturating_sub(of(&self.all))
        };
        let absent =
            Count { sides: [side(0), side(1)], which: whole.which.wrapping_sub(self.all.which) };
        if absent.all() > 0 {
            out.push((None, absent));
        }
        out.sort_by(|a, b| a.0.cmp(&b.0));
        Values::Counted(out)
    }
}

fn count(values: &HashMap<Box<str>, Count>) -> u64 {
    coral_model::num::u64_sat(values.len())
}

/// A number's bin: powers of two, both ways from zero; 0 has its own.
fn bin(x: f64) -> i32 {
    let power = |x: f64| {
        // Between 1 and 2 is bin 1; smaller fractions share bins down to 2^-30.
        let up = x.log2().floor().clamp(-30.0, 1000.0) + 32.0;
        (0..=1032).rev().find(|&n| f64::from(n) <= up).unwrap_or(0)
    };
    match x {
        x if x > 0.0 => power(x),
        x if x < 0.0 => -power(-x),
        _ => 0,
    }
}

/// The range a bin stands for, its end outside.
fn range(bin: i32) -> String {
    let edge = |n: i32| {
        let x = f64::from(n - 32).exp2();
        if (0.001..1e15).contains(&x) { format!("{x}") } else { format!("{x:.1e}") }
    };
    match bin {
        0 => "0".to_owned(),
        n if n > 0 => format!("{}..{}", edge(n), edge(n + 1)),
        n => format!("-{}..-{}", edge(1 - n), edge(-n)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(found: &[(Origin, String, Values)], name: &str) -> Vec<(Option<String>, [u64; 2])> {
        match &found.iter().find(|(_, n, _)| n == name).unwrap().2 {
            Values::Counted(all) => all.iter().map(|(v, c)| (v.clone(), c.sides)).collect(),
            Values::Unique => vec![(Some("unique".to_owned()), [0, 0])],
        }
    }

    #[test]
    fn words_numbers_and_ids_are_told_apart() {
        let mut tally = Tally::default();
        for n in 0..100u64 {
            let mut span = tally.span(usize::from(n % 2 == 0));
            span.add(Origin::Attribute, "tenant", if n < 30 { "acme" } else { "other" });
            span.add(Origin::Attribute, "code", if n < 50 { "200" } else { "500" });
            span.add(Origin::Attribute, "bytes", &n.to_string());
            span.add(Origin::Attribute, "request.id", &format!("r{n}"));
            if n < 10 {
                span.add(Origin::Attribute, "rare", "x");
            }
        }
        let found = tally.finish();
        let some = |v: &str| Some(v.to_owned());
        assert_eq!(values(&found, "tenant"), [(some("acme"), [15, 15]), (some("other"), [35, 35])]);
        assert_eq!(values(&found, "code"), [(some("200"), [25, 25]), (some("500"), [25, 25])]);
        assert_eq!(values(&found, "rare"), [(None, [45, 45]), (some("x"), [5, 5])]);
        assert_eq!(values(&found, "request.id"), [(some("unique"), [0, 0])]);
        let bytes = values(&found, "bytes");
        assert!(bytes.contains(&(some("64..128"), [18, 18])), "{bytes:?}");
        assert!(bytes.contains(&(some("0"), [0, 1])), "{bytes:?}");
        assert_eq!(bytes.iter().map(|(_, n)| n[0] + n[1]).sum::<u64>(), 100);
    }

    #[test]
    fn memory_is_bounded() {
        let mut tally = Tally::default();
        for n in 0..20_000u64 {
            let mut span = tally.span(0);
            span.add(Origin::Attribute, &format!("k{n}"), "x");
            span.add(Origin::Attribute, "k0", &format!("v{n}"));
        }
        assert_eq!(tally.attributes.len(), MAX_ATTRIBUTES);
        assert!(tally.attributes.values().all(|a| a.values.len() <= MAX_VALUES));
        let found = tally.finish();
        assert_eq!(values(&found, "k0"), [(Some("unique".to_owned()), [0, 0])]);
    }

    #[test]
    fn bins_hold_what_they_say() {
        for (x, text) in [(1.0, "1..2"), (2.0, "2..4"), (130.0, "128..256"), (0.0, "0")] {
            assert_eq!(range(bin(x)), text);
        }
        assert_eq!(range(bin(-3.0)), "-4..-2");
        assert_eq!(range(bin(0.3)), "0.25..0.5");
    }
}
