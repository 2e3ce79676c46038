//! Where rows came from: what their resources say, asked for once the rows are known.
//!
//! A statement that joins spans or log records with all resources there are reads thousands of them
//! to explain ten rows. So resources are joined only where the filter asks for them.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use super::QueryError;
use super::fetch::{self, Sql};
use crate::store::Reading;

/// More than this are not looked up one by one: all are read.
const FEW: usize = 1000;

/// What a resource says of a row.
#[derive(Debug, Clone, Default)]
pub struct Home {
    /// `service.instance.id`.
    pub instance: Option<String>,
    /// `host.name`.
    pub host: Option<String>,
    /// All attributes, where they were asked for.
    pub attributes: BTreeMap<String, String>,
}

/// A join with resources as `r`, to be put behind a relation named `t`.
#[must_use]
pub fn join(conn: &Reading<'_>) -> String {
    format!(" LEFT JOIN {} r ON r.id = t.resource", conn.resources())
}

/// What is known of some resources, by id.
///
/// # Errors
/// The store cannot be read.
pub fn of(
    conn: &Reading<'_>,
    ids: impl Iterator<Item = u64>,
    attributes: bool,
) -> Result<HashMap<u64, Home>, QueryError> {
    let ids: HashSet<u64> = ids.collect();
    let mut homes = HashMap::new();
    if ids.is_empty() {
        return Ok(homes);
    }
    let map = if attributes { "attributes" } else { "map([]::VARCHAR[], []::VARCHAR[])" };
    let resources = conn.resources();
    let mut sql =
        Sql::new(format!("SELECT id, instance, host, {map} AS attributes FROM {resources}"));
    if ids.len() <= FEW {
        for (n, id) in ids.iter().enumerate() {
            sql = sql.then(if n == 0 { " WHERE id IN (" } else { ", " }).bind(*id);
        }
        sql = sql.then(")");
    }
    fetch::run(conn, &sql, |batch| {
        let (id, instance, host) = (batch.u64s(0)?, batch.texts(1)?, batch.texts(2)?);
        let attributes = batch.maps(3)?;
        for row in 0..batch.len() {
            let id = fetch::uint(id, row);
            if ids.contains(&id) {
                let home = Home {
                    instance: fetch::owned(instance, row),
                    host: fetch::owned(host, row),
                    attributes: fetch::map(attributes, row),
                };
                homes.insert(id, home);
            }
        }
        Ok(())
    })?;
    Ok(homes)
}
