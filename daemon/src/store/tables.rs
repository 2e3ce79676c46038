//! Which slices exist, and the statements that add and drop them.

use std::collections::BTreeMap;

use coral_model::time::Time;
use duckdb::Connection;

use super::StoreError;
use super::schema::{Signal, Slice, create_table, create_view};

/// Every signal's slices, oldest first.
#[derive(Debug, Default)]
pub struct Tables {
    slices: BTreeMap<Signal, Vec<Slice>>,
}

impl Tables {
    /// Reads which tables there are, and makes the views anew.
    pub fn load(connection: &Connection) -> Result<Self, StoreError> {
        let mut slices: BTreeMap<Signal, Vec<Slice>> = BTreeMap::new();
        let mut statement =
            connection.prepare("SELECT table_name FROM duckdb_tables() ORDER BY table_name")?;
        let names = statement.query_map([], |row| row.get::<_, String>(0))?;
        for name in names {
            if let Some((signal, slice)) = Slice::from_table(&name?) {
                slices.entry(signal).or_default().push(slice);
            }
        }
        slices.values_mut().for_each(|list| list.sort_unstable());
        let tables = Self { slices };
        let views: Vec<_> = Signal::ALL.into_iter().map(|s| tables.view(s)).collect();
        connection.execute_batch(&transaction(&views))?;
        Ok(tables)
    }

    /// The slice a signal's rows go into now.
    #[must_use]
    pub fn current(&self, signal: Signal) -> Option<Slice> {
        self.of(signal).last().copied()
    }

    /// A signal's slices, oldest first.
    #[must_use]
    pub fn of(&self, signal: Signal) -> &[Slice] {
        self.slices.get(&signal).map_or(&[], Vec::as_slice)
    }

    /// Sees to it that every signal has the slice of `now`'s hour. Receipt never goes back: after a
    /// clock that jumped ahead the newest slice stays the current one. True when one was added.
    pub fn advance(&mut self, connection: &Connection, now: Time) -> Result<bool, StoreError> {
        let wanted = Slice::of(now);
        let behind = |signal: &Signal| self.current(*signal).is_none_or(|s| s.hour < wanted.hour);
        let signals: Vec<_> = Signal::ALL.into_iter().filter(behind).collect();
        let new: Vec<_> = signals.into_iter().map(|signal| (signal, wanted)).collect();
        self.add(connection, &new)?;
        Ok(!new.is_empty())
    }

    /// Begins another part of the hour for the bulky signals.
    pub fn next_part(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let bulky = Signal::ALL.into_iter().filter(|signal| signal.bulky());
        let new: Vec<_> =
            bulky.filter_map(|s| self.current(s).map(|slice| (s, slice.next_part()))).collect();
        self.add(connection, &new)
    }

    fn add(&mut self, connection: &Connection, new: &[(Signal, Slice)]) -> Result<(), StoreError> {
        if new.is_empty() {
            return Ok(());
        }
        for &(signal, slice) in new {
            self.slices.entry(signal).or_default().push(slice);
        }
        let created = new.iter().map(|&(signal, slice)| create_table(signal, slice));
        let viewed = new.iter().map(|&(signal, _)| self.view(signal));
        let done =
            connection.execute_batch(&transaction(&created.chain(viewed).collect::<Vec<_>>()));
        if let Err(error) = done {
            _ = connection.execute_batch("ROLLBACK");
            for (signal, _) in new {
                self.slices.entry(*signal).or_default().pop();
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Drops slices, in one transaction with the views that named them.
    pub fn drop(
        &mut self,
        connection: &Connection,
        gone: &[(Signal, Slice)],
    ) -> Result<(), StoreError> {
        let before = self.slices.clone();
        for (signal, slice) in gone {
            if let Some(list) = self.slices.get_mut(signal) {
                list.retain(|have| have != slice);
            }
        }
        let viewed = gone.iter().map(|&(signal, _)| self.view(signal));
        let dropped =
            gone.iter().map(|(signal, slice)| format!("DROP TABLE {}", slice.table(*signal)));
        let done =
            connection.execute_batch(&transaction(&viewed.chain(dropped).collect::<Vec<_>>()));
        if let Err(error) = done {
            _ = connection.execute_batch("ROLLBACK");
            self.slices = before;
            return Err(error.into());
        }
        Ok(())
    }

    fn view(&self, signal: Signal) -> String {
        create_view(signal, self.of(signal))
    }
}

fn transaction(statements: &[String]) -> String {
    format!("BEGIN; {}; COMMIT;", statements.join("; "))
}
