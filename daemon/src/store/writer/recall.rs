//! What the writer holds in memory, read back from the database.

use std::sync::{Arc, PoisonError};

use coral_model::time::Time;
use coral_model::view::{Evidence, NodeKind, SpanKind};
use duckdb::{Connection, params};

use super::super::marks::Marks;
use super::super::schema::Signal;
use super::super::tables::Tables;
use super::super::{HalfEdge, HalfSeries, StoreError};
use super::Writer;
use crate::edges::{Fate, Joiner, Kept};

/// Signals whose rows are counted, in the order of [`Sealed::counts`].
const COUNTED: [Signal; 3] = [Signal::Spans, Signal::Logs, Signal::Metrics];

impl Writer {
    /// Rebuilds everything that mirrors the database.
    pub(super) fn recall(&mut self) -> Result<(), StoreError> {
        let connection = self.connection.as_ref().ok_or(StoreError::Closed)?;
        let tables = Tables::load(connection, &self.dir)?;
        for (rows, signal) in self.slice_rows.iter_mut().zip(COUNTED) {
            *rows = match tables.current(signal) {
                Some(slice) => {
                    let sql = format!("SELECT count(*) FROM {}", slice.table(signal));
                    connection.query_row(&sql, [], |row| row.get(0))?
                }
                None => 0,
            };
        }
        self.board.make(connection, tables.viewed())?;
        let (stamp, next, floor): (Option<i64>, Option<u64>, Option<u64>) = connection.query_row(
            "SELECT max(received_ns), max(half_next), max(edges_to) FROM commits",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        self.stamp = self.stamp.max(Time::from_i64(stamp.unwrap_or(0)));
        let (next, floor) = (next.unwrap_or(1), floor.unwrap_or(1));
        let mut joiner = Joiner::resume(self.options.edges, next, floor);
        recall_ends(connection, floor, &mut joiner)?;
        self.joiner = joiner;
        self.explained.clear();
        let marks = Marks::load(connection)?;
        *self.marks.write().unwrap_or_else(PoisonError::into_inner) = marks;
        Ok(())
    }
}

/// Puts the ends that still matter back into the join.
fn recall_ends(connection: &Connection, floor: u64, joiner: &mut Joiner) -> Result<(), StoreError> {
    let mut statement = connection.prepare(
        "SELECT n, received_ns, key, resource, service, kind, protocol, peer, peer_kind, sampled, \
         end_ns, duration_ns, error, no_answer, fate, evidence FROM half_edges WHERE n >= ? ORDER BY n",
    )?;
    let mut rows = statement.query(params![floor])?;
    while let Some(row) = rows.next()? {
        let text = |at: usize| row.get::<_, String>(at).map(Arc::<str>::from);
        let peer_kind: String = row.get(8)?;
        let series = HalfSeries {
            resource: coral_model::ResourceId(row.get(3)?),
            service: text(4)?,
            kind: SpanKind::from_otlp(u64::from(row.get::<_, u8>(5)?)),
            protocol: text(6)?,
            peer: text(7)?,
            peer_kind: peer_kind.parse().unwrap_or(NodeKind::External),
            sampled: row.get(9)?,
            evidence: row.get::<_, String>(15)?.parse().unwrap_or(Evidence::Otlp),
        };
        let half = HalfEdge {
            key: row.get(2)?,
            series: Arc::new(series),
            end: Time::from_i64(row.get(10)?),
            duration_ns: row.get(11)?,
            error: row.get(12)?,
            no_answer: row.get(13)?,
        };
        let fate = Fate::from_byte(row.get(14)?).unwrap_or(Fate::Met);
        joiner.restore(Kept { n: row.get(0)?, half, fate }, Time::from_i64(row.get(1)?));
    }
    Ok(())
}
