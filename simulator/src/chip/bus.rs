//! The chip's internal bus as a DMA engine sees it: device memory, and host memory through outbound translation.

use std::sync::Arc;

use zerocopy::IntoBytes;

use super::iatu::Iatu;
use super::memory::DeviceMemory;

/// The device's road to host memory: an IOMMU, or whatever stands in for one.
pub trait HostMemory: Send + Sync {
    /// Copies bytes from host memory. All or nothing.
    fn read(&self, iova: u64, bytes: &mut [u8]) -> Result<(), Unmapped>;
    /// Copies bytes to host memory. All or nothing.
    fn write(&self, iova: u64, bytes: &[u8]) -> Result<(), Unmapped>;
}

/// The device asked for host memory it was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("host address {iova:#x}+{len:#x} is not mapped for the device")]
pub struct Unmapped {
    /// First byte asked for.
    pub iova: u64,
    /// Bytes.
    pub len: usize,
}

/// A device address that does not answer a DMA engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Neither memory nor an outbound region.
    #[error("device address {address:#010x}+{len:#x} is neither memory nor a host window")]
    Decode {
        /// First byte.
        address: u32,
        /// Bytes.
        len: usize,
    },
    /// Behind an outbound region, but the host refused.
    #[error("device address {address:#010x}: {source}")]
    Host {
        /// First byte.
        address: u32,
        /// The refusal.
        source: Unmapped,
    },
}

/// What a job of the Akida core may touch, taken when the job starts.
#[derive(Clone)]
pub struct Bus {
    /// Memory on the board.
    pub memory: Arc<DeviceMemory>,
    /// Outbound translation as it was when the job started; `None` when the function may not master the bus.
    pub outbound: Option<Arc<Iatu>>,
    /// The host's side.
    pub host: Arc<dyn HostMemory>,
}

impl Bus {
    /// Copies bytes from device addresses.
    pub fn read(&self, address: u32, bytes: &mut [u8]) -> Result<(), BusError> {
        if self.memory.read(address, bytes).is_ok() {
            return Ok(());
        }
        let mut done = 0;
        while done < bytes.len() {
            let (at, iova, n) = self.host_piece(address, done, bytes.len())?;
            let piece = &mut bytes[done..done + n];
            self.host.read(iova, piece).map_err(|source| BusError::Host { address: at, source })?;
            done += n;
        }
        Ok(())
    }

    /// Copies bytes to device addresses.
    pub fn write(&self, address: u32, bytes: &[u8]) -> Result<(), BusError> {
        if self.memory.write(address, bytes).is_ok() {
            return Ok(());
        }
        let mut done = 0;
        while done < bytes.len() {
            let (at, iova, n) = self.host_piece(address, done, bytes.len())?;
            self.host.write(iova, &bytes[done..done + n]).map_err(|source| BusError::Host { address: at, source })?;
            done += n;
        }
        Ok(())
    }

    /// Copies little-endian words from device addresses.
    pub fn read_words(&self, address: u32, words: usize) -> Result<Vec<u32>, BusError> {
        let mut read = vec![0; words];
        self.fill_words(address, &mut read)?;
        Ok(read)
    }

    /// Copies little-endian words from device addresses into `words`.
    pub fn fill_words(&self, address: u32, words: &mut [u32]) -> Result<(), BusError> {
        self.read(address, words.as_mut_bytes())?;
        words.iter_mut().for_each(|w| *w = u32::from_le(*w));
        Ok(())
    }

    /// Whether all bytes can be reached, without touching them. Host memory behind a window is not asked.
    pub fn decodes(&self, address: u32, len: usize) -> bool {
        let mut done = 0;
        while done < len {
            match self.memory.contains(address, len) {
                true => return true,
                false => match self.host_piece(address, done, len) {
                    Ok((_, _, n)) => done += n,
                    Err(_) => return false,
                },
            }
        }
        true
    }

    fn host_piece(&self, address: u32, done: usize, len: usize) -> Result<(u32, u64, usize), BusError> {
        let error = BusError::Decode { address, len };
        let at = u32::try_from(done).ok().and_then(|d| address.checked_add(d)).ok_or(error)?;
        let (iova, room) = self.outbound.as_ref().and_then(|o| o.outbound(at)).ok_or(error)?;
        Ok((at, iova, usize::try_from(room).unwrap_or(usize::MAX).min(len - done)))
    }
}
