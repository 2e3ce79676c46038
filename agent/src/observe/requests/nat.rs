//! What the ends of a connection are called by others, where this host translates their addresses.
//!
//! A client that asks a virtual address, and the server that is chosen for it, have different names for
//! the same connection; so have a client elsewhere and a server behind a published port. The kernel's
//! connection tracking knows both. Ends meet by the addresses that the server sees, and where a server's host translates
//! what comes from elsewhere, by those that came over the wire.
//!
//! Needs `CAP_NET_ADMIN`, and sees what is translated in the agent's own network namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};

use coral_model::time::SECOND;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr as Address};

use super::exchange::Role;

/// How many connections are tracked; without any nothing is translated.
const TRACKED: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// How long its answer is good for, ns.
const GOOD_NS: u64 = SECOND;
/// Longest answer.
const ANSWER: usize = 4_096;

/// From where to where.
pub type Ends = (SocketAddr, SocketAddr);

/// A connection as it is tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracked {
    /// Who opened it, and to whom, before anything was translated.
    pub original: Ends,
    /// What comes back: from whom, and to whom, where it was translated already.
    pub reply: Ends,
}

/// Asks the kernel; the default one knows of nothing.
#[derive(Default)]
pub struct Nat {
    socket: Option<Socket>,
    looked_ns: u64,
    tracks: bool,
}

impl Nat {
    /// One that asks, where that is allowed.
    #[must_use]
    pub fn open() -> Self {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&Address::new(0, 0))?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = open().inspect_err(|error| {
            tracing::info!(%error, "addresses that are translated on this host are not known");
        });
        Self { socket: socket.ok(), ..Self::default() }
    }

    /// The connection, tracked, of which one direction has these ends; `None` where there is none, or the
    /// kernel does not say.
    pub fn find(&mut self, (from, to): Ends, now_ns: u64) -> Option<Tracked> {
        self.socket.as_ref()?;
        if now_ns.saturating_sub(self.looked_ns) >= GOOD_NS {
            self.looked_ns = now_ns;
            let count = std::fs::read_to_string(TRACKED).unwrap_or_default();
            self.tracks = count.trim().parse::<u64>().is_ok_and(|count| count > 0);
        }
        if !self.tracks || from.is_ipv4() != to.is_ipv4() {
            return None;
        }
        let socket = self.socket.as_ref()?;
        socket.send(&question((from, to)), 0).ok()?;
        let mut answer = Vec::with_capacity(ANSWER);
        // The kernel has answered by the time that it has taken the question.
        socket.recv(&mut answer, 0).ok()?;
        tracked(&answer)
    }
}

impl Nat {
    /// Client and server of a connection of which `ends` are this end and the other, by the addresses that
    /// the agents of both know. `is_open` says whether somebody of this host has opened one between such
    /// ends.
    pub fn wire(
        &mut self,
        role: Role,
        (local, remote): Ends,
        now_ns: u64,
        is_open: impl FnOnce(Ends) -> bool,
    ) -> Ends {
        match role {
            // As the server sees them.
            Role::Client => self
                .find((local, remote), now_ns)
                .map_or((local, remote), |tracked| (tracked.reply.1, tracked.reply.0)),
            // As they came from elsewhere; a client of this host knows how the server sees them.
            Role::Server => self
                .find((local, remote), now_ns)
                .map(|tracked| tracked.original)
                .filter(|original| !is_open(*original))
                .unwrap_or((remote, local)),
        }
    }
}

fn question((from, to): Ends) -> Vec<u8> {
    let family = match from.is_ipv4() {
        true => NetfilterProtoFamily::IPv4,
        false => NetfilterProtoFamily::IPv6,
    };
    let tuple = vec![
        Tuple::Ip(vec![IPTuple::SourceAddress(from.ip()), IPTuple::DestinationAddress(to.ip())]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(Protocol::Tcp),
            ProtoTuple::SourcePort(from.port()),
            ProtoTuple::DestinationPort(to.port()),
        ]),
    ];
    let get = ConntrackMessage::Get(vec![ConntrackAttribute::CtaTupleOrig(tuple)]);
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), get);
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    bytes
}

fn tracked(answer: &[u8]) -> Option<Tracked> {
    let message = NetlinkMessage::<NetfilterMessage>::deserialize(answer).ok()?;
    let NetlinkPayload::InnerMessage(message) = message.payload else { return None };
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner else {
        return None;
    };
    let (mut original, mut reply) = (None, None);
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = ends(&tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => reply = ends(&tuple),
            _ => {}
        }
    }
    Some(Tracked { original: original?, reply: reply? })
}

fn ends(tuple: &[Tuple]) -> Option<Ends> {
    let (mut ips, mut ports): ([Option<IpAddr>; 2], [Option<u16>; 2]) = ([None; 2], [None; 2]);
    for part in tuple {
        match part {
            Tuple::Ip(parts) => {
                for part in parts {
                    match part {
                        IPTuple::SourceAddress(ip) => ips[0] = Some(*ip),
                        IPTuple::DestinationAddress(ip) => ips[1] = Some(*ip),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(parts) => {
                for part in parts {
                    match part {
                        ProtoTuple::SourcePort(port) => ports[0] = Some(*port),
                        ProtoTuple::DestinationPort(port) => ports[1] = Some(*port),
                        _ => {}
                    }
                }
            }
            Tuple::Other(_) | _ => {}
        }
    }
    let ([from, to], [from_port, to_port]) = (ips, ports);
    Some((SocketAddr::new(from?, from_port?), SocketAddr::new(to?, to_port?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A message as the kernel sends it: what is asked, turned into an answer with both directions.
    fn answer(original: Ends, reply: Ends) -> Vec<u8> {
        let tuple = |ends: Ends| {
            let asked = NetlinkMessage::<NetfilterMessage>::deserialize(&question(ends)).unwrap();
            let NetlinkPayload::InnerMessage(message) = asked.payload else { panic!("no message") };
            let NetfilterMessageInner::Conntrack(ConntrackMessage::Get(mut of)) = message.inner
            else {
                panic!("no question")
            };
            let ConntrackAttribute::CtaTupleOrig(tuple) = of.remove(0) else { panic!("no tuple") };
            tuple
        };
        let both = vec![
            ConntrackAttribute::CtaTupleOrig(tuple(original)),
            ConntrackAttribute::CtaTupleReply(tuple(reply)),
            ConntrackAttribute::CtaMark(7),
        ];
        let header = NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0);
        let message = NetfilterMessage::new(header, ConntrackMessage::New(both));
        let mut packet =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn both_directions_of_an_answer_are_read() {
        for (client, virtual_one, server, seen) in [
            ("10.0.0.1:40000", "10.9.9.9:80", "10.0.0.2:8080", "10.0.0.7:1234"),
            ("[fd00::1]:40000", "[fd00::9]:80", "[fd00::2]:8080", "[fd00::7]:1234"),
        ] {
            let original = (end(client), end(virtual_one));
            let reply = (end(server), end(seen));
            assert_eq!(tracked(&answer(original, reply)), Some(Tracked { original, reply }));
        }
    }

    #[test]
    fn what_is_no_answer_says_nothing() {
        let original = (end("10.0.0.1:40000"), end("10.9.9.9:80"));
        let whole = answer(original, original);
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            if let Some(at) = cut.first_chunk_mut::<4>() {
                *at = u32::try_from(length).unwrap().to_ne_bytes();
            }
            _ = tracked(&cut);
        }
        assert_eq!(tracked(&question(original)), None);
        assert_eq!(Nat::default().find(original, 1), None);
    }
}
