//! From a question to its rows: which module answers, from which sources, and what the end says.

use coral_model::Question;
use coral_model::question::View;
use coral_model::time::{SECOND, Time, Window};
use coral_model::view::{AgentRow, End, Row, State};

use super::cells::Cells;
use super::edges::Edges;
use super::plan::Plan;
use super::source::Recent;
use super::stretch::cut as cut_up;
use super::{
    QueryError, agents, diff, digest, events, filter, hosts, inflight, logs, metrics, patterns,
    red, services, statement, topology, trace, traces,
};
use crate::store::Reading;

/// An agent that is further behind than this has not answered up to now.
const LAG: u64 = 10 * SECOND;

const HOUR: u64 = 3600 * SECOND;

/// Rows and the end record.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The rows.
    pub rows: Vec<Row>,
    /// What they rest on.
    pub end: End,
}

/// Everything a question may read, as of one moment.
pub struct Inputs<'a> {
    /// The store.
    pub conn: &'a Reading<'a>,
    /// Live memory.
    pub recent: &'a dyn Recent,
    /// Agents known.
    pub agents: &'a [AgentRow],
    /// Records of a signal (`spans`, `logs`, `metrics`) turned away since a moment.
    pub dropped: &'a dyn Fn(Time, &str) -> u64,
    /// Now.
    pub now: Time,
}

/// What a module hands back.
#[derive(Debug, Default)]
pub struct Found {
    /// Rows, within the limit.
    pub rows: Vec<Row>,
    /// More matched than the limit let through.
    pub truncated: bool,
    /// The cut between the sources, where live memory took part.
    pub stored_to: Option<Time>,
    /// Newest record behind the rows.
    pub newest: Option<Time>,
    /// The window compared with, where the question named none.
    pub compare: Option<Window>,
    /// Why there is nothing.
    pub nothing: Option<String>,
}

/// Answers a question.
pub fn answer(inputs: &Inputs<'_>, question: &Question) -> Result<Answer, QueryError> {
    let plan = Plan::new(question, inputs.now)?.settled(inputs.conn);
    let found = match found(inputs, &plan) {
        Err(QueryError::Nothing(why)) => Found { nothing: Some(why), ..Found::default() },
        found => found?,
    };
    let end = end(inputs, &plan, &found);
    Ok(Answer { rows: found.rows, end })
}

fn found(inputs: &Inputs<'_>, plan: &Plan) -> Result<Found, QueryError> {
    Ok(match plan.question.view {
        View::Red => answer_red(inputs, plan)?,
        View::Services => services::answer(inputs, plan)?,
        View::Topology => topology::answer(inputs, plan)?,
        View::Digest => digest::answer(inputs, plan)?,
        View::Metrics => metrics::answer(inputs.conn, plan)?,
        View::Traces => traces::answer(inputs.conn, plan)?,
        View::Trace => trace::answer(inputs.conn, plan)?,
        View::Logs => logs::answer(inputs.conn, plan)?,
        View::Events => events::answer(inputs.conn, plan)?,
        View::Hosts => hosts::answer(inputs, plan)?,
        View::Inflight => inflight::answer(inputs, plan)?,
        View::Agents => agents::answer(inputs, plan),
        View::Patterns => patterns::answer(inputs.conn, plan)?,
        View::Diff => diff::answer(inputs.conn, plan)?,
        View::Sql => statement::answer(inputs.conn, plan)?,
    })
}

fn answer_red(inputs: &Inputs<'_>, plan: &Plan) -> Result<Found, QueryError> {
    // Sums over the whole window, or by steps, may come from any buckets that fit into them; where
    // builds are compared each is cut at moments of its own.
    let coarsest = match plan.question.builds {
        Some(_) => plan.resolution,
        None => plan.question.step.unwrap_or(u64::MAX / HOUR * HOUR),
    };
    let (mut cells, _, cut) = read(inputs, plan, &plan.windows(), coarsest, false)?;
    let (rows, truncated) = red::finish(plan, &mut cells)?;
    let newest = cells.newest_in(plan.window, plan.now);
    Ok(Found {
        rows,
        truncated,
        stored_to: Some(cut.min(plan.window.to)),
        newest,
        compare: plan.compared(),
        ..Found::default()
    })
}

/// RED deltas of some windows from both sources, with what is known of their resources.
pub fn requests(
    inputs: &Inputs<'_>,
    plan: &Plan,
    windows: &[Window],
) -> Result<(Cells, Time), QueryError> {
    let (cells, _, cut) = read(inputs, plan, windows, plan.resolution, false)?;
    Ok((cells, cut))
}

/// RED and edge deltas of some windows from both sources, as of one moment.
pub fn requests_and_edges(
    inputs: &Inputs<'_>,
    plan: &Plan,
    windows: &[Window],
) -> Result<(Cells, Edges, Time), QueryError> {
    read(inputs, plan, windows, plan.resolution, true)
}

fn read(
    inputs: &Inputs<'_>,
    plan: &Plan,
    windows: &[Window],
    coarsest: u64,
    with_edges: bool,
) -> Result<(Cells, Edges, Time), QueryError> {
    // Edges need their neighbours, whatever the filter says of one end.
    let services = if with_edges { Vec::new() } else { filter::services(&plan.filter) };
    let (mut cells, mut edges) = (Cells::default(), Edges::default());
    let cut = inputs.recent.visit(
        windows,
        &mut |delta| {
            if services.is_empty() || services.iter().any(|s| s == delta.service) {
                cells.push(delta);
            }
        },
        &mut |delta| {
            if with_edges {
                edges.push(delta);
            }
        },
    );
    // A coarse bucket that the cut goes through comes from the store, whole.
    let cut = match cut.align(plan.resolution) {
        aligned if aligned == cut || cut == Time::MAX => cut,
        aligned => aligned.plus(plan.resolution),
    };
    cells.forget_before(cut);
    edges.forget_before(cut);
    for window in windows {
        let stored = window.to.min(cut);
        if window.from < stored {
            let whole = Window::new(window.from, stored);
            let stretches = cut_up(inputs.conn, whole, plan.resolution, coarsest);
            cells.read_store(inputs.conn, &stretches, &services)?;
        }
        if with_edges {
            edges.read_store(inputs.conn, window.from, stored, plan.resolution)?;
        }
    }
    cells.settle_evidence();
    edges.settle_evidence();
    cells.read_resources(inputs.conn, filter::needs_attributes(&plan.filter))?;
    Ok((cells, edges, cut))
}

/// The signal whose losses leave a hole in the answer.
fn signal(view: View) -> Option<&'static str> {
    match view {
        View::Red
        | View::Services
        | View::Digest
        | View::Topology
        | View::Traces
        | View::Trace
        | View::Diff
        | View::Inflight => Some("spans"),
        View::Logs | View::Patterns => Some("logs"),
        View::Metrics => Some("metrics"),
        View::Events | View::Hosts | View::Agents | View::Sql => None,
    }
}

fn end(inputs: &Inputs<'_>, plan: &Plan, found: &Found) -> End {
    let behind = |a: &&AgentRow| a.state == State::Active && a.lag_ns <= LAG;
    let resolution =
        plan.bucketed().then(|| plan.question.step.unwrap_or(plan.resolution) / SECOND);
    End {
        rows: coral_model::num::u64_sat(found.rows.iter().filter(|r| !r.is_head()).count()),
        truncated: found.truncated,
        dropped: signal(plan.question.view)
            .map_or(0, |signal| (inputs.dropped)(plan.window.from, signal)),
        agents_asked: coral_model::num::u32_sat(inputs.agents.len()),
        agents_answered: coral_model::num::u32_sat(inputs.agents.iter().filter(behind).count()),
        from: plan.window.from,
        to: plan.window.to,
        compare: found.compare,
        resolution_s: resolution,
        stored_to: found.stored_to,
        newest: found.newest,
        blind: found.nothing.iter().cloned().chain(agents::blind(inputs.agents)).collect(),
    }
}
