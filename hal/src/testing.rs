//! A board that has only time, for unit tests of code that waits.

use std::sync::Mutex;
use std::time::Duration;

use crate::board::{Bar, Board, Chip, Identity, Wake};
use crate::dma::DmaBuffer;
use crate::{Error, Result};

/// Time passes only when somebody waits; nothing can be accessed.
pub struct ClockBoard {
    identity: Identity,
    now: Mutex<Duration>,
}

impl Default for ClockBoard {
    fn default() -> Self {
        let identity =
            Identity { name: "test".into(), vendor: 0x1E7C, device: 0xBCA1, chip: Chip::Akd1000, simulated: true };
        Self { identity, now: Mutex::default() }
    }
}

impl ClockBoard {
    fn nothing<T>(&self, space: &'static str, offset: u64) -> Result<T> {
        Err(Error::Access { board: self.identity.to_string(), space, offset, limit: 0 })
    }
}

impl Board for ClockBoard {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn config_read(&self, offset: u16) -> Result<u32> {
        self.nothing("configuration space", offset.into())
    }

    fn config_write(&self, offset: u16, _: u32) -> Result<()> {
        self.nothing("configuration space", offset.into())
    }

    fn bar_len(&self, _: Bar) -> u64 {
        0
    }

    fn read(&self, _: Bar, offset: u64) -> Result<u32> {
        self.nothing("BAR", offset)
    }

    fn write(&self, _: Bar, offset: u64, _: u32) -> Result<()> {
        self.nothing("BAR", offset)
    }

    fn allocate(&self, _: usize) -> Result<DmaBuffer> {
        self.nothing("host memory", 0)
    }

    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake> {
        self.pause(timeout);
        Ok(Wake::TimedOut)
    }

    fn reset(&self) -> Result<()> {
        Ok(())
    }

    fn generation(&self) -> u64 {
        0
    }

    fn now(&self) -> Duration {
        *self.now.lock().expect("never poisoned")
    }

    fn pause(&self, time: Duration) {
        *self.now.lock().expect("never poisoned") += time;
    }
}
