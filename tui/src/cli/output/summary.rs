//! What an answer says about itself, in one line for a person.

use coral_model::text::{count, fit};
use coral_model::view::End;

use super::Reader;

/// Longest statement about what is not seen.
const BLIND: usize = 240;

/// `12 rows · 14:02:31–14:17:31 UTC · vs 13:47–14:02 · 2 of 3 agents`, then what was not seen.
#[must_use]
pub fn summary(end: &End, reader: &Reader) -> Vec<String> {
    let plural = if end.rows == 1 { "row" } else { "rows" };
    let mut parts = vec![
        format!("{} {plural}", count(end.rows)),
        format!("{}–{} {}", reader.time(end.from), reader.time(end.to), reader.zone(end.to)),
    ];
    if let Some(compare) = &end.compare {
        parts.push(format!("vs {}–{}", reader.time(compare.from), reader.time(compare.to)));
    }
    if end.truncated {
        parts.push("more matched: raise --limit or narrow the filter".to_owned());
    }
    if end.dropped > 0 {
        parts.push(format!("{} records were dropped on the way", count(end.dropped)));
    }
    if end.agents_answered < end.agents_asked {
        parts.push(format!("only {} of {} agents", end.agents_answered, end.agents_asked));
    }
    let mut lines = vec![parts.join(" · ")];
    match end.blind.len() {
        0 => {}
        // Beside rows the particulars are noise; without any they are the answer.
        n if end.rows > 0 => {
            let things = if n == 1 { "one thing is" } else { "some things are" };
            lines.push(format!("{things} not seen: coral doctor says what, and how to see it"));
        }
        _ => lines.extend(end.blind.iter().map(|b| format!("not seen: {}", fit(b, BLIND)))),
    }
    lines
}
