//! Connections that programs open, whatever is spoken on them: how many come about and how many do not,
//! how many are open and for how much of their time something was asked on them, and what the kernel
//! counts of them.
//!
//! Counted at the end that opens them. To whom, is said as of requests: with the protocol and the name or
//! address that its requests have. Before anything was asked that is not known; then it is what was spoken
//! with the same server before, and after [`MUTE_NS`] without a word it is `tcp`.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use coral_bpf_types::{Numbers, numbers};
use coral_model::connections::{Tally, UNREAD};
use coral_model::time::BUCKET;
use coral_proto::v1::PeerKind;

use super::conversation::Protocol;
use super::names::Source;
use crate::reduce::Connected;

/// A connection on which nothing was asked for so long is told of nevertheless, ns.
const MUTE_NS: u64 = 2_000_000_000;
/// The kernel is asked this often for what it has counted of a connection, ns.
const ASK_NS: u64 = BUCKET;
/// A program that gives up sooner than this has not failed: it asked two at once and took the faster, ns.
const PATIENCE_NS: u64 = 1_000_000_000;
/// Servers remembered with what they speak; beyond it that is learnt anew.
const SERVERS: usize = 4_096;
/// Peers of which something waits to be told; more are told without a name.
const WAITING: usize = 16_384;
/// `ECONNREFUSED`, of every machine that Linux runs on.
const REFUSED: u32 = 111;

/// The server of a connection, as its client knows it.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where.
    pub to: SocketAddr,
    /// What it was called.
    pub name: Option<Arc<str>>,
}

impl Server {
    /// As an SDK's spans name it: a database by what it is and its address.
    #[must_use]
    pub fn peer(&self, protocol: Option<Protocol>) -> String {
        let address = match &self.name {
            // Servers of names go by their address: it is what they are asked at.
            Some(name) if protocol != Some(Protocol::Dns) => format!("{name}:{}", self.to.port()),
            _ => self.to.to_string(),
        };
        match protocol {
            None | Some(Protocol::Http | Protocol::Grpc) => address,
            Some(protocol) => format!("{}@{address}", protocol.word()),
        }
    }
}

#[derive(Debug)]
struct Open {
    /// Where the kernel has its socket.
    place: u64,
    /// This end.
    from: SocketAddr,
    source: Arc<Source>,
    server: Server,
    protocol: Option<Protocol>,
    /// What is spoken as far as its first bytes tell: what begins as HTTP may turn out to be gRPC.
    likely: Option<Protocol>,
    /// When it came about, or was first seen.
    since_ns: u64,
    /// Its time was counted up to here.
    counted_ns: u64,
    asked_ns: u64,
    busy: bool,
    /// What the kernel had counted when that was last told; `None`: what it had counted before anybody
    /// looked is not known.
    before: Option<Numbers>,
    /// What was not told yet.
    tally: Tally,
}

/// Whose connections to whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    source: u64,
    protocol: Option<&'static str>,
    peer: String,
}

/// What is told of them.
#[derive(Debug)]
pub struct Delta {
    source: Arc<Source>,
    protocol: Option<Protocol>,
    peer: String,
    tally: Tally,
}

impl Delta {
    /// As the reducer takes it, for the bucket of a moment.
    #[must_use]
    pub fn connected(&self, at_ns: u64) -> Connected<'_> {
        Connected {
            resource: (&self.source.bytes, self.source.hash),
            protocol: self.protocol.map_or(UNREAD, Protocol::word),
            peer: &self.peer,
            peer_kind: match self.protocol.is_some_and(Protocol::is_database) {
                true => PeerKind::Database,
                false => PeerKind::External,
            },
            at_ns,
            tally: self.tally,
        }
    }
}

/// The connections.
#[derive(Debug, Default)]
pub struct Connections {
    open: HashMap<u64, Open>,
    /// Between whom, this end first.
    between: HashSet<(SocketAddr, SocketAddr)>,
    /// What was spoken with whom.
    spoken: HashMap<(u64, SocketAddr), Protocol>,
    told: HashMap<Key, Delta>,
    folded: u64,
}

impl Connections {
    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether this one is known.
    #[must_use]
    pub fn knows(&self, socket: u64) -> bool {
        self.open.contains_key(&socket)
    }

    /// Whether one is open between these, this end first.
    #[must_use]
    pub fn has(&self, ends: (SocketAddr, SocketAddr)) -> bool {
        self.between.contains(&ends)
    }

    /// One has come about, or, without `numbers`, is older than the agent.
    pub fn begin(
        &mut self,
        (socket, place): (u64, u64),
        from: SocketAddr,
        source: Arc<Source>,
        server: Server,
        numbers: Option<&Numbers>,
        at_ns: u64,
    ) {
        let mut open = Open::new(place, from, source, server, at_ns);
        open.before = numbers.map(|_| Numbers::default());
        open.tally.opened = u64::from(numbers.is_some());
        self.between.insert((open.from, open.server.to));
        self.open.insert(socket, open);
    }

    /// Something moved: what is spoken for certain, what likely, and whether a request is under way.
    pub fn moved(
        &mut self,
        socket: u64,
        (protocol, likely): (Option<Protocol>, Option<Protocol>),
        busy: bool,
        at_ns: u64,
    ) {
        let Some(open) = self.open.get_mut(&socket) else { return };
        open.likely = likely;
        if protocol.is_some() && open.protocol != protocol {
            open.protocol = protocol;
            if self.spoken.len() >= SERVERS {
                self.spoken.clear();
            }
            let server = (open.source.hash, open.server.to);
            self.spoken.extend(protocol.map(|protocol| (server, protocol)));
        }
        if open.busy != busy {
            open.count(at_ns);
            open.busy = busy;
        }
    }

    /// What the kernel has counted by now.
    pub fn counted(&mut self, socket: u64, numbers: &Numbers) {
        if let Some(open) = self.open.get_mut(&socket) {
            open.numbers(numbers);
        }
    }

    /// One has ended.
    pub fn end(&mut self, socket: u64, numbers: Option<&Numbers>, at_ns: u64) {
        let Some(mut open) = self.open.remove(&socket) else { return };
        self.between.remove(&(open.from, open.server.to));
        open.count(at_ns);
        if let Some(numbers) = numbers {
            open.numbers(numbers);
            let broke = numbers.flags & numbers::ABRUPT != 0 && numbers.error != 0;
            open.tally.reset = u64::from(broke);
        }
        self.tell(&mut open, true);
    }

    /// One did not come about.
    pub fn fail(&mut self, source: Arc<Source>, server: Server, numbers: &Numbers, at_ns: u64) {
        if numbers.error == 0 && at_ns.saturating_sub(numbers.began_ns) < PATIENCE_NS {
            return;
        }
        let refused = u64::from(numbers.error == REFUSED);
        let again = numbers.retransmits.into();
        let mut open = Open::new(0, server.to, source, server, at_ns);
        open.tally = Tally { failed: 1, refused, retransmits: again, ..Tally::default() };
        self.tell(&mut open, true);
    }

    /// Peers that were told without a name since the last call.
    pub fn take_folded(&mut self) -> u64 {
        std::mem::take(&mut self.folded)
    }

    /// Those of which the kernel is to be asked now: numbers of sockets, and where it has them.
    pub fn to_ask(&mut self, now_ns: u64) -> Vec<(u64, u64)> {
        let due = self
            .open
            .iter_mut()
            .filter(|(_, open)| open.place != 0 && now_ns.saturating_sub(open.asked_ns) >= ASK_NS);
        due.map(|(socket, open)| {
            open.asked_ns = now_ns;
            (*socket, open.place)
        })
        .collect()
    }

    /// What is to be told at `now_ns`, ns since boot.
    pub fn take(&mut self, now_ns: u64) -> impl Iterator<Item = Delta> + use<> {
        let mut open = std::mem::take(&mut self.open);
        for open in open.values_mut() {
            open.count(now_ns);
            self.tell(open, now_ns.saturating_sub(open.since_ns) >= MUTE_NS);
        }
        self.open = open;
        std::mem::take(&mut self.told).into_values()
    }

    /// Adds what was not told yet to what is told next, if it is known what is spoken, or that does not
    /// matter any more.
    fn tell(&mut self, open: &mut Open, anyway: bool) {
        let before = || self.spoken.get(&(open.source.hash, open.server.to)).copied();
        let likely = || open.likely.filter(|_| anyway);
        let protocol = open.protocol.or_else(before).or_else(likely);
        if protocol.is_none() && !anyway || open.tally.is_empty() {
            return;
        }
        let mut peer = open.server.peer(protocol);
        if self.told.len() >= WAITING {
            self.folded += 1;
            peer.clear();
        }
        let word = protocol.map(Protocol::word);
        let key = Key { source: open.source.hash, protocol: word, peer: peer.clone() };
        let source = || Arc::clone(&open.source);
        let tally = std::mem::take(&mut open.tally);
        let delta = self.told.entry(key).or_insert_with(|| Delta {
            source: source(),
            protocol,
            peer,
            tally: Tally::default(),
        });
        delta.tally.add(&tally);
    }
}

impl Open {
    fn new(place: u64, from: SocketAddr, source: Arc<Source>, server: Server, at_ns: u64) -> Self {
        Self {
            place,
            from,
            source,
            server,
            protocol: None,
            likely: None,
            since_ns: at_ns,
            counted_ns: at_ns,
            asked_ns: at_ns,
            busy: false,
            before: None,
            tally: Tally::default(),
        }
    }

    /// Counts its time up to a moment.
    fn count(&mut self, at_ns: u64) {
        let time = at_ns.saturating_sub(self.counted_ns);
        self.tally.open_ns += time;
        self.tally.busy_ns += if self.busy { time } else { 0 };
        self.counted_ns = self.counted_ns.max(at_ns);
    }

    /// Adds what the kernel has counted since it last said so.
    fn numbers(&mut self, now: &Numbers) {
        if now.round_trip > 0 {
            self.tally.rtt_sum_ns += u64::from(now.round_trip) * 1_000 / 8;
            self.tally.rtt_count += 1;
        }
        let sent = |n: &Numbers| n.bytes_sent.saturating_sub(n.bytes_again);
        if let Some(before) = &self.before {
            let tally = &mut self.tally;
            tally.sent_bytes += sent(now).saturating_sub(sent(before));
            tally.received_bytes += now.bytes_received.saturating_sub(before.bytes_received);
            tally.retransmits += u64::from(now.retransmits.saturating_sub(before.retransmits));
        }
        self.before = Some(*now);
    }
}

#[cfg(test)]
mod tests;
