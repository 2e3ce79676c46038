//! Whatever door the screen is left by, the terminal is as it was.

use coral_tests::{Colony, Terminal};

/// An interactive shell, as a person has one: with job control, and a prompt to come back to.
fn shell(colony: &Colony) -> Terminal {
    let mut terminal =
        Terminal::shell(colony, "PS1='ready$ ' exec bash --norc --noprofile -i", 80, 24);
    _ = terminal.wait_for("ready$");
    terminal.keys("stty -g >before\r");
    terminal
}

/// Opens the screen from the shell; its process is known by the file `pid`.
fn open(terminal: &mut Terminal) {
    // Quoted so that only the output, not the typed line, reads `left 0`.
    terminal.keys("(echo $BASHPID >pid; exec coral open services); echo le''ft $?\r");
    taken(terminal);
}

fn taken(terminal: &Terminal) {
    _ = terminal.wait_for("? keys");
    assert!(terminal.given_back().is_err(), "the terminal was never taken");
}

fn signal(colony: &Colony, signal: rustix::process::Signal) {
    let text = std::fs::read_to_string(colony.dir().join("pid")).expect("the shell wrote it");
    let pid = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a pid"), signal).expect("coral runs");
}

/// The terminal's modes are off and its driver is set as before.
#[track_caller]
fn as_before(terminal: &mut Terminal) {
    coral_tests::until("the terminal to be given back", || terminal.given_back());
    terminal.keys("stty -g >after; cmp before after && echo sa''me\r");
    _ = terminal.wait_for("same");
}

#[test]
fn by_q() {
    let colony = Colony::start();
    let mut terminal = shell(&colony);
    open(&mut terminal);
    terminal.keys("q");
    _ = terminal.wait_for("left 0");
    as_before(&mut terminal);
}

#[test]
fn by_signals() {
    use rustix::process::Signal;

    let colony = Colony::start();
    for by in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut terminal = shell(&colony);
        open(&mut terminal);
        signal(&colony, by);
        _ = terminal.wait_for("left ");
        as_before(&mut terminal);
    }
}

#[test]
fn by_ctrl_z_and_back_by_fg() {
    let colony = Colony::start();
    let mut terminal = shell(&colony);
    open(&mut terminal);
    for turn in 0..2 {
        terminal.keys("\x1a");
        _ = terminal.wait_for("Stopped");
        as_before(&mut terminal);
        // What was waited for must not still stand there the next time.
        terminal.keys(&format!("clear; fg; echo do''ne {turn}\r"));
        // Everything is drawn anew.
        taken(&terminal);
        _ = terminal.wait_for("services");
    }
    terminal.keys("q");
    _ = terminal.wait_for("done 1");
    terminal.keys("clear\r");
    as_before(&mut terminal);
}

#[test]
fn to_an_editor_and_back() {
    let colony = Colony::start();
    // What an editor does: it has the terminal, reads keys, and replaces the file.
    let script = "stty -g >seen; echo HERE; read line; echo \"SELECT 40 + $line AS sum\" >\"$1\"";
    std::fs::write(colony.dir().join("my-editor"), script).expect("room for a script");
    let mut terminal = shell(&colony);
    terminal.keys("export EDITOR=\"bash $PWD/my-editor\"; unset VISUAL\r");
    open(&mut terminal);
    terminal.keys("S");
    _ = terminal.wait_for("complete");
    for turn in 1..=2 {
        terminal.keys("\x0f");
        _ = terminal.wait_for("HERE");
        coral_tests::until("the terminal to be given back", || terminal.given_back());
        // A Ctrl-C would be the editor's own affair; every key goes to it, none to the screen.
        terminal.keys(&format!("{turn}\r"));
        _ = terminal.wait_for(&format!("SELECT 40 + {turn} AS sum"));
        assert!(terminal.given_back().is_err(), "the terminal was not taken again");
        terminal.keys("\x12");
        _ = terminal.wait_for(&format!("{}", 40 + turn));
    }
    // Esc alone: together with what follows it would be Alt.
    terminal.keys("\x1b");
    _ = terminal.wait_for("enter open");
    terminal.keys("1q");
    _ = terminal.wait_for("left 0");
    as_before(&mut terminal);
    let cat = "cmp before seen && echo as be''fore\r";
    terminal.keys(cat);
    _ = terminal.wait_for("as before");
    // The statements are there in the next session.
    terminal.keys("clear\r");
    open(&mut terminal);
    terminal.keys("S\x1b[A");
    _ = terminal.wait_for("SELECT 40 + 2 AS sum");
}

#[test]
fn init_asks_writes_and_keeps_what_was_answered() {
    let colony = Colony::start();
    let mut terminal = Terminal::coral(&colony, &["init"], 100, 40);
    _ = terminal.wait_for("Name of the colony");
    terminal.keys("shop front\r");
    // What is no name is asked again.
    _ = terminal.wait_for("Name of the colony [test]: shop front");
    terminal.keys("shop\r");
    _ = terminal.wait_for("OTLP over gRPC");
    terminal.keys("127.0.0.1:14317\r");
    _ = terminal.wait_for("OTLP over HTTP");
    terminal.keys("off\r");
    _ = terminal.wait_for("Write ");
    terminal.keys("y\r");
    _ = terminal.wait_for("wrote ");
    assert_eq!(terminal.wait_exit(), 0);
    let file = colony.dir().join("config/coral/config.toml");
    let written = std::fs::read_to_string(&file).expect("it said that it wrote it");
    for line in ["colony = \"shop\"", "grpc = \"127.0.0.1:14317\"", "http = \"off\""] {
        assert!(written.contains(line), "{line} is not in\n{written}");
    }
    // Asked again, Enter keeps every answer, although this environment says otherwise.
    let mut terminal = Terminal::coral(&colony, &["init"], 100, 40);
    for question in [
        "Name of the colony [shop]",
        "[127.0.0.1:14317]",
        "OTLP over HTTP (auto, off, address:port) [off]",
        "Write ",
    ] {
        _ = terminal.wait_for(question);
        terminal.keys("\r");
    }
    assert_eq!(terminal.wait_exit(), 0);
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), written);
}
