//! The screen's state, and what changes it.
//!
//! Inputs and answers come in, effects go out; no clock, no socket, no terminal in between
//! (`(state, input, now) → effects`). What is drawn follows from the state alone, in
//! [`crate::pane`]; threads and bytes are in [`crate::runtime`]. So every session can be replayed
//! in a test, and is.

mod absence;
mod age;
mod asking;
mod clock;
mod context;
mod copy;
mod data;
mod enter;
mod entry;
mod flame;
mod here;
#[cfg(test)]
mod looking;
mod mouse;
mod order;
mod perform;
mod places;
mod select;
mod sql;
mod tail;
mod trace;
#[cfg(test)]
mod trying;
mod wants;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coral_model::time::{SECOND, Time, Window};
use jiff::tz::TimeZone;

pub use crate::runtime::{Farewell, Options, RunError, run};
pub use absence::{Absence, unknown_among};
pub use clock::{Clock, ClockMode};
pub use data::{Data, Known};
pub use entry::{Entry, Overlay, Purpose, argument, matches};
pub use flame::{Branch, Flame};
pub use here::{Here, term};
pub use order::{Order, OrderSpec, orders};
pub use sql::{REMEMBERED, Sql, columns_question, flat, row_of, wrapped};
pub use tail::{Numbered, TAIL_KEPT, Tail};
pub use trace::TraceLine;

use crate::feed::{Mail, Slot, Want};
use crate::keymap::{Key, Keymap};
use crate::layout::{Frame, PaneId, SMALLEST, ViewId, arrange};
use crate::theme::Theme;
use crate::widget::{Hit, Scroll};

/// Something a person, the terminal or the system did.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A key.
    Key(Key),
    /// Pasted text; never keys.
    Paste(String),
    /// The left button went down.
    Click(u16, u16),
    /// The wheel, `true` down.
    Wheel(u16, u16, bool),
    /// The terminal's new size.
    Resize(u16, u16),
    /// The terminal got or lost the focus.
    Focus(bool),
    /// Somebody wants the program to end.
    Terminate,
    /// The program was stopped and goes on.
    Continued,
}

/// What the state wants done.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Ask this from now on, or nothing any more.
    Want(Slot, Option<Arc<Want>>),
    /// Complete a name (empty) or its values.
    Complete(String, String),
    /// Remember a statement that was run.
    Remember(String),
    /// Open what may be a file.
    Open(String),
    /// Have this text written in the person's own editor.
    Edit(String),
    /// Leave a note.
    Note(String, Option<String>, Time),
    /// Put this on the clipboard.
    Copy(String),
    /// Write the picture of the screen to this file.
    Picture(String),
    /// Take the mouse, or give it back.
    Mouse(bool),
    /// Change the looks.
    Theme(String),
    /// Draw everything anew.
    Redraw,
    /// Give the terminal back and stop.
    Suspend,
    /// Leave.
    Quit,
}

/// The connection to the colony.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Link {
    /// Not there yet; what is being waited for.
    Connecting(String),
    /// There.
    Up,
    /// Lost, and why.
    Down(String),
}

/// The whole state.
pub struct App {
    /// Terminal columns and rows.
    pub size: (u16, u16),
    /// The colony's name.
    pub colony: String,
    /// Connection.
    pub link: Link,
    /// Where the person is.
    pub here: Here,
    /// Where Esc leads.
    pub past: Vec<Here>,
    /// Places of this session, oldest first.
    pub trail: Vec<String>,
    /// What lies over the panes.
    pub overlay: Option<Overlay>,
    /// What is known.
    pub data: Data,
    /// One line for the bar, until the next key.
    pub notice: Option<String>,
    /// Keys.
    pub keymap: Keymap,
    /// Looks.
    pub theme: Theme,
    /// Only ASCII reaches the terminal.
    pub ascii: bool,
    /// The person's zone.
    pub zone: TimeZone,
    /// Show UTC instead.
    pub utc: bool,
    /// Coral has the mouse.
    pub mouse: bool,
    /// What lies where, as last drawn.
    pub hits: Vec<Hit>,
    /// Now, as last told.
    pub now: Time,
    /// The statement being written.
    pub sql: Sql,
    /// The profile that is open.
    pub flame: Option<Flame>,
    /// How far each pane's list is scrolled.
    scrolls: BTreeMap<PaneId, Scroll>,
    asked: BTreeMap<Slot, Arc<Want>>,
    /// Of what is asked, what was withdrawn while time is held.
    held: BTreeSet<Slot>,
    dirty: bool,
}

impl App {
    /// A screen that knows nothing yet.
    #[must_use]
    pub fn new(size: (u16, u16), theme: Theme, keymap: Keymap, zone: TimeZone, now: Time) -> Self {
        Self {
            size,
            colony: String::new(),
            link: Link::Connecting("looking for the colony".into()),
            here: Here::default(),
            past: Vec::new(),
            trail: Vec::new(),
            overlay: None,
            data: Data::default(),
            notice: None,
            keymap,
            theme,
            ascii: false,
            zone,
            utc: false,
            mouse: true,
            hits: Vec::new(),
            now,
            sql: Sql::default(),
            flame: None,
            scrolls: PaneId::ALL.iter().map(|pane| (*pane, Scroll::default())).collect(),
            asked: BTreeMap::new(),
            held: BTreeSet::new(),
            dirty: true,
        }
    }

    /// Whether anything may look different since the last call.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Marks the screen as out of date.
    pub fn touch(&mut self) {
        self.dirty = true;
    }

    /// The zone times are shown in.
    #[must_use]
    pub fn shown_zone(&self) -> TimeZone {
        if self.utc { TimeZone::UTC } else { self.zone.clone() }
    }

    /// `HH:MM:SS` in the zone shown.
    #[must_use]
    pub fn clock(&self, time: Time) -> String {
        time.clock(&self.shown_zone())
    }

    /// A list's scroll state.
    #[must_use]
    pub fn scroll(&self, pane: PaneId) -> Scroll {
        self.scrolls.get(&pane).cloned().unwrap_or_default()
    }

    /// Runs `f` on a list's scroll state.
    pub fn with_scroll<T>(&self, pane: PaneId, f: impl FnOnce(&Scroll) -> T) -> T {
        match self.scrolls.get(&pane) {
            Some(scroll) => f(scroll),
            None => f(&Scroll::default()),
        }
    }

    /// The newest moment anything is known of; now while nothing is.
    #[must_use]
    pub fn newest(&self) -> Time {
        self.data.newest.unwrap_or(self.now)
    }

    /// The window shown. One that follows ends at the next whole second, so that the command that
    /// asks for it can be read, and an answer to it holds everything shown.
    #[must_use]
    pub fn window(&self) -> Window {
        self.here.clock.window(self.newest_second())
    }

    /// [`Self::newest`], or the next whole second after it.
    pub(crate) fn newest_second(&self) -> Time {
        self.newest().plus(SECOND - 1).align(SECOND)
    }

    /// Where everything is.
    #[must_use]
    pub fn frame(&self) -> Frame {
        let why = crate::pane::head_height(self);
        let first = match self.here.view {
            ViewId::Hosts => PaneId::Hosts,
            ViewId::Agents => PaneId::Agents,
            _ => PaneId::Services,
        };
        let rows = match self.here.view {
            ViewId::Sql => wrapped(self.sql.lines(), self.size.0).len(),
            ViewId::Profile => self.rows(PaneId::Functions),
            _ => self.rows(first),
        };
        let rows = coral_model::num::u16_sat(rows);
        let changes = self.changes();
        let zoom = self.here.zoom.then_some(self.here.focus);
        arrange(self.here.view, self.size, why, rows, coral_model::num::u16_sat(changes), zoom)
    }

    /// Lines the digest's list of movers and changes has.
    #[must_use]
    pub fn changes(&self) -> usize {
        let digest = self.data.digest().filter(|d| d.onset.is_none());
        let movers = digest.map_or(0, |d| d.movers.len().clamp(1, 4));
        self.timeline().len() + movers
    }

    /// Nothing but a sentence fits.
    #[must_use]
    pub fn too_small(&self) -> bool {
        self.size.0 < SMALLEST.0 || self.size.1 < SMALLEST.1
    }

    /// Time passed.
    pub fn tick(&mut self, now: Time) {
        self.dirty |= self.next_wake().is_some_and(|at| at <= now);
        self.now = now;
    }

    /// Takes everything that arrived.
    pub fn receive(&mut self, mail: Mail, now: Time) -> Vec<Effect> {
        self.tick(now);
        let mut effects = Vec::new();
        for (slot, delivery) in mail.answers {
            // An answer to something that is not asked any more would be shown under a wrong title.
            if self.asked.get(&slot).is_some_and(|asked| **asked == *delivery.want)
                && self.data.take(slot, delivery, now)
            {
                self.dirty = true;
            }
        }
        if !mail.tail.is_empty() {
            let current = match (&mail.tail_want, self.asked.get(&Slot::Tail)) {
                (Some(a), Some(b)) => **a == **b,
                _ => false,
            };
            if current && !matches!(self.here.clock.mode, ClockMode::Paused(_)) {
                self.data.take_tail(mail.tail_want, mail.tail, mail.tail_skipped);
                self.dirty = true;
            }
        }
        if let Some(link) = mail.link {
            self.link = match link {
                Ok(greeting) => {
                    if !greeting.colony.is_empty() {
                        self.colony = greeting.colony;
                    }
                    Link::Up
                }
                Err(why) => Link::Down(why),
            };
            self.dirty = true;
        }
        if let Some(text) = mail.progress {
            self.link = Link::Connecting(text);
            self.dirty = true;
        }
        if let Some(status) = mail.status {
            let counted = |app: &Self| (app.lag(), app.data.dropped(), app.data.refused());
            let before = counted(self);
            self.dirty |= self.data.status.as_ref().map(|s| &s.blind) != Some(&status.blind)
                || self.colony != status.colony
                || (self.here.view == ViewId::Agents && self.data.status.as_ref() != Some(&status));
            self.colony.clone_from(&status.colony);
            self.data.heard |= status.services > 0;
            self.data.status = Some(status);
            self.dirty |= before != counted(self);
        }
        if let Some((key, prefix, values)) = mail.completed {
            self.completed(&key, &prefix, values);
        }
        if let Some(notice) = mail.notice {
            self.notice = Some(notice);
            self.dirty = true;
        }
        for input in mail.inputs {
            effects.extend(self.input(input, now));
        }
        self.settle();
        effects.extend(self.sync());
        effects
    }

    /// Takes one input.
    pub fn input(&mut self, input: Input, now: Time) -> Vec<Effect> {
        self.tick(now);
        let mut effects = match input {
            Input::Key(key) => {
                self.notice = None;
                self.dirty = true;
                self.key(key)
            }
            Input::Paste(text) => {
                if let Some(Overlay::Entry(entry)) = &mut self.overlay {
                    entry.insert(&text);
                    self.dirty = true;
                    self.complete()
                } else if self.is_typing() {
                    self.paste_statement(&text);
                    Vec::new()
                } else {
                    self.say("pasted text never runs keys; press / : or t first");
                    Vec::new()
                }
            }
            Input::Click(x, y) => self.click(x, y),
            Input::Wheel(x, y, down) => self.wheel(x, y, down),
            Input::Resize(width, height) => {
                self.size = (width, height);
                self.dirty = true;
                Vec::new()
            }
            Input::Focus(_) => Vec::new(),
            Input::Terminate => vec![Effect::Quit],
            Input::Continued => {
                self.dirty = true;
                vec![Effect::Redraw]
            }
        };
        self.settle();
        effects.extend(self.sync());
        effects
    }

    /// One line in the bar, until the next key.
    pub fn say(&mut self, text: impl Into<String>) {
        self.notice = Some(text.into());
        self.dirty = true;
    }

    fn key(&mut self, key: Key) -> Vec<Effect> {
        match self.overlay {
            Some(Overlay::Entry(_)) => self.entry_key(key),
            Some(Overlay::Help(_) | Overlay::Trail(_)) => self.page_key(key),
            None if self.is_typing() => self.sql_key(key),
            None => match self.keymap.command(key) {
                Some(command) => self.perform(command, ""),
                None => Vec::new(),
            },
        }
    }

    /// Puts the focus on a pane that is there.
    fn settle(&mut self) {
        let frame = self.frame();
        if !frame.panes.iter().any(|(pane, _)| *pane == self.here.focus)
            && let Some((first, _)) = frame.panes.first()
        {
            self.here.focus = *first;
            self.here.zoom = false;
        }
    }

    /// Goes somewhere; Esc comes back.
    pub fn go(&mut self, change: impl FnOnce(&mut Here)) {
        let before = self.here.clone();
        change(&mut self.here);
        if self.here != before {
            self.past.push(before);
            if self.past.len() > 200 {
                self.past.remove(0);
            }
            self.settle();
            let place = self.place_line();
            if self.trail.last() != Some(&place) {
                self.trail.push(place);
            }
            if self.trail.len() > 1_000 {
                self.trail.remove(0);
            }
        }
        self.dirty = true;
    }
}
