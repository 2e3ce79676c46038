//! What `make bench` times: the screen's own work, without a terminal.
//!
//! Each function does the work and says how long every piece took; whoever calls it sorts, prints
//! and judges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coral_model::time::Time;
use coral_model::view::{Red, Row};

use crate::app::Input;
use crate::feed::fake::{self, NOW, Scenario};
use crate::feed::{Inbox, Mail, Slot};
use crate::keymap::{Code, Key};
use crate::runtime::{Pace, Rehearsal};
use crate::theme::{Depth, Theme, ThemeError};

/// What one frame took, from state to bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drawn {
    /// As a clock on the wall says.
    pub wall: Duration,
    /// On the processor: what is left when others are on the machine too.
    pub cpu: Duration,
}

/// Processor time of this thread.
fn thread_cpu() -> Duration {
    let spec = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(spec).unwrap_or_default()
}

/// What each of `frames` frames takes, of the workstation at `size` in an incident of a large colony.
/// Before every frame log records arrive, the selection moves, and every answer on the screen is
/// replaced by one whose numbers are others, so that as much of the screen changes as ever does.
///
/// # Errors
/// When the built-in theme is missing.
pub fn draws(size: (u16, u16), frames: usize) -> Result<Vec<Drawn>, ThemeError> {
    let mut stage = Rehearsal::new(Some(Scenario::Large), size, "dark", Depth::True)?;
    let _ = stage.screen.frame();
    let down = Key::plain(Code::Char('j'));
    let up = Key::plain(Code::Char('k'));
    let mut times = Vec::with_capacity(frames);
    for n in 0..frames {
        let tail_want = stage.screen.app.standing(Slot::Tail);
        let n = coral_model::num::u64_sat(n);
        let first = n * 40;
        let tail = (first..first + 40).map(fake::log_row).collect();
        stage.now = NOW.plus(n * 1_000_000);
        stage.mail(Mail { tail, tail_want, ..Mail::default() });
        for slot in [Slot::Digest, Slot::Services, Slot::Series, Slot::Topology, Slot::Events] {
            let Some(want) = stage.screen.app.standing(slot) else { continue };
            let rows = fake::answer(Scenario::Large, &want.question(NOW));
            let rows = rows.into_iter().map(|row| shaken(row, n)).collect();
            stage.answer(slot, &want, rows, None);
        }
        stage.input(Input::Key(if n % 12 < 6 { down } else { up }));
        let (begun, cpu) = (Instant::now(), thread_cpu());
        let bytes = stage.screen.frame().len();
        times.push(Drawn { wall: begun.elapsed(), cpu: thread_cpu().saturating_sub(cpu) });
        debug_assert!(bytes > 0);
    }
    Ok(times)
}

/// The row with other numbers in every step.
fn shaken(mut row: Row, step: u64) -> Row {
    let by = 1.0 + coral_model::num::f64_from(step % 17) / 10.0;
    let red = |red: &mut Red| {
        red.rate *= by;
        let longer = |ns: u64| ns.saturating_add(step % 17 * 7_000_000);
        red.p50_ns = red.p50_ns.map(longer);
        red.p99_ns = red.p99_ns.map(longer);
    };
    match &mut row {
        Row::Digest(digest) => {
            digest.services.iter_mut().filter_map(|s| s.red.as_mut()).for_each(red);
        }
        Row::Service(service) => service.red.iter_mut().for_each(red),
        Row::Red(bucket) => red(&mut bucket.red),
        Row::Edge(edge) => red(&mut edge.red),
        _ => {}
    }
    row
}

/// Time from a key in the inbox to its frame's bytes, per key, while `lines_per_second` log records
/// arrive. Uses the inbox and the pace of the running program.
///
/// # Errors
/// When the built-in theme is missing.
pub fn keys_under_flood(
    size: (u16, u16),
    lines_per_second: u64,
    keys: usize,
) -> Result<Vec<Duration>, ThemeError> {
    let theme = Theme::built_in("dark", Depth::True)?;
    let mut stage = Rehearsal::new(Some(Scenario::Incident), size, "dark", Depth::True)?;
    stage.screen.app.theme = theme;
    let _ = stage.screen.frame();
    let inbox = Arc::new(Inbox::default());
    let stop = Arc::new(AtomicBool::new(false));
    let flood = stage.screen.app.standing(Slot::Tail).map(|want| {
        let (inbox, stop) = (Arc::clone(&inbox), Arc::clone(&stop));
        std::thread::spawn(move || {
            let batch = (lines_per_second / 500).max(1);
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                inbox.tail(&want, (n..n + batch).map(fake::log_row));
                n += batch;
                std::thread::sleep(Duration::from_millis(2).saturating_sub(begun.elapsed()));
            }
        })
    });
    let typist = {
        let (inbox, stop) = (Arc::clone(&inbox), Arc::clone(&stop));
        let (sent, times) = std::sync::mpsc::sync_channel::<Instant>(keys.max(1));
        let thread = std::thread::spawn(move || {
            for n in 0..keys {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Not in step with the frames: 7 ms more each time, modulo 40.
                let pause = 20 + (coral_model::num::u64_sat(n) * 7) % 40;
                std::thread::sleep(Duration::from_millis(pause));
                let code = if n % 12 < 6 { 'j' } else { 'k' };
                if sent.send(Instant::now()).is_err() {
                    break;
                }
                inbox.input(Input::Key(Key::plain(Code::Char(code))));
            }
        });
        (thread, times)
    };
    let mut pace = Pace::default();
    let mut times = Vec::with_capacity(keys);
    while times.len() < keys {
        let _ = pace.turn(&mut stage.screen, &inbox);
        let drew = !stage.screen.frame().is_empty();
        if drew {
            pace.drew();
            while let Ok(begun) = typist.1.try_recv() {
                times.push(begun.elapsed());
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let _ = typist.0.join();
    if let Some(flood) = flood {
        let _ = flood.join();
    }
    Ok(times)
}

/// Time from nothing to the first frame's bytes, no colony having answered.
///
/// # Errors
/// When the built-in theme is missing.
pub fn first_frame(size: (u16, u16)) -> Result<Duration, ThemeError> {
    let begun = Instant::now();
    let mut stage = Rehearsal::new(None, size, "default", Depth::Ansi256)?;
    let _ = stage.screen.frame();
    Ok(begun.elapsed())
}

/// Bytes and draws over `seconds` in which nothing new arrives.
///
/// # Errors
/// When the built-in theme is missing.
pub fn idle(size: (u16, u16), seconds: u64) -> Result<(usize, u64), ThemeError> {
    let mut stage = Rehearsal::new(Some(Scenario::Calm), size, "default", Depth::Ansi256)?;
    let _ = stage.screen.frame();
    stage.input(Input::Key(Key::plain(Code::Char('p'))));
    let _ = stage.screen.frame();
    let draws = stage.screen.draws;
    let mut bytes = 0;
    for n in 1..=seconds {
        stage.screen.app.tick(Time(NOW.0 + n * coral_model::time::SECOND));
        bytes += stage.screen.frame().len();
    }
    Ok((bytes, stage.screen.draws - draws))
}
