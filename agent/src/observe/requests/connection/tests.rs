//! Recorded connections, played again.

use super::super::exchange::recorded;
use super::*;

fn summary(told: &[Told]) -> Vec<String> {
    recorded::summary(told, |answer| match answer {
        Answer::Status(status) => status.to_string(),
        _ => "none".to_owned(),
    })
}

fn both(record: &[(&str, &str)]) -> Vec<String> {
    recorded::both(|_| Connection::default(), &recorded::text(record), summary)
}

const OK: &str = "HTTP/1.1 200 OK\nContent-Length: 2\n\nok";

#[test]
fn keep_alive_and_pipelining() {
    let told = both(&[
        (">", "GET /a HTTP/1.1\n\n"),
        ("<", OK),
        (">", "GET /b HTTP/1.1\n\nGET /c HTTP/1.1\n\nPOST /d HTTP/1.1\nContent-Length: 3\n\nx"),
        (
            "<",
            "HTTP/1.1 500 Oops\nContent-Length: 0\n\nHTTP/1.1 304 Not Modified\nContent-Length: 9\n\n",
        ),
        (">", "yz"),
        ("<", "HTTP/1.1 100 Continue\n\n"),
        ("<", OK),
    ]);
    assert_eq!(told, ["GET /a 200 1-2", "GET /b 500 3-4", "GET /c 304 3-4", "POST /d 200 3-7"]);
}

#[test]
fn a_message_may_come_in_any_pieces() {
    let told = both(&[
        (">", "GE"),
        (">", "T /a HTTP/1.1\nHo"),
        (">", "st: x\n\n"),
        ("<", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nab"),
        ("<", "c\n0\n"),
        ("<", "\n"),
    ]);
    assert_eq!(told, ["GET /a 200 1-6"]);
}

#[test]
fn bodies_that_nobody_copied_are_skipped() {
    let told = both(&[
        (">", "HEAD /big HTTP/1.1\n\n"),
        ("<", "HTTP/1.1 200 OK\nContent-Length: 1000000\n\n"),
        (">", "GET /big HTTP/1.1\n\n"),
        ("<", "HTTP/1.1 200 OK\nContent-Length: 1000000\n\n"),
        ("<900000", ""),
        ("<100000", ""),
        (">", "GET /a HTTP/1.1\n\n"),
        ("<", OK),
    ]);
    assert_eq!(told, ["HEAD /big 200 1-2", "GET /big 200 3-6", "GET /a 200 7-8"]);
}

#[test]
fn a_response_may_end_with_its_connection() {
    let told = both(&[
        (">", "GET /a HTTP/1.0\n\n"),
        ("<", "HTTP/1.1 200 OK\n\nsome"),
        ("<", "more"),
        ("<ended", ""),
    ]);
    assert_eq!(told, ["GET /a 200 1-3"]);
}

#[test]
fn a_request_without_an_answer_is_told_when_there_can_be_none() {
    let record = [(">", "GET /a HTTP/1.1\n\n"), ("<ending", ""), ("<ended", "")];
    let of = |role| recorded::replay(Connection::default(), role, &recorded::text(&record));
    assert_eq!(summary(&of(Role::Server)), ["GET /a none 1-2"]);
    assert_eq!(summary(&of(Role::Client)), ["GET /a none 1-3"]);
}

#[test]
fn a_tunnel_is_not_looked_into() {
    let told = both(&[
        (">", "GET /live HTTP/1.1\nUpgrade: websocket\n\n"),
        ("<", "HTTP/1.1 101 Switching Protocols\n\n"),
        (">", "GET /not-a-request HTTP/1.1\n\n"),
        ("<", OK),
    ]);
    assert_eq!(told, ["GET /live 101 1-2"]);
}

#[test]
fn an_older_connection_is_understood_from_the_next_message_on() {
    let told =
        both(&[("<", "the rest of a body"), ("<", OK), (">", "GET /a HTTP/1.1\n\n"), ("<", OK)]);
    assert_eq!(told, ["unknown 1", "GET /a 200 3-4"]);
}

#[test]
fn what_is_lost_is_unknown_and_the_rest_is_right() {
    // A request and its response are lost.
    let told = both(&[
        (">", "GET /a HTTP/1.1\n\n"),
        ("<", OK),
        (">missed", "GET /b HTTP/1.1\n\n"),
        ("<missed", OK),
        (">", "GET /c HTTP/1.1\n\n"),
        ("<", OK),
    ]);
    assert_eq!(told, ["GET /a 200 1-2", "unknown 1", "GET /c 200 5-6"]);
    // A response alone.
    let told = both(&[
        (">", "GET /a HTTP/1.1\n\n"),
        ("<missed", OK),
        (">", "GET /b HTTP/1.1\n\n"),
        ("<", OK),
    ]);
    assert_eq!(told, ["unknown 1", "GET /b 200 3-4"]);
    // The end of a response that was in chunks.
    let told = both(&[
        (">", "GET /a HTTP/1.1\n\n"),
        ("<70000", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\n"),
        (">", "GET /b HTTP/1.1\n\n"),
        ("<", OK),
    ]);
    assert_eq!(told, ["GET /a 200 1-2", "GET /b 200 3-4"]);
    // The same, and nothing more comes.
    let mut connection = Connection::default();
    let mut out = Vec::new();
    let ask = b"GET /a HTTP/1.1\r\n\r\n";
    connection.moved(Way::Received, 1, ask, ask.len() as u64, &mut out);
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n";
    connection.moved(Way::Sent, 2, answer, 70_000, &mut out);
    connection.settle(QUIET_NS, &mut out);
    assert_eq!(out, []);
    connection.settle(2 * QUIET_NS, &mut out);
    assert_eq!(summary(&out), ["GET /a 200 1-2"]);
}

#[test]
fn requests_that_wait_are_counted() {
    let mut connection = Connection::default();
    let mut out = Vec::new();
    assert_eq!(connection.waiting(), None);
    let two = b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
    connection.moved(Way::Received, 7, two, two.len() as u64, &mut out);
    assert_eq!(connection.waiting(), Some(Waits::since(2, 7)));
    let many = two.repeat(PIPELINED);
    connection.moved(Way::Received, 8, &many, many.len() as u64, &mut out);
    assert_eq!(connection.waiting().unwrap().count, PIPELINED as u64);
    assert_eq!(out.len(), PIPELINED + 2);
}
