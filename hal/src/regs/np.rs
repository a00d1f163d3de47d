//! Registers of an NP, reached with UID 8 packets (hardware.md section 10): byte offsets, index = offset / 4.
//!
//! All names and bit ranges are from one public header \[E\], confirmed by decoding the register blocks of vendor programs
//! \[B\]. What the fields *mean* (units, codes) is mostly not public: [`crate::np`] says what we make of them.

use super::{Field, registers};

/// 32-bit registers of one NP: indices 0..=63.
pub const COUNT: usize = 64;
/// Registers that programs write in one packet: 0x00..=0xC4 \[B\].
pub const PROGRAMMED: usize = 50;

registers! {
    /// Version, what is installed, where the NP is; read-only \[E\].
    IDENTITY = 0x00;
    /// FNP mode, clocks, layer id \[E\].
    MODE = 0x04;
    /// Sequence and FC errors, interrupt NP \[E\].
    ERROR = 0x08;
    /// Bit widths, separable, number of NPs \[E\].
    WIDTHS = 0x0C;
    /// Packet SRAM size and initialisation \[E\].
    PACKET_SRAM = 0x10;
    /// SRAM low power \[E\].
    SRAM_LOW_POWER = 0x14;
    /// Inbound FIFO limits \[E\].
    FIFO = 0x18;
    /// Written by programs, meaning not public \[E\].
    UNNAMED_1C = 0x1C;
    /// ii and jj sizes and offsets \[E\].
    INPUT_SIZE = 0x20;
    /// i and j origin cuts, stride offsets \[E\].
    ORIGIN_CUT = 0x24;
    /// i and j size cuts \[E\].
    SIZE_CUT = 0x28;
    /// i container size, channel container size \[E\].
    CONTAINER = 0x2C;
    /// CNP-to-FNP weight SRAM size \[E\].
    CNP_TO_FNP = 0x30;
    /// Stop clock delay \[E\].
    STOP_CLOCK = 0x34;
    /// FNP packet word size and initialisation \[E\].
    FNP_PACKET = 0x38;
    /// FNP neuron total \[E\].
    FNP_NEURONS = 0x3C;
    /// Outbound neuron origin and type \[E\].
    OUTBOUND = 0x40;
    /// Last weight block size, weight block count \[E\].
    WEIGHT_BLOCKS = 0x44;
    /// Pointwise container, stride, 1x1 filters, kernel type \[E\].
    KERNEL = 0x50;
    /// Filter total, PF total \[E\].
    FILTERS = 0x54;
    /// NF total, pointwise start address \[E\].
    NF_TOTAL = 0x58;
    /// Outbound i and j origin \[E\].
    OUT_ORIGIN = 0x60;
    /// Outbound ii and jj size \[E\].
    OUT_SIZE = 0x64;
    /// Outbound channel origin and filter size \[E\].
    OUT_CHANNELS = 0x68;
    /// Pool size and stride, global pooling, padding \[E\].
    POOL = 0x6C;
    /// Packet and channel container sizes \[E\].
    PACKET_CONTAINER = 0x70;
    /// Chaining enable, outbound loop \[E\].
    CHAIN = 0x74;
    /// Partial reconfiguration \[E\].
    RECONFIGURATION = 0x80;
    /// Its origin cuts \[E\].
    RECONFIGURATION_ORIGIN = 0x84;
    /// Its size cuts \[E\].
    RECONFIGURATION_SIZE = 0x88;
    /// Its containers \[E\].
    RECONFIGURATION_CONTAINER = 0x8C;
    /// Learning threshold and mode \[E\].
    LEARN_THRESHOLD = 0x90;
    /// Minimum swaps, maximum loop \[E\].
    LEARN_SWAPS = 0x94;
    /// Delta swaps, packet class \[E\].
    LEARN_CLASS = 0x98;
    /// Input channel count \[E\].
    LEARN_INPUTS = 0x9C;
    /// Feedback address base \[E\].
    FEEDBACK = 0xA4;
    /// Point-to-point spikes, split sync, end of pass, waits \[E\].
    SPIKES = 0xB0;
    /// Where spikes go \[E\].
    SPIKE_DESTINATION = 0xB4;
    /// Where FC output goes \[E\].
    FC_DESTINATION = 0xB8;
    /// End-of-packet destination columns \[E\].
    EOP_COLUMNS = 0xBC;
    /// Layer sync destination columns \[E\].
    SYNC_COLUMNS = 0xC0;
    /// NP AXI destination \[E\].
    AXI_DESTINATION = 0xC4;
    /// Meaning not public \[E\].
    UNNAMED_C8 = 0xC8;
    /// Spike repeat and its destination NPs \[E\].
    REPEAT = 0xCC;
    /// Soft reset, reset enable \[E\].
    RESET = 0xFC;
}

/// Index of a register in UID 8 packets.
pub const fn index(offset: u32) -> usize {
    (offset / 4) as usize
}

/// [`IDENTITY`]: version \[E\].
pub const IDENTITY_VERSION: Field = Field::bits(3, 0);
/// [`IDENTITY`]: FNP installed: 2 = FNP2, 3 = FNP3 \[E\].
pub const FNP_INSTALLED: Field = Field::bits(5, 4);
/// [`IDENTITY`]: CNP installed: 1 = CNP1, 2 = CNP1 and CNP2 \[E\].
pub const CNP_INSTALLED: Field = Field::bits(7, 6);
/// [`IDENTITY`]: NP index in its node \[E\].
pub const NP_INDEX: Field = Field::bits(15, 12);
/// [`IDENTITY`]: NP column \[E\].
pub const NP_COLUMN: Field = Field::bits(23, 16);
/// [`IDENTITY`]: NP row \[E\].
pub const NP_ROW: Field = Field::bits(31, 24);
/// [`MODE`]: the NP works as an FNP \[E\].
pub const FNP_MODE: Field = Field::bit(4);
/// [`MODE`]: stop clock enable \[E\].
pub const STOP_CLOCK_ENABLE: Field = Field::bit(5);
/// [`MODE`]: SRAM low power \[E\].
pub const LOW_POWER: Field = Field::bit(6);
/// [`MODE`]: CNP SRAM serves the FNP \[E\].
pub const CNP_SRAM_TO_FNP: Field = Field::bit(7);
/// [`MODE`]: layer id \[E\].
pub const LAYER_ID: Field = Field::bits(15, 8);
/// [`MODE`]: FNP2 id \[E\].
pub const FNP2_ID: Field = Field::bits(19, 16);
/// [`MODE`]: NP-to-NP configuration \[E\].
pub const NP_TO_NP: Field = Field::bits(21, 20);
/// [`MODE`]: packet SRAM 1-bit mode \[E\].
pub const PACKET_1BIT: Field = Field::bit(22);
/// [`MODE`]: packet SRAM 4-filter mode \[E\].
pub const PACKET_4FILTER: Field = Field::bit(23);
/// [`MODE`]: CNPs for the FNP \[E\].
pub const CNPS_FOR_FNP: Field = Field::bits(25, 24);
/// [`ERROR`]: sequence error \[E\].
pub const SEQUENCE_ERROR: Field = Field::bit(0);
/// [`ERROR`]: its enable \[E\].
pub const SEQUENCE_ERROR_ENABLE: Field = Field::bit(1);
/// [`ERROR`]: FC error \[E\].
pub const FC_ERROR: Field = Field::bit(2);
/// [`ERROR`]: its enable \[E\].
pub const FC_ERROR_ENABLE: Field = Field::bit(3);
/// [`ERROR`]: keep inbound spikes \[E\].
pub const KEEP_INBOUND: Field = Field::bit(7);
/// [`ERROR`]: interrupt NP index \[E\].
pub const INTERRUPT_NP: Field = Field::bits(15, 12);
/// [`ERROR`]: interrupt NP column \[E\].
pub const INTERRUPT_COLUMN: Field = Field::bits(23, 16);
/// [`ERROR`]: interrupt NP row \[E\].
pub const INTERRUPT_ROW: Field = Field::bits(31, 24);
/// [`WIDTHS`]: inbound bit width code \[E\].
pub const INBOUND_WIDTH: Field = Field::bits(1, 0);
/// [`WIDTHS`]: separable \[E\].
pub const SEPARABLE: Field = Field::bit(2);
/// [`WIDTHS`]: 4-bit logic enable \[E\].
pub const LOGIC_4BIT: Field = Field::bit(3);
/// [`WIDTHS`]: depthwise or filter weight width code \[E\].
pub const FILTER_WIDTH: Field = Field::bits(5, 4);
/// [`WIDTHS`]: signed weights \[E\].
pub const SIGNED_WEIGHTS: Field = Field::bit(7);
/// [`WIDTHS`]: pointwise weight width code \[E\].
pub const POINTWISE_WIDTH: Field = Field::bits(9, 8);
/// [`WIDTHS`]: outbound width code \[E\].
pub const OUTBOUND_WIDTH: Field = Field::bits(13, 12);
/// [`WIDTHS`]: outbound quantize \[E\].
pub const OUTBOUND_QUANTIZE: Field = Field::bit(15);
/// [`WIDTHS`]: number of NPs \[E\].
pub const NUMBER_OF_NPS: Field = Field::bits(23, 16);
/// [`WIDTHS`]: NP layer \[E\].
pub const NP_LAYER: Field = Field::bits(31, 24);
/// [`PACKET_SRAM`]: packet SRAM size \[E\].
pub const PACKET_SRAM_SIZE: Field = Field::bits(17, 0);
/// [`PACKET_SRAM`]: initialise packet SRAM \[E\].
pub const PACKET_SRAM_INIT: Field = Field::bit(31);
/// [`FIFO`]: inbound FIFO space limit \[E\].
pub const FIFO_SPACE_LIMIT: Field = Field::bits(20, 16);
/// [`FIFO`]: inbound FIFO used limit \[E\].
pub const FIFO_USED_LIMIT: Field = Field::bits(28, 24);
/// [`INPUT_SIZE`]: ii size \[E\].
pub const II_SIZE: Field = Field::bits(10, 0);
/// [`INPUT_SIZE`]: ii offset \[E\].
pub const II_OFFSET: Field = Field::bits(15, 12);
/// [`INPUT_SIZE`]: jj size \[E\].
pub const JJ_SIZE: Field = Field::bits(26, 16);
/// [`INPUT_SIZE`]: jj offset \[E\].
pub const JJ_OFFSET: Field = Field::bits(31, 28);
/// [`ORIGIN_CUT`]: i origin cut \[E\].
pub const I_ORIGIN_CUT: Field = Field::bits(11, 0);
/// [`ORIGIN_CUT`]: i stride offset \[E\].
pub const I_STRIDE_OFFSET: Field = Field::bit(12);
/// [`ORIGIN_CUT`]: j origin cut \[E\].
pub const J_ORIGIN_CUT: Field = Field::bits(27, 16);
/// [`ORIGIN_CUT`]: j stride offset \[E\].
pub const J_STRIDE_OFFSET: Field = Field::bit(28);
/// [`SIZE_CUT`]: i size cut \[E\].
pub const I_SIZE_CUT: Field = Field::bits(10, 0);
/// [`SIZE_CUT`]: j size cut \[E\].
pub const J_SIZE_CUT: Field = Field::bits(26, 16);
/// [`CONTAINER`]: i container size \[E\].
pub const I_CONTAINER: Field = Field::bits(7, 0);
/// [`CONTAINER`]: channel container size \[E\].
pub const CHANNEL_CONTAINER: Field = Field::bits(21, 12);
/// [`CONTAINER`]: channel size (second reading of the same bits) \[E\].
pub const CHANNEL_SIZE: Field = Field::bits(29, 12);
/// [`CNP_TO_FNP`]: CNP-to-FNP weight SRAM size \[E\].
pub const CNP_TO_FNP_SIZE: Field = Field::bits(31, 24);
/// [`STOP_CLOCK`]: stop clock delay \[E\].
pub const STOP_CLOCK_DELAY: Field = Field::bits(15, 0);
/// [`FNP_PACKET`]: FNP packet word size \[E\].
pub const FNP_PACKET_SIZE: Field = Field::bits(17, 0);
/// [`FNP_PACKET`]: initialise packet SRAM \[E\].
pub const FNP_PACKET_INIT: Field = Field::bit(31);
/// [`FNP_NEURONS`]: neuron total \[E\].
pub const FNP_NEURON_TOTAL: Field = Field::bits(16, 0);
/// [`OUTBOUND`]: outbound neuron origin \[E\].
pub const NEURON_ORIGIN: Field = Field::bits(17, 0);
/// [`OUTBOUND`]: outbound type \[E\].
pub const OUTBOUND_TYPE: Field = Field::bits(29, 28);
/// [`WEIGHT_BLOCKS`]: last weight block size \[E\].
pub const LAST_BLOCK_SIZE: Field = Field::bits(15, 0);
/// [`WEIGHT_BLOCKS`]: weight block count \[E\].
pub const BLOCK_COUNT: Field = Field::bits(23, 20);
/// [`KERNEL`]: pointwise container size \[E\].
pub const POINTWISE_CONTAINER: Field = Field::bits(6, 0);
/// [`KERNEL`]: convolution stride \[E\].
pub const CONV_STRIDE: Field = Field::bit(8);
/// [`KERNEL`]: 1x1 filter total \[E\].
pub const FILTER_1X1_TOTAL: Field = Field::bits(26, 16);
/// [`KERNEL`]: kernel type \[E\].
pub const KERNEL_TYPE: Field = Field::bits(30, 28);
/// [`FILTERS`]: filter total \[E\].
pub const FILTER_TOTAL: Field = Field::bits(10, 0);
/// [`FILTERS`]: PF total \[E\].
pub const PF_TOTAL: Field = Field::bits(26, 16);
/// [`NF_TOTAL`]: NF total \[E\].
pub const NF_COUNT: Field = Field::bits(10, 0);
/// [`NF_TOTAL`]: pointwise start address \[E\].
pub const POINTWISE_START: Field = Field::bits(29, 16);
/// [`OUT_ORIGIN`]: outbound i origin \[E\].
pub const OUT_I_ORIGIN: Field = Field::bits(11, 0);
/// [`OUT_ORIGIN`]: outbound j origin \[E\].
pub const OUT_J_ORIGIN: Field = Field::bits(27, 16);
/// [`OUT_SIZE`]: outbound ii size \[E\].
pub const OUT_II_SIZE: Field = Field::bits(9, 0);
/// [`OUT_SIZE`]: outbound jj size \[E\].
pub const OUT_JJ_SIZE: Field = Field::bits(23, 16);
/// [`OUT_CHANNELS`]: outbound channel origin \[E\].
pub const OUT_CHANNEL_ORIGIN: Field = Field::bits(10, 0);
/// [`OUT_CHANNELS`]: outbound filter size \[E\].
pub const OUT_FILTER_SIZE: Field = Field::bits(26, 16);
/// [`POOL`]: pool size \[E\].
pub const POOL_SIZE: Field = Field::bits(2, 0);
/// [`POOL`]: pool stride \[E\].
pub const POOL_STRIDE: Field = Field::bits(6, 4);
/// [`POOL`]: global pooling \[E\].
pub const POOL_GLOBAL: Field = Field::bit(8);
/// [`POOL`]: pad right \[E\].
pub const PAD_RIGHT: Field = Field::bit(12);
/// [`POOL`]: pad left \[E\].
pub const PAD_LEFT: Field = Field::bit(13);
/// [`POOL`]: pad bottom \[E\].
pub const PAD_BOTTOM: Field = Field::bit(14);
/// [`POOL`]: pad top \[E\].
pub const PAD_TOP: Field = Field::bit(15);
/// [`PACKET_CONTAINER`]: packet container size \[E\].
pub const PACKET_CONTAINER_SIZE: Field = Field::bits(13, 0);
/// [`PACKET_CONTAINER`]: channel container size \[E\].
pub const PACKET_CHANNEL_CONTAINER: Field = Field::bits(23, 16);
/// [`CHAIN`]: chaining enable \[E\].
pub const CHAIN_ENABLE: Field = Field::bit(0);
/// [`CHAIN`]: outbound loop \[E\].
pub const OUTBOUND_LOOP: Field = Field::bits(23, 16);
/// [`RECONFIGURATION`]: enable \[E\].
pub const PR_ENABLE: Field = Field::bit(0);
/// [`RECONFIGURATION`]: FNP mode \[E\].
pub const PR_FNP_MODE: Field = Field::bit(1);
/// [`RECONFIGURATION`]: 1-bit mode \[E\].
pub const PR_1BIT: Field = Field::bit(2);
/// [`RECONFIGURATION`]: merging layer \[E\].
pub const PR_MERGING: Field = Field::bit(3);
/// [`RECONFIGURATION`]: inbound width code \[E\].
pub const PR_INBOUND_WIDTH: Field = Field::bits(5, 4);
/// [`RECONFIGURATION`]: receive layer \[E\].
pub const PR_RECEIVE_LAYER: Field = Field::bits(31, 24);
/// [`RECONFIGURATION_ORIGIN`]: i origin cut \[E\].
pub const PR_I_ORIGIN: Field = Field::bits(11, 0);
/// [`RECONFIGURATION_ORIGIN`]: j origin cut \[E\].
pub const PR_J_ORIGIN: Field = Field::bits(27, 16);
/// [`RECONFIGURATION_SIZE`]: i size cut \[E\].
pub const PR_I_SIZE: Field = Field::bits(10, 0);
/// [`RECONFIGURATION_SIZE`]: j size cut \[E\].
pub const PR_J_SIZE: Field = Field::bits(26, 16);
/// [`RECONFIGURATION_CONTAINER`]: i container \[E\].
pub const PR_I_CONTAINER: Field = Field::bits(13, 0);
/// [`RECONFIGURATION_CONTAINER`]: channel container \[E\].
pub const PR_CHANNEL_CONTAINER: Field = Field::bits(24, 16);
/// [`RECONFIGURATION_CONTAINER`]: channel size (second reading of the same bits) \[E\].
pub const PR_CHANNEL_SIZE: Field = Field::bits(17, 0);
/// [`LEARN_THRESHOLD`]: threshold \[E\].
pub const LEARN_THRESHOLD_VALUE: Field = Field::bits(19, 0);
/// [`LEARN_THRESHOLD`]: learn mode \[E\].
pub const LEARN_MODE: Field = Field::bit(28);
/// [`LEARN_SWAPS`]: minimum swaps \[E\].
pub const MIN_SWAPS: Field = Field::bits(15, 0);
/// [`LEARN_SWAPS`]: maximum loop \[E\].
pub const MAX_LOOP: Field = Field::bits(31, 24);
/// [`LEARN_CLASS`]: delta swaps \[E\].
pub const DELTA_SWAPS: Field = Field::bits(15, 0);
/// [`LEARN_CLASS`]: packet class \[E\].
pub const PACKET_CLASS: Field = Field::bits(29, 20);
/// [`LEARN_INPUTS`]: input channel count \[E\].
pub const INPUT_CHANNELS: Field = Field::bits(15, 0);
/// [`FEEDBACK`]: feedback address base \[E\].
pub const FEEDBACK_BASE: Field = Field::bits(11, 0);
/// [`SPIKES`]: point-to-point spikes \[E\].
pub const SPIKES_POINT_TO_POINT: Field = Field::bit(0);
/// [`SPIKES`]: split sync \[E\].
pub const SPLIT_SYNC: Field = Field::bit(1);
/// [`SPIKES`]: end of pass to DMA \[E\].
pub const EOP_TO_DMA: Field = Field::bit(2);
/// [`SPIKES`]: spike wait \[E\].
pub const SPIKE_WAIT: Field = Field::bits(23, 16);
/// [`SPIKES`]: sync-to-spike wait \[E\].
pub const SYNC_WAIT: Field = Field::bits(31, 24);
/// [`SPIKE_DESTINATION`]: row \[E\].
pub const SPIKE_ROW: Field = Field::bits(7, 0);
/// [`SPIKE_DESTINATION`]: column \[E\].
pub const SPIKE_COLUMN: Field = Field::bits(15, 8);
/// [`SPIKE_DESTINATION`]: NP \[E\].
pub const SPIKE_NP: Field = Field::bits(23, 20);
/// [`SPIKE_DESTINATION`]: layer \[E\].
pub const SPIKE_LAYER: Field = Field::bits(31, 24);
/// [`FC_DESTINATION`]: row \[E\].
pub const FC_ROW: Field = Field::bits(7, 0);
/// [`FC_DESTINATION`]: column \[E\].
pub const FC_COLUMN: Field = Field::bits(15, 8);
/// [`FC_DESTINATION`]: NP \[E\].
pub const FC_NP: Field = Field::bits(23, 20);
/// [`FC_DESTINATION`]: NP offset \[E\].
pub const FC_NP_OFFSET: Field = Field::bit(30);
/// [`FC_DESTINATION`]: point to point \[E\].
pub const FC_POINT_TO_POINT: Field = Field::bit(31);
/// [`EOP_COLUMNS`]: west 1 \[E\].
pub const EOP_WEST_1: Field = Field::bits(7, 0);
/// [`EOP_COLUMNS`]: east 1 \[E\].
pub const EOP_EAST_1: Field = Field::bits(15, 8);
/// [`EOP_COLUMNS`]: west 2 \[E\].
pub const EOP_WEST_2: Field = Field::bits(23, 16);
/// [`EOP_COLUMNS`]: east 2 \[E\].
pub const EOP_EAST_2: Field = Field::bits(31, 24);
/// [`SYNC_COLUMNS`]: west \[E\].
pub const SYNC_WEST: Field = Field::bits(7, 0);
/// [`SYNC_COLUMNS`]: east \[E\].
pub const SYNC_EAST: Field = Field::bits(15, 8);
/// [`AXI_DESTINATION`]: row \[E\].
pub const AXI_ROW: Field = Field::bits(7, 0);
/// [`AXI_DESTINATION`]: column \[E\].
pub const AXI_COLUMN: Field = Field::bits(15, 8);
/// [`AXI_DESTINATION`]: NP, also NP id to DDR \[E\].
pub const AXI_NP: Field = Field::bits(19, 16);
/// [`REPEAT`]: spike repeat \[E\].
pub const REPEAT_COUNT: Field = Field::bits(1, 0);
/// [`REPEAT`]: first repeat destination \[E\].
pub const REPEAT_NP_0: Field = Field::bits(19, 16);
/// [`REPEAT`]: second \[E\].
pub const REPEAT_NP_1: Field = Field::bits(23, 20);
/// [`REPEAT`]: third \[E\].
pub const REPEAT_NP_2: Field = Field::bits(27, 24);
/// [`REPEAT`]: fourth \[E\].
pub const REPEAT_NP_3: Field = Field::bits(31, 28);
/// [`RESET`]: soft reset \[E\].
pub const SOFT_RESET: Field = Field::bit(0);
/// [`RESET`]: reset enable \[E\].
pub const RESET_ENABLE: Field = Field::bits(15, 8);

/// Every named field with its register's offset, for printing register blocks.
pub const FIELDS: &[(u32, &str, Field)] = &[
    (IDENTITY, "IDENTITY_VERSION", IDENTITY_VERSION),
    (IDENTITY, "FNP_INSTALLED", FNP_INSTALLED),
    (IDENTITY, "CNP_INSTALLED", CNP_INSTALLED),
    (IDENTITY, "NP_INDEX", NP_INDEX),
    (IDENTITY, "NP_COLUMN", NP_COLUMN),
    (IDENTITY, "NP_ROW", NP_ROW),
    (MODE, "FNP_MODE", FNP_MODE),
    (MODE, "STOP_CLOCK_ENABLE", STOP_CLOCK_ENABLE),
    (MODE, "LOW_POWER", LOW_POWER),
    (MODE, "CNP_SRAM_TO_FNP", CNP_SRAM_TO_FNP),
    (MODE, "LAYER_ID", LAYER_ID),
    (MODE, "FNP2_ID", FNP2_ID),
    (MODE, "NP_TO_NP", NP_TO_NP),
    (MODE, "PACKET_1BIT", PACKET_1BIT),
    (MODE, "PACKET_4FILTER", PACKET_4FILTER),
    (MODE, "CNPS_FOR_FNP", CNPS_FOR_FNP),
    (ERROR, "SEQUENCE_ERROR", SEQUENCE_ERROR),
    (ERROR, "SEQUENCE_ERROR_ENABLE", SEQUENCE_ERROR_ENABLE),
    (ERROR, "FC_ERROR", FC_ERROR),
    (ERROR, "FC_ERROR_ENABLE", FC_ERROR_ENABLE),
    (ERROR, "KEEP_INBOUND", KEEP_INBOUND),
    (ERROR, "INTERRUPT_NP", INTERRUPT_NP),
    (ERROR, "INTERRUPT_COLUMN", INTERRUPT_COLUMN),
    (ERROR, "INTERRUPT_ROW", INTERRUPT_ROW),
    (WIDTHS, "INBOUND_WIDTH", INBOUND_WIDTH),
    (WIDTHS, "SEPARABLE", SEPARABLE),
    (WIDTHS, "LOGIC_4BIT", LOGIC_4BIT),
    (WIDTHS, "FILTER_WIDTH", FILTER_WIDTH),
    (WIDTHS, "SIGNED_WEIGHTS", SIGNED_WEIGHTS),
    (WIDTHS, "POINTWISE_WIDTH", POINTWISE_WIDTH),
    (WIDTHS, "OUTBOUND_WIDTH", OUTBOUND_WIDTH),
    (WIDTHS, "OUTBOUND_QUANTIZE", OUTBOUND_QUANTIZE),
    (WIDTHS, "NUMBER_OF_NPS", NUMBER_OF_NPS),
    (WIDTHS, "NP_LAYER", NP_LAYER),
    (PACKET_SRAM, "PACKET_SRAM_SIZE", PACKET_SRAM_SIZE),
    (PACKET_SRAM, "PACKET_SRAM_INIT", PACKET_SRAM_INIT),
    (FIFO, "FIFO_SPACE_LIMIT", FIFO_SPACE_LIMIT),
    (FIFO, "FIFO_USED_LIMIT", FIFO_USED_LIMIT),
    (INPUT_SIZE, "II_SIZE", II_SIZE),
    (INPUT_SIZE, "II_OFFSET", II_OFFSET),
    (INPUT_SIZE, "JJ_SIZE", JJ_SIZE),
    (INPUT_SIZE, "JJ_OFFSET", JJ_OFFSET),
    (ORIGIN_CUT, "I_ORIGIN_CUT", I_ORIGIN_CUT),
    (ORIGIN_CUT, "I_STRIDE_OFFSET", I_STRIDE_OFFSET),
    (ORIGIN_CUT, "J_ORIGIN_CUT", J_ORIGIN_CUT),
    (ORIGIN_CUT, "J_STRIDE_OFFSET", J_STRIDE_OFFSET),
    (SIZE_CUT, "I_SIZE_CUT", I_SIZE_CUT),
    (SIZE_CUT, "J_SIZE_CUT", J_SIZE_CUT),
    (CONTAINER, "I_CONTAINER", I_CONTAINER),
    (CONTAINER, "CHANNEL_CONTAINER", CHANNEL_CONTAINER),
    (CONTAINER, "CHANNEL_SIZE", CHANNEL_SIZE),
    (CNP_TO_FNP, "CNP_TO_FNP_SIZE", CNP_TO_FNP_SIZE),
    (STOP_CLOCK, "STOP_CLOCK_DELAY", STOP_CLOCK_DELAY),
    (FNP_PACKET, "FNP_PACKET_SIZE", FNP_PACKET_SIZE),
    (FNP_PACKET, "FNP_PACKET_INIT", FNP_PACKET_INIT),
    (FNP_NEURONS, "FNP_NEURON_TOTAL", FNP_NEURON_TOTAL),
    (OUTBOUND, "NEURON_ORIGIN", NEURON_ORIGIN),
    (OUTBOUND, "OUTBOUND_TYPE", OUTBOUND_TYPE),
    (WEIGHT_BLOCKS, "LAST_BLOCK_SIZE", LAST_BLOCK_SIZE),
    (WEIGHT_BLOCKS, "BLOCK_COUNT", BLOCK_COUNT),
    (KERNEL, "POINTWISE_CONTAINER", POINTWISE_CONTAINER),
    (KERNEL, "CONV_STRIDE", CONV_STRIDE),
    (KERNEL, "FILTER_1X1_TOTAL", FILTER_1X1_TOTAL),
    (KERNEL, "KERNEL_TYPE", KERNEL_TYPE),
    (FILTERS, "FILTER_TOTAL", FILTER_TOTAL),
    (FILTERS, "PF_TOTAL", PF_TOTAL),
    (NF_TOTAL, "NF_COUNT", NF_COUNT),
    (NF_TOTAL, "POINTWISE_START", POINTWISE_START),
    (OUT_ORIGIN, "OUT_I_ORIGIN", OUT_I_ORIGIN),
    (OUT_ORIGIN, "OUT_J_ORIGIN", OUT_J_ORIGIN),
    (OUT_SIZE, "OUT_II_SIZE", OUT_II_SIZE),
    (OUT_SIZE, "OUT_JJ_SIZE", OUT_JJ_SIZE),
    (OUT_CHANNELS, "OUT_CHANNEL_ORIGIN", OUT_CHANNEL_ORIGIN),
    (OUT_CHANNELS, "OUT_FILTER_SIZE", OUT_FILTER_SIZE),
    (POOL, "POOL_SIZE", POOL_SIZE),
    (POOL, "POOL_STRIDE", POOL_STRIDE),
    (POOL, "POOL_GLOBAL", POOL_GLOBAL),
    (POOL, "PAD_RIGHT", PAD_RIGHT),
    (POOL, "PAD_LEFT", PAD_LEFT),
    (POOL, "PAD_BOTTOM", PAD_BOTTOM),
    (POOL, "PAD_TOP", PAD_TOP),
    (PACKET_CONTAINER, "PACKET_CONTAINER_SIZE", PACKET_CONTAINER_SIZE),
    (PACKET_CONTAINER, "PACKET_CHANNEL_CONTAINER", PACKET_CHANNEL_CONTAINER),
    (CHAIN, "CHAIN_ENABLE", CHAIN_ENABLE),
    (CHAIN, "OUTBOUND_LOOP", OUTBOUND_LOOP),
    (RECONFIGURATION, "PR_ENABLE", PR_ENABLE),
    (RECONFIGURATION, "PR_FNP_MODE", PR_FNP_MODE),
    (RECONFIGURATION, "PR_1BIT", PR_1BIT),
    (RECONFIGURATION, "PR_MERGING", PR_MERGING),
    (RECONFIGURATION, "PR_INBOUND_WIDTH", PR_INBOUND_WIDTH),
    (RECONFIGURATION, "PR_RECEIVE_LAYER", PR_RECEIVE_LAYER),
    (RECONFIGURATION_ORIGIN, "PR_I_ORIGIN", PR_I_ORIGIN),
    (RECONFIGURATION_ORIGIN, "PR_J_ORIGIN", PR_J_ORIGIN),
    (RECONFIGURATION_SIZE, "PR_I_SIZE", PR_I_SIZE),
    (RECONFIGURATION_SIZE, "PR_J_SIZE", PR_J_SIZE),
    (RECONFIGURATION_CONTAINER, "PR_I_CONTAINER", PR_I_CONTAINER),
    (RECONFIGURATION_CONTAINER, "PR_CHANNEL_CONTAINER", PR_CHANNEL_CONTAINER),
    (RECONFIGURATION_CONTAINER, "PR_CHANNEL_SIZE", PR_CHANNEL_SIZE),
    (LEARN_THRESHOLD, "LEARN_THRESHOLD_VALUE", LEARN_THRESHOLD_VALUE),
    (LEARN_THRESHOLD, "LEARN_MODE", LEARN_MODE),
    (LEARN_SWAPS, "MIN_SWAPS", MIN_SWAPS),
    (LEARN_SWAPS, "MAX_LOOP", MAX_LOOP),
    (LEARN_CLASS, "DELTA_SWAPS", DELTA_SWAPS),
    (LEARN_CLASS, "PACKET_CLASS", PACKET_CLASS),
    (LEARN_INPUTS, "INPUT_CHANNELS", INPUT_CHANNELS),
    (FEEDBACK, "FEEDBACK_BASE", FEEDBACK_BASE),
    (SPIKES, "SPIKES_POINT_TO_POINT", SPIKES_POINT_TO_POINT),
    (SPIKES, "SPLIT_SYNC", SPLIT_SYNC),
    (SPIKES, "EOP_TO_DMA", EOP_TO_DMA),
    (SPIKES, "SPIKE_WAIT", SPIKE_WAIT),
    (SPIKES, "SYNC_WAIT", SYNC_WAIT),
    (SPIKE_DESTINATION, "SPIKE_ROW", SPIKE_ROW),
    (SPIKE_DESTINATION, "SPIKE_COLUMN", SPIKE_COLUMN),
    (SPIKE_DESTINATION, "SPIKE_NP", SPIKE_NP),
    (SPIKE_DESTINATION, "SPIKE_LAYER", SPIKE_LAYER),
    (FC_DESTINATION, "FC_ROW", FC_ROW),
    (FC_DESTINATION, "FC_COLUMN", FC_COLUMN),
    (FC_DESTINATION, "FC_NP", FC_NP),
    (FC_DESTINATION, "FC_NP_OFFSET", FC_NP_OFFSET),
    (FC_DESTINATION, "FC_POINT_TO_POINT", FC_POINT_TO_POINT),
    (EOP_COLUMNS, "EOP_WEST_1", EOP_WEST_1),
    (EOP_COLUMNS, "EOP_EAST_1", EOP_EAST_1),
    (EOP_COLUMNS, "EOP_WEST_2", EOP_WEST_2),
    (EOP_COLUMNS, "EOP_EAST_2", EOP_EAST_2),
    (SYNC_COLUMNS, "SYNC_WEST", SYNC_WEST),
    (SYNC_COLUMNS, "SYNC_EAST", SYNC_EAST),
    (AXI_DESTINATION, "AXI_ROW", AXI_ROW),
    (AXI_DESTINATION, "AXI_COLUMN", AXI_COLUMN),
    (AXI_DESTINATION, "AXI_NP", AXI_NP),
    (REPEAT, "REPEAT_COUNT", REPEAT_COUNT),
    (REPEAT, "REPEAT_NP_0", REPEAT_NP_0),
    (REPEAT, "REPEAT_NP_1", REPEAT_NP_1),
    (REPEAT, "REPEAT_NP_2", REPEAT_NP_2),
    (REPEAT, "REPEAT_NP_3", REPEAT_NP_3),
    (RESET, "SOFT_RESET", SOFT_RESET),
    (RESET, "RESET_ENABLE", RESET_ENABLE),
];
