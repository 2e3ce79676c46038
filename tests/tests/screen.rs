//! The screen in a real terminal.

use coral_tests::{Colony, Terminal, otlp, until};

const ENTER_ALTERNATE: &str = "\x1b[?1049h";
const LEAVE_ALTERNATE: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";

fn occurs(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[test]
fn without_data_it_says_what_it_cannot_see() {
    let colony = Colony::start();
    let terminal = Terminal::coral(&colony, &[], 80, 24);
    let screen = terminal.wait_for("OTEL_EXPORTER_OTLP_ENDPOINT");
    assert!(!screen.to_lowercase().contains("healthy"), "{screen}");
}

#[test]
fn every_view_opens_at_every_size_and_comes_back() {
    let colony = Colony::start();
    let request = otlp::server_spans("cart", 1, 0, 100);
    assert!(otlp::post_spans(&colony.otlp_http, &request).unwrap());
    let mut terminal = Terminal::coral(&colony, &[], 80, 24);
    _ = terminal.wait_for("cart");
    for (columns, rows) in [(40, 10), (80, 24), (120, 40), (200, 50)] {
        terminal.resize(columns, rows);
        for view in ["2", "3", "4", "5", "6", "7", "8", "9", "1"] {
            terminal.keys(view);
        }
        _ = terminal.wait_for("cart");
    }
}

#[test]
fn leaving_gives_the_terminal_back() {
    let colony = Colony::start();
    let mut terminal = Terminal::coral(&colony, &[], 80, 24);
    until("the alternate screen", || {
        if occurs(&terminal.bytes(), ENTER_ALTERNATE) { Ok(()) } else { Err("not yet".into()) }
    });
    _ = terminal.wait_for("? keys");
    terminal.keys("q");
    assert_eq!(terminal.wait_exit(), 0);
    until("the terminal to be given back", || {
        let bytes = terminal.bytes();
        let restored = [LEAVE_ALTERNATE, SHOW_CURSOR, "\x1b[?2004l", "\x1b[?1000l"];
        match restored.iter().find(|mode| !occurs(&bytes, mode)) {
            None => Ok(()),
            Some(mode) => Err(format!("{mode:?} was never sent")),
        }
    });
}

#[test]
fn a_new_service_appears_by_itself() {
    let colony = Colony::start();
    let terminal = Terminal::coral(&colony, &["open", "services"], 80, 24);
    _ = terminal.wait_for("? keys");
    let request = otlp::server_spans("latecomer", 2, 0, 20);
    assert!(otlp::post_spans(&colony.otlp_http, &request).unwrap());
    _ = terminal.wait_for("latecomer");
}

#[test]
fn a_screen_that_was_held_goes_on() {
    let colony = Colony::start();
    let post = |service: &str, mark| {
        let request = otlp::server_spans(service, mark, 0, 20);
        assert!(otlp::post_spans(&colony.otlp_http, &request).unwrap());
    };
    post("before", 3);
    let mut terminal = Terminal::coral(&colony, &[], 80, 24);
    _ = terminal.wait_for("before");
    terminal.keys("p");
    _ = terminal.wait_for("PAUSED");
    terminal.keys("p");
    _ = terminal.wait_for("LIVE");
    post("afterwards", 4);
    _ = terminal.wait_for("afterwards");
}
