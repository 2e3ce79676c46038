//! All connections that are followed, and what came of their bytes.

mod datagrams;
mod older;
mod opened;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use coral_bpf_types::{Chunk, transport, what};
use coral_model::time::{BUCKET, Time};
use coral_model::view::SpanKind;
use coral_proto::v1::PeerKind;
use xxhash_rust::xxh3::xxh3_64;

use super::bridges::Bridges;
use super::connections::{Connections, Server};
use super::conversation::{Conversation, Protocol};
use super::dns::addresses::Addresses;
use super::dns::datagrams::{Datagrams, Heard};
use super::exchange::{Began, Exchange, Role, Told, Way};
use super::head;
use super::names::{Names, Source, Verdict};
use super::nat::Nat;
use super::tls;
use crate::counters::Counters;
use crate::observe::files::Files;
use crate::observe::remains::{Remains, Wants};
use crate::reduce::{Answer, Seen, Waiting};
use crate::spans::Traced;
use older::Older;

/// Connections that are followed at once; more are not, counted.
pub const CONNECTIONS: usize = 20_000;
/// A connection on which nothing moved for this long is forgotten, ns. Its end may have been lost.
const IDLE_NS: u64 = 900 * 1_000_000_000;
/// Names of servers remembered of connections of which nothing is read; beyond it those are called by their
/// addresses.
const NAMES_ASKED: usize = 4_096;
/// A connection that went on encrypted is given so long to be read after all, ns.
const SHAKING_NS: u64 = 5_000_000_000;
/// Connections that have ended and are remembered: what moved at that very moment may be told after it.
const ENDED: usize = 64;
/// `AF_INET`.
const INET: u16 = 2;

/// A request that has ended, with whose it is.
#[derive(Debug)]
pub struct Request {
    source: Arc<Source>,
    exchange: Exchange,
    protocol: Protocol,
    peer: String,
    key: u64,
    /// `key` means something on this host alone.
    is_local: bool,
    /// `key` may not be the other end's: how many requests came before is not known.
    adrift: bool,
    sampled: bool,
    /// What is added to a time since boot to make it Unix time, ns.
    epoch_ns: u64,
}

impl Request {
    /// As the reducer takes it.
    #[must_use]
    pub fn seen(&self) -> Seen<'_> {
        let kind = match self.exchange.role {
            Role::Server => SpanKind::Server,
            Role::Client => SpanKind::Client,
        };
        Seen {
            resource: (&self.source.bytes, self.source.hash),
            kind,
            operation: &self.exchange.operation,
            protocol: self.protocol.word(),
            answer: self.exchange.answer,
            start_ns: self.exchange.start_ns.saturating_add(self.epoch_ns),
            end_ns: self.exchange.end_ns.saturating_add(self.epoch_ns),
            trace: self.exchange.parent.trace,
            key: self.key,
            peer: &self.peer,
            peer_kind: match self.protocol.is_database() {
                true => PeerKind::Database,
                false => PeerKind::External,
            },
            sampled: self.sampled,
        }
    }

    /// As a span is made of it. One whose key may be another request's has none here: that an edge is told with
    /// its neighbour's other end changes nothing, but a span would stand in a trace that it is not of.
    #[must_use]
    pub fn traced(&self) -> Traced<'_> {
        let seen = self.seen();
        Traced {
            seen: Seen { key: if self.adrift { 0 } else { seen.key }, ..seen },
            source: &self.source,
            protocol: self.protocol,
            parent: self.exchange.parent,
            is_local: self.is_local,
        }
    }
}

/// What tells which request of a connection one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// How many came before, at either end.
    Counted,
    /// Nothing: the other end may have counted more, because something was lost here, or came before.
    Adrift,
    /// Its number (HTTP/2), whatever was lost.
    Numbered,
}

impl Order {
    /// Something was lost.
    fn lose(&mut self) {
        if *self == Self::Counted {
            *self = Self::Adrift;
        }
    }
}

struct Followed {
    conversation: Conversation,
    source: Arc<Source>,
    /// Address of this end and of the other; `None` where they are not known.
    ends: Option<(SocketAddr, SocketAddr)>,
    /// The client's and the server's, as both of their agents call them; `None` before anything was told.
    wire: Option<(SocketAddr, SocketAddr)>,
    /// Both of these mean something on this host alone.
    is_local: bool,
    order: Order,
    process: u32,
    pid: u32,
    last_ns: u64,
    /// What the other end is called: by its client, where that is within TLS, else by the name that was asked
    /// for when its address was looked up.
    name: Option<Arc<str>>,
    /// What is read of it is within TLS.
    sealed: bool,
    /// What its last request was of.
    spoken: Option<Protocol>,
    /// It turned out to be the end that serves, and its program is called so.
    serves: bool,
    /// Since when it is encrypted and not read, ns since boot.
    encrypted_ns: Option<u64>,
}

/// What is to be done about a process that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Go on.
    Yes,
    /// Tell nothing more of what this process (likewise) writes to its standard output.
    Quiet(u32),
    /// Tell nothing more of this process (numbered as in [`Chunk::process`]).
    No(u32),
}

/// The connections.
pub struct Table {
    names: Names,
    counters: Arc<Counters>,
    followed: HashMap<u64, Followed>,
    connections: Connections,
    nat: Nat,
    bridges: Bridges,
    older: Older,
    /// Those that ended last.
    ended: VecDeque<u64>,
    /// What clients called the servers of connections of which nothing was read yet, by their ends.
    names_asked: HashMap<(SocketAddr, SocketAddr), String>,
    /// Services of which something was lost, and until the end of which bucket that marks them, Unix
    /// ns.
    lossy: HashMap<u64, u64>,
    /// The same of all, where it is not known whose bytes were lost.
    all_lossy_ns: u64,
    /// Services that had requests in flight when that was last told, or at some moment since.
    waited: HashMap<u64, Arc<Source>>,
    /// Ports of this agent, which telemetry is sent to: no request of anybody's.
    own_ports: Vec<u16>,
    told: Vec<Told>,
    /// DNS over UDP.
    datagrams: Datagrams<Arc<Source>>,
    heard: Vec<Heard<Arc<Source>>>,
    addresses: Addresses,
    remains: Arc<Remains>,
    files: Files,
    out: Vec<Request>,
    swept_ns: u64,
}

fn address(family: u16, bytes: &[u8; 16], port: u16) -> SocketAddr {
    let [a, b, c, d, ..] = *bytes;
    let ip = if family == INET { IpAddr::from([a, b, c, d]) } else { IpAddr::from(*bytes) };
    // A socket of IPv6 may speak IPv4 with one of IPv4.
    SocketAddr::new(ip.to_canonical(), port)
}

/// Address of this end and of the other; `None` where they are not known.
fn ends(chunk: &Chunk) -> Option<(SocketAddr, SocketAddr)> {
    let local = address(chunk.family, &chunk.local, chunk.local_port);
    let remote = address(chunk.family, &chunk.remote, chunk.remote_port);
    (chunk.family != 0).then_some((local, remote))
}

/// Whether telemetry is sent there, to this agent.
fn is_own(ports: &[u16], to: SocketAddr) -> bool {
    to.ip().is_loopback() && ports.contains(&to.port())
}

fn bucket_end(unix_ns: u64) -> u64 {
    unix_ns / BUCKET * BUCKET + BUCKET
}

impl Table {
    /// An empty one.
    #[must_use]
    pub fn new(names: Names, own_ports: Vec<u16>, counters: Arc<Counters>) -> Self {
        Self {
            names,
            counters,
            followed: HashMap::new(),
            connections: Connections::default(),
            nat: Nat::default(),
            bridges: Bridges::default(),
            older: Older::default(),
            ended: VecDeque::new(),
            names_asked: HashMap::new(),
            lossy: HashMap::new(),
            all_lossy_ns: 0,
            waited: HashMap::new(),
            own_ports,
            told: Vec::new(),
            datagrams: Datagrams::default(),
            heard: Vec::new(),
            addresses: Addresses::default(),
            remains: Arc::default(),
            files: Files::below("/"),
            out: Vec::new(),
            swept_ns: 0,
        }
    }

    /// The same on a host that is at work: its addresses may be translated, and connections are open already.
    #[must_use]
    pub fn with_nat(mut self, nat: Nat) -> Self {
        let older = Older::read(&mut self.files);
        Self { nat, older, ..self }
    }

    /// The same, where what processes leave is kept there.
    #[must_use]
    pub fn with_remains(self, remains: Arc<Remains>) -> Self {
        Self { remains, ..self }
    }

    /// What processes leave.
    #[must_use]
    pub fn remains(&self) -> &Remains {
        &self.remains
    }

    /// A process is another program from now on.
    pub fn began(&mut self, chunk: &Chunk) {
        let (pid, at_ns) = (chunk.pid, chunk.at_ns);
        self.remains.began(pid);
        if let Some(begun) = self.names.began(chunk.process, pid, &chunk.comm, at_ns) {
            let container = begun.container.as_deref();
            self.remains.meet(&mut self.files, pid, begun.start_ticks, container, at_ns);
        }
        self.counters.beginnings_not_looked_at.add(self.names.take_passed_over());
    }

    /// A process wrote to its standard output or its standard error.
    pub fn said(&mut self, chunk: &Chunk, bytes: &[u8]) -> Wanted {
        let wanted = self.wants(chunk);
        if wanted != Wanted::Yes {
            return wanted;
        }
        let is_worker = self.names.is_worker(chunk.pid);
        match self.remains.said(&mut self.files, chunk, bytes, is_worker) {
            Wants::More => Wanted::Yes,
            Wants::Nothing => Wanted::Quiet(chunk.process),
        }
    }

    /// Takes in a chunk and the bytes that follow it. `epoch_ns` is what is added to a time since boot
    /// to make it Unix time.
    pub fn take(&mut self, chunk: &Chunk, bytes: &[u8], epoch_ns: u64) -> Wanted {
        if chunk.transport == transport::DATAGRAM {
            return self.datagram(chunk, bytes, epoch_ns);
        }
        if matches!(chunk.what, what::OPENED | what::ENDED)
            && let Some((local, remote)) = ends(chunk)
        {
            self.older.forget((local, remote));
            if chunk.what == what::OPENED {
                // Nor is the other end's, where that is here too.
                self.older.forget((remote, local));
            }
        }
        if matches!(chunk.what, what::OPENED | what::NUMBERS | what::ENDED) {
            let wanted = self.connection(chunk, bytes);
            if chunk.what == what::ENDED {
                self.ended.truncate(ENDED - 1);
                self.ended.push_front(chunk.socket);
            }
            if chunk.what != what::ENDED || wanted != Wanted::Yes {
                return wanted;
            }
        }
        let new = !self.followed.contains_key(&chunk.socket);
        if new {
            if chunk.what == what::ENDING || chunk.what == what::ENDED {
                return Wanted::Yes;
            }
            if self.followed.len() >= CONNECTIONS {
                self.counters.requests_connections_refused.add(1);
                if let Some(ends) = ends(chunk) {
                    self.older.note(ends);
                }
                return Wanted::Yes;
            }
            let ends = ends(chunk);
            let (process, pid) = (chunk.process, chunk.pid);
            let source = match self.names.of(process, pid, &chunk.comm, None, chunk.at_ns) {
                Verdict::Ignore => return Wanted::No(process),
                Verdict::Watch(source) => source,
            };
            let conversation = match ends {
                Some((local, remote)) => Conversation::between(local.port(), remote.port()),
                None => Conversation::default(),
            };
            let (last_ns, sealed) = (chunk.at_ns, chunk.sealed != 0);
            // What its client called it, else by what name its address was asked for.
            let asked = ends.filter(|_| sealed).and_then(|ends| self.names_asked.remove(&ends));
            let looked_up = || self.addresses.name(process, ends?.1.ip(), chunk.at_ns);
            let name = asked.map(Arc::from).or_else(looked_up);
            let encrypted_ns = None;
            let older = |ends| self.older.may_be(ends, self.connections.has(ends));
            let order = if ends.is_some_and(older) { Order::Adrift } else { Order::Counted };
            let followed = Followed {
                conversation,
                source,
                ends,
                wire: None,
                is_local: true,
                order,
                process,
                pid,
                last_ns,
                name,
                sealed,
                spoken: None,
                serves: false,
                encrypted_ns,
            };
            self.followed.insert(chunk.socket, followed);
        }
        let over = chunk.over != 0 || new && self.ended.contains(&chunk.socket);
        let Some(followed) = self.followed.get_mut(&chunk.socket) else { return Wanted::Yes };
        let (at_ns, told) = (chunk.at_ns, &mut self.told);
        followed.last_ns = at_ns;
        if chunk.sealed != 0 && !followed.sealed {
            // It was agreed to go on encrypted, which is read after all: what is said now begins anew.
            followed.conversation = Conversation::default();
            (followed.sealed, followed.encrypted_ns) = (true, None);
        }
        let conversation = &mut followed.conversation;
        for (way, missed) in
            [(Way::Received, chunk.missed_received), (Way::Sent, chunk.missed_sent)]
        {
            if missed > 0 {
                followed.order.lose();
                conversation.missed(way, at_ns, missed.into(), told);
            }
        }
        let unknown = conversation.protocol().is_none();
        match chunk.what {
            what::RECEIVED => {
                conversation.moved(Way::Received, at_ns, bytes, chunk.total.into(), told);
            }
            what::SENT => conversation.moved(Way::Sent, at_ns, bytes, chunk.total.into(), told),
            what::ENDING => conversation.ending(at_ns, told),
            _ => conversation.ended(at_ns, told),
        }
        if unknown && conversation.protocol() == Some(Protocol::Http) {
            followed.order = match (head::begins(bytes), followed.order) {
                (None, _) => Order::Numbered,
                // It turned out not to be what had numbers.
                (Some(_), Order::Numbered) => Order::Adrift,
                (Some(_), order) => order,
            };
        }
        if over {
            conversation.ended(at_ns, told);
        }
        if followed.conversation.role() == Some(Role::Server) {
            if !std::mem::replace(&mut followed.serves, true) {
                // Some programs are known by the port that they serve at.
                let (process, pid, port) = (chunk.process, chunk.pid, Some(chunk.local_port));
                let named = self.names.of(process, pid, &chunk.comm, port, at_ns);
                if let Verdict::Watch(source) = named {
                    followed.source = source;
                }
            }
            let at = Time(at_ns.saturating_add(epoch_ns));
            self.names.serves(chunk.process, chunk.pid, &followed.source.service, at);
        }
        self.tell(chunk.socket, at_ns, epoch_ns);
        if !over && chunk.what != what::ENDED {
            self.used(chunk);
        }
        if (chunk.what == what::ENDED || over)
            && let Some(followed) = self.followed.remove(&chunk.socket)
        {
            let unread = u64::from(followed.encrypted_ns.is_some());
            self.counters.requests_encrypted.add(unread);
        }
        Wanted::Yes
    }

    /// A process begins a connection with TLS: what it calls the other end is remembered.
    pub fn hello(&mut self, chunk: &Chunk, bytes: &[u8]) -> Wanted {
        let Some(ends) = ends(chunk) else { return Wanted::Yes };
        let Some(name) = tls::name::of_server(bytes) else {
            // The ends may have been those of another connection before.
            self.names_asked.remove(&ends);
            return Wanted::Yes;
        };
        if self.names_asked.len() >= NAMES_ASKED {
            self.names_asked.clear();
        }
        self.names_asked.insert(ends, name.to_ascii_lowercase());
        Wanted::Yes
    }

    /// Whether a process is watched that has begun to speak TLS, or writes.
    pub fn wants(&mut self, chunk: &Chunk) -> Wanted {
        match self.names.of(chunk.process, chunk.pid, &chunk.comm, None, chunk.at_ns) {
            Verdict::Ignore => Wanted::No(chunk.process),
            Verdict::Watch(_) => Wanted::Yes,
        }
    }

    fn tell(&mut self, socket: u64, at_ns: u64, epoch_ns: u64) {
        let Some(followed) = self.followed.get_mut(&socket) else { return };
        // Nothing is told of a connection before that is known.
        let protocol = followed.conversation.protocol().unwrap_or(Protocol::Http);
        for told in self.told.drain(..) {
            match told {
                Told::Unknown(n) => {
                    followed.order.lose();
                    self.counters.requests_unknown.add(n);
                    self.lossy.insert(followed.source.hash, bucket_end(at_ns + epoch_ns));
                }
                Told::Encrypted => followed.encrypted_ns = Some(at_ns),
                Told::Forgotten => self.counters.requests_statements_forgotten.add(1),
                Told::Addresses(name, addresses) => {
                    self.addresses.told(followed.process, &name, &addresses, at_ns);
                }
                Told::Exchange(exchange) => {
                    if followed.wire.is_none()
                        && let Some(ends) = followed.ends
                    {
                        let open = |ends| self.connections.has(ends);
                        let role = exchange.role;
                        let wire = self.nat.wire(role, ends, at_ns, open);
                        let (client, server) = (wire.0.ip(), wire.1.ip());
                        followed.is_local = client.is_loopback() && server.is_loopback()
                            || self.bridges.hold(&mut self.files, &[client, server], at_ns);
                        followed.wire = Some(wire);
                    }
                    let client = exchange.role == Role::Client;
                    if client && followed.ends.is_some_and(|(_, to)| is_own(&self.own_ports, to)) {
                        continue;
                    }
                    if !client {
                        if exchange.answer == Answer::None {
                            let (pid, what) = (followed.pid, &exchange.operation);
                            let (since, at) = (exchange.start_ns, exchange.end_ns);
                            self.remains.unanswered(pid, what, since, at);
                        }
                        let source = &followed.source;
                        self.waited.entry(source.hash).or_insert_with(|| Arc::clone(source));
                    }
                    let end_ns = exchange.end_ns.saturating_add(epoch_ns);
                    let lossy = self.lossy.get(&followed.source.hash);
                    let protocol = match exchange.answer {
                        Answer::Grpc(_) => Protocol::Grpc,
                        _ => protocol,
                    };
                    followed.spoken = Some(protocol);
                    self.counters.requests_seen.add(1);
                    self.out.push(Request {
                        source: Arc::clone(&followed.source),
                        protocol,
                        peer: if client { followed.peer(protocol) } else { String::new() },
                        key: followed.key(socket, &exchange),
                        is_local: followed.is_local,
                        adrift: followed.order == Order::Adrift,
                        sampled: lossy.is_some_and(|until| end_ns < *until)
                            || end_ns < self.all_lossy_ns,
                        exchange,
                        epoch_ns,
                    });
                }
            }
        }
    }

    /// Bytes were lost by `now_ns` (Unix), and nobody knows whose: their connections may be gone.
    pub fn lost(&mut self, now_ns: u64) {
        self.all_lossy_ns = bucket_end(now_ns);
        for followed in self.followed.values_mut() {
            followed.order.lose();
        }
    }

    /// Ends what is over because nothing more came of it; `now_ns` since boot.
    pub fn settle(&mut self, now_ns: u64, epoch_ns: u64) {
        let mut settled = Vec::new();
        for (socket, followed) in &mut self.followed {
            followed.conversation.settle(now_ns, &mut self.told);
            settled.extend(self.told.drain(..).map(|told| (*socket, told)));
            let shaking = |since: &mut u64| now_ns.saturating_sub(*since) >= SHAKING_NS;
            if followed.encrypted_ns.take_if(shaking).is_some() {
                self.counters.requests_encrypted.add(1);
            }
        }
        for (socket, told) in settled {
            self.told.push(told);
            self.tell(socket, now_ns, epoch_ns);
        }
        self.datagrams.settle(now_ns, &mut self.heard);
        self.hear(now_ns, epoch_ns);
        self.counters.requests_names_forgotten.add(self.addresses.take_forgotten());
    }

    /// Requests that ended since the last call.
    pub fn ended(&mut self) -> std::vec::Drain<'_, Request> {
        self.out.drain(..)
    }

    /// Hands `tell` the requests in flight of every service that has any, or had since it was last
    /// told: none is a number too.
    pub fn waiting(&mut self, now_ns: u64, epoch_ns: u64, mut tell: impl FnMut(&Waiting<'_>)) {
        let mut counts: HashMap<u64, (Arc<Source>, u64, Option<Began>)> = HashMap::new();
        let servers =
            self.followed.values().filter(|f| f.conversation.role() == Some(Role::Server));
        for followed in servers {
            let Some(waits) = followed.conversation.waiting() else { continue };
            let first = || (Arc::clone(&followed.source), 0, None);
            let entry = counts.entry(followed.source.hash).or_insert_with(first);
            entry.1 += waits.count;
            entry.2 = entry.2.into_iter().chain(waits.oldest).min_by_key(|(since, _)| *since);
        }
        for (source, since_ns) in self.datagrams.waiting(now_ns) {
            let entry = counts.entry(source.hash).or_insert_with(|| (Arc::clone(source), 0, None));
            entry.1 += 1;
            let began = entry.2.into_iter().chain([(since_ns, [0; 16])]);
            entry.2 = began.min_by_key(|(since, _)| *since);
        }
        for (hash, source) in std::mem::take(&mut self.waited) {
            if !counts.contains_key(&hash) {
                let resource = (source.bytes.as_slice(), source.hash);
                tell(&Waiting { resource, count: 0, oldest_ns: 0, oldest_trace: [0; 16] });
            }
        }
        for (hash, (source, count, oldest)) in counts {
            let resource = (source.bytes.as_slice(), source.hash);
            let (oldest_ns, oldest_trace) = oldest
                .map_or((0, [0; 16]), |(since, trace)| (since.saturating_add(epoch_ns), trace));
            tell(&Waiting { resource, count, oldest_ns, oldest_trace });
            self.waited.insert(hash, source);
        }
    }

    /// Forgets connections on which nothing moved for long, and old losses; `now_ns` since boot.
    pub fn sweep(&mut self, now_ns: u64, epoch_ns: u64) {
        if now_ns.saturating_sub(self.swept_ns) < IDLE_NS / 15 {
            return;
        }
        self.swept_ns = now_ns;
        self.followed.retain(|_, followed| {
            // A request that hangs is what somebody looks for.
            let stays = now_ns.saturating_sub(followed.last_ns) < IDLE_NS
                || followed.conversation.waiting().is_some()
                    && now_ns.saturating_sub(followed.last_ns) < 4 * IDLE_NS;
            if !stays && let Some(ends) = followed.ends {
                // It may go on.
                self.older.note(ends);
            }
            stays
        });
        self.lossy.retain(|_, until| *until > now_ns + epoch_ns);
        self.addresses.sweep(now_ns);
    }
}

impl Followed {
    /// Who serves, as an SDK's spans name it: a database by what it is and its address. Nothing where
    /// that is not known.
    fn peer(&self, protocol: Protocol) -> String {
        let Some((_, to)) = self.ends else { return String::new() };
        Server { to, name: self.name.clone() }.peer(Some(protocol))
    }

    /// The same number at both ends: of their addresses, the asking one's first, and how many
    /// requests came before. One of its own where the addresses are not known.
    fn key(&self, socket: u64, exchange: &Exchange) -> u64 {
        let Some((client, server)) = self.wire else {
            let end = format!("{socket:x} {:?} {}", exchange.role, exchange.ordinal);
            return xxh3_64(end.as_bytes()).max(1);
        };
        xxh3_64(format!("{client} {server} {}", exchange.ordinal).as_bytes()).max(1)
    }
}

#[cfg(test)]
mod within_tls;

#[cfg(test)]
mod tests;
