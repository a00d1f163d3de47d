//! The host's side of the board's one interrupt vector.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use akida_hal::board::Wake;

use crate::chip::memory::lock;
use crate::clock::Time;

/// Interrupts that were sent and not waited for.
#[derive(Default)]
pub(crate) struct Vector {
    /// When each arrives.
    arrivals: Mutex<Vec<Duration>>,
    changed: Condvar,
}

impl Vector {
    /// A message arrives at this time.
    pub fn raise(&self, at: Duration) {
        let mut arrivals = lock(&self.arrivals);
        // One that was not waited for is enough; only the earliest matters beside late ones.
        if !arrivals.contains(&at) {
            arrivals.push(at);
        }
        self.changed.notify_all();
    }

    /// Forgets everything.
    pub fn clear(&self) {
        lock(&self.arrivals).clear();
    }

    /// Waits until one has arrived, or until the board's time says otherwise.
    pub fn wait(&self, time: &Time, timeout: Duration) -> Wake {
        let mut arrivals = lock(&self.arrivals);
        let deadline = time.now().saturating_add(timeout);
        loop {
            let now = time.now();
            let before = arrivals.len();
            arrivals.retain(|at| *at > now);
            if arrivals.len() < before {
                return Wake::Interrupt;
            }
            if now >= deadline {
                return Wake::TimedOut;
            }
            let next = arrivals.iter().copied().min().unwrap_or(deadline).min(deadline);
            match time {
                Time::Virtual(_) => time.advance(next - now),
                Time::Real(_) => {
                    let waited = self.changed.wait_timeout(arrivals, next - now);
                    arrivals = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn virtual_waits_take_no_real_time() {
        let (vector, time) = (Vector::default(), Time::new(Clock::Stepped));
        let (hour, second) = (Duration::from_secs(3600), Duration::from_secs(1));
        assert_eq!(vector.wait(&time, hour), Wake::TimedOut);
        assert_eq!(time.now(), hour);
        vector.raise(time.now());
        vector.raise(time.now());
        assert_eq!(vector.wait(&time, second), Wake::Interrupt);
        assert_eq!(vector.wait(&time, second), Wake::TimedOut, "both were taken by the first wait");
        vector.raise(time.now() + 2 * second);
        assert_eq!(vector.wait(&time, second), Wake::TimedOut, "late");
        assert_eq!(vector.wait(&time, 5 * second), Wake::Interrupt);
        assert_eq!(time.now(), hour + 3 * second);
    }

    #[test]
    fn a_real_wait_is_woken() {
        let (vector, time) = (Vector::default(), Time::new(Clock::Threaded));
        std::thread::scope(|scope| {
            scope.spawn(|| vector.raise(time.now()));
            assert_eq!(vector.wait(&time, Duration::from_secs(60)), Wake::Interrupt);
        });
    }
}
