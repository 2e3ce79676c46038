//! A panic on the screen's thread gives the terminal back and is read on a terminal that is whole.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics fails")]

use std::io::Read as _;

use coral_tui::runtime::{RunError, guarded};
use coral_tui::terminal::Session;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};

const WORDS: &str = "this panic is on purpose";

#[test]
#[ignore = "takes the terminal it runs in, then panics; the test below runs it in one of its own"]
fn takes_the_terminal_and_panics() {
    let outcome: Result<(), RunError> = guarded(|| {
        let session = Session::enter(true)?;
        session.write(b"the terminal is taken")?;
        panic!("{WORDS}");
    });
    assert!(matches!(outcome, Err(RunError::Panicked)));
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let size = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
    let pair = native_pty_system().openpty(size).unwrap();
    let before = pair.master.get_termios().unwrap();
    let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
    command.args(["--exact", "takes_the_terminal_and_panics", "--ignored", "--nocapture"]);
    command.env("TERM", "xterm-256color");
    let mut child = pair.slave.spawn_command(command).unwrap();
    let mut reader = pair.master.try_clone_reader().unwrap();
    let read = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A terminal whose last program has gone reads as an error.
        let _ = reader.read_to_end(&mut bytes);
        bytes
    });
    let status = child.wait().unwrap();
    // The slave stays open until here, so that its modes can still be asked for.
    let after = pair.master.get_termios().unwrap();
    drop(pair.slave);
    let bytes = read.join().unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(status.success(), "{text}");
    assert_eq!(before, after, "termios");
    let taken = text.find("the terminal is taken").unwrap();
    let left = text.find("\x1b[?1049l").unwrap();
    assert!(text.find("\x1b[?1049h").unwrap() < taken && taken < left, "{text:?}");
    assert!(text.find(WORDS).unwrap() > left, "the panic's words are lost on the other screen");
    let mut screen = vt100::Parser::new(24.try_into().unwrap(), 80.try_into().unwrap(), 0);
    screen.process(&bytes);
    let screen = screen.screen();
    assert!(!screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste());
    assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    assert!(screen.contents().contains(WORDS), "{}", screen.contents());
}
