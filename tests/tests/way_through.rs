//! From an export to an answer: what was sent is what is counted, on every door of OTLP.

use coral_model::view::{Row, State};
use coral_tests::{Colony, otlp, until};

/// Requests and errors of a service, from `coral query red`.
fn red_of(colony: &Colony, service: &str) -> Result<(u64, u64), String> {
    let filter = format!("service={service}");
    let rows = colony.query(&["red", &filter, "--since", "10m"])?;
    let sum = rows.iter().fold((0, 0), |(requests, errors), row| match row {
        Row::Red(red) => (requests + red.red.requests, errors + red.red.errors),
        _ => (requests, errors),
    });
    Ok(sum)
}

#[test]
fn what_was_sent_is_what_is_counted() {
    let colony = Colony::start();
    for batch in 0..4 {
        let request = otlp::server_spans("cart", 1, batch * 50, 50);
        assert!(otlp::post_spans(&colony.otlp_http, &request).unwrap());
    }
    until("200 requests, 20 of them failed", || match red_of(&colony, "cart")? {
        (200, 20) => Ok(()),
        other => Err(format!("{other:?}")),
    });

    let rows = colony.query(&["services", "--since", "10m"]).unwrap();
    let cart = rows.iter().find_map(|row| match row {
        Row::Service(row) if row.service == "cart" => Some(row),
        _ => None,
    });
    let cart = cart.expect("cart is a service");
    assert_eq!(cart.state, State::Active);
    let p99 = cart.red.as_ref().and_then(|red| red.p99_ns).expect("it has durations");
    // Every span took exactly 5 ms; quantiles are within 1.1 %.
    assert!((4_945_000..=5_055_000).contains(&p99), "{p99}");

    // A trace is found by the id its sender chose.
    let id = "c0c0c0c0c0c0c0c00000000100000007";
    let spans = until("the trace", || {
        let rows = colony.query(&["trace", id, "--since", "10m"])?;
        if rows.is_empty() { Err("no spans yet".into()) } else { Ok(rows) }
    });
    assert!(matches!(spans.as_slice(), [Row::TraceHead(_), Row::Span(_)]), "{spans:?}");
}

#[test]
fn the_end_record_closes_every_answer() {
    let colony = Colony::start();
    for view in [
        "red", "services", "traces", "logs", "events", "topology", "metrics", "hosts", "inflight",
        "digest",
    ] {
        let answer = colony.coral(&["query", view, "--since", "5m", "--json"]);
        let (_, end) = answer.rows().unwrap_or_else(|error| panic!("{view}: {error}"));
        assert!(!end.truncated, "{view}");
        // Without data an answer is empty (0) or says that it is blind (6); it never fails.
        assert!([0, 1, 6].contains(&answer.code), "{view}: {answer:?}");
    }
}

#[test]
fn a_colony_starts_once_however_many_ask() {
    let colony = Colony::start();
    let before = colony.daemon_pid().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(colony.coral(&["up"]).code, 0));
        }
    });
    assert_eq!(colony.daemon_pid().unwrap(), before);
}

#[test]
fn down_leaves_nothing_running_and_says_so() {
    let colony = Colony::start();
    let pid = colony.daemon_pid().unwrap();
    let agent = colony.status().unwrap().agents.first().map(|agent| agent.pid).unwrap();
    _ = colony.coral(&["down"]).ok();
    for pid in [pid, agent] {
        until("the process to be gone", || {
            let gone = !std::path::Path::new(&format!("/proc/{pid}")).exists();
            if gone { Ok(()) } else { Err(format!("{pid} is still there")) }
        });
    }
    // Asking now neither starts a colony nor hangs: exit 3, with the next command to try.
    let answer = colony.coral(&["down"]);
    assert!([0, 3].contains(&answer.code), "{answer:?}");
}
