//! Sessions, as a person has them: keys in, screen out.

use coral_model::question::{Dimension, Mode, TraceOrder};
use coral_model::time::SECOND;
use coral_model::view::{Row, State};
use proptest::prelude::*;

use super::*;
use crate::feed::fake::{self, Scenario};
use crate::keymap::Code;
use crate::runtime::Rehearsal;
use crate::theme::Depth;
use crate::widget::Target;

fn session(scenario: Scenario, size: (u16, u16)) -> Rehearsal {
    Rehearsal::new(Some(scenario), size, "default", Depth::Ansi16).unwrap()
}

fn incident() -> Rehearsal {
    session(Scenario::Incident, (80, 24))
}

#[test]
fn the_first_screen_says_which_service_since_when_and_what_changed() {
    let text = incident().text();
    for word in [
        "INCIDENT since 13:58",
        "payments!!",
        "v41 → v42",
        "UTC",
        "LIVE",
        "blast: 3 of 9",
        "? keys",
    ] {
        assert!(text.contains(word), "{word} is not on\n{text}");
    }
}

#[test]
fn no_data_is_never_called_healthy() {
    for scenario in [Scenario::Empty, Scenario::Blind] {
        let text = session(scenario, (80, 24)).text();
        assert!(text.contains("NO DATA YET"), "{text}");
        assert!(!text.to_lowercase().contains("healthy") && !text.contains("calm"), "{text}");
    }
    let text = session(Scenario::Empty, (80, 24)).text();
    assert!(text.contains("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317"), "{text}");
    let calm = session(Scenario::Calm, (80, 24)).text();
    assert!(calm.contains("not seen"), "{calm}");
}

#[test]
fn before_any_answer_there_is_a_frame() {
    let mut screen = Rehearsal::new(None, (80, 24), "default", Depth::Ansi16).unwrap();
    let text = screen.text();
    assert!(text.contains("looking for the colony"), "{text}");
    assert!(text.contains("? keys"));
}

#[test]
fn enter_drills_and_esc_returns_to_the_exact_place() {
    let mut s = incident();
    s.keys("j j").unwrap();
    assert_eq!(s.screen.app.here.service.as_deref(), Some("checkout"));
    let before = s.screen.app.here.clone();
    let picture = s.text();
    s.keys("enter").unwrap();
    assert_eq!(s.screen.app.here.view, ViewId::Services);
    s.keys("j enter").unwrap();
    assert_eq!(s.screen.app.here.view, ViewId::Traces);
    assert_eq!(s.screen.app.here.operation.as_deref(), Some("POST /charge"));
    s.keys("j enter").unwrap();
    assert_eq!(s.screen.app.here.view, ViewId::Trace);
    assert!(s.text().contains("payments acquire"), "{}", s.text());
    s.keys("esc esc esc").unwrap();
    assert_eq!(s.screen.app.here, before);
    assert_eq!(s.text(), picture);
}

#[test]
fn a_selection_stays_with_its_service_when_the_order_changes() {
    let mut s = incident();
    s.keys("j j j").unwrap();
    assert_eq!(s.screen.app.here.service.as_deref(), Some("gateway"));
    let want = s.screen.app.asked.get(&Slot::Digest).cloned().unwrap();
    let mut rows = fake::answer(Scenario::Incident, &want.question(s.now));
    if let Some(coral_model::view::Row::Digest(d)) = rows.first_mut() {
        d.services.reverse();
    }
    s.answer(Slot::Digest, &want, rows, None);
    assert_eq!(s.screen.app.here.service.as_deref(), Some("gateway"));
    assert_eq!(s.screen.app.cursor(PaneId::Services), Some(6));
}

#[test]
fn nothing_new_is_no_draw_and_no_byte() {
    let mut s = incident();
    assert!(!s.screen.frame().is_empty());
    let draws = s.screen.draws;
    let want = s.screen.app.asked.get(&Slot::Digest).cloned().unwrap();
    let question = want.question(s.now);
    let mut rows = fake::answer(Scenario::Incident, &question);
    let end = match rows.pop() {
        Some(coral_model::view::Row::End(end)) => *end,
        _ => unreachable!(),
    };
    s.answer(Slot::Digest, &want, rows, Some(end));
    assert_eq!(s.screen.frame(), b"");
    s.screen.app.tick(s.now.plus(SECOND));
    assert_eq!(s.screen.frame(), b"");
    assert_eq!(s.screen.draws, draws);
}

#[test]
fn lag_is_what_agents_are_behind_and_shows_from_two_seconds() {
    let mut s = incident();
    assert_eq!(s.screen.app.lag(), None);
    let mut status = fake::status(Scenario::Incident, s.now);
    status.agents[0].lag_ns = 12 * SECOND;
    s.mail(Mail { status: Some(Box::new(status)), ..Mail::default() });
    assert_eq!(s.screen.app.lag(), Some(10 * SECOND));
    assert!(s.text().contains("lag 10s"));
}

#[test]
fn nothing_new_for_ten_minutes_draws_nothing() {
    for size in [(80, 24), (250, 80)] {
        let mut s = session(Scenario::Calm, size);
        let _ = s.text();
        let asked: Vec<(Slot, Arc<Want>)> = s.screen.app.asked.clone().into_iter().collect();
        let rows = |s: &Rehearsal, slot| {
            let known = s.screen.app.data.known(slot);
            known.map(|known| (known.rows.clone(), known.end.clone()))
        };
        let draws = s.screen.draws;
        for second in 1..=600 {
            s.now = fake::NOW.plus(second * SECOND);
            if second % 5 == 0 {
                // The same is said again, as of later.
                for (slot, want) in &asked {
                    let Some((rows, mut end)) = rows(&s, *slot) else { continue };
                    end.to = s.now;
                    end.stored_to = Some(s.now);
                    s.answer(*slot, want, rows, Some(end));
                }
                let mut status = fake::status(Scenario::Calm, fake::NOW);
                status.data_bytes += second;
                s.mail(Mail { status: Some(Box::new(status)), ..Mail::default() });
            }
            s.mail(Mail::default());
            assert_eq!(s.screen.frame(), b"", "{size:?} after {second} s");
        }
        assert_eq!(s.screen.draws, draws, "{size:?}");
        assert_eq!(s.screen.app.next_wake(), None);
    }
}

#[test]
fn an_agent_that_stops_grows_stale_by_itself() {
    let mut s = session(Scenario::Calm, (120, 36));
    s.keys("9").unwrap();
    let _ = s.text();
    let want = s.screen.app.standing(Slot::Agents).unwrap();
    let mut rows = s.screen.app.data.rows(Slot::Agents).to_vec();
    if let Row::Agent(agent) = &mut rows[0] {
        agent.state = State::Stale;
        agent.last_seen = fake::NOW;
    }
    s.now = fake::NOW.plus(20 * SECOND);
    s.answer(Slot::Agents, &want, rows, None);
    assert!(s.text().contains("lost 20s"), "{}", s.text());
    assert_eq!(s.screen.app.next_wake(), Some(fake::NOW.plus(30 * SECOND)));
    s.now = fake::NOW.plus(29 * SECOND);
    s.mail(Mail::default());
    assert_eq!(s.screen.frame(), b"");
    s.now = fake::NOW.plus(30 * SECOND);
    s.mail(Mail::default());
    assert!(s.text().contains("lost 30s"), "{}", s.text());
}

#[test]
fn pasted_text_never_runs_keys() {
    let mut s = incident();
    let before = s.screen.app.here.clone();
    s.input(Input::Paste("q5jjj\n:quit\n".into()));
    assert_eq!(s.screen.app.here, before);
    assert!(s.effects.is_empty());
    s.keys("/").unwrap();
    s.input(Input::Paste("service=cart\r\nq\x1b[2J".into()));
    let Some(Overlay::Entry(entry)) = &s.screen.app.overlay else { panic!("the line is closed") };
    assert!(entry.text().starts_with("service=cart"));
    assert!(!entry.text().chars().any(coral_model::text::is_hostile));
}

#[test]
fn a_filter_narrows_every_question_and_its_mistakes_have_a_caret() {
    let mut s = incident();
    s.keys("/").unwrap();
    s.type_text("service=pay");
    assert!(s.text().contains("payments"), "{}", s.text());
    s.keys("tab enter").unwrap();
    assert_eq!(s.screen.app.here.filter, "service=payments");
    assert_eq!(s.screen.app.asked[&Slot::Digest].filter, "service=payments");
    assert!(s.text().contains("/service=payments"));
    s.keys("/").unwrap();
    s.type_text("duration=fast");
    s.keys("enter").unwrap();
    let text = s.text();
    assert!(text.contains('^') && text.contains("filter"), "{text}");
    s.keys("esc").unwrap();
    assert_eq!(s.screen.app.here.filter, "service=payments");
}

#[test]
fn time_goes_back_stands_still_and_comes_live_again() {
    let mut s = incident();
    s.keys("[").unwrap();
    assert_eq!(s.screen.app.window().to, fake::NOW.minus(450 * SECOND));
    assert_eq!(s.screen.app.asked[&Slot::Digest].mode, Mode::Once);
    s.keys("L").unwrap();
    assert!(s.screen.app.here.clock.is_live());
    s.keys("p").unwrap();
    assert!(s.text().contains("PAUSED"));
    assert!(s.screen.app.data.digest().is_some(), "pausing forgets nothing");
    s.keys("space t").unwrap();
    s.type_text("13:50");
    s.keys("enter").unwrap();
    assert!(s.text().contains("13:42:30–13:57:30"), "{}", s.text());
    s.keys("t").unwrap();
    s.type_text("whenever");
    s.keys("enter").unwrap();
    assert!(s.text().contains("is not a time"), "{}", s.text());
}

#[test]
fn a_place_reopens_the_same_moment_selection_and_filter() {
    let mut s = incident();
    s.keys("j /").unwrap();
    s.type_text("level=warn..");
    s.keys("enter 5 Y").unwrap();
    let Some(Effect::Copy(line)) = s.effects.last().cloned() else { panic!("nothing copied") };
    assert!(s.text().contains("coral open coral:1/"), "{}", s.text());
    let mut other = incident();
    other.screen.app.open(&line).unwrap();
    let (a, b) = (&s.screen.app, &other.screen.app);
    assert_eq!(
        (b.here.view, &b.here.service, &b.here.filter),
        (ViewId::Logs, &a.here.service, &a.here.filter)
    );
    assert_eq!(b.window(), a.window());
}

#[test]
fn the_query_line_is_the_focused_pane_s_question() {
    let mut s = incident();
    s.keys("j enter y").unwrap();
    let Some(Effect::Copy(line)) = s.effects.last() else { panic!("nothing copied") };
    assert!(line.starts_with("coral query red --from 2026-11-22T13:47:31Z"), "{line}");
    assert!(line.ends_with("--by operation service=payments"), "{line}");
}

#[test]
fn the_palette_finds_runs_and_teaches() {
    let mut s = incident();
    s.keys(":").unwrap();
    s.type_text("topo");
    assert!(s.text().contains("who calls whom"));
    s.keys("enter").unwrap();
    assert_eq!(s.screen.app.here.view, ViewId::Topology);
    s.keys("ctrl-p").unwrap();
    s.type_text("time 30m");
    s.keys("enter").unwrap();
    assert_eq!(s.screen.app.here.clock.length, 1800 * SECOND);
    s.keys(":").unwrap();
    s.type_text("picture x.svg");
    s.keys("enter").unwrap();
    assert_eq!(s.effects.last(), Some(&Effect::Picture("x.svg".into())));
}

#[test]
fn split_cycles_through_its_dimensions() {
    let mut s = incident();
    s.keys("s").unwrap();
    assert!(s.text().contains("select a service first"));
    s.keys("j s").unwrap();
    assert_eq!(s.screen.app.here.split, Some(Dimension::Instance));
    assert!(s.text().contains("payments-2"), "{}", s.text());
    s.keys("s s").unwrap();
    assert_eq!(s.screen.app.here.split, Some(Dimension::Version));
}

#[test]
fn traces_are_ranked_by_what_is_asked() {
    let mut s = incident();
    s.keys("4 O").unwrap();
    assert_eq!(s.screen.app.asked[&Slot::Traces].order, TraceOrder::Slow);
    assert!(s.text().contains("slowest first"));
}

#[test]
fn a_flood_of_logs_is_bounded_and_what_was_skipped_is_counted() {
    let mut s = incident();
    s.keys("5").unwrap();
    let want = s.screen.app.asked.get(&Slot::Tail).cloned();
    assert!(want.is_some());
    for _ in 0..5 {
        let tail = (0..4_000).map(fake::log_row).collect();
        s.mail(Mail { tail, tail_skipped: 1_000, tail_want: want.clone(), ..Mail::default() });
    }
    assert!(s.screen.app.data.logs.len() <= TAIL_KEPT);
    assert!(s.text().contains("5.0k not shown"), "{}", s.text());
}

#[test]
fn the_mouse_selects_opens_and_can_be_given_back() {
    let mut s = incident();
    s.look();
    let row = s
        .screen
        .app
        .hits
        .iter()
        .find(|h| h.target == Target::Row(PaneId::Services, 2))
        .cloned()
        .unwrap();
    s.input(Input::Click(row.area.x + 3, row.area.y));
    assert_eq!(s.screen.app.here.service.as_deref(), Some("gateway"));
    s.look();
    s.input(Input::Click(row.area.x + 3, row.area.y));
    assert_eq!(s.screen.app.here.view, ViewId::Services);
    s.keys("m").unwrap();
    assert_eq!(s.effects.last(), Some(&Effect::Mouse(false)));
}

#[test]
fn every_view_is_reached_by_its_key_and_shown_at_the_smallest_size() {
    for size in [(40, 10), (80, 24), (200, 50)] {
        let mut s = session(Scenario::Incident, size);
        for (key, view) in [
            ("2", ViewId::Services),
            ("3", ViewId::Topology),
            ("4", ViewId::Traces),
            ("5", ViewId::Logs),
            ("6", ViewId::Timeline),
            ("7", ViewId::Profile),
            ("8", ViewId::Hosts),
            ("9", ViewId::Agents),
            ("i", ViewId::Inflight),
            ("w", ViewId::Why),
            ("d", ViewId::Diff),
            ("1", ViewId::Incident),
        ] {
            s.keys(key).unwrap();
            assert_eq!(s.screen.app.here.view, view);
            assert!(!s.text().trim().is_empty());
        }
    }
    let mut tiny = session(Scenario::Incident, (39, 9));
    assert!(tiny.text().contains("needs 40×10"));
}

#[test]
fn every_pane_can_be_zoomed_and_put_back() {
    let mut s = session(Scenario::Incident, (120, 36));
    for _ in 0..6 {
        let focus = s.screen.app.here.focus;
        s.keys("z").unwrap();
        assert_eq!(s.screen.app.frame().panes.len(), 1);
        s.keys("z").unwrap();
        assert_eq!(s.screen.app.here.focus, focus);
        assert_eq!(s.screen.app.frame().panes.len(), 6);
        s.keys("tab").unwrap();
    }
    s.keys("l").unwrap();
    assert_eq!(s.screen.app.here.focus, PaneId::Charts);
    s.keys("h").unwrap();
    assert_eq!(s.screen.app.here.focus, PaneId::Services);
}

#[test]
fn answers_to_what_is_not_asked_any_more_are_not_shown() {
    let mut s = incident();
    let old = s.screen.app.asked.get(&Slot::Digest).cloned().unwrap();
    s.keys("[").unwrap();
    let shown = s.text();
    s.answer(Slot::Digest, &old, Vec::new(), None);
    assert_eq!(s.text(), shown);
}

#[test]
fn a_lost_colony_is_said_and_what_was_known_stays() {
    let mut s = incident();
    s.mail(Mail { link: Some(Err("the colony went away".into())), ..Mail::default() });
    let text = s.text();
    assert!(text.contains("COLONY LOST") && text.contains("payments!!"), "{text}");
}

/// Something a person or the colony may do at any time.
#[derive(Clone, Debug)]
enum Act {
    Key(usize, bool),
    Text(String),
    Paste(String),
    Click(u16, u16),
    Wheel(u16, u16, bool),
    Size(u16, u16),
    Wait(u64),
    Lose,
    Tail(u64),
    Scenario(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..200_usize, any::<bool>()).prop_map(|(k, c)| Act::Key(k, c)),
        1 => "[ -~é日]{0,12}".prop_map(Act::Text),
        1 => ".{0,20}".prop_map(Act::Paste),
        1 => (0..310_u16, 0..110_u16).prop_map(|(x, y)| Act::Click(x, y)),
        1 => (0..310_u16, 0..110_u16, any::<bool>()).prop_map(|(x, y, d)| Act::Wheel(x, y, d)),
        2 => (1..=300_u16, 1..=100_u16).prop_map(|(w, h)| Act::Size(w, h)),
        1 => (0..100_000_u64).prop_map(Act::Wait),
        1 => Just(Act::Lose),
        1 => (0..300_u64).prop_map(Act::Tail),
        1 => (0..5_u8).prop_map(Act::Scenario),
    ]
}

fn a_key(n: usize, ctrl: bool) -> Key {
    let all: Vec<&str> = crate::command::COMMANDS.iter().flat_map(|c| c.keys).copied().collect();
    match all.get(n).and_then(|k| k.parse::<Key>().ok()) {
        Some(key) => Key { ctrl: key.ctrl || (ctrl && n.is_multiple_of(7)), ..key },
        None => Key::plain(Code::Char(char::from(b'a' + u8::try_from(n % 26).unwrap()))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]
    #[test]
    fn nothing_anybody_does_makes_it_panic(
        size in (1..=300_u16, 1..=100_u16),
        acts in prop::collection::vec(act(), 1..60),
    ) {
        let mut s = session(Scenario::Incident, size);
        for act in acts {
            match act {
                Act::Key(n, ctrl) => s.input(Input::Key(a_key(n, ctrl))),
                Act::Text(text) => s.type_text(&text),
                Act::Paste(text) => s.input(Input::Paste(text)),
                Act::Click(x, y) => s.input(Input::Click(x, y)),
                Act::Wheel(x, y, down) => s.input(Input::Wheel(x, y, down)),
                Act::Size(w, h) => s.input(Input::Resize(w, h)),
                Act::Wait(ms) => {
                    s.now = s.now.plus(ms * 1_000_000);
                    s.mail(Mail::default());
                }
                Act::Lose => s.mail(Mail { link: Some(Err("gone".into())), ..Mail::default() }),
                Act::Tail(n) => {
                    let tail = (0..n).map(fake::log_row).collect();
                    let tail_want = s.screen.app.asked.get(&Slot::Tail).cloned();
                    s.mail(Mail { tail, tail_want, ..Mail::default() });
                }
                Act::Scenario(n) => {
                    s.scenario = Some([
                        Scenario::Incident, Scenario::Calm, Scenario::Empty, Scenario::Blind, Scenario::Hostile,
                    ][usize::from(n)]);
                    s.keys("L").ok();
                }
            }
            // Time that is not held is asked for, whatever happened before.
            if !matches!(s.screen.app.here.clock.mode, ClockMode::Paused(_)) {
                prop_assert!(s.desk.keys().eq(s.screen.app.asked.keys()));
            }
            let _ = s.screen.frame();
            let shown = s.screen.shown();
            prop_assert!(shown.content.iter().all(|c| !c.symbol().chars().any(coral_model::text::is_hostile)));
        }
    }
}
