//! What lies behind the first screen, in a real terminal, each as a person reaches it: a trace's
//! waterfall, what slow or failed requests have in common, what was logged beside a record, patterns,
//! and a statement of their own.

use coral_tests::{Colony, Terminal, small_shop, until};

/// Waits until the screen shows all of these at once.
#[track_caller]
fn shows(terminal: &Terminal, words: &[&str]) -> String {
    until(&format!("{words:?} on the screen"), || {
        let screen = terminal.text();
        match words.iter().find(|word| !screen.contains(**word)) {
            None => Ok(screen),
            Some(word) => Err(format!("no `{word}`:\n{screen}")),
        }
    })
}

fn open(colony: &Colony, words: &[&str]) -> Terminal {
    let mut args = vec!["open"];
    args.extend(words);
    Terminal::coral(colony, &args, 120, 40)
}

#[test]
fn what_lies_behind_the_first_screen_is_reached_by_keys() {
    let colony = small_shop::open();

    // A trace: who called whom, for how long, and that a clock was put right.
    let trace = open(&colony, &[&small_shop::id(7)]);
    _ = shows(&trace, &["POST /buy", "POST /charge", "web-2", "█", "3.00s"]);
    drop(trace);

    // From a service to what tells its failed requests from the others, and back to where it was.
    let mut service = open(&colony, &["payments"]);
    _ = shows(&service, &["POST /charge"]);
    service.keys("d");
    _ = shows(&service, &["what slow or failed requests have in common", "version", "v42", "100%"]);
    service.keys("\x1b");
    _ = shows(&service, &["POST /charge"]);
    drop(service);

    // From a record to those beside it.
    let mut logs = open(&colony, &["logs"]);
    _ = shows(&logs, &["line 6 of payments"]);
    logs.keys("/level=error");
    _ = shows(&logs, &["filter level=error"]);
    logs.keys("\r");
    until("the other records to go", || match logs.text() {
        screen if screen.contains("line 6 of payments") => Err(screen),
        _ => Ok(()),
    });
    _ = shows(&logs, &["line 7 of payments"]);
    logs.keys("c");
    _ = shows(&logs, &["line 5 of payments", "line 7 of payments", "line 9 of payments"]);
    drop(logs);

    // What records have in common, counted.
    let patterns = open(&colony, &["patterns"]);
    _ = shows(&patterns, &["of payments", "20"]);
    drop(patterns);

    // A statement, its rows, its error, and the next one.
    let mut sql = open(&colony, &["sql"]);
    _ = shows(&sql, &["ctrl-r"]);
    sql.keys("SELECT count(*) AS spans_of_all FROM spans");
    _ = shows(&sql, &["FROM spans"]);
    sql.keys("\x12");
    _ = shows(&sql, &["spans_of_all", "364"]);
}
