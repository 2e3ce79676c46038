//! Places: this very screen as one line, and back again.
//!
//! What is in [`Here`] goes along, of the panes that can be seen: selection, filter, split, orders,
//! rows, and how far lists are scrolled. Time goes along as it was: a place of a live screen opens
//! at the moment it was copied.

use std::hash::Hasher as _;

use coral_model::id::TraceId;
use coral_model::num::u64_sat;
use coral_model::paths::ColonyName;
use coral_model::place::{self, Look, Place, Selection, Sort};
use coral_model::view::LogRow;

use super::{App, Clock, ClockMode, Here};
use crate::layout::{PaneId, ViewId, arrange};
use crate::widget::Scroll;

/// A row's key that is longer does not go into a place: the place must fit into a chat.
const MAX_KEY: usize = 512;
/// Under which word a place has the record whose neighbours are shown.
const AROUND: &str = "around";
/// A statement that is longer does not either.
const MAX_STATEMENT: usize = 4_096;
/// A terminal on which a view shows every pane it has.
const VAST: (u16, u16) = (300, 100);

/// What a log record is known by outside this session, where its number means nothing.
pub(super) fn mark(row: &LogRow) -> String {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    for text in [&row.service, &row.level, &row.body] {
        hash.write(text.as_bytes());
        hash.write_u8(0);
    }
    format!("{}.{:x}", row.time.0, hash.finish())
}

/// FNV-1a, 64 bits: the same in every build, as places outlive programs.
/// <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>
struct Fnv(u64);

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The panes a view has on the largest of terminals.
fn panes_of(view: ViewId) -> Vec<PaneId> {
    let frame = arrange(view, VAST, 0, 9, 9, None);
    frame.panes.into_iter().map(|(pane, _)| pane).collect()
}

impl App {
    /// This moment, selection and filter.
    #[must_use]
    pub fn place(&self) -> Place {
        let here = &self.here;
        Place {
            colony: self.colony.parse::<ColonyName>().ok(),
            view: here.view.word().to_owned(),
            window: self.window(),
            filter: here.filter.clone(),
            selection: Selection {
                service: here.service.clone(),
                operation: here.operation.clone(),
                trace: here.trace.filter(|_| here.view == ViewId::Trace).map(|t| t.to_string()),
                ..Selection::default()
            },
            compare: None,
            look: self.look(),
        }
    }

    /// How the panes that can be seen are shown.
    fn look(&self) -> Look {
        let here = &self.here;
        let mut look = Look {
            split: here.split,
            statement: self.placed_statement(),
            pane: Some(here.focus.word().to_owned()),
            zoom: here.zoom,
            ..Look::default()
        };
        let zoomed = if here.zoom { panes_of(here.view) } else { Vec::new() };
        let frame = self.frame();
        for pane in frame.panes.iter().map(|(pane, _)| *pane).chain(zoomed) {
            let word = pane.word().to_owned();
            if let Some(order) = here.orders.get(&pane) {
                let sort = Sort { by: order.spec.word.to_owned(), reversed: order.reversed };
                look.orders.insert(word.clone(), sort);
            }
            let row = here.cursors.get(&pane).and_then(|key| match pane {
                PaneId::Logs if !key.starts_with('@') => {
                    let log = self.cursor(pane).and_then(|i| self.data.logs.get(i))?;
                    Some(format!("@{}", mark(&log.row)))
                }
                _ => Some(key.clone()),
            });
            // The newest record is always the last line, unless another is selected.
            let scrolls = pane != PaneId::Logs || row.is_some();
            if let Some(id) = here.around.filter(|_| pane == PaneId::Context) {
                look.rows.insert(AROUND.to_owned(), id.to_string());
            }
            if let Some(row) = row.filter(|row| row.len() <= MAX_KEY) {
                look.rows.insert(word.clone(), row);
            }
            let line = u64_sat(self.with_scroll(pane, Scroll::offset));
            if line > 0 && scrolls {
                look.scrolls.insert(word, line);
            }
        }
        look
    }

    /// The statement, where it is what the place is about and fits into a line for a chat.
    fn placed_statement(&self) -> Option<String> {
        let flat = super::flat(&self.here.statement);
        let about =
            self.here.view == ViewId::Sql && !flat.is_empty() && flat.len() <= MAX_STATEMENT;
        about.then_some(flat)
    }

    /// One line that reopens this moment, selection and filter.
    #[must_use]
    pub fn place_line(&self) -> String {
        self.place().command()
    }

    /// Goes to a place, a view by its name, a trace id or a service name.
    ///
    /// # Errors
    /// A sentence that says what cannot be opened.
    pub fn open(&mut self, text: &str) -> Result<(), String> {
        let text = text.trim();
        let text = text.strip_prefix("coral open").unwrap_or(text).trim();
        if text.starts_with(place::SCHEME) {
            let place: Place = text.parse().map_err(|e: place::PlaceError| e.to_string())?;
            return self.open_place(&place);
        }
        if let Ok(trace) = text.parse::<TraceId>() {
            self.go(|here| {
                here.view = ViewId::Trace;
                here.trace = Some(trace);
                here.focus = PaneId::Waterfall;
                here.zoom = false;
            });
            return Ok(());
        }
        if text.is_empty() || text.contains(char::is_whitespace) {
            let text = coral_model::text::fit(text, 60);
            return Err(format!("`{text}` is no place, view, trace id or service"));
        }
        // A service of such a name is opened with `service=`.
        let whole = |view: &ViewId| !matches!(view, ViewId::Trace | ViewId::Diff | ViewId::Context);
        if let Some(view) = view_of(text).filter(whole) {
            self.view(view);
            return Ok(());
        }
        if let Some(trace) = self.listed_trace(text) {
            return self.open(&trace.to_string());
        }
        // Whoever writes `service=` means just that, known or not.
        let named = text.strip_prefix("service=").filter(|name| !name.is_empty());
        if let Some(why) = self.unknown_service(text).filter(|_| named.is_none()) {
            return Err(why);
        }
        let name = named.unwrap_or(text).to_owned();
        self.go(|here| {
            here.view = ViewId::Services;
            here.service = Some(name);
            here.focus = PaneId::Operations;
            here.zoom = false;
        });
        Ok(())
    }

    /// The one trace of the list whose id begins with what was typed: lists show its first digits.
    fn listed_trace(&self, text: &str) -> Option<TraceId> {
        let typed = text.to_ascii_lowercase();
        let digits = typed.len() >= 8 && typed.bytes().all(|b| b.is_ascii_hexdigit());
        let mut found = self.data.traces().map(|row| row.trace_id);
        let mut found = found.by_ref().filter(|id| digits && id.to_string().starts_with(&typed));
        let first = found.next()?;
        found.all(|other| other == first).then_some(first)
    }

    fn open_place(&mut self, place: &Place) -> Result<(), String> {
        let word = place.view.as_str();
        let view = view_of(word).ok_or_else(|| {
            format!("this build has no view `{}`", coral_model::text::fit(word, 20))
        })?;
        coral_model::filter::parse(&place.filter).map_err(|e| e.short())?;
        let trace = match &place.selection.trace {
            Some(text) => Some(text.parse::<TraceId>().map_err(|e| e.to_string())?),
            None => None,
        };
        let own = match view {
            ViewId::Trace => PaneId::Waterfall,
            ViewId::Traces => PaneId::Traces,
            ViewId::Diff => PaneId::Diff,
            ViewId::Context => PaneId::Context,
            ViewId::Sql => PaneId::Rows,
            _ => PaneId::Services,
        };
        let pane = |word: &str| PaneId::ALL.iter().copied().find(|pane| pane.word() == word);
        let look = &place.look;
        let focus = look.pane.as_deref().and_then(pane).filter(|p| panes_of(view).contains(p));
        let mut next = Here {
            view,
            clock: Clock::at(place.window),
            filter: place.filter.clone(),
            service: place.selection.service.clone(),
            operation: place.selection.operation.clone(),
            trace,
            split: look.split,
            statement: look.statement.clone().unwrap_or_default(),
            around: look.rows.get(AROUND).and_then(|id| id.parse().ok()),
            focus: focus.unwrap_or(own),
            zoom: look.zoom && focus.is_some(),
            ..Here::default()
        };
        for (word, sort) in &look.orders {
            if let Some(pane) = pane(word) {
                next.sort(pane, &sort.by, sort.reversed);
            }
        }
        for (word, row) in &look.rows {
            // What is selected among the services is the service itself.
            if let Some(pane) = pane(word).filter(|pane| *pane != PaneId::Services) {
                next.cursors.insert(pane, row.clone());
            }
        }
        debug_assert!(!matches!(next.clock.mode, ClockMode::Live));
        if let Some(colony) = &place.colony
            && !self.colony.is_empty()
            && colony.to_string() != self.colony
        {
            self.say(format!(
                "this place is of colony {colony}; shown is the same moment of {}",
                self.colony
            ));
        }
        for (pane, scroll) in &mut self.scrolls {
            let line = look.scrolls.get(pane.word()).copied().unwrap_or(0);
            *scroll = Scroll::at(usize::try_from(line).unwrap_or(usize::MAX));
        }
        self.go(|here| *here = next);
        self.follow_statement();
        Ok(())
    }
}

/// The view that a word means: its own, or what `coral query` calls it, which makes places too.
fn view_of(word: &str) -> Option<ViewId> {
    match word {
        "digest" => Some(ViewId::Incident),
        "red" => Some(ViewId::Services),
        "events" => Some(ViewId::Timeline),
        word => ViewId::ALL.iter().copied().find(|view| view.word() == word),
    }
}

#[cfg(test)]
mod tests {
    use coral_model::time::{SECOND, Window};
    use proptest::prelude::*;

    use super::*;
    use crate::feed::Mail;
    use crate::feed::fake::{NOW, Scenario};
    use crate::runtime::Rehearsal;
    use crate::theme::Depth;

    const SIZES: [(u16, u16); 4] = [(40, 10), (80, 24), (120, 36), (200, 50)];

    fn session(size: (u16, u16)) -> Rehearsal {
        Rehearsal::new(Some(Scenario::Incident), size, "default", Depth::Ansi16).unwrap()
    }

    fn key(view: ViewId) -> &'static str {
        match view {
            ViewId::Incident => "1",
            ViewId::Services => "2",
            ViewId::Topology => "3",
            ViewId::Traces => "4",
            ViewId::Trace => "4 enter enter",
            ViewId::Logs => "5",
            ViewId::Timeline => "6",
            ViewId::Profile => "7",
            ViewId::Hosts => "8",
            ViewId::Agents => "9",
            ViewId::Inflight => "i",
            ViewId::Why => "w",
            ViewId::Diff => "d",
            ViewId::Context => "5 k k c",
            ViewId::Patterns => "P",
            ViewId::Sql => "S x ctrl-r esc",
        }
    }

    /// Opens what `from` copies, and gives its screen; both must look the same.
    fn reopened(from: &mut Rehearsal, size: (u16, u16)) -> Rehearsal {
        from.screen.app.notice = None;
        from.screen.app.touch();
        let _ = from.text();
        let line = from.screen.app.place_line();
        let mut to = session(size);
        to.screen.app.open(&line).unwrap();
        to.mail(Mail::default());
        assert_eq!(to.text(), from.text(), "{line}");
        let again = to.screen.app.place_line();
        assert_eq!(again, line);
        to
    }

    #[test]
    fn a_view_is_opened_by_its_name_and_a_service_of_that_name_by_saying_so() {
        let words = [("logs", ViewId::Logs), ("sql", ViewId::Sql), ("red", ViewId::Services)];
        for (word, view) in words.into_iter().chain([("digest", ViewId::Incident)]) {
            let mut session = session((80, 24));
            session.screen.app.open(word).unwrap();
            let here = &session.screen.app.here;
            assert_eq!((here.view, &here.service), (view, &None), "{word}");
        }
        let mut session = session((80, 24));
        session.screen.app.open("service=logs").unwrap();
        assert_eq!(session.screen.app.here.service.as_deref(), Some("logs"));
    }

    #[test]
    fn every_view_reopens_exactly_at_every_size() {
        for size in SIZES {
            for view in ViewId::ALL {
                for acts in ["", "j j j k", "G", "tab j j", "O R j", "O O O O G", "tab z j", "s s"]
                {
                    // In the editor these would be typed, and what is not run is not taken along.
                    if *view == ViewId::Sql && acts.contains("tab") {
                        continue;
                    }
                    let mut from = session(size);
                    from.screen.app.here.clock = Clock::at(Window::before(NOW, 15 * 60 * SECOND));
                    from.keys("j").unwrap();
                    from.keys(key(*view)).unwrap();
                    from.keys(acts).unwrap();
                    let was = from.screen.app.here.clone();
                    let to = reopened(&mut from, size);
                    let is = &to.screen.app.here;
                    assert_eq!(
                        (is.view, is.focus, is.zoom, is.split, &is.service, &is.orders),
                        (was.view, was.focus, was.zoom, was.split, &was.service, &was.orders),
                        "{view:?} {acts} at {size:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_live_log_s_record_is_found_again_in_another_session() {
        let mut from = session((80, 24));
        from.keys("5 k k k").unwrap();
        let body = from.screen.app.selected_log().unwrap().body.clone();
        let line = from.screen.app.place_line();
        assert!(line.contains("/row.logs=%40"), "{line}");
        let mut to = session((80, 24));
        to.screen.app.open(&line).unwrap();
        to.mail(Mail::default());
        assert_eq!(to.screen.app.cursor(PaneId::Logs), from.screen.app.cursor(PaneId::Logs));
        assert_eq!(to.screen.app.selected_log().unwrap().body, body);
        to.keys("k").unwrap();
        assert!(to.screen.app.cursor(PaneId::Logs) < from.screen.app.cursor(PaneId::Logs));
    }

    #[test]
    fn the_order_is_marked_in_the_heading_and_goes_along() {
        let mut s = session((80, 24));
        s.keys("2 O O").unwrap();
        assert!(s.text().contains("p99 ▼"), "{}", s.text());
        s.keys("R").unwrap();
        assert!(s.text().contains("p99 ▲"), "{}", s.text());
        assert!(s.screen.app.place_line().contains("/order.services=p99.reversed"));
        s.screen.app.ascii = true;
        s.screen.app.touch();
        assert!(s.text().contains("p99 ^"), "{}", s.text());
        let p99: Vec<Option<u64>> =
            s.screen.app.services().iter().filter_map(|s| Some(s.red.as_ref()?.p99_ns)).collect();
        let mut sorted = p99.clone();
        sorted.sort_by_key(|ns| (ns.is_none(), *ns));
        assert_eq!(p99, sorted);
        s.keys(":").unwrap();
        s.type_text("order name");
        s.keys("enter").unwrap();
        assert!(s.text().contains("SERVICE ^"), "{}", s.text());
        s.keys("4 O y").unwrap();
        let Some(super::super::Effect::Copy(line)) = s.effects.last() else { panic!("no copy") };
        assert!(line.contains("--order slow"), "{line}");
        s.keys("5 O").unwrap();
        assert!(s.text().contains("no table here can be sorted"), "{}", s.text());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
        #[test]
        fn hostile_places_open_or_say_why_and_never_break_the_screen(
            view in prop::sample::select(ViewId::ALL),
            pane in prop::sample::select(PaneId::ALL),
            name in prop::sample::select(vec!["row", "scroll", "order", "fold"]),
            value in "([0-9]{1,20}|%40[0-9]{1,22}\\.[0-9a-f]{0,17}|[a-z0-9%-]{0,12}(\\.reversed)?)",
            zoom in prop::sample::select(vec!["yes", "no"]),
            size in prop::sample::select(SIZES.to_vec()),
        ) {
            let (view, pane) = (view.word(), pane.word());
            let text = format!(
                "coral:1/-/{view}/2026-11-22T13:47:31Z..2026-11-22T14:02:31Z/service=payments\
                 /pane={pane}/zoom={zoom}/{name}.{pane}={value}"
            );
            let mut s = session(size);
            let opened = s.screen.app.open(&text);
            s.mail(Mail::default());
            let _ = s.text();
            s.keys("j k G g enter O R s esc").unwrap();
            let shown = s.text();
            prop_assert!(!shown.trim().is_empty());
            if let Err(why) = opened {
                prop_assert!(!why.is_empty());
            }
        }
    }
}
