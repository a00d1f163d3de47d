//! The one way to wait for a device: look, spin a little, then pause longer and longer, never past the deadline.

use std::fmt;
use std::time::Duration;

use crate::board::{Board, Identity, Wake};
use crate::transport::Transport;
use crate::{Error, Result};

/// Who is waited for and how time passes: a board, or a transport over one.
pub trait Clock {
    /// Who, for messages.
    fn identity(&self) -> &Identity;
    /// Time since some fixed moment.
    fn now(&self) -> Duration;
    /// Lets time pass.
    fn pause(&self, time: Duration);
    /// Lets time pass until an interrupt.
    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake>;
}

impl<B: Board + ?Sized> Clock for B {
    fn identity(&self) -> &Identity {
        Board::identity(self)
    }

    fn now(&self) -> Duration {
        Board::now(self)
    }

    fn pause(&self, time: Duration) {
        Board::pause(self, time);
    }

    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake> {
        Board::wait_interrupt(self, timeout)
    }
}

impl Clock for dyn Transport + '_ {
    fn identity(&self) -> &Identity {
        Transport::identity(self)
    }

    fn now(&self) -> Duration {
        Transport::now(self)
    }

    fn pause(&self, time: Duration) {
        Transport::pause(self, time);
    }

    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake> {
        Transport::wait_interrupt(self, timeout)
    }
}

/// Looks this often without a pause: most register conditions come true within microseconds, and a pause takes the
/// operating system some tens of them.
const SPINS: u32 = 512;
/// And for so long: where a look takes long itself (a register of a virtual machine's board some 100 µs), it also keeps whoever serves
/// it from going on.
pub(crate) const SPIN_TIME: Duration = Duration::from_micros(500);
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
pub struct Wait<'a, C: Clock + ?Sized> {
    /// Whose time.
    pub clock: &'a C,
    /// In the words of an error message: "DMA write 0 done".
    pub what: fmt::Arguments<'a>,
    /// Deadline, counted from the call.
    pub limit: Duration,
    /// How to pass time.
    pub between: Between,
}

impl<'a, C: Clock + ?Sized> Wait<'a, C> {
    /// Polls.
    pub fn new(clock: &'a C, what: fmt::Arguments<'a>, limit: Duration) -> Self {
        Self { clock, what, limit, between: Between::Pause }
    }

    /// Reads until `done` accepts the value, which is returned.
    ///
    /// # Errors
    /// Those of `read`, and [`Error::TimedOut`] with the last value. The value is looked at once more after the deadline, so
    /// a caller that was not scheduled for long does not miss what happened in time.
    pub fn until(&self, read: impl FnMut() -> Result<u32>, done: impl Fn(u32) -> bool) -> Result<u32> {
        let start = self.clock.now();
        self.look(read, done)?.map_err(|last| self.timed_out(last, self.clock.now().saturating_sub(start)))
    }

    /// The error of a wait that ended with `last`.
    pub fn timed_out(&self, last: u32, waited: Duration) -> Error {
        Error::TimedOut {
            board: self.clock.identity().to_string(),
            what: self.what.to_string(),
            last,
            waited,
            limit: self.limit,
        }
    }

    /// As [`until`](Self::until), with the end of time as an ordinary answer: `Err(last value)` inside.
    pub fn look(
        &self,
        mut read: impl FnMut() -> Result<u32>,
        done: impl Fn(u32) -> bool,
    ) -> Result<std::result::Result<u32, u32>> {
        let start = self.clock.now();
        let mut pause = FIRST_PAUSE;
        let mut spins = 0;
        loop {
            let waited = self.clock.now().saturating_sub(start);
            let value = read()?;
            if done(value) {
                return Ok(Ok(value));
            }
            if waited >= self.limit {
                return Ok(Err(value));
            }
            if spins < SPINS && waited < SPIN_TIME && self.between == Between::Pause {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            let left = self.limit - waited;
            match self.between {
                Between::Pause => self.clock.pause(pause.min(left)),
                // The value decides, not the interrupt: one may get lost, or be that of another channel.
                Between::Interrupt => {
                    self.clock.wait_interrupt(pause.min(left))?;
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
        let value = Wait::new(&board, format_args!("count"), Duration::from_secs(1)).until(read, |v| v == 200);
        assert_eq!(value.ok(), Some(200));
        assert!(Board::now(&board) < Duration::from_secs(1));
    }

    #[test]
    fn ends_at_the_deadline_with_the_last_value() {
        for between in [Between::Pause, Between::Interrupt] {
            let board = ClockBoard::default();
            let wait = Wait { between, ..Wait::new(&board, format_args!("never"), Duration::from_millis(100)) };
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
        let result = Wait::new(&board, format_args!("x"), Duration::from_secs(1)).until(lost, |_| false);
        assert!(matches!(result, Err(Error::DeviceLost { .. })));
    }
}
