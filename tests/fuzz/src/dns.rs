//! Names that are asked for, over TCP and in datagrams.

use coral_agent::observe::requests::dns::datagrams::{Datagrams, Ended, Heard, Packet};
use coral_agent::observe::requests::dns::message::{Message, begins};
use coral_agent::observe::requests::dns::stream::Connection;
use coral_agent::observe::requests::exchange::{Exchange, Reader as _, Role, Told, Way};
use coral_agent::reduce::Answer;

use crate::requests::{Call, calls, plausible};

/// Whatever passes, time does not run backwards, no more ends than was asked, and what is kept is a name
/// that can be shown.
pub fn dns(data: &[u8]) {
    let calls = calls(data);
    for role in [Role::Client, Role::Server] {
        stream(&calls, role);
    }
    datagrams(&calls);
    // The same bytes as a message alone.
    if let Some(Message { question: Some(question), .. }) = Message::parse(data) {
        assert!(begins(data));
        is_name(&question.operation);
    }
}

fn stream(calls: &[Call<'_>], role: Role) {
    let (mut connection, mut out, mut last) = (Connection::new(role), Vec::new(), 0);
    for Call { what, at_ns, bytes, total } in calls {
        last = *at_ns;
        match what {
            0 => connection.moved(Way::Received, last, bytes, *total, &mut out),
            1 => connection.moved(Way::Sent, last, bytes, *total, &mut out),
            2 => connection.missed(Way::Received, last, *total, &mut out),
            3 => connection.missed(Way::Sent, last, *total, &mut out),
            4 => connection.ending(last, &mut out),
            5 => connection.ended(last, &mut out),
            _ => connection.settle(last, &mut out),
        }
        assert!(connection.waiting().is_none_or(|waits| plausible(waits, 4_096, last)));
    }
    connection.ended(last, &mut out);
    assert_eq!(connection.waiting(), None);
    let exchanges = out.iter().filter_map(|told| match told {
        Told::Exchange(exchange) => Some(exchange),
        _ => None,
    });
    let mut n = 0;
    for exchange in exchanges {
        assert_eq!(exchange.role, role);
        plausible_exchange(exchange, last);
        n += 1;
    }
    // A question has 17 bytes, and two in front.
    let moved: usize = calls.iter().map(|call| call.bytes.len()).sum();
    assert!(n <= moved / 17, "more queries than questions");
}

fn datagrams(calls: &[Call<'_>]) {
    let (mut datagrams, mut out, mut last) = (Datagrams::default(), Vec::new(), 0);
    let (mut asked, mut ended) = (0, 0);
    for Call { what, at_ns, bytes, .. } in calls {
        last = *at_ns;
        let way = if what & 1 == 0 { Way::Received } else { Way::Sent };
        // Some at the port of DNS, some at another; some from nobody knows where.
        let port = if what & 2 == 0 { 53 } else { 5_300 };
        let peer = (what & 4 == 0).then_some(([10, 0, 0, 1], 40_000).into());
        let packet = Packet { process: 7, way, at_ns: last, port, peer, bytes };
        datagrams.take(&packet, |_| Some(()), &mut out);
        asked += 1;
        datagrams.settle(last, &mut out);
        assert!(datagrams.waiting(last).all(|((), since)| since <= last));
    }
    last += 60_000_000_000;
    datagrams.settle(last, &mut out);
    for heard in out {
        match heard {
            Heard::Query(Ended { exchange, peer, key, .. }) => {
                assert_eq!(peer.is_none(), key == 0);
                plausible_exchange(&exchange, last);
                ended += 1;
            }
            Heard::Addresses(process, name, addresses) => {
                assert!(process == 7 && !addresses.is_empty());
                is_name(&format!("A {name}"));
            }
            Heard::Unknown(()) => {}
        }
    }
    assert!(ended <= asked, "more queries than datagrams");
    assert_eq!(datagrams.waiting(last).count(), 0);
}

fn plausible_exchange(exchange: &Exchange, last: u64) {
    assert!(exchange.start_ns <= exchange.end_ns && exchange.end_ns <= last.max(exchange.start_ns));
    is_name(&exchange.operation);
    match exchange.answer {
        Answer::None => {}
        Answer::Said(code) => assert!(matches!(code, "NOERROR" | "NXDOMAIN"), "{code}"),
        Answer::Failed(code) => assert_ne!(code, "NOERROR"),
        Answer::Done | Answer::Status(_) | Answer::Grpc(_) => panic!("no answer of DNS"),
    }
}

/// A type and a name of at most nine labels.
fn is_name(operation: &str) {
    let Some((kind, name)) = operation.split_once(' ') else { panic!("no name: {operation:?}") };
    assert!(!kind.is_empty() && kind.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()));
    assert!(!name.is_empty() && name.len() < 2_048 && !name.chars().any(char::is_control));
    assert!(name.split('.').count() <= 10, "{name}");
}
