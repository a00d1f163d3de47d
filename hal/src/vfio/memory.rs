//! Where a board's DMA memory comes from: any memory of this process, mapped by the IOMMU ([`Mapped`]), or physical memory that the
//! board addresses by itself ([`physical`](super::physical)).

use std::sync::{Arc, Mutex, PoisonError};

use super::Error;
use super::iova::IovaSpace;
use super::kernel::Confined;
use super::memlock::Locked;
use crate::Result;
use crate::dma::DmaMemory;

/// Memory for one board's DMA.
pub trait Memory: Send + Sync {
    /// Zeroed memory of at least `len` bytes, and the address at which the board finds it.
    fn take(&self, len: usize) -> Result<(Arc<DmaMemory>, u64)>;

    /// Ends what [`take`](Self::take) began.
    fn give(&self, address: u64, len: usize);

    /// How much is taken, in pieces.
    fn in_use(&self) -> usize;
}

/// Memory of this process, mapped into the board's I/O address space.
pub struct Mapped {
    board: String,
    space: Mutex<IovaSpace>,
    limit: u64,
    kernel: Arc<dyn Confined>,
}

impl Mapped {
    /// All that the kernel lets `board` use, up to the address `limit`.
    pub fn new(board: &str, kernel: Arc<dyn Confined>, limit: u64) -> Result<Self, Error> {
        let ranges = kernel.iova_ranges().map_err(|source| {
            let call = "VFIO_IOMMU_GET_INFO";
            Error::Kernel { board: board.into(), call, source }
        })?;
        log::debug!("{board}: IOVA ranges {ranges:x?}");
        let space = Mutex::new(IovaSpace::new(&ranges, 0..=limit));
        Ok(Self { board: board.into(), space, limit, kernel })
    }

    fn map(&self, memory: &DmaMemory) -> Result<u64, Error> {
        let (board, len) = (self.board.clone(), memory.len());
        let locked = Locked::now();
        let too_much =
            |board| Error::LockedMemory { board, needed: len as u64, locked: locked.locked, limit: locked.limit };
        if !locked.allows(len as u64) {
            return Err(too_much(board));
        }
        let mut space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(iova) = space.take(len as u64) else {
            return Err(Error::NoIova { board, len, limit: self.limit });
        };
        self.kernel.map(iova, memory).map_err(|source| {
            space.give(iova);
            match source.raw_os_error() {
                Some(nix::libc::ENOMEM) if !locked.exempt && locked.limit != u64::MAX => too_much(board),
                _ => Error::Dma { board, call: "mapping for DMA", iova, len, source },
            }
        })?;
        Ok(iova)
    }
}

impl Memory for Mapped {
    fn take(&self, len: usize) -> Result<(Arc<DmaMemory>, u64)> {
        let memory = Arc::new(DmaMemory::new(len)?);
        let iova = self.map(&memory)?;
        Ok((memory, iova))
    }

    fn give(&self, iova: u64, len: usize) {
        match self.kernel.unmap(iova, len) {
            Ok(()) => {
                self.space.lock().unwrap_or_else(PoisonError::into_inner).give(iova);
            }
            // The range is not given out again. The pages stay pinned, so nobody else's memory is ever behind it.
            Err(e) => log::error!("{}: unmapping {len} bytes at IOVA {iova:#x} failed: {e}", self.board),
        }
    }

    fn in_use(&self) -> usize {
        self.space.lock().unwrap_or_else(PoisonError::into_inner).in_use()
    }
}
