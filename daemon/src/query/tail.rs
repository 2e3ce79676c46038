//! What was committed since: the rows of a question that follows.

use coral_model::Question;
use coral_model::num::i64_sat;
use coral_model::question::View;
use coral_model::time::Time;
use coral_model::view::Row;

use super::answer::Inputs;
use super::fetch::{self, Sql};
use super::plan::Plan;
use super::sql::Layout;
use super::{QueryError, events, homes, logs, traces};
use crate::store::Reading;
use crate::store::schema::Signal;

/// Rows committed after `after`, and the stamp to ask from next.
///
/// The rows of one commit share a stamp, and are handed out together even where that exceeds the
/// question's limit: a cursor inside a commit would lose the rest of it.
pub fn tail(
    inputs: &Inputs<'_>,
    question: &Question,
    after: Time,
) -> Result<(Vec<Row>, Time), QueryError> {
    let plan = Plan::new(question, inputs.now)?;
    let conn = inputs.conn;
    let (layout, from) = match question.view {
        View::Logs => (&logs::LAYOUT, described(conn, Signal::Logs, after)),
        View::Traces => (&traces::LAYOUT, described(conn, Signal::Spans, after)),
        View::Events => (&events::LAYOUT, format!("{} t", conn.since(Signal::Events, after))),
        other => {
            return Err(QueryError::Question(format!(
                "`{other}` is answered whole: watch it; logs, traces and events can be followed"
            )));
        }
    };
    let Some(upto) = stamp(conn, &plan, layout, &from, after)? else {
        return Ok((Vec::new(), after));
    };
    let rows = match question.view {
        View::Logs => logs::committed(conn, &plan, after, upto)?,
        View::Traces => traces::committed(conn, &plan, after, upto)?,
        _ => events::committed(conn, &plan, after, upto)?,
    };
    Ok((rows, upto))
}

/// Rows committed after a moment, with their resources.
fn described(conn: &Reading<'_>, signal: Signal, after: Time) -> String {
    format!("{} t{}", conn.since(signal, after), homes::join(conn))
}

/// Stamp of the commit that holds the last row within the limit.
fn stamp(
    conn: &Reading<'_>,
    plan: &Plan,
    layout: &Layout,
    from: &str,
    after: Time,
) -> Result<Option<Time>, QueryError> {
    let sql = Sql::new(format!(
        "SELECT max(received_ns) FROM (SELECT t.received_ns FROM {from} WHERE t.received_ns > "
    ))
    .time(after)
    .then(" AND ")
    .part(layout.condition(&plan.filter)?)
    .then(" ORDER BY t.received_ns LIMIT ")
    .bind(i64_sat(plan.limit()))
    .then(")");
    let mut found = None;
    fetch::run(conn, &sql, |batch| {
        let stamps = batch.i64s(0)?;
        found = (0..batch.len()).map(|row| fetch::time(stamps, row)).find(|t| t.0 > 0);
        Ok(())
    })?;
    Ok(found)
}
