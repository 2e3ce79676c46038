//! Statements, as a person writes and runs them.

use coral_model::question::{Mode, View};

use super::*;
use crate::feed::fake::{STATEMENT, Scenario};
use crate::feed::{Delivery, Mail};
use crate::runtime::Rehearsal;
use crate::theme::Depth;

fn session(size: (u16, u16)) -> Rehearsal {
    let mut s = Rehearsal::new(Some(Scenario::Incident), size, "default", Depth::Ansi16).unwrap();
    s.keys("S").unwrap();
    s
}

fn ran(size: (u16, u16)) -> Rehearsal {
    let mut s = session(size);
    s.screen.app.edited(STATEMENT);
    s.keys("ctrl-r").unwrap();
    s
}

#[test]
fn keys_are_text_until_esc_gives_them_back() {
    let mut s = session((80, 24));
    s.type_text("q15jSELECT x");
    assert_eq!(s.screen.app.sql.text(), "q15jSELECT x");
    assert!(s.effects.is_empty());
    assert!(s.text().contains("ctrl-r run"), "{}", s.text());
    // Nothing was run: esc leads back, and the text stays.
    s.keys("esc").unwrap();
    s.keys("esc").unwrap();
    assert_eq!(s.screen.app.here.view, ViewId::Incident);
    s.keys("S").unwrap();
    assert_eq!(s.screen.app.sql.text(), "q15jSELECT x");
}

#[test]
fn a_statement_is_run_shown_sorted_and_remembered() {
    let mut s = session((120, 36));
    s.type_text("SELECT service FROM spans;");
    s.keys("enter").unwrap();
    let asked = s.screen.app.standing(Slot::Sql).unwrap();
    assert_eq!((asked.view, asked.mode), (View::Sql, Mode::Once));
    assert_eq!(asked.subject.as_deref(), Some("SELECT service FROM spans"));
    assert_eq!(s.effects, [Effect::Remember("SELECT service FROM spans".to_owned())]);
    let text = s.text();
    assert!(text.contains("6 rows") && text.contains("payments"), "{text}");
    s.keys("esc").unwrap();
    assert_eq!(s.screen.app.here.focus, PaneId::Rows);
    s.keys("O O O").unwrap();
    let given: Vec<usize> = s.screen.app.sql_rows().iter().map(|(n, _)| *n).collect();
    assert_eq!(*given.last().unwrap(), 3, "what is not known stands last");
    assert!(s.text().contains("p99_ms ▼"), "{}", s.text());
    s.keys(":").unwrap();
    s.type_text("order service");
    s.keys("enter R").unwrap();
    assert!(s.text().contains("service ▲"), "{}", s.text());
    // The same once more is asked once more, and remembered once.
    let first = s.screen.app.standing(Slot::Sql).unwrap();
    s.keys("ctrl-r").unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &s.screen.app.standing(Slot::Sql).unwrap()));
    let kept = s.effects.iter().filter(|e| matches!(e, Effect::Remember(_))).count();
    assert_eq!(kept, 1);
}

#[test]
fn names_complete_by_tab() {
    let mut s = session((80, 24));
    s.type_text("SELECT dur");
    assert!(s.text().contains("tab duration_ns"), "{}", s.text());
    s.keys("tab").unwrap();
    assert_eq!(s.screen.app.sql.text(), "SELECT duration_ns");
    s.type_text(" fr");
    s.keys("tab").unwrap();
    s.type_text(" spa");
    s.keys("tab").unwrap();
    assert_eq!(s.screen.app.sql.text(), "SELECT duration_ns FROM spans");
    s.type_text(" ");
    s.keys("tab").unwrap();
    assert_eq!(s.screen.app.here.focus, PaneId::Rows);
}

#[test]
fn earlier_statements_come_back_and_what_was_begun_is_kept() {
    let mut s = session((80, 24));
    s.screen.app.sql.remember(vec!["SELECT 1".into(), "SELECT 2\nFROM spans".into()]);
    s.type_text("SELECT begun");
    s.keys("up").unwrap();
    assert_eq!(s.screen.app.sql.text(), "SELECT 2\nFROM spans");
    s.keys("up up up").unwrap();
    assert_eq!(s.screen.app.sql.text(), "SELECT 1");
    s.keys("down").unwrap();
    assert_eq!(s.screen.app.sql.text(), "SELECT 2\nFROM spans");
    s.keys("down").unwrap();
    assert_eq!(s.screen.app.sql.text(), "SELECT begun");
    let mut sql = Sql::default();
    (0..REMEMBERED + 9).for_each(|n| assert!(sql.ran(&n.to_string())));
    assert_eq!((sql.past.len(), sql.past[0].as_str()), (REMEMBERED, "9"));
}

#[test]
fn esc_stops_what_runs() {
    let mut s = Rehearsal::new(None, (80, 24), "default", Depth::Ansi16).unwrap();
    let greeting = crate::feed::Greeting { colony: "shop".into() };
    s.mail(Mail { link: Some(Ok(greeting)), ..Mail::default() });
    s.keys("S").unwrap();
    s.type_text("SELECT count(*) FROM spans");
    s.keys("ctrl-r").unwrap();
    assert!(s.screen.app.is_running());
    assert!(s.text().contains("esc stops it"), "{}", s.text());
    let began = s.now;
    assert_eq!(s.screen.app.next_wake(), Some(began.plus(coral_model::time::SECOND)));
    s.now = began.plus(2 * coral_model::time::SECOND);
    s.mail(Mail::default());
    assert!(s.text().contains("running 2s"), "{}", s.text());
    s.keys("esc").unwrap();
    assert!(!s.screen.app.is_running() && s.screen.app.standing(Slot::Sql).is_none());
    assert!(s.text().contains("stopped"), "{}", s.text());
    // It can be run again.
    s.keys("ctrl-r").unwrap();
    assert!(s.screen.app.is_running());
}

#[test]
fn a_refusal_keeps_its_caret_under_the_place() {
    let mut s = ran((80, 24));
    let want = s.screen.app.standing(Slot::Sql).unwrap();
    let why = "this statement is not one that Coral runs\n  FROM spans, secrets\n              ^ not a view\n  hint: the views are spans logs";
    let mut mail = Mail::default();
    mail.answers.insert(Slot::Sql, Delivery { want, outcome: Err(why.to_owned()) });
    s.mail(mail);
    let text = s.text();
    let line = |needle: &str| text.lines().find(|line| line.contains(needle)).unwrap();
    let column = |line: &str, c: &str| line.find(c).unwrap();
    assert_eq!(column(line("secrets"), "secrets"), column(line("not a view"), "^"), "{text}");
    assert!(text.contains("hint: the views are"), "{text}");
}

#[test]
fn what_is_taken_along_brings_it_back() {
    let mut s = ran((120, 36));
    s.keys("esc y").unwrap();
    let Some(Effect::Copy(line)) = s.effects.last().cloned() else { panic!("nothing copied") };
    assert!(line.starts_with("coral query sql --from 2026-11-22T13:47:31Z --to"), "{line}");
    assert!(line.contains("'SELECT service, count(*) AS requests, quantile_cont"), "{line}");
    assert!(!line.contains("who waits"), "a remark would swallow the rest: {line}");
    s.keys("O O Y").unwrap();
    let Some(Effect::Copy(place)) = s.effects.last().cloned() else { panic!("nothing copied") };
    let mut other =
        Rehearsal::new(Some(Scenario::Incident), (120, 36), "default", Depth::Ansi16).unwrap();
    other.screen.app.open(&place).unwrap();
    other.mail(Mail::default());
    let rows = |s: &Rehearsal| -> Vec<SqlRow> {
        s.screen.app.sql_rows().into_iter().map(|(_, row)| row.clone()).collect()
    };
    assert_eq!(other.screen.app.here.view, ViewId::Sql);
    assert!(!rows(&s).is_empty());
    assert_eq!(rows(&other), rows(&s));
    assert_eq!(other.screen.app.sql.text(), flat(STATEMENT));
}

#[test]
fn a_row_opens_in_full_and_then_the_trace_it_names() {
    let mut s = ran((80, 24));
    s.keys("esc j enter").unwrap();
    assert!(s.text().contains("enter opens the trace"), "{}", s.text());
    s.keys("enter").unwrap();
    assert_eq!(s.screen.app.here.view, ViewId::Trace);
    s.keys("esc esc").unwrap();
    assert_eq!((s.screen.app.here.view, s.screen.app.here.focus), (ViewId::Sql, PaneId::Rows));
    assert!(s.text().contains("6 rows"), "{}", s.text());
    // Columns that do not fit are reached sideways.
    s.screen.app.size = (40, 10);
    s.keys("l l").unwrap();
    assert!(s.text().contains("◂ 2 more"), "{}", s.text());
}

#[test]
fn another_view_neither_forgets_the_answer_nor_asks_again() {
    let mut s = ran((80, 24));
    let first = s.screen.app.standing(Slot::Sql).unwrap();
    s.keys("esc 4 [ S").unwrap();
    assert!(s.screen.app.data.known(Slot::Sql).is_some());
    s.keys("esc 4 S").unwrap();
    assert!(s.screen.app.sql_given().count() > 0);
    s.keys("esc 1 L 4").unwrap();
    let kept = s.screen.app.standing(Slot::Sql).unwrap();
    assert_eq!(kept.subject, first.subject);
}

#[test]
fn pasted_statements_are_text_and_bounded() {
    let mut s = session((80, 24));
    s.input(crate::app::Input::Paste("SELECT 1;\r\nDROP\tTABLE x;\n\u{1b}[2Jq".into()));
    assert_eq!(s.screen.app.sql.lines(), ["SELECT 1;", "DROP    TABLE x;", "·[2Jq"]);
    assert!(s.effects.is_empty() && s.screen.app.here.statement.is_empty());
    s.input(crate::app::Input::Paste("x".repeat(70_000)));
    assert!(s.text().contains("64 KiB"), "{}", s.text());
    assert!(s.screen.app.sql.text().len() < 100);
}
