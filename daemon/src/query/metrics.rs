//! placeholder
use duckdb::Connection;
use super::{QueryError, answer::Found, plan::Plan};
pub fn answer(_: &Connection, _: &Plan) -> Result<Found, QueryError> { Ok(Found::default()) }
