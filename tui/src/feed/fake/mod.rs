//! A colony that is not there: the shop in a known state, for pictures, tests and benches.
//!
//! Everything follows from the scenario and the window asked for, so the same question always has
//! the same answer.

mod diff;
mod digest;
mod logs;
mod machines;
mod profile;
mod requests;
mod shop;
mod sql;
mod topology;
mod trace;

use coral_model::question::{Mode, Question, View};
use coral_model::time::{SECOND, Time, Window};
use coral_model::view::{DigestRow, End, Health, Line, Row, StatusRow};
use tokio::sync::mpsc;

use super::{Feed, Greeting, Pending, Progress};
use digest::{digest, events, service_rows};
pub use logs::log_row;
use logs::{log_at, logs};
pub use machines::status;
use machines::{agent, hosts, inflight};
pub use profile::profile;
use requests::{operations, series, traces};
pub use sql::STATEMENT;
use topology::topology;

/// What the shop goes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// Payments' pool is exhausted after a deploy.
    Incident,
    /// It is over.
    Recovered,
    /// All is as it was.
    Calm,
    /// Nobody has sent anything.
    Empty,
    /// Somebody may have, but nothing that could see it is there.
    Blind,
    /// Names and bodies made to break a terminal.
    Hostile,
    /// Many services, for size.
    Large,
}

/// A feed of a scenario.
pub struct Fake {
    /// What the shop goes through.
    pub scenario: Scenario,
    /// Log records per second of the tail; 0 is a quiet tail.
    pub logs_per_second: u64,
}

/// 2026-11-22 14:02:31 UTC: the present of every picture.
pub const NOW: Time = Time(1_795_356_151 * SECOND);

/// An end record without blemish.
#[must_use]
pub fn end() -> End {
    End {
        rows: 0,
        truncated: false,
        dropped: 0,
        agents_asked: 1,
        agents_answered: 1,
        from: NOW.minus(900 * SECOND),
        to: NOW,
        compare: None,
        resolution_s: Some(10),
        stored_to: None,
        newest: Some(NOW),
        blind: Vec::new(),
    }
}

/// The answer of a scenario to a question, its end record last.
#[must_use]
pub fn answer(scenario: Scenario, question: &Question) -> Vec<Row> {
    let window = question.window;
    let mut rows = match question.view {
        View::Digest => vec![Row::Digest(Box::new(narrowed(digest(scenario, window), question)))],
        View::Services => {
            let named = coral_model::filter::parse(&question.filter).unwrap_or_default();
            let named = named.services();
            let mut rows = service_rows(scenario, window);
            rows.retain(|s| named.is_empty() || named.contains(&s.service.as_str()));
            rows.into_iter().map(|s| Row::Service(Box::new(s))).collect()
        }
        View::Red if question.step.is_some() => series(scenario, question),
        View::Red => operations(scenario, question),
        View::Traces => traces(scenario, window),
        View::Trace => trace::trace(scenario, window),
        View::Logs if question.around.is_some() => logs::beside(scenario, window),
        View::Logs => logs(scenario, window),
        View::Patterns => logs::patterns(scenario, window),
        View::Events => {
            events(scenario, window).into_iter().map(|e| Row::Event(Box::new(e))).collect()
        }
        View::Topology => topology(scenario, window),
        View::Hosts => hosts(scenario, window),
        View::Inflight => inflight(scenario, window),
        View::Agents if scenario == Scenario::Blind => Vec::new(),
        View::Agents => vec![Row::Agent(Box::new(agent(scenario, window.to)))],
        View::Diff => diff::diff(scenario),
        View::Sql => sql::answer(scenario, question.subject.as_deref().unwrap_or_default()),
        View::Metrics => Vec::new(),
    };
    let blind = if scenario == Scenario::Blind {
        vec!["no agent is connected: nothing can be seen; `coral up` starts one here".to_owned()]
    } else {
        Vec::new()
    };
    let counted = rows.iter().filter(|row| !row.is_head()).count();
    let end = End {
        rows: coral_model::num::u64_sat(counted),
        from: window.from,
        to: window.to,
        newest: (!matches!(scenario, Scenario::Empty | Scenario::Blind)).then_some(window.to),
        blind,
        ..end()
    };
    rows.push(Row::End(Box::new(end)));
    rows
}

/// The digest of the services that the filter names, as the colony answers it: with none of them
/// there is no data.
fn narrowed(mut row: DigestRow, question: &Question) -> DigestRow {
    let Ok(filter) = coral_model::filter::parse(&question.filter) else { return row };
    let named = filter.services();
    if named.is_empty() || row.services.is_empty() {
        return row;
    }
    row.services.retain(|service| named.contains(&service.service.as_str()));
    row.services_known = coral_model::num::u32_sat(row.services.len());
    if row.services.is_empty() {
        row.health = Health::NoData;
        (row.onset, row.suspect, row.affected) = (None, None, 0);
        (row.path, row.movers) = (Vec::new(), Vec::new());
        let text = "nothing has arrived between 13:47 and 14:02 UTC".to_owned();
        row.why = vec![Line { label: "WHY".to_owned(), text }];
    }
    row
}

impl Feed for Fake {
    fn connect(&self, _progress: Progress) -> Pending<Greeting> {
        Box::pin(async { Ok(Greeting { colony: "shop-7f3a".into() }) })
    }

    fn ask(&self, question: Question, rows: mpsc::Sender<Vec<Row>>) -> Pending<()> {
        let (scenario, per_second) = (self.scenario, self.logs_per_second);
        Box::pin(async move {
            let mut n = 0;
            let length = question.window.length();
            loop {
                let now = Time::now();
                let mut question = question.clone();
                match question.mode {
                    Mode::Once => {
                        let _ = rows.send(answer(scenario, &question)).await;
                        return Ok(());
                    }
                    Mode::Watch => {
                        question.window = Window::before(now, length);
                        if rows.send(answer(scenario, &question)).await.is_err() {
                            return Ok(());
                        }
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    }
                    Mode::Tail => {
                        let batch: Vec<Row> = (0..per_second / 50)
                            .map(|i| Row::Log(Box::new(log_at(n + i, now, scenario))))
                            .collect();
                        n += per_second / 50;
                        if !batch.is_empty() && rows.send(batch).await.is_err() {
                            return Ok(());
                        }
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                }
            }
        })
    }

    fn status(&self) -> Pending<StatusRow> {
        let scenario = self.scenario;
        Box::pin(async move { Ok(status(scenario, Time::now())) })
    }

    fn complete(&self, key: String, prefix: String) -> Pending<Vec<String>> {
        Box::pin(async move {
            let all: &[&str] = match key.as_str() {
                "service" => &["payments", "checkout", "gateway", "catalog", "cache", "shipping"],
                _ => &[],
            };
            Ok(all.iter().filter(|v| v.starts_with(&prefix)).map(|v| (*v).to_owned()).collect())
        })
    }

    fn note(&self, _text: String, _service: Option<String>, _at: Time) -> Pending<()> {
        Box::pin(async { Ok(()) })
    }
}
