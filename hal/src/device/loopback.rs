//! The loopback self-test of an Akida DMA: memory through the controller and back (hardware.md section 8.2).

use std::time::Duration;

use super::controller::{EVENT, bytes};
use super::memory::DeviceMemory;
use crate::format::HEADER_BYTES;
use crate::regs::dma;
use crate::transport::Transport;
use crate::wait::Wait;
use crate::{Error, Result};

const LIMIT: Duration = Duration::from_secs(1);

/// Sends `words` pseudo-random words through the event DMA and compares.
pub fn run(transport: &dyn Transport, memory: &mut DeviceMemory, words: u16) -> Result<()> {
    let board = transport.identity().to_string();
    let len = usize::from(words.max(1)) * 4;
    let descriptor = memory.allocate(&board, "the loopback descriptor", 64)?;
    let source = memory.allocate(&board, "loopback input", len)?;
    let destination = memory.allocate(&board, "loopback output", len + HEADER_BYTES)?;
    let sent: Vec<u32> = (1..=u32::from(words.max(1))).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
    transport.write(source, &bytes(&sent))?;
    transport.write(destination, &vec![0; len + HEADER_BYTES])?;
    transport.write(descriptor, &bytes(&[0, source, sent.len() as u32, destination, 0, 0, 0, 0]))?;

    EVENT.write(transport, dma::CONTROL, dma::CONTROL_TEST_RESET)?;
    EVENT.write(transport, dma::CONTROL, dma::CONTROL_TEST_RUN)?;
    EVENT.write(transport, dma::DEBUG_CONTROL, dma::LOOPBACK.mask())?;
    EVENT.write(transport, dma::RING_BASE, descriptor)?;
    EVENT.write(transport, dma::DESCRIPTOR, 0)?;
    let waited = Wait::new(transport, format_args!("end of the event DMA's loopback"), LIMIT)
        .until(|| EVENT.read(transport, dma::MONITOR_STATUS), |status| status & 3 == 3);
    EVENT.write(transport, dma::DEBUG_CONTROL, 0)?;
    EVENT.soft_reset(transport)?;
    waited?;

    let mut read = vec![0; len];
    transport.read(destination + HEADER_BYTES as u32, &mut read)?;
    let read = read.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b));
    match sent.iter().zip(read).enumerate().find(|(_, (sent, read))| **sent != *read) {
        None => Ok(()),
        Some((i, (wrote, read))) => {
            let (what, offset) = ("event DMA loopback".to_owned(), i as u64 * 4);
            Err(Error::ReadBack { board, what, offset, wrote: *wrote, read })
        }
    }
}
