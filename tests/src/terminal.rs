//! `coral` in a real terminal: a pseudo-terminal, and a screen that understands what it is sent.

use std::io::{Read as _, Write};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, PoisonError};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::colony::{Colony, bin_dir};
use crate::wait::until;

/// A program in a terminal of its own. Dropping it kills the program.
pub struct Terminal {
    screen: Arc<Mutex<vt100::Parser>>,
    bytes: Arc<Mutex<Vec<u8>>>,
    writer: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    /// Opens `coral` with `args` in a terminal of the given size.
    ///
    /// # Panics
    /// When no pseudo-terminal can be had.
    #[must_use]
    pub fn coral(colony: &Colony, args: &[&str], columns: u16, rows: u16) -> Self {
        let mut command = CommandBuilder::new(bin_dir().join("coral"));
        command.args(args);
        Self::open(colony, command, columns, rows)
    }

    /// Opens a shell line in a terminal of the given size, with `coral` on its path.
    ///
    /// # Panics
    /// When no pseudo-terminal can be had.
    #[must_use]
    pub fn shell(colony: &Colony, line: &str, columns: u16, rows: u16) -> Self {
        let mut command = CommandBuilder::new("bash");
        command.args(["-c", line]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", bin_dir().display()));
        command.cwd(colony.dir());
        Self::open(colony, command, columns, rows)
    }

    fn open(colony: &Colony, mut command: CommandBuilder, columns: u16, rows: u16) -> Self {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("a pseudo-terminal");
        command.env("TERM", "xterm-256color");
        for (key, value) in colony.env() {
            command.env(key, value);
        }
        let child = pair.slave.spawn_command(command).expect("coral runs");
        drop(pair.slave);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(cells(rows), cells(columns), 0)));
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let mut reader = pair.master.try_clone_reader().expect("a reader");
        let writer = pair.master.take_writer().expect("a writer");
        let (seen, raw) = (Arc::clone(&screen), Arc::clone(&bytes));
        // Ends by itself when the program closes its terminal.
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                let chunk = buffer.get(..n).unwrap_or_default();
                seen.lock().unwrap_or_else(PoisonError::into_inner).process(chunk);
                raw.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(chunk);
            }
        });
        Self { screen, bytes, writer, child, master: pair.master }
    }

    /// The screen as text, line by line.
    #[must_use]
    pub fn text(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// Every byte the program wrote so far.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the terminal is as a shell wants it: first screen, cursor shown, and neither mouse,
    /// paste, focus nor keyboard reported in a special way.
    ///
    /// # Errors
    /// Names the first mode that is still on.
    pub fn given_back(&self) -> Result<(), String> {
        let parser = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = parser.screen();
        let modes = [
            ("the alternate screen", screen.alternate_screen()),
            ("the hidden cursor", screen.hide_cursor()),
            ("the mouse", screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None),
            ("application keys", screen.application_cursor() || screen.application_keypad()),
        ];
        if let Some((name, _)) = modes.iter().find(|(_, on)| *on) {
            return Err(format!("{name} is still on"));
        }
        // Modes this terminal does not know. A shell's line editor has pasted text bracketed too,
        // but it does not ask about focus.
        let bytes = self.bytes();
        let last = |needle: &[u8]| bytes.windows(needle.len()).rposition(|w| w == needle);
        for (name, on, off) in [
            ("focus", "\x1b[?1004h", "\x1b[?1004l"),
            ("a synchronized update", "\x1b[?2026h", "\x1b[?2026l"),
        ] {
            if last(on.as_bytes()) > last(off.as_bytes()) {
                return Err(format!("{name} is still on"));
            }
        }
        Ok(())
    }

    /// Types keys.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn keys(&mut self, keys: &str) {
        self.writer
            .write_all(keys.as_bytes())
            .and_then(|()| self.writer.flush())
            .expect("a terminal");
    }

    /// Changes the size of the terminal.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        self.screen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .screen_mut()
            .set_size(cells(rows), cells(columns));
        self.master.resize(size).expect("a terminal");
    }

    /// Waits until the screen shows `text`, and gives the screen.
    ///
    /// # Panics
    /// When it never does.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        until(&format!("`{text}` on the screen"), || {
            let screen = self.text();
            if screen.contains(text) { Ok(screen) } else { Err(format!("\n{screen}")) }
        })
    }

    /// Waits until the program ends, and gives its exit code.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_exit(&mut self) -> u32 {
        let child = &mut self.child;
        until("the program to end", || match child.try_wait() {
            Ok(Some(status)) => Ok(status.exit_code()),
            other => Err(format!("{other:?}")),
        })
    }
}

/// A terminal has at least one cell each way.
fn cells(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Already gone is as good.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
