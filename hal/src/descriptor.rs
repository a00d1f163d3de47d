//! Descriptors of the three Akida DMAs, in both directions (hardware.md section 8.3).

use crate::regs::Field;

/// Words of a config or event descriptor: one ring slot of 32 bytes.
pub const WORDS: usize = 8;
/// Words of an HRC descriptor: 9 used, one ring slot of 64 bytes.
pub const HRC_WORDS: usize = 16;
/// The version every descriptor carries.
pub const VERSION: u32 = 1;
/// Most events of one job: (2^24 - 1) / 2.
pub const MAX_EVENTS: u32 = ((1 << 24) - 1) / 2;

const W0_VERSION: Field = Field::bits(3, 0);
const W0_NETWORK: Field = Field::bits(7, 4);
const W0_NO_OUTBOUND: Field = Field::bit(12);
const W0_NO_INBOUND: Field = Field::bit(13);
const W0_JOB: Field = Field::bits(31, 16);
const W0_DIRECTION: Field = Field::bits(31, 28);
const LOW: Field = Field::bits(15, 0);
const HIGH: Field = Field::bits(31, 16);
const EVENT_WORDS: Field = Field::bits(23, 0);
const LEARN_CLASS: Field = Field::bits(25, 16);
const MODE: Field = Field::bits(31, 30);

/// A number a job is known by, 16 bits, wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct JobId(pub u16);

impl JobId {
    /// The one after, 0 after 65535.
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A descriptor that cannot be encoded or is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// A value does not fit its field.
    #[error("descriptor field {field} cannot hold {value} (at most {limit})")]
    Field {
        /// Which.
        field: &'static str,
        /// What was asked for.
        value: u32,
        /// The largest value.
        limit: u32,
    },
    /// The version is not 1.
    #[error("descriptor version {version} instead of 1 (word 0 is {word:#010x})")]
    Version {
        /// What it says.
        version: u32,
        /// Word 0.
        word: u32,
    },
    /// The direction of a config descriptor is neither read nor write.
    #[error("config descriptor direction {direction} is neither 0 (read) nor 1 (write)")]
    Direction {
        /// What it says.
        direction: u32,
    },
}

fn fit(field: Field, name: &'static str, value: u32) -> Result<u32, DescriptorError> {
    if field.fits(value) {
        Ok(field.of(value))
    } else {
        Err(DescriptorError::Field { field: name, value, limit: field.max() })
    }
}

fn check_version(word: u32) -> Result<(), DescriptorError> {
    match W0_VERSION.get(word) {
        VERSION => Ok(()),
        version => Err(DescriptorError::Version { version, word }),
    }
}

/// Which way a config descriptor moves packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// NPs to memory.
    Read,
    /// Memory to NPs.
    Write,
}

/// One config DMA job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigDescriptor {
    /// Which way.
    pub direction: Direction,
    /// Device address of the packets (write) or of one header (read).
    pub input: u32,
    /// Words at `input`: the whole track, or 2.
    pub input_words: u16,
    /// Device address the words read go to; 0 for a write.
    pub output: u32,
}

impl ConfigDescriptor {
    /// Plays a track.
    ///
    /// # Errors
    /// When it has more than 65535 words.
    pub fn write(track: u32, words: usize) -> Result<Self, DescriptorError> {
        let error = |value| DescriptorError::Field { field: "input size", value, limit: LOW.max() };
        let input_words = u16::try_from(words).map_err(|_| error(u32::try_from(words).unwrap_or(u32::MAX)))?;
        Ok(Self { direction: Direction::Write, input: track, input_words, output: 0 })
    }

    /// Reads what the packet header at `header` names into `output`.
    pub fn read(header: u32, output: u32) -> Self {
        Self { direction: Direction::Read, input: header, input_words: 2, output }
    }

    /// The ring slot.
    pub fn encode(&self) -> [u32; WORDS] {
        let direction = match self.direction {
            Direction::Read => 0,
            Direction::Write => 1,
        };
        [
            W0_VERSION.of(VERSION) | W0_DIRECTION.of(direction),
            self.input,
            LOW.of(self.input_words.into()),
            self.output,
            0,
            0,
            0,
            0,
        ]
    }

    /// What a ring slot means.
    pub fn decode(words: &[u32; WORDS]) -> Result<Self, DescriptorError> {
        check_version(words[0])?;
        let direction = match W0_DIRECTION.get(words[0]) {
            0 => Direction::Read,
            1 => Direction::Write,
            direction => return Err(DescriptorError::Direction { direction }),
        };
        Ok(Self { direction, input: words[1], input_words: LOW.get(words[2]) as u16, output: words[3] })
    }
}

/// Word 0 of an event or HRC descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobHeader {
    /// Job id.
    pub job: JobId,
    /// Network id, 4 bits.
    pub network: u8,
    /// No interrupt when the output is written.
    pub no_outbound_interrupt: bool,
    /// No interrupt when the input is read; always set by the engine, it fires too early otherwise.
    pub no_inbound_interrupt: bool,
}

impl JobHeader {
    /// What the driver sends: the inbound interrupt is disabled (hardware.md section 20, trap 19).
    pub fn new(job: JobId) -> Self {
        Self { job, network: 0, no_outbound_interrupt: false, no_inbound_interrupt: true }
    }

    fn encode(&self) -> Result<u32, DescriptorError> {
        Ok(W0_VERSION.of(VERSION)
            | fit(W0_NETWORK, "network id", self.network.into())?
            | W0_NO_OUTBOUND.of(self.no_outbound_interrupt.into())
            | W0_NO_INBOUND.of(self.no_inbound_interrupt.into())
            | W0_JOB.of(self.job.0.into()))
    }

    fn decode(word: u32) -> Result<Self, DescriptorError> {
        check_version(word)?;
        Ok(Self {
            job: JobId(W0_JOB.get(word) as u16),
            network: W0_NETWORK.get(word) as u8,
            no_outbound_interrupt: W0_NO_OUTBOUND.any(word),
            no_inbound_interrupt: W0_NO_INBOUND.any(word),
        })
    }
}

/// One event DMA job: a list of input events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventDescriptor {
    /// Job id and interrupts.
    pub header: JobHeader,
    /// Device address of the events.
    pub input: u32,
    /// Words of events, two each, below 2^24.
    pub input_words: u32,
    /// Device address of the output buffer.
    pub output: u32,
    /// Label + 1, 0 for none; below 1024.
    pub learn_class: u16,
    /// Mode, 2 bits; 0.
    pub mode: u8,
}

impl EventDescriptor {
    /// The ring slot.
    pub fn encode(&self) -> Result<[u32; WORDS], DescriptorError> {
        let words = fit(EVENT_WORDS, "input words", self.input_words)?;
        let class = fit(LEARN_CLASS, "learn class", self.learn_class.into())?;
        let mode = fit(MODE, "mode", self.mode.into())?;
        Ok([self.header.encode()?, self.input, words, self.output, class | mode, 0, 0, 0])
    }

    /// What a ring slot means.
    pub fn decode(words: &[u32; WORDS]) -> Result<Self, DescriptorError> {
        Ok(Self {
            header: JobHeader::decode(words[0])?,
            input: words[1],
            input_words: EVENT_WORDS.get(words[2]),
            output: words[3],
            learn_class: LEARN_CLASS.get(words[4]) as u16,
            mode: MODE.get(words[4]) as u8,
        })
    }
}

/// One HRC DMA job: a dense input cut into windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HrcDescriptor {
    /// Job id and interrupts.
    pub header: JobHeader,
    /// Device address of the input; any byte.
    pub input: u32,
    /// Bytes of a row, 32 bits in two fields.
    pub row_bytes: u32,
    /// Rows.
    pub rows: u16,
    /// Bytes from a row to the next; 0 when the HRC is bypassed.
    pub next_row: u16,
    /// Bytes of a window's row; 0 when bypassed.
    pub window_row_bytes: u16,
    /// Rows of a window; 0 when bypassed.
    pub window_rows: u16,
    /// Window overlap left and right.
    pub overlap: u16,
    /// Padding disable left and right.
    pub padding_disable: u16,
    /// (x, y) offset.
    pub offset: [u16; 2],
    /// Device address of the output buffer.
    pub output: u32,
    /// Output container size, optional.
    pub container: u16,
    /// Learn group (class), below 1024.
    pub learn_class: u16,
}

impl HrcDescriptor {
    /// A dense input of `shape` (height, width, channels) with the program's window (height, width), as hardware.md
    /// section 8.3 fills it ("dense fill rule"). A window of 0 bypasses the HRC.
    ///
    /// # Errors
    /// When a size does not fit its field.
    pub fn dense(
        job: JobId,
        shape: [u32; 3],
        window: [u32; 2],
        input: u32,
        output: u32,
    ) -> Result<Self, DescriptorError> {
        let [height, width, channels] = shape;
        let [window_height, window_width] = window;
        let half = |field, value: u32| {
            u16::try_from(value).map_err(|_| DescriptorError::Field { field, value, limit: LOW.max() })
        };
        let bytes = |field, width: u32| {
            let limit = u32::MAX;
            width.checked_mul(channels).ok_or(DescriptorError::Field { field, value: width, limit })
        };
        let windowed = window_width != 0 && window_height != 0;
        let (row, rows) = if windowed { (window_width, window_height) } else { (width, height) };
        Ok(Self {
            header: JobHeader::new(job),
            input,
            row_bytes: bytes("row bytes", row)?,
            rows: half("rows", rows)?,
            next_row: if windowed { half("next row offset", bytes("next row offset", width)?)? } else { 0 },
            window_row_bytes: if windowed { half("window row bytes", bytes("window row bytes", row)?)? } else { 0 },
            window_rows: if windowed { half("window rows", rows)? } else { 0 },
            overlap: 0,
            padding_disable: 0,
            offset: [0, 0],
            output,
            container: 0,
            learn_class: 0,
        })
    }

    /// The ring slot.
    pub fn encode(&self) -> Result<[u32; HRC_WORDS], DescriptorError> {
        let pair = |low: u16, high: u16| LOW.of(low.into()) | HIGH.of(high.into());
        let mut words = [0; HRC_WORDS];
        words[0] = self.header.encode()?;
        words[1] = self.input;
        words[2] = LOW.of(self.row_bytes) | HIGH.of(self.rows.into());
        words[3] = LOW.of(self.next_row.into()) | HIGH.of(self.row_bytes >> 16);
        words[4] = pair(self.window_row_bytes, self.window_rows);
        words[5] = pair(self.overlap, self.padding_disable);
        words[6] = pair(self.offset[0], self.offset[1]);
        words[7] = self.output;
        words[8] = LOW.of(self.container.into()) | fit(LEARN_CLASS, "learn class", self.learn_class.into())?;
        Ok(words)
    }

    /// What a ring slot means.
    pub fn decode(words: &[u32; HRC_WORDS]) -> Result<Self, DescriptorError> {
        let low = |i: usize| LOW.get(words[i]) as u16;
        let high = |i: usize| HIGH.get(words[i]) as u16;
        Ok(Self {
            header: JobHeader::decode(words[0])?,
            input: words[1],
            row_bytes: LOW.get(words[2]) | HIGH.get(words[3]) << 16,
            rows: high(2),
            next_row: low(3),
            window_row_bytes: low(4),
            window_rows: high(4),
            overlap: low(5),
            padding_disable: high(5),
            offset: [low(6), high(6)],
            output: words[7],
            container: low(8),
            learn_class: LEARN_CLASS.get(words[8]) as u16,
        })
    }

    /// Bytes of input the job reads: from the first byte to the end of the last row.
    pub fn input_bytes(&self) -> u64 {
        let stride = if self.next_row == 0 { self.row_bytes } else { self.next_row.into() };
        match self.rows {
            0 => 0,
            rows => u64::from(stride) * (u64::from(rows) - 1) + u64::from(self.row_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn config_round_trips(write: bool, input: u32, input_words: u16, output: u32) {
            let direction = if write { Direction::Write } else { Direction::Read };
            let descriptor = ConfigDescriptor { direction, input, input_words, output };
            prop_assert_eq!(ConfigDescriptor::decode(&descriptor.encode())?, descriptor);
        }

        #[test]
        fn event_round_trips(job: u16, input: u32, input_words in 0u32..1 << 24, output: u32, class in 0u16..1024) {
            let header = JobHeader::new(JobId(job));
            let descriptor = EventDescriptor { header, input, input_words, output, learn_class: class, mode: 0 };
            prop_assert_eq!(EventDescriptor::decode(&descriptor.encode()?)?, descriptor);
        }

        #[test]
        fn dense_round_trips(job: u16, shape in [1u32..300, 1u32..300, 1u32..64], input: u32, output: u32) {
            for window in [[0, 0], [shape[0], shape[1]]] {
                let descriptor = HrcDescriptor::dense(JobId(job), shape, window, input, output)?;
                prop_assert_eq!(HrcDescriptor::decode(&descriptor.encode()?)?, descriptor);
                prop_assert_eq!(descriptor.input_bytes(), shape.iter().map(|d| u64::from(*d)).product::<u64>());
            }
        }
    }

    /// Word by word, for the 96 x 96 x 3 input of a vendor program.
    #[test]
    fn dense_words_are_those_of_the_fill_rule() {
        let words = HrcDescriptor::dense(JobId(5), [96, 96, 3], [96, 96], 0x2400_0001, 0x2500_0000)
            .and_then(|d| d.encode())
            .expect("fits");
        assert_eq!(words[..9], [0x0005_2001, 0x2400_0001, 96 << 16 | 288, 288, 96 << 16 | 288, 0, 0, 0x2500_0000, 0]);
        let bypass = HrcDescriptor::dense(JobId(5), [2, 40000, 2], [0, 0], 0, 0).expect("fits");
        assert_eq!(bypass.encode().expect("fits")[2..5], [2 << 16 | (80000 & 0xFFFF), 1 << 16, 0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(ConfigDescriptor::write(0, 65536).is_err());
        assert!(HrcDescriptor::dense(JobId(0), [70000, 1, 1], [0, 0], 0, 0).is_err());
        assert!(HrcDescriptor::dense(JobId(0), [1, 70000, 1], [1, 70000], 0, 0).is_err());
        assert_eq!(ConfigDescriptor::decode(&[0; 8]), Err(DescriptorError::Version { version: 0, word: 0 }));
        let two = [0x2000_0001, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(ConfigDescriptor::decode(&two), Err(DescriptorError::Direction { direction: 2 }));
    }
}
