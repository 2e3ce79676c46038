//! The mouse: what lies under it was remembered when it was drawn.

use super::{App, Effect, Overlay};
use crate::command::CommandId;
use crate::widget::Target;

impl App {
    pub(super) fn click(&mut self, x: u16, y: u16) -> Vec<Effect> {
        let at = ratatui::layout::Position::new(x, y);
        let target =
            self.hits.iter().rev().find(|hit| hit.area.contains(at)).map(|h| h.target.clone());
        self.notice = None;
        self.dirty = true;
        match target {
            Some(Target::Run(command)) => {
                self.overlay = None;
                self.perform(command, "")
            }
            Some(Target::Row(pane, row)) => {
                let again = self.here.focus == pane && self.cursor(pane) == Some(row);
                self.here.focus = pane;
                self.select(pane, Some(row));
                if again { self.perform(CommandId::Enter, "") } else { Vec::new() }
            }
            Some(Target::Pane(pane)) => {
                self.here.focus = pane;
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    pub(super) fn wheel(&mut self, x: u16, y: u16, down: bool) -> Vec<Effect> {
        let at = ratatui::layout::Position::new(x, y);
        let pane = self.hits.iter().rev().find_map(|hit| match hit.target {
            Target::Row(pane, _) | Target::Pane(pane) if hit.area.contains(at) => Some(pane),
            _ => None,
        });
        match &mut self.overlay {
            Some(Overlay::Help(line) | Overlay::Trail(line)) => {
                *line = if down { line.saturating_add(3) } else { line.saturating_sub(3) };
            }
            Some(Overlay::Entry(_)) => {}
            None => {
                if let Some(pane) = pane {
                    self.here.focus = pane;
                    self.step_rows(pane, 3, down);
                }
            }
        }
        self.dirty = true;
        Vec::new()
    }
}
