//! Words of a command line and words that are nearly right.

use super::key::KNOWN;

/// Filter words as a shell hands them over, joined to one filter text.
///
/// A shell has already taken its own quotes off, so a word with spaces inside is read as what the
/// person most likely quoted: a phrase (`"connection refused"`), one test of a value with spaces
/// (`operation="GET /cart"`), or else a whole filter (`'service=a or service=b'`).
#[must_use]
pub fn join_words<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<_> = words.iter().map(|w| requoted(w.as_ref())).collect();
    words.join(" ")
}

fn requoted(word: &str) -> String {
    if !word.contains(char::is_whitespace) || word.contains(['"', '\'', '(', ')']) {
        return word.to_owned();
    }
    let pieces: Vec<&str> = word.split_whitespace().collect();
    let Some((first, rest)) = pieces.split_first() else { return String::new() };
    if rest.iter().any(|p| is_operator(p)) {
        return word.to_owned();
    }
    match first.split_once('=') {
        Some((key, _)) if is_operator(first) => {
            let value = word.trim_start().strip_prefix(key).unwrap_or_default();
            let value = value.strip_prefix('=').unwrap_or_default();
            format!("{key}={}", quote(value))
        }
        None if !is_operator(first) => quote(word),
        _ => word.to_owned(),
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\"))
}

/// Whether a word is more than text: a test, a prefix or a connective.
fn is_operator(word: &str) -> bool {
    word.eq_ignore_ascii_case("or")
        || word.eq_ignore_ascii_case("and")
        || ["not:", "re:", "has:"].iter().any(|p| word.starts_with(p))
        || word.find(['=', '<', '>']).is_some_and(|at| at > 0)
}

/// Splits a filter at the blanks between its words, as a command line shows it. Joining the words
/// again with [`join_words`] gives the same filter.
#[must_use]
pub fn split_words(filter: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = filter.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(q) => {
                word.push(c);
                if c == '\\' && q == '"' {
                    word.extend(chars.next());
                } else if c == q {
                    quote = None;
                }
            }
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
            }
            None => {
                let opens = c == '"' || (c == '\'' && !word.ends_with(char::is_alphanumeric));
                quote = opens.then_some(c);
                word.push(c);
            }
        }
    }
    if !word.is_empty() {
        out.push(word);
    }
    out
}

/// Edits (insert, delete, replace, swap neighbours) that lead from one word to the other.
#[must_use]
pub fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |r: usize, c: usize| {
                rows.get(r).and_then(|row| row.get(c)).copied().unwrap_or(usize::MAX / 2)
            };
            let mut best = (at(i, j) + usize::from(x != y))
                .min(at(i, j + 1) + 1)
                .min(row.last().copied().unwrap_or(0) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped && x != y {
                best = best.min(at(i - 1, j - 1) + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or(usize::MAX)
}

/// The word of `all` that `word` most likely means, if any is close.
pub fn nearest<'a>(word: &str, all: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    closest(word, all, 1).into_iter().next()
}

/// The words of `all` that `word` may mean, the likeliest first, at most `most`. Of words equally
/// far, one of which only letters were left out comes first: `cout` is `count` sooner than `cot`.
pub fn closest<'a>(
    word: &str,
    all: impl IntoIterator<Item = &'a str>,
    most: usize,
) -> Vec<&'a str> {
    let word = word.to_lowercase();
    let allowed = match word.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    let rank = |w: &'a str| {
        let lower = w.to_lowercase();
        (distance(&word, &lower), !leaves_out(&word, &lower), w)
    };
    let mut found: Vec<(usize, bool, &str)> =
        all.into_iter().map(rank).filter(|(far, ..)| *far <= allowed).collect();
    found.sort_by_key(|(far, changed, _)| (*far, *changed));
    let mut words: Vec<&str> = Vec::new();
    for (_, _, word) in found {
        if words.len() < most && !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// Whether `short` is `long` with some letters left out.
fn leaves_out(short: &str, long: &str) -> bool {
    let mut letters = long.chars();
    short.chars().all(|c| letters.any(|l| l == c))
}

/// The known key that an attribute's name is suspiciously close to.
pub(super) fn near_known(name: &str) -> Option<&'static str> {
    nearest(name, KNOWN.iter().map(|(_, word, ..)| *word))
}
