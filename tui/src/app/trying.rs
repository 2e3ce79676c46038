//! Sessions of somebody who tries things: holds time, mistypes, looks where nothing is.

use coral_model::TraceId;
use coral_model::time::SECOND;
use coral_model::view::{EventKind, Line, Row};

use super::{Absence, App};
use crate::feed::fake::{self, Scenario};
use crate::feed::{Delivery, Greeting, Mail, Slot};
use crate::layout::ViewId;
use crate::runtime::Rehearsal;
use crate::theme::Depth;

fn session(scenario: Scenario, size: (u16, u16)) -> Rehearsal {
    Rehearsal::new(Some(scenario), size, "default", Depth::Ansi16).unwrap()
}

fn incident() -> Rehearsal {
    session(Scenario::Incident, (80, 24))
}

fn typed(s: &mut Rehearsal, key: &str, text: &str) {
    s.keys(key).unwrap();
    s.type_text(text);
    s.keys("enter").unwrap();
}

fn asked(app: &App) -> Vec<Slot> {
    app.asked.keys().copied().collect()
}

#[test]
fn time_that_was_held_goes_on() {
    for (view, hold, go_on) in [
        ("1", "p", "p"),
        ("1", "space", "space"),
        ("1", "p", "L"),
        ("2", "p", "p"),
        ("3", "p", "p"),
        ("5", "p", "p"),
    ] {
        let mut s = incident();
        s.keys(view).unwrap();
        s.keys(hold).unwrap();
        assert!(!s.desk.contains_key(&Slot::Digest), "nothing is asked of time that is held");
        s.keys(go_on).unwrap();
        let desk: Vec<Slot> = s.desk.keys().copied().collect();
        assert_eq!(desk, asked(&s.screen.app), "view {view}: {hold}, then {go_on}");
        // And what is answered then is shown.
        s.now = s.now.plus(90 * SECOND);
        let want = s.desk[&Slot::Digest].clone();
        s.answer(Slot::Digest, &want, fake::answer(Scenario::Calm, &want.question(s.now)), None);
        assert!(s.text().contains("calm"), "{}", s.text());
    }
}

#[test]
fn time_held_before_the_first_answer_still_gets_one() {
    let mut s = Rehearsal::new(None, (80, 24), "default", Depth::Ansi16).unwrap();
    let link = Some(Ok(Greeting { colony: "shop".into() }));
    s.mail(Mail { link, ..Mail::default() });
    s.keys("p").unwrap();
    let want = s.desk.get(&Slot::Digest).expect("the answer is still awaited").clone();
    s.answer(Slot::Digest, &want, fake::answer(Scenario::Calm, &want.question(s.now)), None);
    assert!(s.text().contains("calm"), "{}", s.text());
    assert!(!s.desk.contains_key(&Slot::Digest));
}

#[test]
fn a_filter_that_nothing_passes_is_not_an_empty_colony() {
    let mut s = incident();
    typed(&mut s, "/", "service=paymnts");
    for view in ["1", "2", "3", "4", "5"] {
        s.keys(view).unwrap();
        let text = s.text();
        assert!(!text.contains("NO DATA") && !text.contains("OTEL_"), "view {view}\n{text}");
        assert!(text.contains("INCIDENT since 13:58"), "view {view}\n{text}");
    }
    assert_eq!(s.screen.app.absence(), Some(Absence::Filtered));
    s.keys("1").unwrap();
    let text = s.text();
    assert!(text.contains("no service `paymnts` is known; did you mean `payments`?"), "{text}");
    s.keys("2").unwrap();
    assert!(s.text().contains("did you mean `payments`?"), "{}", s.text());
    // Without the filter everything is there again, and nobody asks twice.
    s.keys("1 x").unwrap();
    assert_eq!(s.screen.app.absence(), None);
    assert!(!s.desk.contains_key(&Slot::Colony));
    assert!(s.text().contains("payments!!"), "{}", s.text());
    // What passes is no stranger.
    typed(&mut s, "/", "service=payments");
    assert_eq!((s.screen.app.absence(), s.screen.app.stranger()), (None, None));
}

#[test]
fn a_time_without_traffic_is_not_an_empty_colony() {
    let mut s = incident();
    s.scenario = Some(Scenario::Empty);
    typed(&mut s, "t", "-2h");
    let text = s.text();
    assert!(text.contains("NO TRAFFIC") && text.contains("L goes live"), "{text}");
    assert!(!text.contains("NO DATA") && !text.contains("OTEL_"), "{text}");
    // One that never had anything says so, whatever is looked for.
    let mut s = session(Scenario::Empty, (80, 24));
    assert_eq!(s.screen.app.absence(), Some(Absence::Ever));
    typed(&mut s, "/", "service=cart");
    assert!(s.text().contains("NO DATA YET"), "{}", s.text());
}

#[test]
fn the_filter_is_cut_before_what_the_screen_shows() {
    for size in [(80, 24), (100, 30), (200, 50)] {
        for (keys, state) in
            [("L", "LIVE last 15m"), ("p", "PAUSED last 15m"), ("[", "13:40:01–13:55:01")]
        {
            for view in ["1", "2", "5"] {
                let mut s = session(Scenario::Incident, size);
                typed(&mut s, "/", "error=true service=checkout or operation=\"POST /charge\"");
                s.keys(view).unwrap();
                s.keys(keys).unwrap();
                let text = s.text();
                let first = text.lines().next().unwrap_or_default();
                for word in ["shop-7f3a", state, "INCIDENT", "/error=tr"] {
                    assert!(first.contains(word), "{word}, view {view}, {size:?}\n{first}");
                }
                assert!(size.0 > 80 || first.contains('…'), "{first}");
            }
        }
    }
    let mut small = session(Scenario::Incident, (40, 10));
    typed(&mut small, "/", "error=true");
    small.keys("p").unwrap();
    let text = small.text();
    let first = text.lines().next().unwrap_or_default();
    assert!(first.contains("PAUSED last 15m") && first.contains("INCIDENT"), "{first}");
}

#[test]
fn what_is_opened_must_be_known() {
    let mut s = incident();
    typed(&mut s, "o", "nosuchservice");
    assert!(s.text().contains("no service `nosuchservice` is known"), "{}", s.text());
    assert_eq!(s.screen.app.here.view, ViewId::Incident);
    s.keys("esc").unwrap();
    typed(&mut s, "o", "paymnts");
    assert!(s.text().contains("did you mean `payments`?"), "{}", s.text());
    s.keys("esc").unwrap();
    typed(&mut s, "o", "payments");
    assert_eq!(s.screen.app.here.service.as_deref(), Some("payments"));
    // Whoever insists is taken at their word.
    typed(&mut s, "o", "service=nosuchservice");
    assert_eq!(s.screen.app.here.service.as_deref(), Some("nosuchservice"));
    // Lists show the first digits of a trace's id.
    s.keys("1 x 4").unwrap();
    let want = s.screen.app.standing(Slot::Traces).unwrap();
    let mut rows = fake::answer(Scenario::Incident, &want.question(s.now));
    if let Some(Row::Trace(row)) = rows.first_mut() {
        row.trace_id = TraceId([0xab; 16]);
    }
    s.answer(Slot::Traces, &want, rows, None);
    typed(&mut s, "o", "abababab");
    assert_eq!(s.screen.app.here.trace, Some(TraceId([0xab; 16])));
    // Digits that several begin with name none.
    typed(&mut s, "o", "4bf92f35");
    assert_eq!(s.screen.app.here.trace, Some(TraceId([0xab; 16])), "it is still the one before");
    assert!(s.text().contains("4bf92f35"), "{}", s.text());
    s.keys("esc").unwrap();
    s.keys("1 t").unwrap();
    s.type_text("13:50..13:40");
    s.keys("enter").unwrap();
    assert!(s.text().contains("ends before it begins"), "{}", s.text());
}

/// The screen's words, one blank apart, so that what goes on below reads as one sentence.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn long_sentences_go_on_in_lines_that_nothing_else_needs() {
    let said = "payments restarted: process 18960 exited with 0 after SIGTERM from kubelet, whose \
                deadline was thirty seconds";
    let mut s = incident();
    let want = s.screen.app.standing(Slot::Digest).unwrap();
    let mut rows = fake::answer(Scenario::Incident, &want.question(s.now));
    if let Some(Row::Digest(digest)) = rows.first_mut() {
        digest.services.truncate(5);
        digest.why = vec![
            Line { label: "WHY".into(), text: "payments: 9.1 % errors".into() },
            Line { label: "changed".into(), text: said.into() },
        ];
    }
    s.answer(Slot::Digest, &want, rows, None);
    let want = s.screen.app.standing(Slot::Events).unwrap();
    let mut rows = fake::answer(Scenario::Incident, &want.question(s.now));
    let text = "new log \"could not charge card <num>: the issuer answered <num> after <num> ms\"";
    if let Some(Row::Event(event)) = rows.first_mut() {
        event.kind = EventKind::NewPattern;
        event.text = text.into();
    }
    s.answer(Slot::Events, &want, rows, None);
    let shown = s.text();
    assert!(words(&shown).contains(said), "{shown}");
    assert!(words(&shown).contains("the issuer answered <num> after <num> ms"), "{shown}");
    // Not where a row of the lists would go for it.
    s.input(super::Input::Resize(80, 16));
    let shown = s.text();
    assert!(shown.contains("payments restarted") && !words(&shown).contains(said), "{shown}");
    assert!(shown.contains("checkout!!"), "{shown}");
}

#[test]
fn what_is_wrong_with_a_filter_is_said_to_its_end() {
    let mut s = incident();
    typed(&mut s, "/", "status=500.. route=/cart servce=checkout");
    let text = s.text();
    assert!(words(&text).contains("did you mean `service`?"), "{text}");
    assert!(words(&text).contains("attr.servce"), "{text}");
    s.keys("esc :").unwrap();
    s.type_text("filter servce=checkout");
    s.keys("enter").unwrap();
    assert!(words(&s.text()).contains("attr.servce"), "{}", s.text());
}

#[test]
fn numbers_and_what_they_are_compared_with_are_of_one_window() {
    let mut s = session(Scenario::Incident, (120, 36));
    assert!(s.text().contains("services 9 · since 13:58:05"), "{}", s.text());
    assert!(s.text().contains("vs 13:47–13:58"), "{}", s.text());
    s.keys("2").unwrap();
    let text = s.text();
    assert!(text.contains("services 9 · last 15m") && text.contains("vs 13:32–13:47"), "{text}");
    s.keys("3").unwrap();
    assert!(s.text().contains("topology · last 15m"), "{}", s.text());
    s.keys("p").unwrap();
    assert!(s.text().contains("topology · 15m up to 14:02"), "{}", s.text());
}

#[test]
fn a_statement_s_refusal_goes_when_it_is_written_anew() {
    let mut s = session(Scenario::Incident, (80, 24));
    s.keys("S").unwrap();
    s.type_text("SELECT cout(*) FROM spans");
    s.keys("ctrl-r").unwrap();
    let want = s.screen.app.standing(Slot::Sql).unwrap();
    let mut mail = Mail::default();
    let outcome = Err("there is no function cout".to_owned());
    mail.answers.insert(Slot::Sql, Delivery { want, outcome });
    s.mail(mail);
    assert!(s.text().contains("no function cout"), "{}", s.text());
    s.keys("ctrl-u").unwrap();
    assert_eq!(s.screen.app.sql.text(), "");
    assert!(!s.text().contains("no function cout"), "{}", s.text());
    s.type_text("SELECT cout");
    assert_eq!(s.screen.app.sql.offers.first().map(String::as_str), Some("count(*)"));
    s.keys("tab").unwrap();
    assert_eq!(s.screen.app.sql.text(), "SELECT count(*)");
}
