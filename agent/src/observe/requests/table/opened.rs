//! Connections below the requests: who opened them, and which of them are in use.

use std::sync::Arc;

use coral_bpf_types::{Chunk, Numbers, numbers, what};

use super::super::connections::{Delta, Server};
use super::super::conversation::Protocol;
use super::super::exchange::Role;
use super::super::names::Verdict;
use super::{CONNECTIONS, Table, Wanted, ends, is_own};

impl Table {
    /// A connection that a program opened has come about or ended, or the kernel has counted.
    pub(super) fn connection(&mut self, chunk: &Chunk, bytes: &[u8]) -> Wanted {
        let (at_ns, numbers) = (chunk.at_ns, Numbers::from_bytes(bytes));
        if self.connections.knows(chunk.socket) {
            match (chunk.what, &numbers) {
                (what::ENDED, _) => self.connections.end(chunk.socket, numbers.as_ref(), at_ns),
                (_, Some(numbers)) => self.connections.counted(chunk.socket, numbers),
                (_, None) => {}
            }
            return Wanted::Yes;
        }
        // What this end did not open is the other end's; what it opened before is not told of again.
        let Some(numbers) = numbers.filter(|numbers| numbers.began_ns != 0) else {
            return Wanted::Yes;
        };
        let failed = chunk.what == what::ENDED && numbers.flags & numbers::OPEN == 0;
        let Some((from, to)) = ends(chunk).filter(|_| failed || chunk.what == what::OPENED) else {
            return Wanted::Yes;
        };
        let process = chunk.process;
        let source = match self.names.of(process, chunk.pid, &chunk.comm, None, at_ns) {
            Verdict::Ignore => return Wanted::No(process),
            Verdict::Watch(source) => source,
        };
        if is_own(&self.own_ports, to) {
            return Wanted::Yes;
        }
        let server = Server { to, name: self.addresses.name(process, to.ip(), at_ns) };
        if failed {
            self.connections.fail(source, server, &numbers, at_ns);
        } else if self.connections.count() >= CONNECTIONS {
            self.counters.requests_connections_refused.add(1);
        } else {
            let socket = (chunk.socket, chunk.place);
            self.connections.begin(socket, from, source, server, Some(&numbers), at_ns);
        }
        Wanted::Yes
    }

    /// Something moved on a connection: if this end opened it, it is counted what it is used for.
    pub(super) fn used(&mut self, chunk: &Chunk) {
        let Some(followed) = self.followed.get(&chunk.socket) else { return };
        if followed.conversation.role() != Some(Role::Client) {
            return;
        }
        if !self.connections.knows(chunk.socket) {
            // It is older than the agent.
            let Some((from, to)) = followed.ends.filter(|(_, to)| !is_own(&self.own_ports, *to))
            else {
                return;
            };
            if self.connections.count() >= CONNECTIONS {
                return;
            }
            let server = Server { to, name: followed.name.clone() };
            let (socket, source) = ((chunk.socket, chunk.place), Arc::clone(&followed.source));
            self.connections.begin(socket, from, source, server, None, chunk.at_ns);
        }
        let likely = followed.conversation.protocol();
        let certain = likely.filter(|protocol| *protocol != Protocol::Http);
        let protocols = (followed.spoken.or(certain), likely);
        let busy = followed.conversation.is_busy();
        self.connections.moved(chunk.socket, protocols, busy, chunk.at_ns);
    }

    /// Connections of which the kernel is to be asked what it has counted: their numbers, and where it has
    /// them.
    pub fn to_ask(&mut self, now_ns: u64) -> Vec<(u64, u64)> {
        self.connections.to_ask(now_ns)
    }

    /// The kernel does not know a connection any more whose end was not told.
    pub fn gone(&mut self, socket: u64, now_ns: u64) {
        self.connections.end(socket, None, now_ns);
    }

    /// What is to be told of connections.
    pub fn connections(&mut self, now_ns: u64) -> impl Iterator<Item = Delta> + use<> {
        let deltas = self.connections.take(now_ns);
        self.counters.folded_peers.add(self.connections.take_folded());
        deltas
    }
}

#[cfg(test)]
mod tests {
    use coral_model::connections::Tally;

    use super::super::tests::{ANSWER, ASK, chunk, table, take};
    use super::*;
    use crate::counters::Counters;

    const PORTS: (u16, u16) = (40_000, 80);

    fn told(table: &mut Table, now_ns: u64) -> Vec<(String, String, Tally)> {
        let deltas: Vec<Delta> = table.connections(now_ns).collect();
        let of = |delta: &Delta| {
            let connected = delta.connected(now_ns);
            (connected.protocol.to_owned(), connected.peer.to_owned(), connected.tally)
        };
        deltas.iter().map(of).collect()
    }

    fn numbers(flags: u32, error: u32) -> [u8; size_of::<Numbers>()] {
        Numbers {
            began_ns: 1,
            bytes_sent: 28,
            bytes_received: 40,
            flags,
            error,
            ..Numbers::default()
        }
        .to_bytes()
    }

    #[test]
    fn a_connection_is_counted_from_its_beginning_to_its_end() {
        let counters = Arc::new(Counters::default());
        let mut table = table(&counters);
        let open = numbers(numbers::OPEN, 0);
        take(&mut table, chunk("ab", 1, PORTS, what::OPENED, 10), &open);
        take(&mut table, chunk("ab", 1, PORTS, what::SENT, 20), ASK);
        take(&mut table, chunk("ab", 1, PORTS, what::RECEIVED, 50), ANSWER);
        let place = Chunk { place: 8, ..chunk("ab", 1, PORTS, what::NUMBERS, 60) };
        take(&mut table, place, &open);
        take(&mut table, chunk("ab", 1, PORTS, what::ENDED, 70), &open);
        let tally = Tally {
            opened: 1,
            sent_bytes: 28,
            received_bytes: 40,
            open_ns: 60,
            busy_ns: 30,
            ..Tally::default()
        };
        assert_eq!(told(&mut table, 80), [("http".into(), "127.0.0.1:80".into(), tally)]);
        assert_eq!((told(&mut table, 90), table.to_ask(1 << 40)), (vec![], vec![]));
    }

    #[test]
    fn one_that_is_older_than_the_agent_is_open_from_its_first_request() {
        let counters = Arc::new(Counters::default());
        let mut table = table(&counters);
        take(&mut table, chunk("ab", 1, PORTS, what::SENT, 20), ASK);
        // Who serves has opened nothing.
        take(&mut table, chunk("nginx", 2, (80, 40_000), what::RECEIVED, 20), ASK);
        take(&mut table, chunk("ab", 1, PORTS, what::RECEIVED, 40), ANSWER);
        let tally = Tally { open_ns: 30, busy_ns: 20, ..Tally::default() };
        assert_eq!(told(&mut table, 50), [("http".into(), "127.0.0.1:80".into(), tally)]);
        table.gone(1, 60);
        assert_eq!(told(&mut table, 70)[0].2.open_ns, 10);
        assert!(!table.connections.knows(1));
    }

    #[test]
    fn one_that_is_refused_is_told_and_one_to_the_agent_or_of_nobody_watched_is_not() {
        let counters = Arc::new(Counters::default());
        let mut table = table(&counters);
        let refused = numbers(0, 111);
        take(&mut table, chunk("ab", 1, (0, 80), what::ENDED, 20), &refused);
        take(&mut table, chunk("ab", 2, (0, 4318), what::ENDED, 20), &refused);
        let other = take(&mut table, chunk("curl", 3, (0, 80), what::ENDED, 20), &refused);
        assert_eq!(other, Wanted::No(4));
        let tally = Tally { failed: 1, refused: 1, ..Tally::default() };
        assert_eq!(told(&mut table, 30), [("tcp".into(), "127.0.0.1:80".into(), tally)]);
    }
}
