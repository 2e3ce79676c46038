//! Modes on, modes off.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use nix::sys::signal::{SigSet, Signal};

/// Alternate screen; bracketed paste; focus reports; no cursor.
/// <https://invisible-island.net/xterm/ctlseqs/ctlseqs.html>
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?2004h\x1b[?1004h\x1b[?25l\x1b[H\x1b[2J";
/// Everything in [`ENTER`], the mouse, a synchronized update that may be open, colours and the
/// kitty keyboard protocol: off, whether or not it was on.
const LEAVE: &[u8] =
    b"\x1b[?2026l\x1b[?1006l\x1b[?1015l\x1b[?1003l\x1b[?1002l\x1b[?1000l\x1b[?1004l\x1b[?2004l\x1b[0m\x1b[?25h\x1b[?1049l";
/// Buttons and wheel, with coordinates that have no limit.
const MOUSE_ON: &[u8] = b"\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &[u8] = b"\x1b[?1006l\x1b[?1000l";

static TAKEN: AtomicBool = AtomicBool::new(false);
static LENT: AtomicBool = AtomicBool::new(false);

/// Another program has the terminal for a while.
#[must_use]
pub fn is_lent() -> bool {
    LENT.load(Ordering::SeqCst)
}

/// Gives the terminal back as it was. Does nothing when it was not taken.
pub fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out = io::stdout().lock();
        // Nothing useful can be done when the terminal itself is gone.
        let _ = out.write_all(LEAVE);
        let _ = out.flush();
        let _ = disable_raw_mode();
    }
}

/// The terminal while it is ours; given back when dropped.
pub struct Session {
    mouse: bool,
}

impl Session {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When standard output is no terminal, or refuses raw mode.
    pub fn enter(mouse: bool) -> io::Result<Self> {
        if !io::stdout().is_terminal() {
            return Err(io::Error::other("standard output is not a terminal"));
        }
        let session = Self { mouse };
        session.take()?;
        Ok(session)
    }

    fn take(&self) -> io::Result<()> {
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let mut bytes = ENTER.to_vec();
        if self.mouse {
            bytes.extend_from_slice(MOUSE_ON);
        }
        self.write(&bytes)
    }

    /// Takes it again after [`restore`], as after a stop.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn resume(&self) -> io::Result<()> {
        self.take()
    }

    /// Takes the mouse, or gives it back to the terminal.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn mouse(&mut self, on: bool) -> io::Result<()> {
        self.mouse = on;
        self.write(if on { MOUSE_ON } else { MOUSE_OFF })
    }

    /// Writes in one go.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Columns and rows.
    ///
    /// # Errors
    /// When the terminal does not say.
    pub fn size() -> io::Result<(u16, u16)> {
        crossterm::terminal::size()
    }

    /// Gives the terminal to `work`, as it was, and takes it again.
    ///
    /// # Errors
    /// When the terminal cannot be taken again.
    pub fn lend<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        restore();
        LENT.store(true, Ordering::SeqCst);
        let done = work();
        LENT.store(false, Ordering::SeqCst);
        self.resume()?;
        Ok(done)
    }

    /// Stops the process group as Ctrl-Z would, the terminal given back; returns when it goes on,
    /// or at once where the kernel refuses to stop a group that no shell could bring back. Only
    /// the thread that [`Stops::held`] left to take stops may call this.
    ///
    /// # Errors
    /// When the terminal cannot be taken again.
    pub fn suspend(&self) -> io::Result<()> {
        restore();
        // The whole group, so that a script we run in stops with us, as the terminal's driver does.
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::TSTP);
        self.resume()
    }
}

/// Who is stopped by Ctrl-Z's signal. The kernel hands a signal of the process to any thread that
/// does not hold it back, and the others run on for a moment: long enough for the drawing thread
/// to take the terminal again before the process stands still. With every other thread holding it
/// back, `kill` does not return to the drawing thread until the process goes on (POSIX, `kill()`:
/// the signal is delivered to the sending thread before the call returns).
pub struct Stops;

impl Stops {
    /// Holds the signal back from this thread and all it starts from now on. Programs started are
    /// not concerned: `std::process` starts them with nothing held back.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn held() -> io::Result<Self> {
        SigSet::from(Signal::SIGTSTP).thread_block()?;
        Ok(Self)
    }

    /// Lets this thread be stopped; threads it starts later would be too.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn take(&self) -> io::Result<()> {
        Ok(SigSet::from(Signal::SIGTSTP).thread_unblock()?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_switched_on_is_switched_off() {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let on: Vec<String> = [ENTER, MOUSE_ON]
            .iter()
            .flat_map(|b| text(b).split('\x1b').map(str::to_owned).collect::<Vec<_>>())
            .filter(|s| s.starts_with("[?") && s.ends_with('h'))
            .collect();
        assert_eq!(on.len(), 5);
        for mode in on {
            let off = mode.replace('h', "l");
            assert!(text(LEAVE).contains(&off), "{mode} stays on");
        }
        assert!(text(LEAVE).contains("[?25h"), "the cursor stays hidden");
    }
}
