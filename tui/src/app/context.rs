//! Log records beside one of the same instance, and what many have in common.

use coral_model::question::{Around, Mode, View};
use coral_model::view::{LogRow, PatternRow};

use super::App;
use crate::feed::Want;
use crate::layout::{PaneId, ViewId};

/// Records asked for on either side.
const BESIDE: u32 = 200;

impl App {
    /// Shows what the same instance wrote before and after the selected record.
    pub(super) fn open_context(&mut self) {
        let record = match (self.here.view, self.here.focus) {
            (ViewId::Context, _) => self.context_log(),
            (ViewId::Trace, _) | (_, PaneId::Logs | PaneId::Record) => self.selected_log(),
            _ => None,
        };
        let Some(id) = record.map(|log| log.id) else {
            return self
                .say("select a log record first: 5 lists them; then c shows what is beside it");
        };
        self.data.forget(crate::feed::Slot::Context);
        self.go(|here| {
            here.view = ViewId::Context;
            here.focus = PaneId::Context;
            here.zoom = false;
            here.around = Some(id);
            here.cursors.insert(PaneId::Context, "0".to_owned());
        });
    }

    /// What is asked for it.
    pub(super) fn context_want(&self) -> Option<Want> {
        let id = self.here.around?;
        let mut want = Want::new(View::Logs, self.here.clock.span());
        want.mode = Mode::Once;
        want.limit = 2_000;
        want.around = Some(Around { at: id.at, mark: Some(id.mark), lines: BESIDE });
        Some(want)
    }

    /// The records beside the one chosen, and it among them, oldest first.
    #[must_use]
    pub fn context(&self) -> Vec<&LogRow> {
        let mut rows: Vec<&LogRow> = self.data.context().collect();
        rows.sort_by_key(|log| (log.offset, log.time));
        rows
    }

    /// The record the cursor is on among them.
    pub(super) fn context_log(&self) -> Option<&LogRow> {
        let i = self.cursor(PaneId::Context)?;
        self.context().get(i).copied()
    }

    /// Patterns in the order shown.
    #[must_use]
    pub fn patterns(&self) -> Vec<&PatternRow> {
        let mut rows: Vec<&PatternRow> = self.data.patterns().collect();
        let Some(order) = self.here.order(PaneId::Patterns) else { return rows };
        match order.spec.word {
            "first" => rows.sort_by_key(|row| std::cmp::Reverse(row.first_seen)),
            "last" => rows.sort_by_key(|row| std::cmp::Reverse(row.last_seen)),
            _ => rows.sort_by_key(|row| std::cmp::Reverse(row.count)),
        }
        if order.reversed {
            rows.reverse();
        }
        rows
    }

    /// Lists the records of a pattern: those that have its longest run of plain words.
    pub(super) fn keep_to_pattern(&mut self, row: Option<usize>) {
        let text = row.and_then(|i| self.patterns().get(i).map(|p| plain_words(&p.pattern)));
        let Some(text) = text.filter(|text| text.chars().count() >= 3) else {
            return self.say("this pattern has no words of its own to look for");
        };
        let test = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        if coral_model::filter::parse(&test).is_err() {
            return self.say("this pattern cannot be looked for");
        }
        self.go(|here| {
            here.view = ViewId::Logs;
            here.focus = PaneId::Logs;
            here.zoom = false;
            here.add_test(&test);
        });
        self.say("records that have its words; esc goes back");
    }
}

/// The longest part of a pattern without a place that differs.
fn plain_words(pattern: &str) -> String {
    let mut best = "";
    for part in pattern
        .split('<')
        .flat_map(|part| part.split_once('>').map_or([part, ""], |(_, rest)| ["", rest]))
    {
        if part.trim().chars().count() > best.chars().count() {
            best = part.trim();
        }
    }
    best.to_owned()
}

#[cfg(test)]
mod tests {
    use super::plain_words;

    #[test]
    fn the_longest_run_of_words_is_looked_for() {
        assert_eq!(
            plain_words("order <num> failed: payments answered <num>"),
            "failed: payments answered"
        );
        assert_eq!(plain_words("pool exhausted"), "pool exhausted");
        assert_eq!(plain_words("<uuid>"), "");
    }
}
