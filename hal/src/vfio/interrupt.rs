//! The board's one interrupt vector, as an eventfd, and the kernel's wish to have the board back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The board's interrupt.
    Interrupt,
    /// The kernel asks for the board back.
    Release,
    /// Neither came in time.
    TimedOut,
}

/// Two eventfds that the kernel signals.
pub struct Events {
    interrupt: EventFd,
    release: EventFd,
}

impl Events {
    /// Both unsignalled.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            interrupt: EventFd::from_value_and_flags(0, flags)?,
            release: EventFd::from_value_and_flags(0, flags)?,
        })
    }

    /// For `VFIO_DEVICE_SET_IRQS` of MSI or MSI-X.
    pub fn interrupt(&self) -> BorrowedFd<'_> {
        self.interrupt.as_fd()
    }

    /// For `VFIO_DEVICE_SET_IRQS` of the release request.
    pub fn release(&self) -> BorrowedFd<'_> {
        self.release.as_fd()
    }

    /// Forgets interrupts of before.
    pub fn clear(&self) {
        let _ = self.interrupt.read(); // nothing to read is what we want
    }

    /// Waits until either is signalled, at most `timeout`. A release request stays signalled.
    pub fn wait(&self, timeout: Duration) -> io::Result<Event> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // Rounded up: a wait of 0.4 ms must not become a busy loop of zero-length waits.
            let ms = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
            let timeout = PollTimeout::try_from(ms).map_err(|_| io::ErrorKind::InvalidInput)?;
            let mut ready = [
                PollFd::new(self.release.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.interrupt.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, timeout) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            }
            if ready[0].any() == Some(true) {
                return Ok(Event::Release);
            }
            match self.interrupt.read() {
                Ok(_) => return Ok(Event::Interrupt),
                Err(Errno::EAGAIN | Errno::EINTR) => {} // another thread took it
                Err(e) => return Err(e.into()),
            }
            if left.is_zero() {
                return Ok(Event::TimedOut);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_once_and_keeps_a_release() -> io::Result<()> {
        let events = Events::new()?;
        assert_eq!(events.wait(Duration::ZERO)?, Event::TimedOut);
        events.interrupt.write(1)?;
        events.interrupt.write(1)?;
        assert_eq!(events.wait(Duration::from_secs(5))?, Event::Interrupt);
        assert_eq!(events.wait(Duration::from_micros(300))?, Event::TimedOut, "both signals are one wake");
        events.interrupt.write(1)?;
        events.clear();
        assert_eq!(events.wait(Duration::ZERO)?, Event::TimedOut);
        events.release.write(1)?;
        assert_eq!(events.wait(Duration::from_secs(5))?, Event::Release);
        assert_eq!(events.wait(Duration::from_secs(5))?, Event::Release);
        Ok(())
    }
}
