//! Queries that wait for their answers: an answer is one to a query with its id, its question and, where
//! that is known, its peer.
//!
//! Who asks again before the time of a resolver is over asks the same query; later it is another one. A
//! server does not see who asks before it answers: a query that comes twice there may be another's, which
//! shows when both are answered. A query without an answer has none when that time is over; one that
//! comes later still answers nothing.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::message::Question;
use crate::observe::requests::exchange::Role;

/// A resolver waits so long for an answer, ns (`RES_TIMEOUT` of resolv.conf(5), which is the default of
/// others too).
pub const PATIENCE_NS: u64 = 5_000_000_000;
/// So long after it was asked an answer is known to come late, ns.
const LATE_NS: u64 = 30_000_000_000;
/// One question, asked again with one id.
const TRIES: usize = 16;

/// Where a query waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Of this process; 0 on a connection.
    pub process: u32,
    /// At its port; 0 on a connection.
    pub port: u16,
    /// Which asks, or is asked.
    pub role: Role,
    /// The id.
    pub id: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// It was told that nobody answered.
    GivenUp,
    Answered,
}

#[derive(Debug)]
struct Try {
    peer: Option<SocketAddr>,
    start_ns: u64,
    ordinal: u64,
    state: State,
    /// It was asked more than once, or is answered more than once.
    again: bool,
    /// It may be the one before, asked again.
    perhaps: bool,
}

impl Try {
    fn is_fresh(&self, now_ns: u64) -> bool {
        self.state == State::Waiting && now_ns.saturating_sub(self.start_ns) < PATIENCE_NS
    }

    fn is_wanted(&self, now_ns: u64) -> bool {
        let age_ns = now_ns.saturating_sub(self.start_ns);
        match self.state {
            State::Waiting => true,
            State::GivenUp => age_ns < LATE_NS,
            State::Answered => self.again && age_ns < LATE_NS,
        }
    }
}

#[derive(Debug)]
struct Asked<S> {
    question: Question,
    owner: S,
    tries: Vec<Try>,
}

/// A query that is over.
#[derive(Debug)]
pub struct Over<S> {
    /// Where it was.
    pub place: Place,
    /// Whose it was.
    pub owner: S,
    /// What was asked.
    pub question: Question,
    /// Who is at the other end, if that is known.
    pub peer: Option<SocketAddr>,
    /// When it was first asked, ns since boot.
    pub start_ns: u64,
    /// How many queries came before it.
    pub ordinal: u64,
}

/// What an answer answers.
#[derive(Debug)]
pub enum Found<S> {
    /// This.
    Query(Over<S>),
    /// What was answered already, or told to have no answer.
    Again,
    /// Nothing that was seen.
    Nobody,
}

/// See the module. `S` says whose a query is.
#[derive(Debug)]
pub struct Queries<S> {
    by_place: HashMap<Place, Vec<Asked<S>>>,
    most: usize,
    /// How many tries there are.
    count: usize,
    ordinal: u64,
}

impl<S: Clone> Queries<S> {
    /// Room for so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { by_place: HashMap::new(), most, count: 0, ordinal: 0 }
    }

    /// Something is asked; false when there is no room for it.
    pub fn asked(
        &mut self,
        place: Place,
        peer: Option<SocketAddr>,
        question: Question,
        owner: S,
        at_ns: u64,
    ) -> bool {
        let all = self.by_place.entry(place).or_default();
        let asked = match all.iter().position(|asked| asked.question.hash == question.hash) {
            Some(at) => all.get_mut(at),
            None if self.count >= self.most => None,
            None => {
                all.push(Asked { question, owner, tries: Vec::with_capacity(1) });
                all.last_mut()
            }
        };
        let Some(asked) = asked else { return false };
        let before = asked.tries.iter_mut().find(|t| t.peer == peer && t.is_fresh(at_ns));
        let perhaps = before.is_some();
        if let Some(before) = before {
            before.again = true;
            if peer.is_some() || place.process == 0 {
                return true;
            }
        }
        if asked.tries.len() >= TRIES || self.count >= self.most {
            return perhaps;
        }
        let (ordinal, again) = (self.ordinal, asked.question.is_transfer);
        let state = State::Waiting;
        asked.tries.push(Try { peer, start_ns: at_ns, ordinal, state, again, perhaps });
        self.ordinal += 1;
        self.count += 1;
        true
    }

    /// Something is answered; `hash` is its question's, where it says one.
    pub fn answered(
        &mut self,
        place: Place,
        peer: Option<SocketAddr>,
        hash: Option<u64>,
        at_ns: u64,
    ) -> Found<S> {
        let Some(all) = self.by_place.get_mut(&place) else { return Found::Nobody };
        let same = |asked: &Asked<S>| match hash {
            Some(hash) => asked.question.hash == hash,
            None => asked.tries.iter().any(|t| t.is_fresh(at_ns)),
        };
        let at = all.iter().position(same).or(hash.is_none().then_some(0));
        let Some((at, asked)) = at.and_then(|at| Some((at, all.get_mut(at)?))) else {
            return Found::Nobody;
        };
        let fresh = |t: &&mut Try| t.is_fresh(at_ns);
        let found = match peer.filter(|_| asked.tries.iter().any(|t| t.peer == peer)) {
            Some(_) => asked.tries.iter_mut().filter(|t| t.peer == peer).find(fresh),
            None => {
                let may = |t: &&mut Try| peer.is_none() || t.peer.is_none();
                asked.tries.iter_mut().filter(may).find(fresh)
            }
        };
        let Some(found) = found else { return Found::Again };
        found.state = State::Answered;
        found.peer = found.peer.or(peer);
        let over = Over {
            place,
            owner: asked.owner.clone(),
            question: asked.question.clone(),
            peer: found.peer,
            start_ns: found.start_ns,
            ordinal: found.ordinal,
        };
        if !asked.tries.iter().any(|t| t.is_wanted(at_ns)) {
            self.count = self.count.saturating_sub(asked.tries.len());
            all.swap_remove(at);
            if all.is_empty() {
                self.by_place.remove(&place);
            }
        }
        Found::Query(over)
    }

    /// Hands over what has had no answer for long enough, and forgets what nothing can come of.
    pub fn settle(&mut self, now_ns: u64, mut over: impl FnMut(Over<S>)) {
        self.give_up(now_ns, |t| !t.is_fresh(now_ns), &mut over);
    }

    /// Nothing is answered any more.
    pub fn ended(&mut self, at_ns: u64, mut over: impl FnMut(Over<S>)) {
        self.give_up(at_ns, |_| true, &mut over);
        self.by_place.clear();
        self.count = 0;
    }

    fn give_up(
        &mut self,
        now_ns: u64,
        is_over: impl Fn(&Try) -> bool,
        over: &mut impl FnMut(Over<S>),
    ) {
        let mut count = 0;
        self.by_place.retain(|place, all| {
            all.retain_mut(|asked| {
                let Asked { question, owner, tries } = asked;
                for t in tries.iter_mut() {
                    if t.state != State::Waiting || !is_over(t) {
                        continue;
                    }
                    t.state = State::GivenUp;
                    if !t.perhaps {
                        over(Over {
                            place: *place,
                            owner: owner.clone(),
                            question: question.clone(),
                            peer: t.peer,
                            start_ns: t.start_ns,
                            ordinal: t.ordinal,
                        });
                    }
                }
                let wanted = tries.iter().any(|t| t.is_wanted(now_ns));
                count += if wanted { tries.len() } else { 0 };
                wanted
            });
            !all.is_empty()
        });
        self.count = count;
    }

    /// Queries that wait: where, whose, since when.
    pub fn waiting(&self, now_ns: u64) -> impl Iterator<Item = (&Place, &S, u64)> {
        self.by_place.iter().flat_map(move |(place, all)| {
            all.iter().flat_map(move |asked| {
                let waits = move |t: &&Try| t.is_fresh(now_ns) && !t.perhaps;
                asked.tries.iter().filter(waits).map(move |t| (place, &asked.owner, t.start_ns))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str) -> Question {
        Question {
            operation: format!("A {name}"),
            name: name.to_owned(),
            labels: Vec::new(),
            hash: name.len() as u64,
            is_transfer: false,
        }
    }

    fn place(role: Role) -> Place {
        Place { process: 7, port: 53, role, id: 1 }
    }

    fn peer(n: u16) -> Option<SocketAddr> {
        Some(SocketAddr::from(([10, 0, 0, 1], n)))
    }

    fn start(found: Found<&'static str>) -> Option<u64> {
        match found {
            Found::Query(over) => Some(over.start_ns),
            Found::Again => Some(0),
            Found::Nobody => None,
        }
    }

    fn given_up(queries: &mut Queries<&'static str>, now_ns: u64) -> Vec<u64> {
        let mut out = Vec::new();
        queries.settle(now_ns, |over| out.push(over.start_ns));
        out
    }

    #[test]
    fn an_answer_needs_id_question_and_peer() {
        let mut queries = Queries::new(10);
        let at = place(Role::Client);
        assert!(queries.asked(at, peer(53), question("a.b"), "x", 1));
        let b = Some(question("long.b").hash);
        assert_eq!(start(queries.answered(at, peer(53), b, 2)), None);
        let other = Place { id: 2, ..at };
        let hash = Some(question("a.b").hash);
        assert_eq!(start(queries.answered(other, peer(53), hash, 2)), None);
        // Of another peer: it answers nothing.
        assert_eq!(start(queries.answered(at, peer(54), hash, 2)), Some(0));
        assert_eq!(start(queries.answered(at, peer(53), hash, 3)), Some(1));
        assert_eq!((start(queries.answered(at, peer(53), hash, 3)), queries.count), (None, 0));
        // An answer without a question is one to what waits.
        assert!(queries.asked(at, peer(53), question("a.b"), "x", 4));
        assert_eq!(start(queries.answered(at, None, None, 5)), Some(4));
    }

    #[test]
    fn asked_again_in_time_it_is_one_query_and_later_another() {
        let mut queries = Queries::new(10);
        let (at, hash) = (place(Role::Client), Some(question("a").hash));
        for n in [1, 2_000_000_000, PATIENCE_NS + 1, PATIENCE_NS + 2] {
            assert!(queries.asked(at, peer(53), question("a"), "x", n));
        }
        assert_eq!(queries.waiting(PATIENCE_NS + 2).count(), 1);
        // What is answered is the one that somebody still waits for.
        assert_eq!(start(queries.answered(at, None, hash, PATIENCE_NS + 3)), Some(PATIENCE_NS + 1));
        assert_eq!(given_up(&mut queries, PATIENCE_NS + 4), [1]);
        // What comes late answers nothing, and is known.
        assert_eq!(start(queries.answered(at, None, hash, PATIENCE_NS + 5)), Some(0));
        assert_eq!(given_up(&mut queries, 9 * PATIENCE_NS), [0; 0]);
        assert_eq!(
            (start(queries.answered(at, None, hash, 9 * PATIENCE_NS)), queries.count),
            (None, 0)
        );
    }

    #[test]
    fn a_server_learns_from_its_answers_who_asked() {
        let mut queries = Queries::new(10);
        let (at, hash) = (place(Role::Server), Some(question("a").hash));
        // Two that chose one id, and one of them asks again.
        for n in [1, 2, 3] {
            assert!(queries.asked(at, None, question("a"), "x", n));
        }
        assert_eq!(start(queries.answered(at, peer(1_000), hash, 4)), Some(1));
        assert_eq!(start(queries.answered(at, peer(1_000), hash, 5)), Some(0));
        assert_eq!(start(queries.answered(at, peer(2_000), hash, 6)), Some(2));
        assert_eq!(given_up(&mut queries, 2 * PATIENCE_NS), [0; 0]);
        // Nobody was answered: one query, as far as can be known.
        for n in [1, 2] {
            assert!(queries.asked(at, None, question("b"), "x", 2 * PATIENCE_NS + n));
        }
        assert_eq!(given_up(&mut queries, 4 * PATIENCE_NS), [2 * PATIENCE_NS + 1]);
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut queries = Queries::new(2);
        let place = |id| Place { id, ..place(Role::Server) };
        assert!(queries.asked(place(1), None, question("a"), "x", 1));
        assert!(queries.asked(place(2), None, question("a"), "x", 1));
        assert!(!queries.asked(place(3), None, question("a"), "x", 1));
        let hash = Some(question("a").hash);
        assert_eq!(start(queries.answered(place(1), None, hash, 2)), Some(1));
        assert!(queries.asked(place(3), None, question("a"), "x", 2));
        let mut over = 0;
        queries.ended(3, |_| over += 1);
        assert_eq!((over, queries.count), (2, 0));
    }
}
