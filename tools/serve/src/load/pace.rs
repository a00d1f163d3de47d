//! When requests of an open loop are due.
//!
//! The runtime's own timers count in milliseconds, and a thread that sleeps would have to wake the runtime for every request. So the
//! runtime waits for a timer of the kernel, as it does for sockets.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::args::Arrivals;

/// Gives times one after another, each when it has come.
pub struct Pacer {
    timer: AsyncFd<Timer>,
    rate: f64,
    arrivals: Arrivals,
    begin: Instant,
    end: Instant,
    /// Seconds from `begin` to the next.
    at: f64,
    state: u64,
}

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Pacer {
    /// Times from `begin` to `end`, `rate` a second. Inside a runtime.
    pub fn new(rate: f64, arrivals: Arrivals, begin: Instant, end: Instant) -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Timer(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        #[expect(deprecated, reason = "the other way is unsafe, for types that give another descriptor than they hold")]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(Self { timer, rate, arrivals, begin, end, at: 0.0, state: 0x2545_f491_4f6c_dd1d })
    }

    /// Waits for the next; `None` at the end. One that has passed already comes at once.
    pub async fn next(&mut self) -> io::Result<Option<Instant>> {
        let due = self.begin + Duration::from_secs_f64(self.at);
        if due >= self.end {
            return Ok(None);
        }
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            self.wait(left).await?;
        }
        self.at += match self.arrivals {
            Arrivals::Constant => 1.0 / self.rate,
            Arrivals::Poisson => -self.uniform().ln() / self.rate,
        };
        Ok(Some(due))
    }

    async fn wait(&self, left: Duration) -> io::Result<()> {
        let once = Expiration::OneShot(TimeSpec::from_duration(left));
        self.timer.get_ref().0.set(once, TimerSetTimeFlags::empty())?;
        self.timer.async_io(Interest::READABLE, |timer| Ok(timer.0.wait()?)).await
    }

    /// (0, 1], so that the logarithm is finite.
    fn uniform(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    #[test]
    fn requests_are_due_at_the_rate_that_was_asked_for() {
        for (arrivals, least, most) in [(Arrivals::Constant, 1000, 1000), (Arrivals::Poisson, 850, 1150)] {
            // All of it lies in the past, so nobody waits.
            let end = Instant::now();
            let Some(begin) = end.checked_sub(Duration::from_secs(1)) else { return };
            let times = runtime().block_on(async {
                let mut pacer = Pacer::new(1000.0, arrivals, begin, end).expect("a timer");
                let mut times = Vec::new();
                while let Some(time) = pacer.next().await.expect("a time") {
                    times.push(time);
                }
                times
            });
            assert!((least..=most).contains(&times.len()), "{arrivals:?}: {}", times.len());
            assert!(times.is_sorted() && times[0] == begin);
        }
    }

    #[test]
    fn a_time_does_not_come_before_it_is_there() {
        runtime().block_on(async {
            let begin = Instant::now();
            let end = begin + Duration::from_millis(20);
            let mut pacer = Pacer::new(2000.0, Arrivals::Constant, begin, end).expect("a timer");
            let mut count = 0;
            while let Some(due) = pacer.next().await.expect("a time") {
                assert!(Instant::now() >= due);
                count += 1;
            }
            assert_eq!(count, 40);
        });
    }
}
