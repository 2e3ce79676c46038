//! The screen without a terminal and without threads: keys in, cells out.
//!
//! What tests, pictures and benches drive. Whatever the app wants asked is answered at once by a
//! scenario, at a moment that only moves when told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use coral_model::num::u64_sat;
use coral_model::question::Mode;
use coral_model::time::Time;
use coral_model::view::{End, Row};
use jiff::tz::TimeZone;
use ratatui::buffer::Buffer;

use super::Screen;
use crate::app::{App, Effect, Input};
use crate::feed::fake::{self, NOW, Scenario};
use crate::feed::{Delivery, Greeting, Mail, Slot, Want};
use crate::keymap::{Key, KeyError, Keymap};
use crate::theme::{Depth, Theme, ThemeError};

/// A screen over a scenario.
pub struct Rehearsal {
    /// The screen.
    pub screen: Screen,
    /// What the shop goes through; `None` never answers.
    pub scenario: Option<Scenario>,
    /// The present.
    pub now: Time,
    /// Effects that were not questions, oldest first.
    pub effects: Vec<Effect>,
    /// What the colony is being asked, as the desk has it.
    pub desk: BTreeMap<Slot, Arc<Want>>,
}

impl Rehearsal {
    /// A connected screen of `size`, every question answered.
    ///
    /// # Errors
    /// When there is no such theme.
    pub fn new(
        scenario: Option<Scenario>,
        size: (u16, u16),
        theme: &str,
        depth: Depth,
    ) -> Result<Self, ThemeError> {
        let theme = Theme::built_in(theme, depth)?;
        let app = App::new(size, theme, Keymap::default(), TimeZone::UTC, NOW);
        let mut rehearsal = Self {
            screen: Screen::new(app),
            scenario,
            now: NOW,
            effects: Vec::new(),
            desk: BTreeMap::new(),
        };
        let mut mail = Mail::default();
        if let Some(scenario) = scenario {
            mail.link = Some(Ok(Greeting { colony: "shop-7f3a".into() }));
            mail.status = Some(Box::new(fake::status(scenario, NOW)));
        }
        rehearsal.mail(mail);
        Ok(rehearsal)
    }

    /// Leaves mail, and answers what is asked because of it.
    pub fn mail(&mut self, mail: Mail) {
        let effects = self.screen.app.receive(mail, self.now);
        self.settle(effects);
    }

    /// One input.
    pub fn input(&mut self, input: Input) {
        let effects = self.screen.app.input(input, self.now);
        self.settle(effects);
    }

    /// Keys, apart by blanks.
    ///
    /// # Errors
    /// When one is not a key.
    pub fn keys(&mut self, keys: &str) -> Result<(), KeyError> {
        for word in keys.split_whitespace() {
            let key: Key = word.parse()?;
            self.input(Input::Key(key));
        }
        Ok(())
    }

    /// Text, character by character, as typed.
    pub fn type_text(&mut self, text: &str) {
        for c in text.chars() {
            self.input(Input::Key(Key::plain(crate::keymap::Code::Char(c))));
        }
    }

    /// Puts an answer of one's own into a slot that is being asked.
    pub fn answer(&mut self, slot: Slot, want: &Arc<Want>, mut rows: Vec<Row>, end: Option<End>) {
        if let Some(Row::End(_)) = rows.last() {
            rows.pop();
        }
        let end = end.unwrap_or_else(|| End { rows: u64_sat(rows.len()), ..fake::end() });
        let mut mail = Mail::default();
        mail.answers.insert(slot, Delivery { want: Arc::clone(want), outcome: Ok((rows, end)) });
        self.mail(mail);
    }

    fn settle(&mut self, effects: Vec<Effect>) {
        let mut mail = Mail::default();
        for effect in effects {
            match &effect {
                Effect::Want(slot, Some(want)) => {
                    self.desk.insert(*slot, Arc::clone(want));
                }
                Effect::Want(slot, None) => {
                    self.desk.remove(slot);
                }
                _ => {}
            }
            match effect {
                Effect::Want(slot, Some(want)) if want.mode != Mode::Tail => {
                    let Some(scenario) = self.scenario else { continue };
                    let mut rows = fake::answer(scenario, &want.question(self.now));
                    let end = match rows.pop() {
                        Some(Row::End(end)) => *end,
                        _ => fake::end(),
                    };
                    mail.answers.insert(slot, Delivery { want, outcome: Ok((rows, end)) });
                }
                Effect::Want(..) => {}
                Effect::Complete(key, prefix) if self.scenario.is_some() => {
                    let values = ["payments", "checkout", "gateway"]
                        .iter()
                        .filter(|v| key == "service" && v.starts_with(&prefix))
                        .map(|v| (*v).to_owned())
                        .collect();
                    mail.completed = Some((key, prefix, values));
                }
                other => self.effects.push(other),
            }
        }
        if !mail.answers.is_empty() || mail.completed.is_some() {
            self.mail(mail);
        }
    }

    /// Draws, if anything is new, and shows what the terminal shows.
    pub fn look(&mut self) -> &Buffer {
        let _ = self.screen.frame();
        self.screen.shown()
    }

    /// What the terminal shows, as text.
    pub fn text(&mut self) -> String {
        crate::export::plain(self.look())
    }
}
