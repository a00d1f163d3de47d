//! How much of memory requests hold at once: claimed before bytes are kept, so that many clients cannot do what one may not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::{Kind, ServeError};

/// Bytes that may be held.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    used: AtomicUsize,
    limit: usize,
}

/// Bytes that are held. Dropping gives them back.
#[derive(Debug)]
pub struct Claim {
    pool: Arc<Pool>,
    bytes: usize,
}

impl Memory {
    /// At most so many.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Pool { used: AtomicUsize::new(0), limit }))
    }

    /// A claim to nothing yet.
    pub fn claim(&self) -> Claim {
        Claim { pool: self.0.clone(), bytes: 0 }
    }

    /// What is held now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl Claim {
    /// Takes more.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`] when all together would hold more than the limit.
    pub fn grow(&mut self, more: usize) -> Result<(), ServeError> {
        let limit = self.pool.limit;
        let taken = self.pool.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(more).filter(|&sum| sum <= limit)
        });
        match taken {
            Ok(_) => {
                self.bytes += more;
                Ok(())
            }
            Err(used) => Err(ServeError {
                kind: Kind::Busy,
                message: format!(
                    "requests hold {used} bytes, {more} more would pass limits.memory_bytes ({limit}); try again later"
                ),
                retry_after: Some(Duration::from_secs(1)),
            }),
        }
    }

    /// Gives all back.
    pub fn clear(&mut self) {
        self.pool.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_end_where_the_limit_is_and_are_given_back() {
        let memory = Memory::new(100);
        let (mut a, mut b) = (memory.claim(), memory.claim());
        assert!(a.grow(60).is_ok());
        assert_eq!(b.grow(41).unwrap_err().kind, Kind::Busy);
        assert_eq!(b.grow(usize::MAX).unwrap_err().kind, Kind::Busy);
        assert!(b.grow(40).is_ok());
        assert_eq!(memory.used(), 100);
        drop(a);
        assert_eq!(memory.used(), 40);
        b.clear();
        assert!(b.grow(100).is_ok());
        drop(b);
        assert_eq!(memory.used(), 0);
    }
}
