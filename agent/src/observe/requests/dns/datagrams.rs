//! DNS over UDP, of all processes.
//!
//! Comes in: datagrams that may be DNS, with the addresses that are known of them. Port 53 is DNS; of any
//! other, who serves there is believed once an answer agreed with a question. Until then nothing is told
//! of it but queries that were answered.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use xxhash_rust::xxh3::xxh3_64;

use super::message::{self, Message, Question};
use super::queries::{Found, Over, PATIENCE_NS, Place, Queries};
use super::search::Search;
use super::{PORT, exchange, meaning};
use crate::observe::requests::exchange::{Exchange, Role, Way};
use crate::reduce::Answer;

/// Queries that may wait at once.
pub const WAITING: usize = 20_000;

/// A datagram.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Whose.
    pub process: u32,
    /// Which way it went.
    pub way: Way,
    /// When, ns since boot.
    pub at_ns: u64,
    /// Port at this end.
    pub port: u16,
    /// The other end, where that is known.
    pub peer: Option<SocketAddr>,
    /// Its first bytes.
    pub bytes: &'a [u8],
}

/// What came of one.
#[derive(Debug)]
pub enum Heard<S> {
    /// A query has ended.
    Query(Ended<S>),
    /// A name has these addresses for so many seconds, as this process was told.
    Addresses(u32, String, Vec<(IpAddr, u32)>),
    /// Of a query or an answer nothing can be told.
    Unknown(S),
}

/// A query that has ended.
#[derive(Debug)]
pub struct Ended<S> {
    /// Whose it was.
    pub owner: S,
    /// What it was.
    pub exchange: Exchange,
    /// Who is at the other end, if that is known.
    pub peer: Option<SocketAddr>,
    /// The same number at both ends; 0 where it is not known who asked.
    pub key: u64,
}

/// See the module. `S` says whose a datagram is.
#[derive(Debug)]
pub struct Datagrams<S> {
    queries: Queries<S>,
    search: Search<Ended<S>>,
    /// Ports at which DNS is served.
    agreed: HashSet<u16>,
}

impl<S: Clone> Default for Datagrams<S> {
    fn default() -> Self {
        let (queries, search) = (Queries::new(WAITING), Search::default());
        Self { queries, search, agreed: HashSet::from([PORT]) }
    }
}

/// The port that is served at.
fn served(role: Role, port: u16, peer: Option<SocketAddr>) -> Option<u16> {
    match role {
        Role::Server => Some(port),
        Role::Client => peer.map(|peer| peer.port()),
    }
}

/// See [`Ended::key`]. A server that listens everywhere does not know its own address, and an asker not
/// always its own either: ports, id and question say enough within the minute that ends are matched in.
fn key(place: Place, peer: Option<SocketAddr>, question: &Question) -> u64 {
    let Some(peer) = peer else { return 0 };
    let (client, server) = match place.role {
        Role::Client => (place.port, peer.port()),
        Role::Server => (peer.port(), place.port),
    };
    xxh3_64(format!("dns {client} {server} {} {}", place.id, question.hash).as_bytes()).max(1)
}

/// Who looks for a name.
fn asker(place: Place, peer: Option<SocketAddr>) -> u64 {
    match place.role {
        Role::Client => place.process.into(),
        Role::Server => {
            let ip = peer.map(|peer| peer.ip());
            xxh3_64(format!("{} {ip:?}", place.process).as_bytes())
        }
    }
}

impl<S: Clone> Datagrams<S> {
    /// Takes in a datagram. `owner` is whose it is, if anybody watches that.
    pub fn take(
        &mut self,
        packet: &Packet<'_>,
        owner: impl FnOnce(Role) -> Option<S>,
        out: &mut Vec<Heard<S>>,
    ) {
        let Packet { process, way, at_ns, port, peer, bytes } = *packet;
        let Some(Message { id, question, answer }) = Message::parse(bytes) else {
            return self.garbled(packet, owner, out);
        };
        let role = if answer.is_some() { Role::of_responses(way) } else { Role::of_requests(way) };
        let Some(owner) = owner(role) else { return };
        let place = Place { process, port, role, id };
        let Some(answer) = answer else {
            let Some(question) = question else { return };
            let known = served(role, port, peer).is_some_and(|port| self.agreed.contains(&port));
            if !self.queries.asked(place, peer, question, owner.clone(), at_ns) && known {
                out.push(Heard::Unknown(owner));
            }
            return;
        };
        let hash = question.as_ref().map(|question| question.hash);
        match self.queries.answered(place, peer, hash, at_ns) {
            Found::Query(over) => {
                if let Some(port) = served(role, port, over.peer).filter(|_| hash.is_some()) {
                    self.agreed.insert(port);
                }
                self.answered(over, answer, at_ns, out);
            }
            Found::Again => {}
            Found::Nobody => {
                let port = served(role, port, peer);
                if port.is_some_and(|port| self.agreed.contains(&port)) {
                    out.push(Heard::Unknown(owner));
                }
            }
        }
    }

    /// What looks like DNS by its first bytes and is none, or was not copied.
    fn garbled(
        &self,
        packet: &Packet<'_>,
        owner: impl FnOnce(Role) -> Option<S>,
        out: &mut Vec<Heard<S>>,
    ) {
        let ports = [Some(packet.port), packet.peer.map(|peer| peer.port())];
        if ports.contains(&Some(PORT)) {
            let role = if packet.port == PORT { Role::Server } else { Role::Client };
            out.extend(owner(role).map(Heard::Unknown));
        }
    }

    fn answered(
        &mut self,
        over: Over<S>,
        answer: message::Answer,
        at_ns: u64,
        out: &mut Vec<Heard<S>>,
    ) {
        let asker = asker(over.place, over.peer);
        let ended = ended(&over, meaning(&answer), at_ns);
        match answer.code {
            "NXDOMAIN" => {
                let told = self.search.missed(asker, &over.question, at_ns, ended);
                out.extend(told.map(Heard::Query));
                return;
            }
            "NOERROR" => {
                for mut step in self.search.found(asker, &over.question, at_ns) {
                    step.exchange.answer = Answer::Said("NXDOMAIN");
                    out.push(Heard::Query(step));
                }
            }
            _ => {}
        }
        out.push(Heard::Query(ended));
        if over.place.role == Role::Client && !answer.addresses.is_empty() {
            out.push(Heard::Addresses(over.place.process, over.question.name, answer.addresses));
        }
    }

    /// What is over because nothing more came of it.
    pub fn settle(&mut self, now_ns: u64, out: &mut Vec<Heard<S>>) {
        let agreed = &self.agreed;
        self.queries.settle(now_ns, |over| {
            let port = served(over.place.role, over.place.port, over.peer);
            if port.is_some_and(|port| agreed.contains(&port)) {
                let end_ns = over.start_ns.saturating_add(PATIENCE_NS);
                out.push(Heard::Query(ended(&over, Answer::None, end_ns)));
            }
        });
        out.extend(self.search.settle(now_ns).into_iter().map(Heard::Query));
    }

    /// Queries that somebody serves and has not answered: whose, since when.
    pub fn waiting(&self, now_ns: u64) -> impl Iterator<Item = (&S, u64)> {
        let all = self
            .queries
            .waiting(now_ns)
            .filter(|(place, ..)| place.role == Role::Server && self.agreed.contains(&place.port));
        all.map(|(_, owner, start_ns)| (owner, start_ns))
    }
}

fn ended<S: Clone>(over: &Over<S>, answer: Answer<'static>, end_ns: u64) -> Ended<S> {
    let Over { place, owner, question, peer, start_ns, ordinal } = over;
    let exchange = exchange(place.role, question, answer, (*start_ns, end_ns), *ordinal);
    Ended { owner: owner.clone(), exchange, peer: *peer, key: key(*place, *peer, question) }
}

#[cfg(test)]
mod tests;
