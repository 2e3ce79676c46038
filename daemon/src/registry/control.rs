//! What must outlive telemetry: `control.db`.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use coral_model::view::{AgentRow, State};
use coral_model::{AgentId, Time};
use rusqlite::{Connection, OptionalExtension as _, params};

/// Why the registry cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// SQLite refused.
    #[error(
        "control.db: {0}; if the file is damaged, move it away and start again: telemetry is not in it"
    )]
    Sql(#[from] rusqlite::Error),
    /// A newer build wrote it.
    #[error(
        "control.db has layout {found}, this build knows up to {known}: use the newer build, or move the file away"
    )]
    Newer {
        /// Layout found.
        found: i64,
        /// Newest this build knows.
        known: i64,
    },
}

/// An agent as the registry remembers it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownAgent {
    /// Its id.
    pub id: AgentId,
    /// Host it runs on.
    pub host: String,
    /// What it watches.
    pub scope: String,
    /// Its build when it was last seen.
    pub build: String,
    /// First seen.
    pub first_seen: Time,
    /// Last seen.
    pub last_seen: Time,
}

impl KnownAgent {
    /// A row in which only what is remembered is known.
    pub(super) fn row(&self, since: Time) -> AgentRow {
        AgentRow {
            agent: self.id.to_string(),
            host: self.host.clone(),
            scope: self.scope.clone(),
            state: State::Active,
            since,
            last_seen: self.last_seen,
            pid: 0,
            build: self.build.clone(),
            senses: Vec::new(),
            spool_bytes: 0,
            spool_capacity_bytes: 0,
            lag_ns: 0,
            clock_offset_ns: None,
            rss_bytes: None,
            cpu: None,
            counters: std::collections::BTreeMap::new(),
        }
    }
}

/// The colony's memory of itself. SQLite here; a highly available colony would share one.
pub trait Registry: Send + Sync {
    /// Every agent ever seen and not removed.
    fn agents(&self) -> Result<Vec<KnownAgent>, RegistryError>;
    /// Remembers agents, replacing what was known of them.
    fn remember(&self, agents: &[KnownAgent]) -> Result<(), RegistryError>;
    /// A setting.
    fn setting(&self, name: &str) -> Result<Option<String>, RegistryError>;
    /// Changes a setting; `None` removes it.
    fn set(&self, name: &str, value: Option<&str>) -> Result<(), RegistryError>;
}

/// [`Registry`] in a SQLite file, every change on disk before it is acknowledged.
#[derive(Debug)]
pub struct Control {
    connection: Mutex<Connection>,
}

/// One step per layout; `user_version` counts the steps taken.
const LAYOUTS: &[&str] = &["
    CREATE TABLE agents (
        id BLOB PRIMARY KEY, host TEXT NOT NULL, scope TEXT NOT NULL, build TEXT NOT NULL,
        first_seen_ns INTEGER NOT NULL, last_seen_ns INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"];

impl Control {
    /// Opens or makes the file; brings an older layout up to date.
    pub fn open(file: &Path) -> Result<Self, RegistryError> {
        Self::with(Connection::open(file)?)
    }

    fn with(mut connection: Connection) -> Result<Self, RegistryError> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let known = coral_model::num::i64_sat(LAYOUTS.len());
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > known {
            return Err(RegistryError::Newer { found, known });
        }
        for (done, layout) in LAYOUTS.iter().enumerate() {
            let step = coral_model::num::i64_sat(done) + 1;
            if step > found {
                let change = connection.transaction()?;
                change.execute_batch(layout)?;
                change.pragma_update(None, "user_version", step)?;
                change.commit()?;
            }
        }
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn run<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, RegistryError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(work(&mut connection)?)
    }
}

impl Registry for Control {
    fn agents(&self) -> Result<Vec<KnownAgent>, RegistryError> {
        self.run(|c| {
            let sql = "SELECT id, host, scope, build, first_seen_ns, last_seen_ns FROM agents";
            let mut statement = c.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(KnownAgent {
                    id: AgentId(row.get(0)?),
                    host: row.get(1)?,
                    scope: row.get(2)?,
                    build: row.get(3)?,
                    first_seen: Time::from_i64(row.get(4)?),
                    last_seen: Time::from_i64(row.get(5)?),
                })
            })?;
            rows.collect()
        })
    }

    fn remember(&self, agents: &[KnownAgent]) -> Result<(), RegistryError> {
        self.run(|c| {
            let change = c.transaction()?;
            for a in agents {
                change.execute(
                    "INSERT OR REPLACE INTO agents VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![
                        a.id.0,
                        a.host,
                        a.scope,
                        a.build,
                        a.first_seen.as_i64(),
                        a.last_seen.as_i64()
                    ],
                )?;
            }
            change.commit()
        })
    }

    fn setting(&self, name: &str) -> Result<Option<String>, RegistryError> {
        self.run(|c| {
            c.query_row("SELECT value FROM settings WHERE name = ?1", [name], |row| row.get(0))
                .optional()
        })
    }

    fn set(&self, name: &str, value: Option<&str>) -> Result<(), RegistryError> {
        self.run(|c| {
            match value {
                Some(value) => {
                    c.execute("INSERT OR REPLACE INTO settings VALUES (?1, ?2)", [name, value])?
                }
                None => c.execute("DELETE FROM settings WHERE name = ?1", [name])?,
            };
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_survives() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("control.db");
        let agent = KnownAgent {
            id: AgentId([7; 16]),
            host: "web-1".into(),
            scope: "host".into(),
            build: "0.1.0".into(),
            first_seen: Time(5),
            last_seen: Time(9),
        };
        {
            let control = Control::open(&file).unwrap();
            control.remember(std::slice::from_ref(&agent)).unwrap();
            control.set("stay", Some("yes")).unwrap();
            control.set("gone", Some("x")).unwrap();
            control.set("gone", None).unwrap();
        }
        let control = Control::open(&file).unwrap();
        assert_eq!(control.agents().unwrap(), [agent]);
        assert_eq!(control.setting("stay").unwrap().as_deref(), Some("yes"));
        assert_eq!(control.setting("gone").unwrap(), None);
    }

    #[test]
    fn a_newer_layout_is_refused_not_changed() {
        let connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = Control::with(connection).unwrap_err();
        assert!(error.to_string().contains("newer build"), "{error}");
    }
}
