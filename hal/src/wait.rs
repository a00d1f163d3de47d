//! The one way to wait for a device: look, spin a little, then pause longer and longer, never past the deadline.

use std::time::Duration;

use crate::board::{Board, Wake};
use crate::{Error, Result};

/// Looks this often without a pause: most register conditions come true within microseconds.
const SPINS: u32 = 64;
/// First pause.
const FIRST_PAUSE: Duration = Duration::from_micros(2);
/// Longest pause: the price of noticing late, against the price of reading over PCIe.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// What passes the time between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// The board's own time.
    Pause,
    /// The board's interrupt, with a bounded pause: a lost interrupt costs time, not the result.
    Interrupt,
}

/// What is waited for, and how long.
#[derive(Clone, Copy)]
pub struct Wait<'a> {
    /// Whose time.
    pub board: &'a dyn Board,
    /// In the words of an error message: "DMA write 0 done".
    pub what: &'a str,
    /// Deadline, counted from the call.
    pub limit: Duration,
    /// How to pass time.
    pub between: Between,
}

impl<'a> Wait<'a> {
    /// Polls.
    pub fn new(board: &'a dyn Board, what: &'a str, limit: Duration) -> Self {
        Self { board, what, limit, between: Between::Pause }
    }

    /// Reads until `done` accepts the value, which is returned.
    ///
    /// # Errors
    /// Those of `read`, and [`Error::TimedOut`] with the last value. The value is looked at once more after the deadline, so
    /// a caller that was not scheduled for long does not miss what happened in time.
    pub fn until(&self, mut read: impl FnMut() -> Result<u32>, done: impl Fn(u32) -> bool) -> Result<u32> {
        let start = self.board.now();
        let mut pause = FIRST_PAUSE;
        let mut spins = 0;
        loop {
            let waited = self.board.now().saturating_sub(start);
            let value = read()?;
            if done(value) {
                return Ok(value);
            }
            if waited >= self.limit {
                return Err(Error::TimedOut {
                    board: self.board.identity().to_string(),
                    what: self.what.to_owned(),
                    last: value,
                    waited,
                    limit: self.limit,
                });
            }
            if spins < SPINS && self.between == Between::Pause {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            let left = self.limit - waited;
            match self.between {
                Between::Pause => self.board.pause(pause.min(left)),
                Between::Interrupt => {
                    if self.board.wait_interrupt((LONGEST_PAUSE * 20).min(left))? == Wake::TimedOut {
                        log::debug!("{}: no interrupt while waiting for {}", self.board.identity(), self.what);
                    }
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::testing::ClockBoard;

    #[test]
    fn returns_the_accepted_value() {
        let board = ClockBoard::default();
        let count = Cell::new(0);
        let read = || {
            count.set(count.get() + 1);
            Ok(count.get())
        };
        let value = Wait::new(&board, "count", Duration::from_secs(1)).until(read, |v| v == 200);
        assert_eq!(value.ok(), Some(200));
        assert!(board.now() < Duration::from_secs(1));
    }

    #[test]
    fn ends_at_the_deadline_with_the_last_value() {
        for between in [Between::Pause, Between::Interrupt] {
            let board = ClockBoard::default();
            let wait = Wait { between, ..Wait::new(&board, "never", Duration::from_millis(100)) };
            let Err(Error::TimedOut { what, last, waited, limit, board: name }) = wait.until(|| Ok(7), |v| v == 8)
            else {
                panic!("did not time out");
            };
            assert_eq!((what.as_str(), last, limit), ("never", 7, Duration::from_millis(100)));
            assert_eq!(waited, limit, "time stands still between looks, pauses stop at the deadline");
            assert_eq!(name, "test (simulated)");
        }
    }

    #[test]
    fn reading_errors_end_it() {
        let board = ClockBoard::default();
        let lost = || Err(Error::DeviceLost { board: "test".into(), register: "X".into() });
        let result = Wait::new(&board, "x", Duration::from_secs(1)).until(lost, |_| false);
        assert!(matches!(result, Err(Error::DeviceLost { .. })));
    }
}
