//! Recorded connections.

use super::*;
use crate::observe::requests::dns::message::wire::{answer, query};
use crate::observe::requests::exchange::recorded::{both, replay, summary};

fn lines(told: &[Told]) -> Vec<String> {
    // What a name's addresses are only who asks is told.
    let told: Vec<Told> =
        told.iter().filter(|t| !matches!(t, Told::Addresses(..))).cloned().collect();
    summary(&told, |answer| match answer {
        Answer::Said(code) => code.to_lowercase(),
        Answer::Failed(code) => (*code).to_owned(),
        Answer::None => "none".to_owned(),
        other => panic!("no answer of DNS: {other:?}"),
    })
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn ask(id: u16, name: &str) -> Vec<u8> {
    framed(&query(id, 1, name))
}

fn found(id: u16, name: &str, code: u8) -> Vec<u8> {
    framed(&answer(&query(id, 1, name), code, &[]))
}

#[test]
fn pipelined_queries_are_answered_in_any_order() {
    let record = [
        (">", [ask(1, "a.b"), ask(2, "c.d"), ask(3, "e.f")].concat()),
        ("<", found(2, "c.d", 3)),
        ("<", [found(3, "e.f", 0), found(1, "a.b", 2)].concat()),
        (">", ask(4, "g.h")),
        (">ended", vec![]),
    ];
    let told = ["A c.d NXDOMAIN 1-2", "A e.f noerror 1-3", "A a.b SERVFAIL 1-3", "A g.h none 4-5"];
    assert_eq!(both(Connection::new, &record, lines), told);
}

#[test]
fn messages_come_in_any_pieces() {
    let (question, answer) = (ask(1, "a.example.com"), found(1, "a.example.com", 0));
    let bytes = question.iter().map(|byte| (">", vec![*byte]));
    let (first, rest) = answer.split_at(2);
    let halves = [("<", first.to_vec()), ("<", rest.to_vec())];
    let record: Vec<_> = bytes.chain(halves).collect();
    let n = question.len();
    let told = [format!("A a.example.com noerror 1-{}", n + 2)];
    assert_eq!(both(Connection::new, &record, lines), told);
}

#[test]
fn an_answer_that_is_long_or_only_partly_known_counts() {
    let long = framed(&[answer(&query(1, 1, "a.b"), 0, &[]), vec![0; 40_000]].concat());
    let (known, more) = long.split_at(5_000);
    let unknown = more.len().to_string();
    let mark = format!("<{unknown}");
    let record = [
        (">", ask(1, "a.b")),
        (mark.as_str(), known.to_vec()),
        (">", ask(2, "c.d")),
        ("<", found(2, "c.d", 0)),
    ];
    let told = ["A a.b noerror 1-2", "A c.d noerror 3-4"];
    assert_eq!(both(Connection::new, &record, lines), told);
}

#[test]
fn what_is_lost_is_said_and_the_next_message_found() {
    let record = [
        (">", ask(1, "a.b")),
        ("<", found(1, "a.b", 0)),
        ("<missed", vec![0; 30]),
        (">", ask(2, "c.d")),
        // Behind a gap nobody can tell where it is, until a call begins a message.
        ("<", found(2, "c.d", 0)),
        // One that is older than the agent, whose length was read by itself.
        ("<missed", vec![0; 30]),
        (">", ask(3, "e.f")),
        ("<", answer(&query(3, 1, "e.f"), 0, &[])),
    ];
    let told =
        ["A a.b noerror 1-2", "unknown 1", "A c.d noerror 4-5", "unknown 1", "A e.f noerror 7-8"];
    assert_eq!(both(Connection::new, &record, lines), told);
}

#[test]
fn what_is_something_else_is_left() {
    let mut connection = Connection::new(Role::Client);
    let mut out = Vec::new();
    connection.moved(Way::Sent, 1, b"SSH-2.0-x\r\n", 11, &mut out);
    assert!(connection.is_something_else());
    assert_eq!(out, [Told::Unknown(1)]);
    // Length without a message.
    let mut connection = Connection::new(Role::Client);
    connection.moved(Way::Sent, 1, &[0], 1, &mut out);
    connection.moved(Way::Sent, 1, &[3], 1, &mut out);
    assert!(connection.is_something_else());
}

#[test]
fn a_query_without_an_answer_is_given_up() {
    let mut connection = Connection::new(Role::Server);
    let mut out = Vec::new();
    let ask = ask(1, "a.b");
    connection.moved(Way::Received, 1, &ask, ask.len() as u64, &mut out);
    assert_eq!(connection.waiting(), Some(Waits::since(1, 1)));
    connection.settle(PATIENCE_NS, &mut out);
    assert_eq!(out, []);
    connection.settle(PATIENCE_NS + 1, &mut out);
    assert_eq!(lines(&out), [format!("A a.b none 1-{}", PATIENCE_NS + 1)]);
    assert_eq!(connection.waiting(), None);
    let told = replay(connection, Role::Server, &[("<", found(1, "a.b", 0))]);
    assert_eq!(told, []);
}
