//! How far each spool segment is committed.

use coral_model::id::{AgentId, SegmentId};
use duckdb::{Connection, params};
use hashbrown::HashMap;

use super::StoreError;
use super::rows::Mark;

fn halves(id: [u8; 16]) -> (u64, u64) {
    super::columns::spans::halves(coral_model::id::TraceId(id))
}

fn joined(hi: u64, lo: u64) -> [u8; 16] {
    super::columns::spans::trace_id(hi, lo).0
}

/// Committed marks by agent and segment.
#[derive(Debug, Default, Clone)]
pub struct Marks {
    by_segment: HashMap<(AgentId, SegmentId), u64>,
}

impl Marks {
    /// What earlier commits say.
    pub fn load(connection: &Connection) -> Result<Self, StoreError> {
        let mut statement = connection.prepare(
            "SELECT agent_hi, agent_lo, segment_hi, segment_lo, max(seq) FROM marks \
             GROUP BY ALL HAVING NOT bool_or(gone)",
        )?;
        let rows = statement.query_map([], |row| {
            let agent = AgentId(joined(row.get(0)?, row.get(1)?));
            let segment = SegmentId(joined(row.get(2)?, row.get(3)?));
            Ok(((agent, segment), row.get::<_, u64>(4)?))
        })?;
        Ok(Self { by_segment: rows.collect::<Result<_, _>>()? })
    }

    /// The mark of a segment.
    #[must_use]
    pub fn get(&self, agent: AgentId, segment: SegmentId) -> Option<u64> {
        self.by_segment.get(&(agent, segment)).copied()
    }

    /// Every mark of an agent.
    #[must_use]
    pub fn of(&self, agent: AgentId) -> Vec<(SegmentId, u64)> {
        let own = self.by_segment.iter().filter(|((a, _), _)| *a == agent);
        own.map(|((_, segment), seq)| (*segment, *seq)).collect()
    }

    /// Advances a mark.
    pub fn advance(&mut self, mark: &Mark) {
        self.by_segment.insert((mark.agent, mark.segment), mark.seq);
    }

    /// Forgets a segment.
    pub fn forget(&mut self, agent: AgentId, segment: SegmentId) {
        self.by_segment.remove(&(agent, segment));
    }

    /// Segments with a mark.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_segment.len()
    }

    /// Rewrites the table to one row per segment; only growth between checkpoints is by appending.
    pub fn fold(&self, connection: &Connection) -> Result<(), StoreError> {
        connection.execute_batch("DELETE FROM marks")?;
        let all = self.by_segment.iter();
        append(connection, all.map(|(&(agent, segment), &seq)| (agent, segment, seq, false)))
    }
}

/// Appends rows of (agent, segment, seq, gone) to the table, inside the caller's transaction.
pub fn append(
    connection: &Connection,
    rows: impl IntoIterator<Item = (AgentId, SegmentId, u64, bool)>,
) -> Result<(), StoreError> {
    let mut appender = connection.appender("marks")?;
    for (agent, segment, seq, gone) in rows {
        let (agent, segment) = (halves(agent.0), halves(segment.0));
        appender.append_row(params![agent.0, agent.1, segment.0, segment.1, seq, gone])?;
    }
    appender.flush()?;
    Ok(())
}

impl Marks {
    /// Only the marks that `group`'s batches are about.
    pub fn clone_of(&self, group: &[super::writer::Waiting]) -> Self {
        let wanted = group.iter().flat_map(|w| &w.batch.marks).map(|m| (m.agent, m.segment));
        let by_segment =
            wanted.filter_map(|key| self.by_segment.get(&key).map(|seq| (key, *seq))).collect();
        Self { by_segment }
    }
}
