//! The thread that moves memory and computes for a served board, so that its registers can be answered meanwhile.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::chip::Chip;
use crate::chip::bus::HostMemory;
use crate::chip::memory::lock;

/// What the connection's thread and the engine's share.
pub struct Shared {
    /// The device model.
    pub chip: Arc<Mutex<Chip>>,
    /// The host's memory.
    pub host: Arc<dyn HostMemory>,
    /// Told after every access that may have started something, and when the connection ends.
    pub work: Condvar,
    /// The eventfd for the MSI, once the host has given one.
    pub interrupt: Mutex<Option<File>>,
    /// The connection has ended.
    pub ended: std::sync::atomic::AtomicBool,
}

impl Shared {
    /// Works until the connection ends.
    pub fn run(&self) {
        let mut late: Vec<Instant> = Vec::new();
        let mut chip = lock(&self.chip);
        while !self.ended.load(std::sync::atomic::Ordering::SeqCst) {
            if let Some(mut work) = chip.link_work(false) {
                drop(chip);
                let result = work.run(&*self.host);
                chip = lock(&self.chip);
                chip.link_done(work, result);
            } else if let Some(work) = chip.core_work(&self.host) {
                drop(chip);
                let done = work.run();
                chip = lock(&self.chip);
                chip.core_done(done);
            } else {
                chip = match late.iter().min() {
                    None => self.work.wait(chip).unwrap_or_else(PoisonError::into_inner),
                    Some(due) => {
                        let left = due.saturating_duration_since(Instant::now());
                        self.work.wait_timeout(chip, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            }
            let sent = chip.messages();
            if !sent.is_empty() {
                drop(chip);
                for message in sent {
                    match message.msi {
                        true => late.push(Instant::now() + message.late),
                        false => self.plain(message.message.address, message.message.data),
                    }
                }
                chip = lock(&self.chip);
            }
            let now = Instant::now();
            let waiting = late.len();
            late.retain(|due| *due > now);
            if late.len() < waiting {
                self.interrupt();
            }
        }
    }

    fn plain(&self, address: u64, data: u32) {
        if let Err(refused) = self.host.write(address, &data.to_le_bytes()) {
            log::debug!(target: "akida::sim::dma", "interrupt message: {refused}");
        }
    }

    fn interrupt(&self) {
        match lock(&self.interrupt).as_mut() {
            Some(event) => {
                if let Err(error) = event.write_all(&1u64.to_ne_bytes()) {
                    log::warn!("interrupt: {error}");
                }
            }
            None => log::debug!("an interrupt, and the host has given no eventfd for it"),
        }
    }
}
