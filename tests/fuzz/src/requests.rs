//! Bytes that pass through somebody's connection, as the kernel tells of them.

use coral_agent::observe::requests::connection::{Connection, Told, Way};
use coral_agent::observe::requests::head::{Request, Response, begins, end};

/// A recorded connection: an operation in the low three bits of a byte, thousands of bytes that were
/// not copied in the others, a length of two bytes, and so many bytes. Whatever passes, time does not
/// run backwards, requests end once and in order, and nothing of them is kept that should not be.
pub fn http1(data: &[u8]) {
    let mut connection = Connection::default();
    let mut out = Vec::new();
    let (mut rest, mut at_ns, mut heads) = (data, 0u64, 0u64);
    while let [code, low, high, more @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(more.len());
        let (bytes, after) = more.split_at(length);
        rest = after;
        at_ns += 400_000_000;
        heads += bytes.iter().filter(|b| **b == b'\n').count() as u64 + 1;
        let unknown = u64::from(code >> 3) * 1_000;
        let total = bytes.len() as u64 + unknown;
        match code & 7 {
            0 => connection.moved(Way::Received, at_ns, bytes, total, &mut out),
            1 => connection.moved(Way::Sent, at_ns, bytes, total, &mut out),
            2 => connection.missed(Way::Received, at_ns, total, &mut out),
            3 => connection.missed(Way::Sent, at_ns, total, &mut out),
            4 => connection.ending(at_ns, &mut out),
            5 => connection.ended(at_ns, &mut out),
            _ => connection.settle(at_ns, &mut out),
        }
        assert!(connection.waiting().is_none_or(|(n, since, _)| n <= 1_024 && since <= at_ns));
    }
    connection.ended(at_ns, &mut out);
    assert_eq!(connection.waiting(), None);
    let mut before = None;
    for told in &out {
        let Told::Exchange(exchange) = told else { continue };
        assert!(exchange.start_ns <= exchange.end_ns && exchange.end_ns <= at_ns);
        assert!(before < Some(exchange.ordinal), "{} after {before:?}", exchange.ordinal);
        before = Some(exchange.ordinal);
        let route = &exchange.route;
        assert!(!route.is_empty() && !route.contains('?') && !route.chars().any(char::is_control));
        assert!(exchange.status.is_none_or(|status| (100..1_000).contains(&status)));
    }
    let exchanges = out.iter().filter(|told| matches!(told, Told::Exchange(_))).count();
    assert!(exchanges as u64 <= heads, "more requests than lines");
    // The same bytes as a head alone.
    if let Ok(request) = Request::parse(data) {
        assert!(!request.path.contains('?') && request.path.len() <= 3 * 1_024);
    }
    let _ = (Request::parse_line(data), Response::parse(data), begins(data));
    assert!(end(data, 0).is_none_or(|at| at <= data.len()));
}
