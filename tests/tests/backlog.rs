//! An agent that was cut off from its colony catches up: the newest first, for whoever looks at the
//! screen, and everything once.

use coral_model::view::Row;
use coral_tests::{Colony, otlp, until};

const MARK: u32 = 0xbac;
const BATCH: u32 = 400;
const BATCHES: u32 = 60;
/// So much of each span does not compress: the backlog fills several segments of the spool.
const WEIGHT: usize = 1000;
/// The time the agent is cut off for, as its applications' clocks saw it, ns.
const HOUR: u64 = 3_600_000_000_000;

/// Letters that look random.
fn noise(seed: u64) -> String {
    let mut n = seed | 1;
    let letter = |_| {
        n ^= n << 13;
        n ^= n >> 7;
        n ^= n << 17;
        char::from(b'0' + u8::try_from(n % 75).unwrap_or(0))
    };
    (0..WEIGHT).map(letter).collect()
}

/// A number that a statement gives.
fn number(colony: &Colony, statement: &str) -> Result<u64, String> {
    for row in colony.query(&["sql", statement])? {
        if let Row::Sql(row) = row {
            let value = row.values.values().next().map(ToString::to_string).unwrap_or_default();
            return value.trim_matches('"').parse().map_err(|_| format!("{value} is no number"));
        }
    }
    Err(format!("no row for {statement}"))
}

#[test]
fn an_agent_cut_off_for_an_hour_catches_up_newest_first_and_once() {
    let mut colony = Colony::start();
    Colony::kill(colony.daemon_pid().expect("a daemon"));
    let now = otlp::now_ns();
    for batch in 0..BATCHES {
        let mut request = otlp::server_spans("cut-off", MARK, batch * BATCH, BATCH);
        let ago = HOUR / u64::from(BATCHES) * u64::from(BATCHES - batch);
        for span in &mut request.resource_spans[0].scope_spans[0].spans {
            (span.start_time_unix_nano, span.end_time_unix_nano) =
                (now - ago - 5_000_000, now - ago);
            let id = u64::from_be_bytes(span.span_id.clone().try_into().expect("eight bytes"));
            span.attributes.push(otlp::text("weight", &noise(id)));
        }
        assert_eq!(otlp::post_spans(&colony.otlp_http, &request), Ok(true), "batch {batch}");
    }
    colony.up();
    let total = u64::from(BATCH * BATCHES);
    until("the backlog to be stored", || {
        match number(&colony, "SELECT count(*) FROM spans WHERE service = 'cut-off'")? {
            n if n >= total => Ok(()),
            n => Err(format!("{n} of {total}")),
        }
    });
    let once = "SELECT count(*) FROM (SELECT DISTINCT trace_hi, trace_lo, span_id FROM spans WHERE service = 'cut-off')";
    assert_eq!(number(&colony, once), Ok(total), "something is there twice, and something not");
    until("RED to count it", || {
        let rows = colony.query(&["red", "service=cut-off", "--since", "2h"])?;
        let requests = |row: &Row| if let Row::Red(red) = row { red.red.requests } else { 0 };
        match rows.iter().map(requests).sum::<u64>() {
            n if n == total => Ok(()),
            n => Err(format!("{n} of {total} requests")),
        }
    });
    // Minutes of the hour in the order in which they were stored; of one commit the newest first.
    let order = "SELECT (start_ns // 60000000000)::VARCHAR AS minute FROM spans \
                 WHERE service = 'cut-off' GROUP BY ALL ORDER BY min(received_ns), minute DESC";
    let minutes: Vec<String> = colony
        .query(&["sql", order])
        .expect("minutes")
        .iter()
        .filter_map(|row| match row {
            Row::Sql(row) => row.values.get("minute").map(ToString::to_string),
            _ => None,
        })
        .collect();
    let at = |minute: u64| {
        let name = format!("\"{minute}\"");
        minutes.iter().position(|m| *m == name).unwrap_or(usize::MAX)
    };
    let (newest, middle) = ((now - HOUR / 8) / 60_000_000_000, (now - HOUR / 2) / 60_000_000_000);
    assert!(at(newest) < at(middle), "the newest came after the middle: {minutes:?}");
}
