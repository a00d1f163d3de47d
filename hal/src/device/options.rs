//! How a device is driven, and what it tells about its work.

use std::time::Duration;

pub use crate::descriptor::JobId;
pub use crate::format::OutputValues;

/// How the end of transfers and jobs is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completion {
    /// Status registers are polled. What the engine does, and the right choice for small transfers.
    #[default]
    Poll,
    /// The board's interrupt is waited for, status registers are looked at afterwards. Only the PCIe DMA is known to raise
    /// one (hardware.md section 15); jobs are looked at between bounded waits.
    Interrupt,
}

/// What is read back and compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verify {
    /// Nothing.
    Off,
    /// What a program consists of: tracks in device memory, registers and SRAMs of NPs; and what jobs rely on and only a posted
    /// write does: set-up of the Akida DMAs, lists of the PCIe DMA engine when they are written, its list pointers. Whether all
    /// of it reads back on silicon is not known.
    #[default]
    Program,
    /// Also every input and descriptor before it is handed over, and every output twice; one job in flight, so that the
    /// DMA's own registers tell which addresses it used. For tests and for boards that are not trusted.
    Jobs,
}

/// Bytes of a list element. The element's size word has 32 bits and the kernel driver declares segments of up to 2^32 - 1
/// bytes (hardware.md 3.1), so what follows is ours: large enough that writing the list (six register writes an element)
/// costs nothing beside the bytes, small enough that a refused page is found within 64 KiB. `akida-ctl selftest` moves
/// memory with it before anyone relies on it.
pub const ELEMENT_BYTES: u32 = 64 << 10;

/// Bytes the kernel driver moves at a time: more is exercised nowhere public (hardware.md section 20, trap 12).
pub const KERNEL_ELEMENT_BYTES: u32 = 1024;

/// How a device is opened.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// Deadline of every single step: a transfer, a track, a job. The engine's is 5 s.
    pub timeout: Duration,
    /// How ends are noticed.
    pub completion: Completion,
    /// Whether the mesh is scanned. Otherwise it is taken from the table of the chip.
    pub scan: bool,
    /// Most bytes one PCIe DMA list element moves: [`ELEMENT_BYTES`] unless said otherwise, [`KERNEL_ELEMENT_BYTES`] for a
    /// board that proves unable.
    pub element_bytes: u32,
    /// What is read back and compared.
    pub verify: Verify,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            completion: Completion::Poll,
            scan: true,
            element_bytes: ELEMENT_BYTES,
            verify: Verify::default(),
        }
    }
}

/// Where the time of a job went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobTiming {
    /// Input to the device, in board time.
    pub copy_in: Duration,
    /// From the doorbell until the end was noticed.
    pub run: Duration,
    /// Output to the host.
    pub copy_out: Duration,
}

/// A finished job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Which, as returned by `enqueue`.
    pub job: JobId,
    /// The elements, dense in (height, width, channels) order.
    pub values: OutputValues,
    /// Where its time went.
    pub timing: JobTiming,
}

/// What a device did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Jobs finished.
    pub jobs: u64,
    /// Programs loaded.
    pub programs: u64,
    /// Bytes moved to the device.
    pub bytes_in: u64,
    /// Bytes moved from the device.
    pub bytes_out: u64,
    /// PCIe DMA transfers.
    pub transfers: u64,
    /// Jobs or transfers that did not end in time.
    pub timeouts: u64,
    /// Resets of the whole function, [`Device::recover`](super::Device::recover) included.
    pub resets: u64,
    /// Sums over all jobs.
    pub timing: JobTiming,
}
