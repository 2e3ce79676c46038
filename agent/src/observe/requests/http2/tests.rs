//! Recorded connections, played again.

use super::super::exchange::recorded::{agree, requests, summary};
use super::frame::PREFACE;
use super::recorded::{block, call, data, frame, get, headers};
use super::*;

/// What happens to a connection.
enum Event {
    /// The client sends, the server does: so many bytes of it are known.
    Asks(Vec<u8>, usize),
    Answers(Vec<u8>, usize),
    /// Bytes that the client sent, or the server, of which nothing is known.
    AskingMissed(u64),
    AnsweringMissed(u64),
    /// The server sends no more.
    Ending,
    Ended,
}
use Event::{AnsweringMissed, Answers, AskingMissed, Asks, Ended, Ending};

const ALL: usize = usize::MAX;

fn replay(mut connection: Connection, role: Role, record: &[Event]) -> Vec<Told> {
    let asking = requests(role);
    let answering = if asking == Way::Sent { Way::Received } else { Way::Sent };
    let mut out = Vec::new();
    for (at_ns, event) in (1..).zip(record) {
        let mut moved = |way, bytes: &[u8], known: usize| {
            let first = &bytes[..known.min(bytes.len())];
            connection.moved(way, at_ns, first, bytes.len() as u64, &mut out);
        };
        match event {
            Asks(bytes, known) => moved(asking, bytes, *known),
            Answers(bytes, known) => moved(answering, bytes, *known),
            AskingMissed(n) => connection.missed(asking, at_ns, *n, &mut out),
            AnsweringMissed(n) => connection.missed(answering, at_ns, *n, &mut out),
            Ending => connection.ending(at_ns, &mut out),
            Ended => connection.ended(at_ns, &mut out),
        }
    }
    out
}

fn words(told: &[Told]) -> Vec<String> {
    summary(told, |answer| match answer {
        Answer::Status(status) => status.to_string(),
        Answer::Grpc(Some(status)) => format!("grpc {status}"),
        Answer::Grpc(None) => "grpc none".to_owned(),
        _ => "none".to_owned(),
    })
}

/// What both ends of a new connection tell.
fn both(record: &[Event]) -> Vec<String> {
    let [server, client] = [Role::Server, Role::Client]
        .map(|role| replay(Connection::new(requests(role)), role, record));
    agree(&server, &client);
    assert_eq!(words(&server), words(&client));
    words(&server)
}

fn begin() -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[]), &frame(8, 0, 0, &[0; 4])].concat()
}

fn ok(stream: u32) -> Vec<u8> {
    [headers(stream, false, ":status 200"), data(stream, true, 5)].concat()
}

fn asks(pieces: &[Vec<u8>]) -> Event {
    Asks(pieces.concat(), ALL)
}

fn answers(pieces: &[Vec<u8>]) -> Event {
    Answers(pieces.concat(), ALL)
}

#[test]
fn streams_end_in_any_order() {
    let told = both(&[
        asks(&[begin(), get(1, "/a?q=1"), get(3, "/users/42")]),
        answers(&[frame(4, 0, 0, &[]), frame(4, 1, 0, &[])]),
        asks(&[headers(5, false, ":method POST\n:path /up"), data(5, true, 100)]),
        answers(&[ok(3), headers(5, false, ":status 100"), headers(1, false, ":status 500")]),
        answers(&[data(1, false, 10), headers(5, true, ":status 404"), data(1, true, 0)]),
    ]);
    let expected = ["GET /users/{id} 200 1-4", "POST {not found} 404 3-5", "GET /a 500 1-5"];
    assert_eq!(told, expected);
}

#[test]
fn a_hundred_streams_at_once_are_told_one_by_one() {
    let streams = || (0..100).map(|n| 2 * n + 1);
    let all: Vec<Vec<u8>> = streams().map(|s| get(s, "/a")).collect();
    let mut connection = Connection::new(Way::Received);
    let mut out = Vec::new();
    let bytes = [begin(), all.concat()].concat();
    connection.moved(Way::Received, 7, &bytes, bytes.len() as u64, &mut out);
    assert_eq!((out.len(), connection.waiting()), (0, Some(Waits::since(100, 7))));
    for (left, stream) in (0..100).rev().zip(streams()) {
        let bytes = ok(stream);
        connection.moved(Way::Sent, 9, &bytes, bytes.len() as u64, &mut out);
        assert_eq!(connection.waiting().map_or(0, |waits| waits.count), left);
    }
    let exchanges: Vec<u64> = out
        .iter()
        .map(|told| match told {
            Told::Exchange(e) => e.ordinal,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(exchanges, (0..100).collect::<Vec<u64>>());
}

#[test]
fn bodies_that_nobody_copied_are_skipped() {
    let told = both(&[
        asks(&[begin(), get(1, "/big")]),
        answers(&[headers(1, false, ":status 200")]),
        Answers(data(1, false, 60_000), 9),
        Answers(data(1, true, 60_000)[..30_000].to_vec(), 9),
        AnsweringMissed(30_009),
        asks(&[get(3, "/a")]),
        answers(&[ok(3)]),
    ]);
    assert_eq!(told, ["GET /big 200 1-5", "GET /a 200 6-7"]);
}

#[test]
fn a_call_of_grpc_has_the_name_and_the_status_that_spans_have() {
    let trailers = |stream, status: &str| headers(stream, true, &format!("grpc-status {status}"));
    let head = |stream| headers(stream, false, ":status 200\ncontent-type application/grpc");
    let told = both(&[
        asks(&[begin(), call(1, "/shop.Cart/Add"), data(1, true, 30)]),
        answers(&[head(1), data(1, false, 12), trailers(1, "0")]),
        asks(&[call(3, "/shop.Cart/Nope"), data(3, true, 30), call(5, "/shop.Cart/Add")]),
        // Trailers alone.
        answers(&[headers(3, true, ":status 200\ncontent-type application/grpc\ngrpc-status 12")]),
        answers(&[head(5), trailers(5, "13")]),
        // Broken off by who asked: CANCEL.
        asks(&[call(7, "/shop.Cart/Slow"), frame(3, 0, 7, &[0, 0, 0, 8])]),
        answers(&[head(7)]),
        // A proxy answers in place of a server, and a server says nothing.
        asks(&[call(9, "/shop.Cart/Add"), call(11, "/shop.Cart/Add"), call(13, "/../x?y z")]),
        answers(&[headers(9, true, ":status 503"), head(11), data(11, true, 0)]),
        answers(&[trailers(13, "5")]),
    ]);
    let expected = [
        "shop.Cart/Add grpc 0 1-2",
        "shop.Cart/Nope grpc 12 3-4",
        "shop.Cart/Add grpc 13 3-5",
        "shop.Cart/Slow grpc none 6-6",
        "shop.Cart/Add grpc 14 8-9",
        "shop.Cart/Add grpc 2 8-9",
        "/../x grpc 5 8-10",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_stream_that_lasts_is_in_flight_and_nobody_waits_for_it() {
    let mut connection = Connection::new(Way::Received);
    let mut out = Vec::new();
    let mut moved = |connection: &mut Connection, way, at_ns, bytes: &[u8]| {
        connection.moved(way, at_ns, bytes, bytes.len() as u64, &mut out);
    };
    let bytes = [begin(), call(1, "/shop.Feed/Watch"), data(1, true, 9)].concat();
    moved(&mut connection, Way::Received, 5, &bytes);
    assert_eq!(connection.waiting(), Some(Waits::since(1, 5)));
    let head = headers(1, false, ":status 200\ncontent-type application/grpc");
    moved(&mut connection, Way::Sent, 6, &head);
    assert_eq!(connection.waiting(), Some(Waits { count: 1, oldest: None }));
    moved(&mut connection, Way::Received, 9, &call(3, "/shop.Feed/Get"));
    assert_eq!(connection.waiting(), Some(Waits::since(2, 9)));
    moved(&mut connection, Way::Sent, 60, &headers(1, true, "grpc-status 0"));
    assert_eq!(connection.waiting(), Some(Waits::since(1, 9)));
    assert_eq!(words(&out), ["shop.Feed/Watch grpc 0 5-60"]);
}

#[test]
fn what_is_broken_off_has_no_answer() {
    let record = [
        asks(&[begin(), get(1, "/a"), get(3, "/b"), get(5, "/c"), get(7, "/d"), get(9, "/e")]),
        // Refused; half answered; after the last that will be.
        answers(&[frame(3, 0, 1, &[0, 0, 0, 7]), headers(3, false, ":status 200")]),
        asks(&[frame(3, 0, 3, &[0, 0, 0, 8])]),
        answers(&[frame(7, 0, 0, &[0, 0, 0, 7, 0, 0, 0, 0])]),
        answers(&[ok(5)]),
        // What comes after the end is nobody's.
        answers(&[ok(1), ok(9)]),
        Ending,
        Ended,
    ];
    let first = ["GET /a none 1-2", "GET /b 200 1-3", "GET /e none 1-4", "GET /c 200 1-5"];
    let [server, client] = [Role::Server, Role::Client]
        .map(|role| words(&replay(Connection::new(requests(role)), role, &record)));
    assert_eq!(server, [&first[..], &["GET /d none 1-7"]].concat());
    assert_eq!(client, [&first[..], &["GET /d none 1-8"]].concat());
}

#[test]
fn a_trace_is_kept_and_a_tunnel_ends_where_it_begins() {
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = format!(":method GET\n:path /a\ntraceparent 00-{id}-00f067aa0ba902b7-01");
    let tunnel = headers(3, false, ":method CONNECT\n:authority a:1");
    let record = [
        asks(&[begin(), headers(1, true, &traced), tunnel]),
        answers(&[ok(1), headers(3, false, ":status 200"), data(3, false, 9)]),
        asks(&[headers(5, true, ":method BREW\n:path /pot")]),
        answers(&[headers(5, true, ":status 418")]),
    ];
    assert_eq!(both(&record), ["GET /a 200 1-2", "CONNECT / 200 1-2", "unknown 1"]);
    let told = replay(Connection::new(Way::Received), Role::Server, &record);
    let Some(Told::Exchange(first)) = told.first() else { panic!("{told:?}") };
    assert_eq!(u128::from_be_bytes(first.parent.trace), u128::from_str_radix(id, 16).unwrap());
}

#[test]
fn what_is_lost_is_unknown_and_the_rest_is_right() {
    // A response, and what is left of the call it was in.
    let told = both(&[
        asks(&[begin(), get(1, "/a"), get(3, "/b")]),
        answers(&[ok(1)]),
        AnsweringMissed(40),
        asks(&[get(5, "/c")]),
        answers(&[ok(3), ok(5)]),
    ]);
    assert_eq!(told, ["GET /a 200 1-2", "unknown 1", "GET /c 200 4-5"]);
    // A request: who waits then may have been broken off in it.
    let told = both(&[
        asks(&[begin(), get(1, "/a")]),
        AskingMissed(40),
        answers(&[ok(1), ok(3)]),
        asks(&[get(5, "/c")]),
        answers(&[ok(5)]),
    ]);
    assert_eq!(told, ["unknown 2", "unknown 1", "GET /c 200 4-5"]);
    // The end of a header block: its stream is unknown, and no other one.
    let head = headers(3, true, ":method GET\n:scheme http\n:path /b");
    let told = both(&[
        asks(&[begin(), get(1, "/a")]),
        Asks(head, 30),
        asks(&[get(5, "/c")]),
        answers(&[ok(3), ok(1), ok(5)]),
    ]);
    assert_eq!(told, ["unknown 1", "GET /a 200 1-4", "GET /c 200 3-4"]);
}

/// `:path` with this text, put into the table.
fn kept_path(path: &str) -> Vec<u8> {
    [&[0x44, u8::try_from(path.len()).unwrap()], path.as_bytes()].concat()
}

#[test]
fn fields_that_refer_to_what_was_lost_are_unknown() {
    // :method GET, and the newest of the table.
    let again = |stream| frame(1, 5, stream, &[0x82, 0xbe]);
    let first = frame(1, 5, 1, &[&[0x82], kept_path("/a").as_slice()].concat());
    let told = both(&[
        asks(&[begin(), first, again(3)]),
        answers(&[ok(1), ok(3)]),
        AskingMissed(10),
        asks(&[again(5), get(7, "/b")]),
        answers(&[ok(5), ok(7)]),
        asks(&[frame(1, 5, 9, &[&[0x82], kept_path("/c").as_slice()].concat()), again(11)]),
        answers(&[ok(9), ok(11)]),
    ]);
    let expected = [
        "GET /a 200 1-2",
        "GET /a 200 1-2",
        "unknown 1",
        "unknown 1",
        "GET /b 200 4-5",
        "GET /c 200 6-7",
        "GET /c 200 6-7",
    ];
    assert_eq!(told, expected);
}

#[test]
fn an_older_connection_is_understood_as_far_as_it_says_what_it_means() {
    let older = |record: &[Event]| {
        let told = [Role::Server, Role::Client]
            .map(|role| words(&replay(Connection::older(), role, record)));
        assert_eq!(told[0], told[1]);
        told[0].clone()
    };
    // The response to somebody's earlier request is not told of before it is known what this is.
    let told = older(&[
        answers(&[ok(1)]),
        asks(&[get(21, "/a")]),
        answers(&[ok(19), ok(21)]),
        answers(&[ok(23)]),
    ]);
    assert_eq!(told, ["GET /a 200 2-3", "unknown 1"]);
    // POST, and a path and a type that were said before: whether it is an RPC is not known, until its
    // end says so; what it is called neither.
    let post = |stream, more: &[u8]| frame(1, 4, stream, &[&[0x83], more].concat());
    let told = older(&[
        asks(&[post(5, &[0xc0, 0xc1]), data(5, true, 3)]),
        answers(&[ok(5)]),
        asks(&[post(7, &[kept_path("/a.B/C").as_slice(), &[0xc1]].concat()), data(7, true, 3)]),
        answers(&[frame(1, 4, 7, &[0x88, 0xc3]), headers(7, true, "grpc-status 0")]),
        asks(&[post(9, &[0xbe, 0xc1]), data(9, true, 3)]),
        answers(&[frame(1, 4, 9, &[0x88, 0xc3]), frame(1, 5, 9, &[0xc4])]),
    ]);
    assert_eq!(told, ["unknown 1", "a.B/C grpc 0 3-4", "unknown 1"]);
}

#[test]
fn what_only_looks_like_it_is_left() {
    let mut out = Vec::new();
    let mut says = |bytes: &[u8]| {
        let mut connection = Connection::older();
        connection.moved(Way::Sent, 1, bytes, bytes.len() as u64, &mut out);
        (connection.is_something_else(), connection.role(), connection.waiting())
    };
    // Neither a request nor a response, or no block at all.
    assert_eq!(says(&headers(1, true, "a b")), (true, None, None));
    assert_eq!(says(&frame(1, 5, 1, &[0x80])), (true, None, None));
    // What may be a request is none yet.
    assert_eq!(says(&get(1, "/")), (false, None, None));
    assert_eq!(out, []);
}

#[test]
fn streams_are_bounded() {
    let mut connection = Connection::new(Way::Received);
    let mut out = Vec::new();
    let streams = (0..=u32::try_from(STREAMS).unwrap()).map(|n| get(2 * n + 1, "/a"));
    let bytes = [begin(), streams.collect::<Vec<_>>().concat()].concat();
    connection.moved(Way::Received, 1, &bytes, bytes.len() as u64, &mut out);
    assert_eq!(
        (connection.waiting().unwrap().count, out),
        (STREAMS as u64, vec![Told::Unknown(1)])
    );
}

#[test]
fn a_promise_is_read_for_the_table_and_told_of_nobody() {
    let promise = [&[0, 0, 0, 2, 0x82], kept_path("/pushed").as_slice()].concat();
    let told = both(&[
        asks(&[begin(), get(1, "/a")]),
        // The status stands behind the promised path.
        answers(&[frame(1, 4, 1, &[&[0x48, 3], b"201".as_slice()].concat())]),
        answers(&[frame(5, 4, 1, &promise), ok(2), data(1, true, 0)]),
        asks(&[get(3, "/b")]),
        answers(&[frame(1, 5, 3, &[0xbf])]),
    ]);
    assert_eq!(told, ["GET /a 201 1-3", "GET /b 201 4-5"]);
    assert_eq!(block("a b"), [0, 1, b'a', 1, b'b']);
}
