//! What becomes of connections.

use super::*;

const SECOND: u64 = 1_000_000_000;

fn source() -> Arc<Source> {
    Arc::new(Source { service: "cart".into(), bytes: vec![1], hash: 7, reports: false })
}

fn from() -> SocketAddr {
    "10.0.0.1:40000".parse().unwrap()
}

fn server() -> Server {
    Server { to: "10.0.0.5:6379".parse().unwrap(), name: None }
}

fn one(connections: &mut Connections, now_ns: u64) -> (String, &'static str, Tally) {
    let told: Vec<Delta> = connections.take(now_ns).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let connected = told[0].connected(now_ns);
    (connected.peer.to_owned(), told[0].protocol.map_or(UNREAD, Protocol::word), connected.tally)
}

#[test]
fn time_is_counted_while_open_and_while_something_is_asked() {
    let mut connections = Connections::default();
    connections.begin((1, 8), from(), source(), server(), Some(&Numbers::default()), SECOND);
    connections.moved(1, (Some(Protocol::Redis), None), true, 2 * SECOND);
    connections.moved(1, (Some(Protocol::Redis), None), true, 3 * SECOND);
    connections.moved(1, (Some(Protocol::Redis), None), false, 5 * SECOND);
    let (peer, protocol, tally) = one(&mut connections, 6 * SECOND);
    assert_eq!((peer.as_str(), protocol), ("redis@10.0.0.5:6379", "redis"));
    let expected =
        Tally { opened: 1, open_ns: 5 * SECOND, busy_ns: 3 * SECOND, ..Tally::default() };
    assert_eq!(tally, expected);
    // From there on.
    connections.moved(1, (Some(Protocol::Redis), None), true, 7 * SECOND);
    let expected = Tally { open_ns: 2 * SECOND, busy_ns: SECOND, ..Tally::default() };
    assert_eq!(one(&mut connections, 8 * SECOND).2, expected);
    connections.end(1, None, 9 * SECOND);
    let expected = Tally { open_ns: SECOND, busy_ns: SECOND, ..Tally::default() };
    assert_eq!((one(&mut connections, 9 * SECOND).2, connections.count()), (expected, 0));
}

#[test]
fn what_the_kernel_counts_is_told_once() {
    let mut connections = Connections::default();
    let numbers = |sent, again, received| Numbers {
        bytes_sent: sent,
        bytes_again: again,
        bytes_received: received,
        retransmits: u32::try_from(again / 10).unwrap(),
        round_trip: 8_000,
        flags: numbers::OPEN,
        ..Numbers::default()
    };
    connections.begin((1, 8), from(), source(), server(), Some(&numbers(0, 0, 0)), 1);
    // Of one that is older nobody knows what it counted before.
    connections.begin((2, 16), from(), source(), server(), None, 1);
    connections.moved(1, (Some(Protocol::Http), None), false, 1);
    connections.moved(2, (Some(Protocol::Http), None), false, 1);
    for socket in [1, 2] {
        connections.counted(socket, &numbers(1_000, 10, 500));
        connections.counted(socket, &numbers(1_100, 30, 700));
    }
    let broken = Numbers { error: 104, ..numbers(1_100, 30, 701) };
    connections.end(1, Some(&Numbers { flags: numbers::ABRUPT, ..broken }), 1);
    connections.end(2, Some(&broken), 1);
    let (peer, _, tally) = one(&mut connections, 1);
    let expected = Tally {
        opened: 1,
        reset: 1,
        retransmits: 3 + 2,
        sent_bytes: 1_070 + 80,
        received_bytes: 701 + 201,
        rtt_sum_ns: 6 * 1_000_000,
        rtt_count: 6,
        ..Tally::default()
    };
    assert_eq!((peer.as_str(), tally), ("10.0.0.5:6379", expected));
}

#[test]
fn one_on_which_nothing_is_said_waits_for_a_word_and_is_then_told_without() {
    let mut connections = Connections::default();
    let numbers = Numbers::default();
    connections.begin((1, 8), from(), source(), server(), Some(&numbers), SECOND);
    assert_eq!(connections.take(2 * SECOND).count(), 0);
    let (peer, protocol, tally) = one(&mut connections, 3 * SECOND);
    assert_eq!((peer.as_str(), protocol), ("10.0.0.5:6379", "tcp"));
    assert_eq!((tally.opened, tally.open_ns), (1, 2 * SECOND));
    // What was spoken with a server is what the next one will speak.
    connections.moved(1, (Some(Protocol::Postgres), None), false, 11 * SECOND);
    connections.begin((2, 16), from(), source(), server(), Some(&numbers), 12 * SECOND);
    let (peer, _, tally) = one(&mut connections, 12 * SECOND);
    assert_eq!((peer.as_str(), tally.opened), ("postgresql@10.0.0.5:6379", 1));
}

#[test]
fn what_begins_as_one_protocol_and_is_another_is_told_as_that() {
    let mut connections = Connections::default();
    let numbers = Numbers::default();
    connections.begin((1, 8), from(), source(), server(), Some(&numbers), SECOND);
    connections.moved(1, (None, Some(Protocol::Http)), true, SECOND);
    assert_eq!(connections.take(2 * SECOND).count(), 0);
    connections.moved(1, (Some(Protocol::Grpc), Some(Protocol::Http)), false, 2 * SECOND);
    assert_eq!(one(&mut connections, 3 * SECOND).1, "grpc");
    // A request that hangs does not say.
    let to = "10.0.0.6:80".parse().unwrap();
    connections.begin((2, 8), from(), source(), Server { to, name: None }, Some(&numbers), SECOND);
    connections.moved(2, (None, Some(Protocol::Http)), true, SECOND);
    let told: Vec<_> =
        connections.take(4 * SECOND).filter(|delta| delta.peer == "10.0.0.6:80").collect();
    assert_eq!(told[0].protocol, Some(Protocol::Http));
    assert_eq!(told[0].tally.busy_ns, 3 * SECOND);
}

#[test]
fn what_did_not_come_about_failed_unless_it_was_given_up_at_once() {
    let mut connections = Connections::default();
    let named = Server { name: Some("db.shop".into()), ..server() };
    let began = Numbers { began_ns: 10 * SECOND, ..Numbers::default() };
    for error in [0, 111, 110] {
        let numbers = Numbers { error, ..began };
        connections.fail(source(), named.clone(), &numbers, 10 * SECOND + 200);
    }
    connections.fail(source(), named, &began, 13 * SECOND);
    let (peer, protocol, tally) = one(&mut connections, 13 * SECOND);
    assert_eq!((peer.as_str(), protocol), ("db.shop:6379", "tcp"));
    assert_eq!(tally, Tally { failed: 3, refused: 1, ..Tally::default() });
}

#[test]
fn the_kernel_is_asked_of_each_every_ten_seconds() {
    let mut connections = Connections::default();
    connections.begin((1, 8), from(), source(), server(), Some(&Numbers::default()), SECOND);
    assert_eq!(connections.to_ask(10 * SECOND), []);
    assert_eq!(connections.to_ask(11 * SECOND), [(1, 8)]);
    assert_eq!(connections.to_ask(12 * SECOND), []);
}

#[test]
fn beyond_what_may_wait_nothing_is_lost_but_the_name() {
    let mut connections = Connections::default();
    let numbers = Numbers { error: 111, ..Numbers::default() };
    let all = WAITING + 3;
    for n in 0..all {
        let to = SocketAddr::from(([10, 0, 0, 1], u16::try_from(n + 1).unwrap()));
        connections.fail(source(), Server { to, name: None }, &numbers, SECOND);
    }
    let told: Vec<Delta> = connections.take(SECOND).collect();
    let failed: u64 = told.iter().map(|delta| delta.tally.failed).sum();
    assert_eq!((told.len(), failed), (WAITING + 1, all as u64));
    assert_eq!((connections.take_folded(), connections.take_folded()), (3, 0));
}
