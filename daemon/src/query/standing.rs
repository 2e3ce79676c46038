//! Questions that stand: as of which moment a watched one is answered anew.
//!
//! Rates, sparks and comparisons are measured up to that moment. Were it simply now, every number
//! would creep while nothing happens, and every screen would be drawn for it. So it is the newest
//! thing the colony was told; and since long silence is news too, it follows the clock from then on
//! in steps that grow.

use coral_model::Question;
use coral_model::question::{Mode, View};
use coral_model::time::{SECOND, Time, Window};

/// Ages of the newest news at which a standing answer is made anew although none came.
const SILENCE: [u64; 8] = [15, 30, 60, 120, 300, 600, 900, 1800];
/// Further steps.
const HOUR: u64 = 3600 * SECOND;

/// The moment to answer a standing question as of, at `now`, the newest news being of `heard`.
#[must_use]
pub fn as_of(heard: Time, now: Time) -> Time {
    let silence = now.since(heard);
    if now <= heard {
        return now;
    }
    let step = SILENCE.iter().rev().map(|s| s * SECOND).find(|s| *s <= silence).unwrap_or(0);
    heard.plus(step.max(silence / HOUR * HOUR))
}

/// Whether a question's rows creep with the clock, and so are held to [`as_of`] while it stands.
#[must_use]
pub fn creeps(question: &Question) -> bool {
    question.mode == Mode::Watch
        && matches!(question.view, View::Red | View::Services | View::Topology | View::Digest)
}

/// The question as of `now`: its window ends there, and a baseline that ended where the window
/// began still does. Any other baseline was chosen by hand and stays.
#[must_use]
pub fn slid(question: &Question, now: Time) -> Question {
    let window = Window::before(now, question.window.length());
    let compare = question.compare.map(|compare| {
        if compare.to == question.window.from {
            Window::before(window.from, compare.length())
        } else {
            compare
        }
    });
    Question { window, compare, ..question.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_window_slides_and_its_own_baseline_with_it() {
        let mut question = Question::new(View::Red, Window::new(Time(100), Time(200)));
        question.compare = Some(Window::new(Time(50), Time(100)));
        let later = slid(&question, Time(1000));
        assert_eq!(later.window, Window::new(Time(900), Time(1000)));
        assert_eq!(later.compare, Some(Window::new(Time(850), Time(900))));
        question.compare = Some(Window::new(Time(1), Time(2)));
        assert_eq!(slid(&question, Time(1000)).compare, question.compare);
    }

    #[test]
    fn silence_is_told_in_growing_steps() {
        let heard = Time(1_000_000 * SECOND);
        let at = |seconds: u64| as_of(heard, heard.plus(seconds * SECOND)).since(heard) / SECOND;
        let steps: std::collections::BTreeSet<u64> = (0..10_000).map(at).collect();
        let expected = [0, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
        assert_eq!(steps.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(as_of(heard, heard.minus(5)), heard.minus(5), "a clock set back is believed");
    }
}
