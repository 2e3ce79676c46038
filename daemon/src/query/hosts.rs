//! `hosts`: the newest reading of each host inside the window.

use coral_model::filter::{FieldValue, Fields, Key};
use coral_model::time::{SECOND, Time, Window};
use coral_model::view::{HostRow, Row, State};

use super::QueryError;
use super::answer::{Found, Inputs};
use super::fetch::{self, Sql};
use super::plan::Plan;
use crate::store::Reading;
use crate::store::schema::Signal;

/// Hosts are read every few seconds; a reading older than this is stale.
const STALE: u64 = 30 * SECOND;

struct HostFields<'a>(&'a HostRow);

impl Fields for HostFields<'_> {
    fn get(&self, key: &Key) -> Option<FieldValue<'_>> {
        match key {
            Key::Host => Some(self.0.host.as_str().into()),
            Key::Service => {
                let names = self.0.processes.iter().map(|p| p.service.as_str().into());
                Some(FieldValue::Many(names.collect()))
            }
            _ => None,
        }
    }

    fn texts(&self, visit: &mut dyn FnMut(&str)) {
        visit(&self.0.host);
        self.0.processes.iter().for_each(|p| visit(&p.service));
    }
}

/// Answers the question.
pub fn answer(inputs: &Inputs<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let mut rows = newest(inputs.conn, plan.window, plan.now)?;
    rows.retain(|row| plan.filter.matches(&HostFields(row)));
    let truncated = rows.len() > plan.limit();
    rows.truncate(plan.limit());
    let newest = rows.iter().map(|r| r.time).max();
    let rows = rows.into_iter().map(|r| Row::Host(Box::new(r))).collect();
    Ok(Found { rows, truncated, newest, ..Found::default() })
}

/// The newest reading of every host in the window, by name.
pub fn newest(conn: &Reading<'_>, window: Window, now: Time) -> Result<Vec<HostRow>, QueryError> {
    let hosts = conn.relation(Signal::Hosts, window.from, window.to);
    let sql =
        Sql::new(format!("SELECT max(at_ns), arg_max(row, at_ns), host FROM {hosts} WHERE true"))
            .within("at_ns", window.from, window.to)
            .then(" GROUP BY host ORDER BY host");
    let mut rows = Vec::new();
    fetch::run(conn, &sql, |batch| {
        let (at, json) = (batch.i64s(0)?, batch.texts(1)?);
        for row in 0..batch.len() {
            let text = fetch::text(json, row).unwrap_or_default();
            // The agent's JSON was checked when it arrived; one that a newer agent sent and this
            // build cannot read is left out rather than failing everybody's answer.
            let Ok(mut host) = serde_json::from_str::<HostRow>(text) else { continue };
            host.time = fetch::time(at, row);
            let end = window.to.min(now.max(window.from));
            host.state = if end.since(host.time) > STALE { State::Stale } else { State::Active };
            rows.push(host);
        }
        Ok(())
    })?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use coral_model::question::View;
    use coral_model::time::Time;
    use coral_model::view::State;

    use super::super::fixture::{Fixture, ago, last, question, rows};
    use crate::store::schema::Signal;

    #[test]
    fn hosts_show_their_newest_reading() {
        let fixture = Fixture::default();
        let reading = |host: &str, at: Time, busy: f64, service: &str| {
            let row = coral_model::view::HostRow {
                host: host.to_owned(),
                time: at,
                state: State::Active,
                cpu: Some(coral_model::view::Cpu { busy, ..Default::default() }),
                memory: None,
                pressure: std::collections::BTreeMap::new(),
                disks: Vec::new(),
                filesystems: Vec::new(),
                network: None,
                fds: None,
                clock_synced: None,
                cgroup: std::collections::BTreeMap::new(),
                processes: vec![coral_model::view::ProcessRow {
                    service: service.to_owned(),
                    ..Default::default()
                }],
                short_lived: None,
                blind: Vec::new(),
            };
            let table = Fixture::table(Signal::Hosts);
            let json = serde_json::to_string(&row).unwrap();
            fixture
                .run(&format!("INSERT INTO {table} VALUES ({}, 0, '{host}', 'a', '{json}')", at.0));
        };
        reading("web-1", ago(50), 0.1, "cart");
        reading("web-1", ago(5), 0.2, "cart");
        reading("web-2", ago(100), 0.9, "pay");
        let ask = |filter: &str| {
            rows!(fixture.ask(&question(View::Hosts, last(900), filter)).unwrap(), Host)
        };
        let all = ask("");
        assert_eq!(
            all.iter().map(|h| (h.host.as_str(), h.state)).collect::<Vec<_>>(),
            [("web-1", State::Active), ("web-2", State::Stale)]
        );
        assert_eq!((all[0].time, all[0].cpu.unwrap().busy), (ago(5), 0.2));
        assert_eq!(ask("service=pay").len(), 1);
        assert_eq!(ask("host=web-1").len(), 1);
    }
}
