//! The reviewed picture of every pane, at every size, in every state.
//!
//! A new pane is one line in [`PANES`](super::PANES); it gets its pictures by itself. They lie in
//! `snapshots/` beside the crates, text first, looks as runs below (see [`crate::export::styled`]).

use insta::{Settings, assert_snapshot};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{PANES, one};
use crate::export::styled;
use crate::feed::Mail;
use crate::feed::fake::{self, Scenario};
use crate::layout::{PaneId, ViewId};
use crate::runtime::Rehearsal;
use crate::theme::Depth;
use crate::widget::Canvas;

const SIZES: [(u16, u16); 4] = [(40, 10), (80, 24), (120, 40), (250, 80)];

/// States and how they are brought about.
const STATES: [(&str, Option<Scenario>); 6] = [
    ("full", Some(Scenario::Incident)),
    ("empty", Some(Scenario::Empty)),
    ("loading", None),
    ("stale", Some(Scenario::Incident)),
    ("blind", Some(Scenario::Blind)),
    ("hostile", Some(Scenario::Hostile)),
];

fn settings(folder: &str) -> Settings {
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path(format!("../../../snapshots/{folder}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

/// The view whose questions a pane needs.
fn home(pane: PaneId) -> (ViewId, &'static str) {
    match pane {
        PaneId::Services | PaneId::Why | PaneId::Ask => (ViewId::Incident, "1"),
        PaneId::Operations | PaneId::Charts => (ViewId::Services, "2"),
        PaneId::Topology => (ViewId::Topology, "3"),
        PaneId::Traces => (ViewId::Traces, "4"),
        PaneId::Waterfall | PaneId::Span => (ViewId::Trace, "4"),
        PaneId::Logs | PaneId::Record => (ViewId::Logs, "5"),
        PaneId::Timeline => (ViewId::Timeline, "6"),
        PaneId::Profile | PaneId::Functions => (ViewId::Profile, "7"),
        PaneId::Hosts | PaneId::Host => (ViewId::Hosts, "8"),
        PaneId::Agents | PaneId::Agent => (ViewId::Agents, "9"),
        PaneId::Inflight => (ViewId::Inflight, "i"),
        PaneId::Diff => (ViewId::Diff, "d"),
        PaneId::Context => (ViewId::Context, "5 k c"),
        PaneId::Patterns => (ViewId::Patterns, "P"),
        PaneId::Editor | PaneId::Rows | PaneId::Values => (ViewId::Sql, "S"),
    }
}

fn prepared(state: &str, scenario: Option<Scenario>, pane: PaneId, size: (u16, u16)) -> Rehearsal {
    // Wide enough for every pane of the view to be asked for; the picture is of the pane alone.
    let mut rehearsal = Rehearsal::new(scenario, (250, 80), "default", Depth::Ansi16).unwrap();
    if pane == PaneId::Operations {
        rehearsal.screen.app.here.service = Some("payments".into());
    }
    let (view, key) = home(pane);
    rehearsal.keys(key).unwrap();
    if view == ViewId::Trace {
        rehearsal.keys("enter enter").unwrap();
        rehearsal.screen.app.here.view = ViewId::Trace;
        rehearsal.mail(Mail::default());
    }
    if view == ViewId::Profile && !matches!(state, "empty" | "loading" | "blind") {
        let profile = fake::profile(scenario.unwrap_or(Scenario::Calm));
        rehearsal.screen.app.show_profile("/tmp/cpu.pb.gz".into(), profile.into());
    }
    if view == ViewId::Sql {
        rehearsal.screen.app.edited(fake::STATEMENT);
        rehearsal.keys("ctrl-r").unwrap();
    }
    if state == "stale" {
        rehearsal.now = rehearsal.now.plus(34 * coral_model::time::SECOND);
        let mail = Mail { link: Some(Err("the colony went away".into())), ..Mail::default() };
        rehearsal.mail(mail);
    }
    rehearsal.screen.app.here.focus = pane;
    rehearsal.screen.app.size = size;
    rehearsal
}

fn picture(rehearsal: &mut Rehearsal, pane: PaneId, size: (u16, u16)) -> String {
    let area = Rect { x: 0, y: 0, width: size.0, height: size.1 };
    let mut buf = Buffer::empty(area);
    let mut hits = Vec::new();
    rehearsal.screen.app.here.zoom = true;
    let app = &rehearsal.screen.app;
    one(app, &mut Canvas { buf: &mut buf, hits: &mut hits, theme: &app.theme }, pane, area);
    for hit in &hits {
        assert_eq!(area.intersection(hit.area), hit.area, "{pane:?} points outside itself");
    }
    for cell in &buf.content {
        let hostile = cell.symbol().chars().any(coral_model::text::is_hostile);
        assert!(!hostile, "{pane:?} let {:?} through", cell.symbol());
    }
    styled(&buf)
}

#[test]
fn every_pane_at_every_size() {
    settings("panes").bind(|| {
        for spec in PANES {
            for size in SIZES {
                let mut rehearsal = prepared("full", Some(Scenario::Incident), spec.id, size);
                let picture = picture(&mut rehearsal, spec.id, size);
                assert_snapshot!(format!("{}-{}x{}", spec.id.word(), size.0, size.1), picture);
            }
        }
    });
}

#[test]
fn every_pane_in_every_state() {
    settings("states").bind(|| {
        for spec in PANES {
            for (state, scenario) in STATES.into_iter().skip(1) {
                let mut rehearsal = prepared(state, scenario, spec.id, (80, 24));
                let text = picture(&mut rehearsal, spec.id, (80, 24));
                assert_snapshot!(format!("{}-{state}", spec.id.word()), text);
                // Other sizes must hold too; their pictures would say nothing new.
                for size in SIZES {
                    let mut rehearsal = prepared(state, scenario, spec.id, size);
                    picture(&mut rehearsal, spec.id, size);
                }
            }
        }
    });
}

#[test]
fn the_whole_screen() {
    settings("screen").bind(|| {
        for (name, scenario) in [
            ("incident", Scenario::Incident),
            ("recovered", Scenario::Recovered),
            ("calm", Scenario::Calm),
            ("no-data", Scenario::Empty),
            ("blind", Scenario::Blind),
            ("hostile", Scenario::Hostile),
        ] {
            for size in [(40, 10), (80, 24), (120, 36)] {
                let mut rehearsal =
                    Rehearsal::new(Some(scenario), size, "default", Depth::Ansi16).unwrap();
                let picture = styled(rehearsal.look());
                assert_snapshot!(format!("{name}-{}x{}", size.0, size.1), picture);
            }
        }
        for (theme, depth) in [
            ("default", Depth::Mono),
            ("dark", Depth::True),
            ("light", Depth::Ansi256),
            ("color-blind", Depth::Ansi16),
        ] {
            let mut rehearsal =
                Rehearsal::new(Some(Scenario::Incident), (80, 24), theme, depth).unwrap();
            let picture = styled(rehearsal.look());
            assert_snapshot!(format!("theme-{theme}-{depth:?}"), picture);
        }
        for (name, keys) in [("help", "?"), ("palette", ":"), ("filter", "/"), ("time", "t")] {
            let mut rehearsal =
                Rehearsal::new(Some(Scenario::Incident), (80, 24), "default", Depth::Ansi16)
                    .unwrap();
            rehearsal.keys(keys).unwrap();
            assert_snapshot!(name, styled(rehearsal.look()));
        }
        let mut ascii =
            Rehearsal::new(Some(Scenario::Hostile), (120, 36), "mono", Depth::Mono).unwrap();
        ascii.screen.app.ascii = true;
        let picture = styled(ascii.look());
        assert!(picture.is_ascii());
        assert_snapshot!("ascii-120x36", picture);
    });
}
