//! What each command does.

use coral_model::filter;
use coral_model::num::f64_from;
use coral_model::question::Dimension;
use coral_model::when;
use ratatui::layout::Rect;

use super::entry::{Entry, Overlay, Purpose, argument, matches};
use super::{App, Clock, ClockMode, Effect};
use crate::command::CommandId;
use crate::keymap::{Code, Key};
use crate::layout::{PaneId, ViewId};

/// What `s` goes through.
const SPLITS: [Option<Dimension>; 6] = [
    None,
    Some(Dimension::Instance),
    Some(Dimension::Host),
    Some(Dimension::Version),
    Some(Dimension::Zone),
    Some(Dimension::Operation),
];

/// Services may be called as files are, but not with a slash or a dot; whoever looks decides.
fn may_be_file(text: &str) -> bool {
    let place = text.contains(coral_model::place::SCHEME);
    !place && text.contains(['/', '.']) && !text.contains("..")
}

impl App {
    /// Runs a command; `arg` is what followed its name in the palette.
    pub fn perform(&mut self, id: CommandId, arg: &str) -> Vec<Effect> {
        self.dirty = true;
        let focus = self.here.focus;
        match id {
            CommandId::Incident => self.view(ViewId::Incident),
            CommandId::Services => self.view(ViewId::Services),
            CommandId::Topology => self.view(ViewId::Topology),
            CommandId::Traces => self.view(ViewId::Traces),
            CommandId::Logs => self.view(ViewId::Logs),
            CommandId::Timeline => self.view(ViewId::Timeline),
            CommandId::Profile => self.view(ViewId::Profile),
            CommandId::Hosts => self.view(ViewId::Hosts),
            CommandId::Agents => self.view(ViewId::Agents),
            CommandId::Inflight => self.view(ViewId::Inflight),
            CommandId::Sql => self.open_sql(),
            CommandId::Why => self.view(ViewId::Why),

            CommandId::Enter => self.enter(),
            CommandId::Back => self.back(),
            CommandId::Down => self.step_rows(focus, 1, true),
            CommandId::Up => self.step_rows(focus, 1, false),
            CommandId::PageDown => {
                let page = self.scroll(focus).page();
                self.step_rows(focus, page, true);
            }
            CommandId::PageUp => {
                let page = self.scroll(focus).page();
                self.step_rows(focus, page, false);
            }
            CommandId::Top => self.jump(focus, false),
            CommandId::Bottom => self.jump(focus, true),
            CommandId::Left => self.sideways(false),
            CommandId::Right => self.sideways(true),
            CommandId::NextPane => self.cycle_pane(1),
            CommandId::PreviousPane => self.cycle_pane(-1),
            CommandId::Zoom => self.here.zoom = !self.here.zoom,

            CommandId::Split if self.here.view == ViewId::Trace => self.fold_logs(),
            CommandId::Context => self.open_context(),
            CommandId::Patterns => self.view(ViewId::Patterns),
            CommandId::Split if self.here.view == ViewId::Profile => self.next_measure(),
            CommandId::Split => self.split(arg),
            CommandId::Diff => self.diff(),
            CommandId::Run => return self.run_statement(),
            CommandId::Editor => return vec![Effect::Edit(self.sql.text())],
            CommandId::Ask => {
                self.say("ask is not in this build; the colony has no model to answer with");
            }
            CommandId::Filter => {
                if arg.is_empty() {
                    let text = if self.here.filter.is_empty() {
                        String::new()
                    } else {
                        format!("{} ", self.here.filter)
                    };
                    self.overlay =
                        Some(Overlay::Entry(Box::new(Entry::new(Purpose::Filter, &text))));
                    return self.complete();
                }
                self.set_filter(arg);
            }
            CommandId::Order => self.next_order(arg),
            CommandId::Reverse => self.reverse_order(),
            CommandId::Clear => {
                self.go(|here| {
                    here.service = None;
                    here.operation = None;
                    here.filter.clear();
                    here.split = None;
                    here.cursors.clear();
                });
            }

            CommandId::Time => {
                if arg.is_empty() {
                    self.overlay = Some(Overlay::Entry(Box::new(Entry::new(Purpose::Time, ""))));
                } else if let Err(why) = self.go_to_time(arg) {
                    self.say(why);
                }
            }
            CommandId::StepBack => {
                let now = self.newest_second();
                self.here.clock.step(false, now);
            }
            CommandId::StepForward => {
                let now = self.newest_second();
                self.here.clock.step(true, now);
            }
            CommandId::Wider => self.here.clock.zoom(true),
            CommandId::Narrower => self.here.clock.zoom(false),
            CommandId::Live => self.here.clock.mode = ClockMode::Live,
            CommandId::Pause => {
                self.here.clock.mode = match self.here.clock.mode {
                    ClockMode::Live => ClockMode::Paused(self.newest_second()),
                    ClockMode::Paused(_) => ClockMode::Live,
                    ClockMode::Fixed(to) => ClockMode::Fixed(to),
                };
            }
            CommandId::Utc => self.utc = !self.utc,

            CommandId::CopyQuery => {
                let line = self.query_line();
                self.say(format!("copied  {line}"));
                return vec![Effect::Copy(line)];
            }
            CommandId::CopyPlace => {
                let line = self.place_line();
                self.say(format!("copied  {line}"));
                return vec![Effect::Copy(line)];
            }
            CommandId::Open => {
                if arg.is_empty() {
                    self.overlay = Some(Overlay::Entry(Box::new(Entry::new(Purpose::Open, ""))));
                } else if may_be_file(arg) {
                    return vec![Effect::Open(arg.to_owned())];
                } else if let Err(why) = self.open(arg) {
                    self.say(why);
                }
            }
            CommandId::Note => {
                if arg.is_empty() {
                    self.overlay = Some(Overlay::Entry(Box::new(Entry::new(Purpose::Note, ""))));
                } else {
                    return self.leave_note(arg);
                }
            }
            CommandId::Trail => self.overlay = Some(Overlay::Trail(0)),
            CommandId::Picture => {
                let file = if arg.is_empty() { "coral.svg" } else { arg };
                return vec![Effect::Picture(file.to_owned())];
            }

            CommandId::Palette => {
                self.overlay = Some(Overlay::Entry(Box::new(Entry::new(Purpose::Palette, ""))));
            }
            CommandId::Help => self.overlay = Some(Overlay::Help(0)),
            CommandId::Theme => {
                if arg.is_empty() {
                    let names: Vec<&str> =
                        crate::theme::BUILT_IN.iter().map(|(name, _)| *name).collect();
                    self.say(format!(
                        "theme is {}; there are: {}",
                        self.theme.name(),
                        names.join(" ")
                    ));
                } else {
                    return vec![Effect::Theme(arg.to_owned())];
                }
            }
            CommandId::Mouse => {
                self.mouse = !self.mouse;
                self.say(if self.mouse {
                    "the mouse is Coral's"
                } else {
                    "the mouse is the terminal's: select and copy as usual; m takes it back"
                });
                return vec![Effect::Mouse(self.mouse)];
            }
            CommandId::Redraw => return vec![Effect::Redraw],
            CommandId::Suspend => return vec![Effect::Suspend],
            CommandId::Quit => return vec![Effect::Quit],
        }
        Vec::new()
    }

    pub(super) fn view(&mut self, view: ViewId) {
        if self.here.view == view && !self.here.zoom {
            return;
        }
        self.go(|here| {
            here.view = view;
            here.zoom = false;
            if matches!(view, ViewId::Incident | ViewId::Services) {
                here.focus = PaneId::Services;
            }
            if !matches!(view, ViewId::Traces | ViewId::Diff) {
                here.operation = None;
            }
        });
    }

    /// What tells slow or failed requests from the others, of what is selected.
    fn diff(&mut self) {
        if self.here.view == ViewId::Diff {
            // Once more: what is looked for may have changed meanwhile.
            self.asked.remove(&crate::feed::Slot::Diff);
            return self.say("looked again");
        }
        self.go(|here| {
            here.view = ViewId::Diff;
            here.focus = PaneId::Diff;
            here.zoom = false;
            here.cursors.remove(&PaneId::Diff);
        });
    }

    pub(super) fn back(&mut self) {
        if self.here.view == ViewId::Sql && self.stop_statement() {
            return;
        }
        if let Some(before) = self.past.pop() {
            self.here = before;
            self.follow_statement();
        } else if self.here.zoom {
            self.here.zoom = false;
        } else if self.here.service.is_some() || !self.here.filter.is_empty() {
            self.here.service = None;
            self.here.filter.clear();
            self.here.cursors.clear();
        } else {
            self.say("this is where you came in; q leaves");
        }
    }

    fn split(&mut self, arg: &str) {
        if self.here.service.is_none() {
            self.say("select a service first; then s splits it");
            return;
        }
        let next = if arg.is_empty() {
            let at = SPLITS.iter().position(|s| *s == self.here.split).unwrap_or(0);
            SPLITS.get((at + 1) % SPLITS.len()).copied().flatten()
        } else {
            match arg.parse::<Dimension>() {
                Ok(dimension) => Some(dimension),
                Err(error) => {
                    self.say(error.to_string());
                    return;
                }
            }
        };
        let was = self.here.split;
        let shown = self.frame().panes.iter().any(|(p, _)| *p == PaneId::Operations);
        let change = |here: &mut super::Here| {
            here.split = next;
            here.cursors.remove(&PaneId::Operations);
        };
        if shown {
            change(&mut self.here);
        } else {
            self.go(|here| {
                here.view = ViewId::Services;
                here.focus = PaneId::Operations;
                here.zoom = false;
                change(here);
            });
        }
        if next != was {
            self.say(next.map_or_else(
                || "operations of the service".to_owned(),
                |d| format!("split by {d}; s again for the next"),
            ));
        }
    }

    fn cycle_pane(&mut self, step: isize) {
        if self.here.zoom {
            // Zoomed panes follow each other too.
            self.here.zoom = false;
            self.cycle_pane(step);
            self.here.zoom = true;
            return;
        }
        let panes = self.frame().panes;
        let n = panes.len();
        if n == 0 {
            return;
        }
        let at = panes.iter().position(|(p, _)| *p == self.here.focus).unwrap_or(0);
        let next = if step < 0 { (at + n - 1) % n } else { (at + 1) % n };
        if let Some((pane, _)) = panes.get(next) {
            self.here.focus = *pane;
        }
    }

    fn sideways(&mut self, right: bool) {
        if self.here.focus == PaneId::Profile {
            return self.step_flame(0, if right { 1 } else { -1 });
        }
        if self.here.focus == PaneId::Rows {
            let last = self.sql_columns().map_or(0, |head| head.columns.len().saturating_sub(1));
            let left = self.sql.left;
            self.sql.left = if right { (left + 1).min(last) } else { left.saturating_sub(1) };
            return;
        }
        let panes = self.frame().panes;
        let alone = panes.len() == 1;
        if alone && self.here.focus == PaneId::Topology {
            if let Some(next) = crate::pane::topology_beside(self, right) {
                let row = self.node_order().iter().position(|n| *n == next);
                self.select(PaneId::Topology, row);
            }
            return;
        }
        let Some((_, here)) = panes.iter().find(|(p, _)| *p == self.here.focus).copied() else {
            return;
        };
        let beside = |rect: &Rect| {
            let apart = if right { rect.x >= here.right() } else { rect.right() <= here.x };
            let overlap = rect.y < here.bottom() && here.y < rect.bottom();
            apart && overlap
        };
        let distance = |rect: &Rect| {
            let dx = if right { rect.x - here.right() } else { here.x - rect.right() };
            (dx, rect.y.abs_diff(here.y))
        };
        let next =
            panes.iter().filter(|(_, rect)| beside(rect)).min_by_key(|(_, rect)| distance(rect));
        if let Some((pane, _)) = next {
            self.here.focus = *pane;
        }
    }

    fn set_filter(&mut self, text: &str) {
        let text = text.trim();
        match filter::parse(text) {
            Ok(_) => {
                let text = text.to_owned();
                self.go(|here| here.filter = text);
            }
            Err(error) => self.say(error.short()),
        }
    }

    fn go_to_time(&mut self, text: &str) -> Result<(), String> {
        let clock = when::Clock { now: self.newest(), zone: self.shown_zone() };
        let text = text.trim();
        if let Some((from, to)) = text.split_once("..") {
            let to = Some(to.trim()).filter(|to| !to.is_empty());
            let span = when::Span { from: Some(from), to, ..when::Span::default() };
            let window = when::window(&span, &clock, 0).map_err(|e| e.to_string())?;
            self.go(|here| here.clock = Clock::at(window));
            return Ok(());
        }
        if let Ok(length) = when::parse_duration(text) {
            self.go(|here| {
                here.clock = Clock { length: length.max(1_000_000_000), mode: ClockMode::Live }
            });
            return Ok(());
        }
        let at = when::parse_time(text, &clock).map_err(|e| e.to_string())?;
        let newest = self.newest_second();
        self.go(|here| {
            let to = at.plus(here.clock.length / 2).min(newest.max(at));
            here.clock.mode = ClockMode::Fixed(to);
        });
        Ok(())
    }

    fn leave_note(&mut self, text: &str) -> Vec<Effect> {
        let at = if self.here.clock.is_live() { self.now } else { self.window().to };
        vec![Effect::Note(text.to_owned(), self.here.service.clone(), at)]
    }

    /// A key while a page (help, trail) is open.
    pub(super) fn page_key(&mut self, key: Key) -> Vec<Effect> {
        let command = self.keymap.command(key);
        let (Some(Overlay::Help(line)) | Some(Overlay::Trail(line))) = &mut self.overlay else {
            return Vec::new();
        };
        match command {
            Some(CommandId::Down) => *line = line.saturating_add(1),
            Some(CommandId::Up) => *line = line.saturating_sub(1),
            Some(CommandId::PageDown) => *line = line.saturating_add(15),
            Some(CommandId::PageUp) => *line = line.saturating_sub(15),
            Some(CommandId::Top) => *line = 0,
            Some(CommandId::Bottom) => *line = usize::from(u16::MAX),
            Some(CommandId::Palette) => {
                self.overlay = None;
                return self.perform(CommandId::Palette, "");
            }
            Some(id @ (CommandId::Suspend | CommandId::Redraw)) => return self.perform(id, ""),
            _ => self.overlay = None,
        }
        Vec::new()
    }

    /// A key while a line is typed.
    pub(super) fn entry_key(&mut self, key: Key) -> Vec<Effect> {
        let Some(Overlay::Entry(entry)) = &mut self.overlay else { return Vec::new() };
        let palette = entry.purpose == Purpose::Palette;
        match key.code {
            Code::Esc => self.overlay = None,
            Code::Char('c' | 'g') if key.ctrl => self.overlay = None,
            Code::Enter => return self.accept(),
            Code::Up if palette => entry.chosen = entry.chosen.saturating_sub(1),
            Code::Char('p') if key.ctrl && palette => entry.chosen = entry.chosen.saturating_sub(1),
            Code::Down if palette => entry.chosen += 1,
            Code::Char('n') if key.ctrl => entry.chosen += 1,
            Code::Tab if palette => {
                let found = matches(&entry.text());
                if let Some(spec) = found.get(entry.chosen.min(found.len().saturating_sub(1))) {
                    let text = format!("{} ", spec.name);
                    entry.replace(&text, text.len());
                }
            }
            Code::Up => entry.chosen = entry.chosen.saturating_sub(1),
            Code::Down => {
                entry.chosen = (entry.chosen + 1).min(entry.completions.len().saturating_sub(1));
            }
            Code::Tab => {
                if let Some(choice) = entry.completions.get(entry.chosen).cloned() {
                    let (text, cursor) = (entry.text(), entry.cursor());
                    let context = filter::complete::context(&text, cursor);
                    let (text, cursor) = filter::complete::apply(&text, cursor, &context, &choice);
                    entry.replace(&text, cursor);
                }
                return self.complete();
            }
            _ => {
                if entry.edit(key) {
                    return self.complete();
                }
            }
        }
        Vec::new()
    }

    fn accept(&mut self) -> Vec<Effect> {
        let Some(Overlay::Entry(entry)) = self.overlay.take() else { return Vec::new() };
        let text = entry.text();
        let outcome = match entry.purpose {
            Purpose::Palette => {
                let found = matches(&text);
                let Some(spec) = found.get(entry.chosen.min(found.len().saturating_sub(1))) else {
                    self.say(format!("no command matches `{}`", coral_model::text::fit(&text, 40)));
                    return Vec::new();
                };
                return self.perform(spec.id, argument(&text));
            }
            Purpose::Filter => match filter::parse(text.trim()) {
                Ok(_) => {
                    let text = text.trim().to_owned();
                    self.go(|here| here.filter = text);
                    Ok(())
                }
                Err(error) => Err((error.short(), error.column())),
            },
            _ if text.trim().is_empty() => Ok(()),
            Purpose::Time => self.go_to_time(&text).map_err(|e| (e, 0)),
            Purpose::Open if may_be_file(text.trim()) => {
                return vec![Effect::Open(text.trim().to_owned())];
            }
            Purpose::Open => self.open(text.trim()).map_err(|e| (e, 0)),
            Purpose::Note => return self.leave_note(text.trim()),
        };
        if let Err(error) = outcome {
            // The line stays, with what is wrong above it.
            let mut entry = entry;
            entry.error = Some(error);
            self.overlay = Some(Overlay::Entry(entry));
        }
        Vec::new()
    }

    /// What could be typed next in the filter line: at once what is known here, then the colony's
    /// own names and values.
    pub(super) fn complete(&mut self) -> Vec<Effect> {
        let Some(Overlay::Entry(entry)) = &mut self.overlay else { return Vec::new() };
        if entry.purpose != Purpose::Filter {
            return Vec::new();
        }
        let context = filter::complete::context(&entry.text(), entry.cursor());
        entry.completions =
            filter::complete::known(&context).into_iter().map(|(word, _)| word).take(8).collect();
        entry.chosen = 0;
        match context.want {
            filter::complete::Want::Name | filter::complete::Want::Presence => {
                vec![Effect::Complete(String::new(), context.prefix)]
            }
            filter::complete::Want::Value(key) => {
                vec![Effect::Complete(key.to_string(), context.prefix)]
            }
            filter::complete::Want::Nothing => Vec::new(),
        }
    }

    /// The colony's completions arrived.
    pub(super) fn completed(&mut self, key: &str, prefix: &str, values: Vec<String>) {
        let Some(Overlay::Entry(entry)) = &mut self.overlay else { return };
        let context = filter::complete::context(&entry.text(), entry.cursor());
        let asked = match &context.want {
            filter::complete::Want::Value(k) => k.to_string(),
            _ => String::new(),
        };
        if entry.purpose != Purpose::Filter || asked != key || context.prefix != prefix {
            return;
        }
        for value in values {
            if entry.completions.len() < 8 && !entry.completions.contains(&value) {
                entry.completions.push(value);
            }
        }
        self.dirty = true;
    }

    /// Share of the window at which a moment lies, 0..=1.
    #[must_use]
    pub fn along(&self, at: coral_model::Time) -> Option<f64> {
        let window = self.window();
        (window.contains(at) && window.length() > 0)
            .then(|| f64_from(at.since(window.from)) / f64_from(window.length()))
    }
}
