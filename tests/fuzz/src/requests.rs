//! Bytes that pass through somebody's connection, as the kernel tells of them.

use coral_agent::observe::requests::connection::Connection;
use coral_agent::observe::requests::conversation::{Conversation, Protocol};
use coral_agent::observe::requests::exchange::{Exchange, Reader as _, Told, Waits, Way};
use coral_agent::observe::requests::head::{Request, Response, begins, end};
use coral_agent::observe::requests::http2::hpack::Decoder;
use coral_agent::observe::requests::postgres::{SKIPPED, sqlstate, statement};
use coral_agent::observe::requests::redis::commands;
use coral_agent::reduce::Answer;

/// Something that happens to a connection.
pub(crate) struct Call<'a> {
    pub(crate) what: u8,
    pub(crate) at_ns: u64,
    pub(crate) bytes: &'a [u8],
    /// With those that were not copied.
    pub(crate) total: u64,
}

/// A recorded connection: an operation in the low three bits of a byte, thousands of bytes that were
/// not copied in the others, a length of two bytes, and so many bytes.
pub(crate) fn calls(data: &[u8]) -> Vec<Call<'_>> {
    let (mut rest, mut at_ns, mut calls) = (data, 0u64, Vec::new());
    while let [code, low, high, more @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(more.len());
        let (bytes, after) = more.split_at(length);
        rest = after;
        at_ns += 400_000_000;
        let unknown = u64::from(code >> 3) * 1_000;
        calls.push(Call { what: code & 7, at_ns, bytes, total: bytes.len() as u64 + unknown });
    }
    calls
}

/// Lines that begin in what was copied.
fn lines(calls: &[Call<'_>]) -> u64 {
    let of = |call: &Call<'_>| call.bytes.iter().filter(|b| **b == b'\n').count() as u64 + 1;
    calls.iter().map(of).sum()
}

/// Whatever passes, time does not run backwards, requests end once and in order, and nothing of them is
/// kept that should not be.
pub fn http1(data: &[u8]) {
    let mut connection = Connection::default();
    let mut out = Vec::new();
    let calls = calls(data);
    for Call { what, at_ns, bytes, total } in &calls {
        let (at_ns, total) = (*at_ns, *total);
        match what {
            0 => connection.moved(Way::Received, at_ns, bytes, total, &mut out),
            1 => connection.moved(Way::Sent, at_ns, bytes, total, &mut out),
            2 => connection.missed(Way::Received, at_ns, total, &mut out),
            3 => connection.missed(Way::Sent, at_ns, total, &mut out),
            4 => connection.ending(at_ns, &mut out),
            5 => connection.ended(at_ns, &mut out),
            _ => connection.settle(at_ns, &mut out),
        }
        assert!(connection.waiting().is_none_or(|waits| plausible(waits, 1_024, at_ns)));
    }
    let at_ns = calls.last().map_or(0, |call| call.at_ns);
    connection.ended(at_ns, &mut out);
    assert_eq!(connection.waiting(), None);
    let mut before = None;
    for told in &out {
        let Told::Exchange(exchange) = told else { continue };
        assert!(exchange.start_ns <= exchange.end_ns && exchange.end_ns <= at_ns);
        assert!(before < Some(exchange.ordinal), "{} after {before:?}", exchange.ordinal);
        before = Some(exchange.ordinal);
        let Some((_, route)) = exchange.operation.split_once(' ') else { panic!("no route") };
        assert!(!route.is_empty() && !route.contains('?') && !route.chars().any(char::is_control));
        match exchange.answer {
            Answer::None => {}
            Answer::Status(status) => assert!((100..1_000).contains(&status)),
            Answer::Done | Answer::Said(_) | Answer::Failed(_) | Answer::Grpc(_) => {
                panic!("no answer of HTTP")
            }
        }
    }
    let exchanges = out.iter().filter(|told| matches!(told, Told::Exchange(_))).count();
    assert!(exchanges as u64 <= lines(&calls), "more requests than lines");
    // The same bytes as a head alone.
    if let Ok(request) = Request::parse(data) {
        assert!(!request.path.contains('?') && request.path.len() <= 3 * 1_024);
    }
    let _ = (Request::parse_line(data), Response::parse(data), begins(data));
    assert!(end(data, 0).is_none_or(|at| at <= data.len()));
}

/// At most so many wait, and none began later.
pub(crate) fn plausible(waits: Waits, most: u64, at_ns: u64) -> bool {
    waits.count <= most && waits.oldest.is_none_or(|(since, _)| since <= at_ns)
}

/// What requests of a protocol are told of a connection, from before it is known what that speaks; so
/// many may wait.
fn requests(calls: &[Call<'_>], protocol: Protocol, most: u64) -> Vec<Exchange> {
    let mut conversation = Conversation::default();
    let mut requests = Vec::new();
    let end =
        Call { what: 5, at_ns: calls.last().map_or(0, |call| call.at_ns), bytes: &[], total: 0 };
    for Call { what, at_ns, bytes, total } in calls.iter().chain([&end]) {
        let (at_ns, total, mut out) = (*at_ns, *total, Vec::new());
        let before = conversation.protocol();
        match what {
            0 => conversation.moved(Way::Received, at_ns, bytes, total, &mut out),
            1 => conversation.moved(Way::Sent, at_ns, bytes, total, &mut out),
            2 => conversation.missed(Way::Received, at_ns, total, &mut out),
            3 => conversation.missed(Way::Sent, at_ns, total, &mut out),
            4 => conversation.ending(at_ns, &mut out),
            5 => conversation.ended(at_ns, &mut out),
            _ => conversation.settle(at_ns, &mut out),
        }
        assert!(conversation.waiting().is_none_or(|waits| plausible(waits, most, at_ns)));
        for told in out {
            let Told::Exchange(exchange) = told else { continue };
            assert!(exchange.start_ns <= exchange.end_ns && exchange.end_ns <= at_ns);
            if conversation.protocol().or(before) == Some(protocol) {
                requests.push(exchange);
            }
        }
    }
    assert_eq!(conversation.waiting(), None);
    requests
}

/// The same of Redis.
pub fn resp(data: &[u8]) {
    let calls = calls(data);
    let requests = requests(&calls, Protocol::Redis, 16_384);
    for exchange in &requests {
        // Nothing but names that are Redis's own.
        let mut words = exchange.operation.as_bytes().splitn(2, |b| *b == b' ');
        let (name, sub) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        assert_eq!(exchange.operation, commands::operation(name, sub));
        if let Answer::Failed(word) = exchange.answer {
            assert_eq!(word, commands::error(word.as_bytes()));
        }
    }
    assert!(requests.len() as u64 <= lines(&calls), "more commands than lines");
}

/// The same of HTTP/2 and gRPC.
pub fn http2(data: &[u8]) {
    let calls = calls(data);
    let requests = requests(&calls, Protocol::Http, 16_384);
    for exchange in &requests {
        let operation = exchange.operation.as_ref();
        assert!(operation.len() <= 4 * 1_024 && !operation.chars().any(char::is_control));
        match exchange.answer {
            Answer::Status(status) => assert!((100..1_000).contains(&status)),
            Answer::Grpc(status) => assert!(status.is_none_or(|status| status < 100)),
            Answer::None | Answer::Done | Answer::Said(_) | Answer::Failed(_) => {}
        }
    }
    // As many as there are heads of frames, and lines where it became something else.
    let frames: usize = calls.iter().map(|call| call.bytes.len() / 9 + 1).sum();
    assert!(requests.len() as u64 <= frames as u64 + lines(&calls), "more requests than frames");
    // The same bytes as a header block alone.
    let mut fields = 0;
    _ = Decoder::default().read(data, |_| fields += 1);
    assert!(fields <= data.len());
}

/// The same of PostgreSQL.
pub fn postgres(data: &[u8]) {
    let calls = calls(data);
    let requests = requests(&calls, Protocol::Postgres, 16_384);
    for exchange in &requests {
        is_name(&exchange.operation);
        match exchange.answer {
            Answer::Failed(SKIPPED) | Answer::None | Answer::Done => {}
            Answer::Failed(state) => assert_eq!(state, sqlstate::of(state.as_bytes())),
            Answer::Said(_) | Answer::Status(_) | Answer::Grpc(_) => {
                panic!("no answer of PostgreSQL")
            }
        }
    }
    // A head has five bytes.
    assert!(requests.len() <= data.len() / 5, "more requests than messages");
    // The same bytes as a statement alone, whole and cut.
    for cut in [false, true] {
        is_name(&statement::operation(data, cut));
    }
}

/// A verb in capitals, perhaps with one name behind it.
fn is_name(operation: &str) {
    let verb = operation.split([' ', ';']).next().unwrap_or_default();
    let capital = |b: u8| b.is_ascii_uppercase() || b == b'_';
    assert!(!verb.is_empty() && verb.bytes().all(capital), "{operation:?}");
    // A name of so many bytes, each of which may have been none of a text's.
    assert!(operation.len() < 32 + 4 * 128 && !operation.chars().any(char::is_control));
}
