//! Names that were only tried: a resolver hangs the endings of its search list behind what it was asked for
//! (resolv.conf(5), `search` and `ndots`), one after the other, and most of what it tries so does not
//! exist. Whoever got an answer in the end missed nothing by it.
//!
//! So what does not exist is held back for a moment. Where the same asker asks for the same name with
//! another ending, or none, and that exists, it was a step on the way there and no error.

use std::collections::VecDeque;

use super::message::Question;

/// How long a resolver may take to come to the name that exists, ns.
const SEARCH_NS: u64 = 2_000_000_000;
/// Names that are held back at once; one more, and the oldest is told as it is.
const HELD: usize = 1_024;

#[derive(Debug)]
struct Held<T> {
    asker: u64,
    labels: Vec<Box<[u8]>>,
    since_ns: u64,
    what: T,
}

/// What is held back.
#[derive(Debug)]
pub struct Search<T> {
    held: VecDeque<Held<T>>,
}

impl<T> Default for Search<T> {
    fn default() -> Self {
        Self { held: VecDeque::new() }
    }
}

impl<T> Search<T> {
    /// A name that `asker` asked for does not exist. Gives what has to be told for lack of room.
    pub fn missed(&mut self, asker: u64, question: &Question, at_ns: u64, what: T) -> Option<T> {
        let labels = question.labels.clone();
        self.held.push_back(Held { asker, labels, since_ns: at_ns, what });
        if self.held.len() > HELD { self.held.pop_front().map(|held| held.what) } else { None }
    }

    /// A name exists. Gives what was tried on the way there.
    pub fn found(&mut self, asker: u64, question: &Question, at_ns: u64) -> Vec<T> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let tried = |held: &Held<T>| {
            held.asker == asker
                && at_ns.saturating_sub(held.since_ns) < SEARCH_NS
                && is_step(&held.labels, &question.labels)
        };
        let (steps, rest) = std::mem::take(&mut self.held).into_iter().partition(tried);
        self.held = rest;
        let steps: VecDeque<Held<T>> = steps;
        steps.into_iter().map(|held| held.what).collect()
    }

    /// What nothing came of.
    pub fn settle(&mut self, now_ns: u64) -> Vec<T> {
        let is_over = |held: &Held<T>| now_ns.saturating_sub(held.since_ns) >= SEARCH_NS;
        let over = self.held.iter().take_while(|held| is_over(held)).count();
        self.held.drain(..over).map(|held| held.what).collect()
    }
}

/// Whether one of two names is the other with labels left out behind the first: `db.prod.example.com` and
/// `db.prod` are, `db.a.example.com` and `db.example.com` too, `www.a.com` and `www.b.com` are not.
fn is_step(a: &[Box<[u8]>], b: &[Box<[u8]>]) -> bool {
    let (long, short) = if a.len() > b.len() { (a, b) } else { (b, a) };
    // Nothing but the root is in common: its label is the last.
    if short.len() < 2 || long.len() == short.len() {
        return false;
    }
    let front = long.iter().zip(short).take_while(|(a, b)| a == b).count();
    let back = long.iter().rev().zip(short.iter().rev()).take_while(|(a, b)| a == b).count();
    front > 0 && front + back >= short.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str) -> Question {
        Question {
            operation: String::new(),
            name: String::new(),
            labels: name.split('.').chain([""]).map(|l| l.as_bytes().into()).collect(),
            hash: 0,
            is_transfer: false,
        }
    }

    #[test]
    fn a_step_is_the_same_name_with_another_ending() {
        let step = |a: &str, b: &str| is_step(&question(a).labels, &question(b).labels);
        for (tried, found) in [
            ("api.example.com.shop.svc.cluster.local", "api.example.com"),
            ("db.other.shop.svc.cluster.local", "db.other.svc.cluster.local"),
            ("db.prod", "db.prod.example.com"),
            ("db", "db.example.com"),
        ] {
            assert!(step(tried, found) && step(found, tried), "{tried} {found}");
        }
        for (missed, other) in [
            ("www.a.com", "www.b.com"),
            ("www.a.com", "a.com"),
            ("db.a.example.com", "pay.example.com"),
            ("db.example.com", "db.example.com"),
            ("a.b.c", "c"),
        ] {
            assert!(!step(missed, other) && !step(other, missed), "{missed} {other}");
        }
    }

    #[test]
    fn what_was_tried_is_told_as_such_and_the_rest_as_it_is() {
        let mut search = Search::default();
        for (n, name) in [(1, "api.example.com.corp"), (2, "nosuch.example.com")] {
            assert_eq!(search.missed(7, &question(name), n, n), None);
        }
        assert_eq!(search.found(8, &question("api.example.com"), 3), [0; 0]);
        assert_eq!(search.found(7, &question("api.example.com"), 3), [1]);
        assert_eq!(search.settle(SEARCH_NS), [0; 0]);
        assert_eq!(search.settle(SEARCH_NS + 2), [2]);
        // Too late.
        assert_eq!(search.missed(7, &question("a.b.corp"), 10, 9), None);
        assert_eq!(search.found(7, &question("a.b"), 10 + SEARCH_NS), [0; 0]);
    }

    #[test]
    fn beyond_what_is_held_the_oldest_is_told() {
        let mut search = Search::default();
        for n in 0..HELD {
            assert_eq!(search.missed(1, &question("a.b"), 1, n), None);
        }
        assert_eq!(search.missed(1, &question("a.b"), 1, HELD), Some(0));
        assert_eq!(search.settle(u64::MAX).len(), HELD);
    }
}
