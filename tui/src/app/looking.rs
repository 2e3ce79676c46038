//! Sessions of looking closer: what differs, and where time goes.

use coral_model::question::{Question, View};
use coral_model::time::{SECOND, Window};
use coral_model::view::Row;

use super::{App, Effect, Input};
use crate::feed::Slot;
use crate::feed::fake::{self, Scenario};
use crate::layout::{PaneId, ViewId};
use crate::runtime::Rehearsal;
use crate::theme::Depth;

fn session(size: (u16, u16)) -> Rehearsal {
    Rehearsal::new(Some(Scenario::Incident), size, "default", Depth::Ansi16).unwrap()
}

fn copied(s: &Rehearsal) -> String {
    let Some(Effect::Copy(line)) = s.effects.last().cloned() else { panic!("nothing copied") };
    line
}

fn selected(app: &App) -> &str {
    app.flame.as_ref().unwrap().branches[app.flame_cursor()].row.name.as_str()
}

#[test]
fn what_differs_is_asked_of_the_selection_and_a_finding_becomes_the_filter() {
    let mut s = session((80, 24));
    s.keys("j d").unwrap();
    let want = s.screen.app.standing(Slot::Diff).unwrap();
    assert_eq!((want.view, want.filter.as_str()), (View::Diff, "service=payments"));
    assert!(s.text().contains("requests that failed or took longer"), "{}", s.text());
    s.keys("y").unwrap();
    assert!(copied(&s).starts_with("coral query diff --from "), "{}", copied(&s));
    s.keys("enter enter").unwrap();
    assert_eq!(s.screen.app.here.filter, "version=v42");
    let traces = s.screen.app.standing(Slot::Traces).unwrap();
    assert_eq!(
        (s.screen.app.here.view, traces.filter.as_str()),
        (ViewId::Traces, "service=payments version=v42")
    );
    s.keys("d").unwrap();
    assert_eq!(s.screen.app.standing(Slot::Diff).unwrap().filter, "service=payments version=v42");
    s.keys("enter j enter").unwrap();
    assert_eq!(s.screen.app.here.filter, "version=v42 db.pool.wait_ms=1024..2048");
    s.keys("esc esc esc").unwrap();
    assert_eq!((s.screen.app.here.view, s.screen.app.here.filter.as_str()), (ViewId::Diff, ""));
    // What is of a span's events is said to be out of reach; an absent value is not.
    s.keys("g j j j enter").unwrap();
    assert!(s.text().contains("no filter reaches"), "{}", s.text());
    s.keys("G k enter").unwrap();
    assert_eq!(s.screen.app.here.filter, "not:has:cache.hit");
    // A filter of alternatives stays one.
    s.keys("esc").unwrap();
    s.screen.app.here.filter = "status=500 or error".into();
    s.keys("G enter").unwrap();
    assert_eq!(s.screen.app.here.filter, "(status=500 or error) version=v41");
}

#[test]
fn a_profile_is_walked_through_and_narrowed() {
    let mut s = session((120, 40));
    s.keys("7").unwrap();
    assert!(s.text().contains("No profile is open"), "{}", s.text());
    s.keys("o").unwrap();
    s.type_text("/tmp/cpu.pb.gz");
    s.keys("enter").unwrap();
    assert_eq!(s.effects.last(), Some(&Effect::Open("/tmp/cpu.pb.gz".to_owned())));
    let profile = fake::profile(Scenario::Incident);
    s.screen.app.show_profile("/tmp/my cpu.pb.gz".into(), profile.into());
    let text = s.text();
    assert!(text.contains("futex_wait") && text.contains("cpu 3.92s over 30s"), "{text}");
    s.keys("j j").unwrap();
    assert_eq!(selected(&s.screen.app), "POST /charge");
    s.keys("l").unwrap();
    assert_eq!(selected(&s.screen.app), "POST /refund");
    s.keys("h enter").unwrap();
    assert_eq!(s.screen.app.flame_root(), Some(s.screen.app.flame_cursor()));
    assert!(!s.text().contains("▸main"), "{}", s.text());
    // Nothing above what fills the width, nor beside it.
    s.keys("k l").unwrap();
    assert_eq!(selected(&s.screen.app), "POST /charge");
    s.keys("y").unwrap();
    assert_eq!(copied(&s), "coral open '/tmp/my cpu.pb.gz'");
    s.keys("esc").unwrap();
    assert_eq!(s.screen.app.flame_root(), None);
    // From the table to the branch; and the other measure.
    s.keys("tab j j enter").unwrap();
    assert_eq!((s.screen.app.here.focus, selected(&s.screen.app)), (PaneId::Profile, "gc::mark"));
    s.keys("s").unwrap();
    assert!(s.text().contains("samples 391"), "{}", s.text());
    s.keys("tab O").unwrap();
    assert!(s.text().contains("with calls ▼"), "{}", s.text());
    for size in [(40, 10), (80, 24), (250, 80)] {
        s.input(Input::Resize(size.0, size.1));
        assert!(!s.text().trim().is_empty());
    }
}

#[test]
fn what_is_refused_stands_beside_what_is_dropped() {
    let mut s = session((120, 36));
    assert!(!s.text().contains("refused"));
    let mut status = fake::status(Scenario::Incident, s.now);
    status.agents[0].counters.insert("requests_refused_busy".into(), 1_200);
    status.counters.insert("connections_refused".into(), 34);
    status.counters.insert("commits_refused_disk_full".into(), 5);
    s.mail(crate::feed::Mail { status: Some(Box::new(status)), ..Default::default() });
    assert!(s.text().contains("refused 1.2k"), "{}", s.text());
}

#[test]
fn the_line_that_asks_for_a_live_picture_has_times_one_can_read() {
    let mut s = session((80, 24));
    s.screen.app.data.newest = Some(fake::NOW.plus(123_456_789));
    s.keys("y").unwrap();
    let line = copied(&s);
    assert!(line.contains("--from 2026-11-22T13:47:32Z --to 2026-11-22T14:02:32Z"), "{line}");
    s.keys("p Y").unwrap();
    assert!(copied(&s).contains("/2026-11-22T13:47:32Z..2026-11-22T14:02:32Z/"), "{}", copied(&s));
}

#[test]
fn a_trace_says_where_its_time_went_and_has_its_logs_inline() {
    let mut s = session((120, 40));
    s.keys("4 enter enter").unwrap();
    let text = s.text();
    for word in [
        "time went to payments acquire connection 2.31s 93%",
        "clock of web-2 was",
        "pool exhausted",
        "3 logs",
    ] {
        assert!(text.replace(" · ", "·").contains(&word.replace(" · ", "·")), "{word}\n{text}");
    }
    // The record is selected as a span is, and read in full beside it.
    let line =
        s.screen.app.trace_lines().iter().position(|l| matches!(l, super::TraceLine::Log(..)));
    s.screen.app.select(PaneId::Waterfall, line);
    s.screen.app.touch();
    assert!(s.text().contains("worker-3"), "{}", s.text());
    s.keys("c").unwrap();
    assert_eq!(s.screen.app.here.view, ViewId::Context);
    s.keys("esc s").unwrap();
    assert!(!s.text().contains("pool exhausted: 2 of 2 connections busy, waited"), "{}", s.text());
    // A link leads to the other trace.
    s.keys("G enter enter").unwrap();
    assert!(s.screen.app.here.trace.is_some_and(|id| id.to_string().ends_with("07")));
}

#[test]
fn the_lines_around_a_record_are_of_its_instance_and_come_back_in_a_place() {
    let mut s = session((80, 24));
    s.keys("5 c").unwrap();
    let want = s.screen.app.standing(Slot::Context).unwrap();
    assert_eq!(want.around.unwrap().at, s.screen.app.here.around.unwrap().at);
    let text = s.text();
    assert!(text.contains("payments-1 · 30 before · 10 after") && text.contains('▸'), "{text}");
    s.keys("k k enter").unwrap();
    assert_eq!(s.screen.app.here.focus, PaneId::Record);
    s.keys("esc y").unwrap();
    assert!(copied(&s).contains("--around"), "{}", copied(&s));
    s.keys("Y").unwrap();
    let mut other = session((80, 24));
    other.screen.app.open(&copied(&s)).unwrap();
    assert_eq!(other.screen.app.here.around, s.screen.app.here.around);
}

#[test]
fn a_host_is_read_to_its_end_and_back() {
    let mut s = session((80, 24));
    s.keys("8").unwrap();
    let want = s.screen.app.standing(Slot::Hosts).unwrap();
    let question = Question::new(View::Hosts, Window::before(fake::NOW, 900 * SECOND));
    let row = fake::answer(Scenario::Incident, &question).into_iter().next();
    let Some(Row::Host(mut row)) = row else { panic!("no host") };
    row.cgroup = (0..20).map(|n| (format!("counter_{n}"), n)).collect();
    s.answer(Slot::Hosts, &want, vec![Row::Host(row)], None);
    s.keys("g enter z").unwrap();
    let top = s.text();
    assert!(top.contains("PROCESS") && top.contains("Short-lived processes"), "{top}");
    assert!(!top.contains("counter_0 ") && !top.contains("counter_9 9"), "{top}");
    s.keys("G").unwrap();
    let end = s.text();
    assert!(end.contains("counter_9 9") && !end.contains("PROCESS"), "{end}");
    // The way back begins where the page ends.
    s.keys("k").unwrap();
    assert!(!s.text().contains("counter_9 9"), "{}", s.text());
    s.keys("j").unwrap();
    assert!(s.text().contains("counter_9 9"), "{}", s.text());
    s.keys("home").unwrap();
    assert!(s.text().contains("PROCESS"), "{}", s.text());
}

#[test]
fn a_pattern_leads_to_its_records() {
    let mut s = session((80, 24));
    s.keys("P").unwrap();
    assert!(s.text().contains("pool exhausted: <num>"), "{}", s.text());
    s.keys("j j j enter").unwrap();
    assert_eq!(s.screen.app.here.view, ViewId::Logs);
    assert!(!s.screen.app.here.filter.is_empty());
    s.keys("esc O").unwrap();
    assert!(s.text().contains("first ▼"), "{}", s.text());
}
