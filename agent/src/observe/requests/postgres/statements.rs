//! What was prepared on a connection: statements by name, and what was bound of them.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

/// Statements of one connection that are remembered; drivers keep a few hundred.
const STATEMENTS: usize = 512;
/// Portals likewise; hardly anybody names any.
const PORTALS: usize = 64;

/// Names and what they stand for; when there are too many the oldest is forgotten.
#[derive(Debug, Default)]
struct Names {
    by_name: HashMap<u64, (Option<Arc<str>>, u64)>,
    put: u64,
}

impl Names {
    fn get(&self, name: &[u8]) -> Option<Arc<str>> {
        self.by_name.get(&xxh3_64(name)).and_then(|(operation, _)| operation.clone())
    }

    /// Whether another one was forgotten for it.
    fn put(&mut self, name: &[u8], operation: Option<Arc<str>>, most: usize) -> bool {
        self.put += 1;
        self.by_name.insert(xxh3_64(name), (operation, self.put));
        if self.by_name.len() <= most {
            return false;
        }
        let oldest = self.by_name.iter().min_by_key(|(_, (_, put))| *put).map(|(name, _)| *name);
        oldest.is_some_and(|oldest| self.by_name.remove(&oldest).is_some())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Statements {
    prepared: Names,
    bound: Names,
}

impl Statements {
    /// A statement was prepared. True when another one was forgotten for it.
    pub fn prepare(&mut self, name: &[u8], operation: &Arc<str>) -> bool {
        self.prepared.put(name, Some(Arc::clone(operation)), STATEMENTS)
    }

    /// It was bound; gives what it is, where that is known.
    pub fn bind(&mut self, portal: &[u8], name: &[u8]) -> Option<Arc<str>> {
        let operation = self.prepared.get(name);
        self.bound.put(portal, operation.clone(), PORTALS);
        operation
    }

    /// What is executed by this name.
    #[must_use]
    pub fn bound(&self, portal: &[u8]) -> Option<Arc<str>> {
        self.bound.get(portal)
    }

    /// A statement (`S`) or portal (`P`) is no longer needed.
    pub fn close(&mut self, what: u8, name: &[u8]) {
        let names = if what == b'S' { &mut self.prepared } else { &mut self.bound };
        names.by_name.remove(&xxh3_64(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_statement_is_forgotten_first() {
        let mut statements = Statements::default();
        let operation: Arc<str> = "SELECT t".into();
        for n in 0..STATEMENTS {
            assert!(!statements.prepare(format!("s{n}").as_bytes(), &operation));
        }
        // Prepared anew: it is the youngest now.
        assert!(!statements.prepare(b"s0", &operation));
        assert!(statements.prepare(b"one more", &operation));
        assert_eq!(statements.bind(b"", b"s1"), None);
        assert_eq!(statements.bind(b"", b"s0"), Some(Arc::clone(&operation)));
        assert_eq!(statements.bound(b""), Some(operation));
        statements.close(b'S', b"s0");
        statements.close(b'P', b"");
        assert_eq!((statements.bound(b""), statements.bind(b"", b"s0")), (None, None));
    }
}
