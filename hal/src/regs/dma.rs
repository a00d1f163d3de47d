//! The common register layout of the three Akida DMAs: event, HRC, config (hardware.md section 8). Offsets from each
//! controller's base ([`EVENT_DMA`](super::top::EVENT_DMA) and so on).

use super::{Field, registers};

registers! {
    /// Control ([`Control`]) \[E\]\[K\].
    CONTROL = 0x00;
    /// Descriptor container: current and last index \[E\]\[K\].
    DESCRIPTOR = 0x04;
    /// Ring base address \[E\]\[K\].
    RING_BASE = 0x08;
    /// Container size and maximum index \[E\].
    RING_SIZE = 0x0C;
    /// Descriptor status: job id of the last processed descriptor \[E\].
    DESCRIPTOR_STATUS = 0x10;
    /// Input payload address \[E\].
    INPUT_ADDRESS = 0x14;
    /// Output payload address \[E\].
    OUTPUT_ADDRESS = 0x18;
    /// Output word count \[E\].
    OUTPUT_WORDS = 0x1C;
    /// Input word count, 15..0 \[E\].
    INPUT_WORDS = 0x20;
    /// Buffer monitor control ([`Monitor`]) \[E\].
    MONITOR_CONTROL = 0x24;
    /// Buffer monitor status ([`MonitorStatus`]) \[E\]\[K\].
    MONITOR_STATUS = 0x28;
    /// Buffer counter \[E\].
    BUFFER_COUNTER = 0x2C;
    /// Buffer timer in clock cycles \[E\].
    BUFFER_TIMER = 0x30;
    /// Start delays \[E\].
    DELAYS = 0x38;
    /// Extra descriptor control \[E\].
    EXTRA_DESCRIPTORS = 0x3C;
    /// Job id FIFO \[E\].
    JOB_FIFO = 0x50;
    /// Debug bus 0: current job id in 15..0 \[E\].
    DEBUG_0 = 0x60;
    /// Debug bus 1 \[E\].
    DEBUG_1 = 0x64;
    /// Debug bus 2 \[E\].
    DEBUG_2 = 0x68;
    /// Replay control ([`Replay`]) \[E\].
    REPLAY_CONTROL = 0x70;
    /// Replay burst: descriptors, loops \[E\].
    REPLAY_BURST = 0x74;
    /// Replay main descriptor buffer address \[E\].
    REPLAY_MAIN = 0x78;
    /// Replay scratch descriptor buffer address \[E\].
    REPLAY_SCRATCH = 0x7C;
    /// Replay output event buffer address \[E\].
    REPLAY_OUTPUT = 0x80;
    /// Replay output event scratch address \[E\].
    REPLAY_OUTPUT_SCRATCH = 0x84;
    /// Replay output buffer offset \[E\].
    REPLAY_OFFSET = 0x88;
    /// Replay maximum output buffers \[E\].
    REPLAY_MAX_OUTPUTS = 0x8C;
    /// Overrides word 5 of the descriptor; learn class in 25..16 \[E\].
    REPLAY_WORD5 = 0x90;
    /// Interrupt interval \[E\].
    INTERRUPT_INTERVAL = 0x94;
    /// Output payload clear size \[E\].
    OUTPUT_CLEAR = 0x98;
    /// Replay status and debug \[E\].
    REPLAY_STATUS = 0x9C;
    /// Reset control ([`Reset`]) \[E\].
    RESET = 0xA0;
    /// Debug control: bit 0 loopback \[E\]\[K\].
    DEBUG_CONTROL = 0xB0;
    /// Debug AXI status \[E\].
    DEBUG_AXI = 0xB4;
    /// Inbound checksum \[E\].
    CHECKSUM_IN = 0xB8;
    /// Outbound checksum \[E\].
    CHECKSUM_OUT = 0xBC;
}

bitflags::bitflags! {
    /// [`CONTROL`] without its two multi-bit fields \[E\].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Control: u32 {
        /// Processes descriptors while set.
        const RUN = 1 << 8;
        /// Soft reset of this controller.
        const SOFT_RESET = 1 << 9;
        /// Interrupt enable.
        const INTERRUPT = 1 << 10;
        /// Run hardware enable.
        const RUN_HARDWARE = 1 << 11;
        /// Outbound big-endian; stays 0.
        const OUT_BIG_ENDIAN = 1 << 20;
        /// Inbound big-endian; stays 0.
        const IN_BIG_ENDIAN = 1 << 21;
        /// Valid FIFO enable.
        const VALID_FIFO = 1 << 23;
        /// Write info enable: the output header is on.
        const WRITE_INFO = 1 << 24;
        /// Write info header.
        const WRITE_INFO_HEADER = 1 << 25;
    }

    /// [`MONITOR_CONTROL`] without the buffer end select \[E\].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Monitor: u32 {
        /// Write 1 to clear the status.
        const STATUS_CLEAR = 1 << 0;
        /// Clears the buffer counter.
        const COUNTER_CLEAR = 1 << 1;
        /// Clears the job id FIFO.
        const FIFO_CLEAR = 1 << 2;
        /// Counter enable.
        const COUNTER = 1 << 12;
        /// Timer enable.
        const TIMER = 1 << 13;
        /// Job id FIFO enable.
        const JOB_FIFO = 1 << 14;
        /// Masks outbound end.
        const MASK_OUTBOUND = 1 << 16;
        /// Masks inbound end.
        const MASK_INBOUND = 1 << 17;
        /// Masks external DMA end.
        const MASK_EXTERNAL = 1 << 18;
        /// Masks descriptor burst end.
        const MASK_BURST = 1 << 19;
    }

    /// [`MONITOR_STATUS`] \[E\].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MonitorStatus: u32 {
        /// Outbound end.
        const OUTBOUND = 1 << 0;
        /// Inbound end.
        const INBOUND = 1 << 1;
        /// External end.
        const EXTERNAL = 1 << 2;
        /// Descriptor burst done.
        const BURST = 1 << 3;
        /// Outbound end, unmasked: an interrupt.
        const OUTBOUND_INTERRUPT = 1 << 16;
        /// Inbound end, unmasked.
        const INBOUND_INTERRUPT = 1 << 17;
        /// External end, unmasked.
        const EXTERNAL_INTERRUPT = 1 << 18;
        /// Descriptor burst done, unmasked.
        const BURST_INTERRUPT = 1 << 19;
    }

    /// [`REPLAY_CONTROL`] without the word-5 field \[E\].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Replay: u32 {
        /// Maximum descriptor burst mode: multi-pass.
        const BURST_MODE = 1 << 0;
        /// Hardware output address generation.
        const OUTPUT_ADDRESS = 1 << 4;
        /// Dynamic output address.
        const DYNAMIC_OUTPUT = 1 << 5;
        /// Start halt enable.
        const START_HALT = 1 << 8;
        /// Initial start halt.
        const INITIAL_HALT = 1 << 9;
        /// Replay buffer mode.
        const REPLAY_BUFFER = 1 << 16;
        /// Output buffer reuse.
        const REUSE_OUTPUT = 1 << 20;
        /// Input buffer reuse.
        const REUSE_INPUT = 1 << 21;
        /// Replay timer mode.
        const TIMER = 1 << 24;
        /// Packet RAM clear enable.
        const CLEAR_PACKET_RAM = 1 << 28;
        /// Main buffer enable.
        const MAIN_BUFFER = 1 << 29;
    }

    /// [`RESET`] \[E\].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Reset: u32 {
        /// Logic.
        const LOGIC = 1 << 0;
        /// Inbound.
        const INBOUND = 1 << 1;
        /// Outbound.
        const OUTBOUND = 1 << 2;
    }
}

/// [`CONTROL`]: version \[E\].
pub const CONTROL_VERSION: Field = Field::bits(3, 0);
/// [`CONTROL`]: header size in bytes \[E\].
pub const HEADER_SIZE: Field = Field::bits(31, 26);
/// [`DESCRIPTOR`]: index being processed \[E\].
pub const CURRENT: Field = Field::bits(7, 0);
/// [`DESCRIPTOR`]: last valid index; 0xFF after a soft reset \[E\].
pub const LAST: Field = Field::bits(23, 16);
/// [`DESCRIPTOR`]: chained descriptor burst \[E\].
pub const CHAINED: Field = Field::bit(31);
/// [`RING_SIZE`]: size of a container in units of 32 bytes \[E\].
pub const SLOT_SIZE: Field = Field::bits(4, 0);
/// [`RING_SIZE`]: maximum container index, count - 1 \[E\].
pub const MAX_INDEX: Field = Field::bits(23, 16);
/// [`DESCRIPTOR_STATUS`]: descriptor version \[E\].
pub const STATUS_VERSION: Field = Field::bits(3, 0);
/// [`DESCRIPTOR_STATUS`]: job id of the last processed descriptor \[E\].
pub const STATUS_JOB: Field = Field::bits(31, 16);
/// [`MONITOR_CONTROL`]: buffer end select, see [`BufferEnd`] \[E\].
pub const BUFFER_END: Field = Field::bits(9, 8);
/// [`DELAYS`]: descriptor start delay \[E\].
pub const START_DELAY: Field = Field::bits(9, 0);
/// [`DELAYS`]: inbound payload end delay \[E\].
pub const INBOUND_END_DELAY: Field = Field::bits(23, 16);
/// [`EXTRA_DESCRIPTORS`]: last extra descriptor index \[E\].
pub const EXTRA_LAST: Field = Field::bits(7, 0);
/// [`EXTRA_DESCRIPTORS`]: enable \[E\].
pub const EXTRA_ENABLE: Field = Field::bit(12);
/// [`JOB_FIFO`]: count \[E\].
pub const FIFO_COUNT: Field = Field::bits(7, 0);
/// [`JOB_FIFO`]: valid \[E\].
pub const FIFO_VALID: Field = Field::bit(8);
/// [`JOB_FIFO`]: output \[E\].
pub const FIFO_OUTPUT: Field = Field::bits(31, 16);
/// [`REPLAY_CONTROL`]: hardware word-5 enable \[E\].
pub const REPLAY_WORD5_ENABLE: Field = Field::bits(7, 6);
/// [`REPLAY_BURST`]: descriptors per burst \[E\].
pub const BURST_DESCRIPTORS: Field = Field::bits(7, 0);
/// [`REPLAY_BURST`]: loops \[E\].
pub const BURST_LOOPS: Field = Field::bits(23, 16);
/// [`REPLAY_BURST`]: loops for layer partial reconfiguration; equal to the loops (hardware.md section 20, trap 21) \[E\].
pub const BURST_LAYER_LOOPS: Field = Field::bits(31, 24);
/// [`REPLAY_OFFSET`]: descriptor offset \[E\].
pub const OFFSET_DESCRIPTOR: Field = Field::bits(2, 0);
/// [`REPLAY_OFFSET`]: unit size \[E\].
pub const OFFSET_UNIT: Field = Field::bit(4);
/// [`REPLAY_OFFSET`]: events offset in units of 32 bytes \[E\].
pub const OFFSET_EVENTS_32: Field = Field::bits(15, 8);
/// [`REPLAY_OFFSET`]: events offset \[E\].
pub const OFFSET_EVENTS: Field = Field::bits(31, 16);
/// [`REPLAY_MAX_OUTPUTS`]: descriptor buffers \[E\].
pub const MAX_OUTPUT_DESCRIPTORS: Field = Field::bits(11, 0);
/// [`REPLAY_MAX_OUTPUTS`]: event buffers \[E\].
pub const MAX_OUTPUT_EVENTS: Field = Field::bits(31, 16);
/// [`REPLAY_WORD5`]: learn class \[E\].
pub const WORD5_LEARN_CLASS: Field = Field::bits(25, 16);
/// [`INTERRUPT_INTERVAL`]: inbound \[E\].
pub const INTERVAL_INBOUND: Field = Field::bits(7, 0);
/// [`INTERRUPT_INTERVAL`]: outbound \[E\].
pub const INTERVAL_OUTBOUND: Field = Field::bits(23, 16);
/// [`OUTPUT_CLEAR`]: size in words \[E\].
pub const CLEAR_WORDS: Field = Field::bits(27, 0);
/// [`OUTPUT_CLEAR`]: enable \[E\].
pub const CLEAR_ENABLE: Field = Field::bit(31);
/// [`REPLAY_STATUS`]: loop number \[E\].
pub const REPLAY_LOOP: Field = Field::bits(7, 0);
/// [`REPLAY_STATUS`]: burst halt active \[E\].
pub const REPLAY_HALTED: Field = Field::bit(8);
/// [`DEBUG_CONTROL`]: loopback: output is the input \[E\]\[K\].
pub const LOOPBACK: Field = Field::bit(0);
/// [`DEBUG_CONTROL`]: checksum enable \[E\].
pub const CHECKSUM_ENABLE: Field = Field::bit(4);
/// [`DEBUG_CONTROL`]: checksum reset \[E\].
pub const CHECKSUM_RESET: Field = Field::bit(5);
/// [`DEBUG_CONTROL`]: force interrupt \[E\].
pub const FORCE_INTERRUPT: Field = Field::bit(8);

/// Buffer end select values of [`MONITOR_CONTROL`]: when a job counts as over \[E\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferEnd {
    /// After the output is written: one job at a time.
    Outbound = 0,
    /// After the input is read: jobs are pipelined.
    Inbound = 1,
    /// Debug only.
    External = 2,
}

/// What [`CONTROL`] reads after power-on in the kernel driver's test: headers on, 32 bytes \[K\]. A test resets with this
/// word, soft reset included.
pub const CONTROL_TEST_RESET: u32 = 0x8300_0200;
/// What the kernel driver's loopback test writes to run: run, interrupt, low nibble 2 \[K\].
pub const CONTROL_TEST_RUN: u32 = 0x8300_0502;
/// The last-container field after a soft reset: one less than slot 0 (hardware.md section 8) \[E\].
pub const LAST_AFTER_RESET: u32 = 0xFF;
/// Bytes of an output header.
pub const HEADER_BYTES: u32 = 32;
/// A ring has at least this many slots (hardware.md section 8.1).
pub const MIN_SLOTS: u32 = 2;
/// Most slots of a ring in the newer engine (hardware.md section 8.1); 0xFF must stay "none".
pub const MAX_SLOTS: u32 = 254;

#[cfg(test)]
mod tests {
    use super::*;

    /// The two words of the kernel driver's loopback test decode as hardware.md section 8 says.
    #[test]
    fn test_words_decode() {
        let reset = Control::from_bits_truncate(CONTROL_TEST_RESET);
        assert_eq!(reset, Control::SOFT_RESET | Control::WRITE_INFO | Control::WRITE_INFO_HEADER);
        assert_eq!(HEADER_SIZE.get(CONTROL_TEST_RESET), HEADER_BYTES);
        let run = Control::from_bits_truncate(CONTROL_TEST_RUN);
        assert_eq!(run, Control::RUN | Control::INTERRUPT | Control::WRITE_INFO | Control::WRITE_INFO_HEADER);
        assert_eq!(CONTROL_VERSION.get(CONTROL_TEST_RUN), 2);
    }
}
