//! What waits for the screen to look: bounded, newest wins.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use coral_model::view::{End, LogRow, Row, StatusRow};

use super::{Greeting, Slot, Want};
use crate::app::Input;

/// Inputs that may wait; a person cannot type that fast, a paste comes as one.
const INPUT_CAPACITY: usize = 256;
/// Tail records that may wait for the next frame.
pub const TAIL_CAPACITY: usize = 4096;

/// An answer, or why there is none.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What was asked.
    pub want: Arc<Want>,
    /// Rows and the end record, or a sentence.
    pub outcome: Result<(Vec<Row>, End), String>,
}

/// Everything that arrived since the last look.
#[derive(Default, Debug)]
pub struct Mail {
    /// Keys, mouse, resizes, signals: in order.
    pub inputs: Vec<Input>,
    /// The newest answer per slot.
    pub answers: BTreeMap<Slot, Delivery>,
    /// Log records of the tail, oldest first.
    pub tail: Vec<LogRow>,
    /// Tail records that did not fit.
    pub tail_skipped: u64,
    /// The tail these came from.
    pub tail_want: Option<Arc<Want>>,
    /// Connected, or why not.
    pub link: Option<Result<Greeting, String>>,
    /// What connecting waits for.
    pub progress: Option<String>,
    /// The colony about itself.
    pub status: Option<Box<StatusRow>>,
    /// Completions: name, prefix, values.
    pub completed: Option<(String, String, Vec<String>)>,
    /// One-line outcome of a note.
    pub notice: Option<String>,
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.inputs.is_empty()
            && self.answers.is_empty()
            && self.tail.is_empty()
            && self.link.is_none()
            && self.progress.is_none()
            && self.status.is_none()
            && self.completed.is_none()
            && self.notice.is_none()
    }
}

#[derive(Default)]
struct Waiting {
    inputs: VecDeque<Input>,
    /// Inputs were taken whose effects may still be to come.
    busy: bool,
    tail: VecDeque<LogRow>,
    mail: Mail,
}

/// The one place where every thread leaves things for the screen.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    room: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves an input; waits while too many are there, so that none is lost.
    pub fn input(&self, input: Input) {
        let mut waiting = self.lock();
        while waiting.inputs.len() >= INPUT_CAPACITY {
            waiting = self.room.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.inputs.push_back(input);
        self.arrived.notify_one();
    }

    /// Waits until every input was taken and what it asked for is done.
    pub fn wait_until_dealt_with(&self) {
        let mut waiting = self.lock();
        while waiting.busy || !waiting.inputs.is_empty() {
            waiting = self.room.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What the inputs taken so far asked for is done.
    pub fn dealt_with(&self) {
        self.lock().busy = false;
        self.room.notify_all();
    }

    /// Leaves an answer in place of an older one.
    pub fn answer(&self, slot: Slot, delivery: Delivery) {
        self.lock().mail.answers.insert(slot, delivery);
        self.arrived.notify_one();
    }

    /// Leaves tail records; the oldest give way, counted.
    pub fn tail(&self, want: &Arc<Want>, rows: impl IntoIterator<Item = LogRow>) {
        let mut waiting = self.lock();
        let same = waiting.mail.tail_want.as_ref().is_some_and(|w| Arc::ptr_eq(w, want));
        if !same {
            waiting.tail.clear();
            waiting.mail.tail_skipped = 0;
            waiting.mail.tail_want = Some(Arc::clone(want));
        }
        for row in rows {
            if waiting.tail.len() >= TAIL_CAPACITY {
                waiting.tail.pop_front();
                waiting.mail.tail_skipped += 1;
            }
            waiting.tail.push_back(row);
        }
        self.arrived.notify_one();
    }

    /// Changes what is unique.
    pub fn post(&self, change: impl FnOnce(&mut Mail)) {
        change(&mut self.lock().mail);
        self.arrived.notify_one();
    }

    /// Takes everything, waiting until something is there or `deadline` has passed; without a
    /// deadline it waits as long as it takes.
    pub fn take(&self, deadline: Option<Instant>) -> Mail {
        let mut waiting = self.lock();
        loop {
            let empty =
                waiting.inputs.is_empty() && waiting.tail.is_empty() && waiting.mail.is_empty();
            if !empty {
                break;
            }
            waiting = match deadline {
                None => self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        break;
                    }
                    self.arrived
                        .wait_timeout(waiting, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        let mut mail = std::mem::take(&mut waiting.mail);
        waiting.busy |= !waiting.inputs.is_empty();
        mail.inputs = std::mem::take(&mut waiting.inputs).into();
        mail.tail = std::mem::take(&mut waiting.tail).into();
        // The tail's identity outlives a look, so that the next batch is known as its continuation.
        waiting.mail.tail_want.clone_from(&mail.tail_want);
        self.room.notify_all();
        mail
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Span, fake};
    use super::*;
    use coral_model::question::View;

    #[test]
    fn nobody_reads_on_before_what_was_read_is_dealt_with() {
        let inbox = Arc::new(Inbox::default());
        inbox.wait_until_dealt_with();
        inbox.input(Input::Terminate);
        let reader = Arc::clone(&inbox);
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            reader.wait_until_dealt_with();
            tell.send(()).unwrap();
        });
        assert_eq!(inbox.take(None).inputs, [Input::Terminate]);
        // Taken is not yet done.
        assert!(told.try_recv().is_err());
        inbox.dealt_with();
        told.recv().unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn the_newest_answer_wins_and_the_tail_is_bounded_and_counted() {
        let inbox = Inbox::default();
        let want = Arc::new(Want::new(View::Logs, Span::Live(1)));
        for n in 0..3 {
            let end = End { rows: n, ..fake::end() };
            inbox.answer(
                Slot::Digest,
                Delivery { want: Arc::clone(&want), outcome: Ok((Vec::new(), end)) },
            );
        }
        let row = fake::log_row(0);
        inbox.tail(&want, std::iter::repeat_n(row, TAIL_CAPACITY + 7));
        let mail = inbox.take(None);
        assert_eq!(mail.answers.len(), 1);
        assert_eq!(mail.answers[&Slot::Digest].outcome.as_ref().unwrap().1.rows, 2);
        assert_eq!(mail.tail.len(), TAIL_CAPACITY);
        assert_eq!(mail.tail_skipped, 7);
        assert!(inbox.take(Some(Instant::now())).inputs.is_empty());
    }
}
