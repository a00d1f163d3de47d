//! The engine's messages in host memory. A list element asks for one at its end even when nobody waits for interrupts
//! (hardware.md section 15, item 4), so it might as well be of use: looking at host memory costs nothing, reading a register
//! costs a round trip over PCIe. A message is only a reason to read the status register; what that says counts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::engine::MESSAGES;
use super::msi::Message;
use crate::Result;
use crate::board::Board;
use crate::dma::{self, DmaBuffer};

/// What a message writes; the data of MSIs has 16 bits.
const DATA: u16 = 0x5a17;
/// Messages lie so far apart that processors do not share their cache lines.
const STRIDE: usize = 64;
/// Looks without a pause.
const SPINS: u32 = 256;
/// Pauses between looks, growing.
const FIRST_PAUSE: Duration = Duration::from_micros(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);
/// How long a message is waited for before the status register is read: while messages have come, and while none has.
const PATIENCE: Duration = Duration::from_millis(50);
const DOUBT: Duration = Duration::from_millis(2);
/// As many messages that did not come in a row, and no more are expected.
const MISSED: u32 = 4;

/// Where messages land.
pub struct Mailbox {
    page: DmaBuffer,
    /// Transfers under way, by message: with two on one message nobody can tell whose it is.
    users: [AtomicU32; MESSAGES],
    /// Messages that did not come since the last one that did; [`NONE_YET`] before the first.
    missed: AtomicU32,
}

/// No message has come so far.
const NONE_YET: u32 = u32::MAX / 2;

/// A transfer's share in a message, until dropped.
pub struct Expected<'a> {
    mailbox: &'a Mailbox,
    message: usize,
    /// Nobody else expects this message.
    alone: bool,
}

impl Mailbox {
    pub fn new(board: &dyn Board) -> Result<Self> {
        let page = board.allocate(dma::PAGE)?;
        Ok(Self { page, users: Default::default(), missed: AtomicU32::new(NONE_YET) })
    }

    /// What the engine is told to write.
    pub fn messages(&self) -> [Message; MESSAGES] {
        [0, 1, 2, 3].map(|i| Message { address: self.page.iova() + (i * STRIDE) as u64, data: DATA })
    }

    /// To be called before the doorbell.
    pub fn expect(&self, message: usize) -> Result<Expected<'_>> {
        let message = message % MESSAGES;
        let alone = self.users[message].fetch_add(1, Ordering::AcqRel) == 0;
        let expected = Expected { mailbox: self, message, alone };
        if alone {
            self.page.write(message * STRIDE, &[0; 4])?;
        }
        Ok(expected)
    }
}

impl Expected<'_> {
    /// Whether the message can be waited for.
    pub fn counts(&self) -> bool {
        let missed = self.mailbox.missed.load(Ordering::Relaxed);
        self.alone && !(MISSED..NONE_YET).contains(&missed) && missed < NONE_YET + MISSED
    }

    /// Waits a while for the message; whether it came.
    pub fn wait(&self, board: &dyn Board) -> Result<bool> {
        if !self.counts() {
            return Ok(false);
        }
        let missed = &self.mailbox.missed;
        let patience = if missed.load(Ordering::Relaxed) == 0 { PATIENCE } else { DOUBT };
        let start = board.now();
        let (mut spins, mut pause) = (0, FIRST_PAUSE);
        loop {
            let mut word = [0; 4];
            self.mailbox.page.read(self.message * STRIDE, &mut word)?;
            if word != [0; 4] {
                missed.store(0, Ordering::Relaxed);
                return Ok(true);
            }
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            if board.now().saturating_sub(start) >= patience {
                return Ok(false);
            }
            board.pause(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The transfer had ended although no message came.
    pub fn missed(&self) {
        if self.counts() {
            self.mailbox.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.mailbox.users[self.message].fetch_sub(1, Ordering::AcqRel);
    }
}
