//! A bound on bytes held in memory, shared by everybody who holds some.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number of bytes that may be held at once.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    capacity: u64,
    used: AtomicU64,
}

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub struct Held {
    inner: Arc<Inner>,
    bytes: u64,
}

impl ByteBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { inner: Arc::new(Inner { capacity, used: AtomicU64::new(0) }) }
    }

    /// Holds nothing yet.
    #[must_use]
    pub fn hold(&self) -> Held {
        Held { inner: self.inner.clone(), bytes: 0 }
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// The most that may be held.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.inner.capacity
    }
}

impl Held {
    /// Holds `bytes` in all; `false`, and nothing changes, when the budget does not have them.
    #[must_use]
    pub fn grow_to(&mut self, bytes: u64) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|&more| more > 0) else {
            return true;
        };
        let add = |used: u64| used.checked_add(more).filter(|&sum| sum <= self.inner.capacity);
        let took = self.inner.used.try_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok();
        if took {
            self.bytes = bytes;
        }
        took
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inner.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_refuses_and_recovers() {
        let budget = ByteBudget::new(100);
        let mut a = budget.hold();
        let mut b = budget.hold();
        assert!(a.grow_to(60) && b.grow_to(40));
        assert!(!b.grow_to(41));
        assert_eq!((budget.used(), b.bytes()), (100, 40));
        drop(a);
        assert!(b.grow_to(100) && budget.used() == 100);
        drop(b);
        assert_eq!(budget.used(), 0);
    }
}
