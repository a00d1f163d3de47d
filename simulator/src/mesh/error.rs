//! Why a mesh refuses a packet, a network or a job. The board turns it into error status.

use akida_hal::mesh::{NpAddress, NpTypes};
use akida_hal::np::NpError;
use akida_hal::packet::{Target, Uid};

use akida_kernels::{PrepareError, RunError};

use super::io::MemoryFault;

/// A refused packet, network or job.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// No component at this address.
    #[error("{np} does not exist on this mesh")]
    NoSuchNp {
        /// The address.
        np: NpAddress,
    },
    /// The component has no such memory.
    #[error("{np} has no memory for packets of kind {uid:?}")]
    NoSuchMemory {
        /// The component.
        np: NpAddress,
        /// The UID asked for.
        uid: Uid,
    },
    /// Words outside a memory.
    #[error("{memory} of {np}: words {start}..{start}+{length} are not inside 0..{size}")]
    OutOfRange {
        /// Which memory.
        memory: &'static str,
        /// Whose.
        np: NpAddress,
        /// First word.
        start: usize,
        /// Words.
        length: usize,
        /// Words of the memory.
        size: usize,
    },
    /// Header and payload disagree.
    #[error("the packet announces {expected} words and carries {got}")]
    Payload {
        /// Announced.
        expected: usize,
        /// Carried.
        got: usize,
    },
    /// A config read names one component.
    #[error("a config read of {target} must name one component")]
    ReadOfSeveral {
        /// Who was named.
        target: Target,
    },
    /// No NP has a layer id.
    #[error("nothing is configured on this mesh")]
    NothingConfigured,
    /// Registers or memories of an NP make no sense.
    #[error("{np}: {source}")]
    Np {
        /// Which.
        np: NpAddress,
        /// Why.
        source: NpError,
    },
    /// The NP is not of a type that can do this.
    #[error("{np} is {types:?} and cannot run layer {layer}: {needs}")]
    WrongType {
        /// Which.
        np: NpAddress,
        /// What it is.
        types: NpTypes,
        /// The layer.
        layer: u8,
        /// What it would have to be.
        needs: &'static str,
    },
    /// A layer does not fit an SRAM.
    #[error("{np}: {memory} needs {needed} bytes and has {size}")]
    DoesNotFit {
        /// Which.
        np: NpAddress,
        /// Which memory.
        memory: &'static str,
        /// Bytes needed.
        needed: usize,
        /// Bytes there are.
        size: usize,
    },
    /// The parts of a layer do not fit together.
    #[error("layer {layer}: {what}")]
    Layer {
        /// The layer.
        layer: u8,
        /// What is wrong.
        what: String,
    },
    /// What an NP's registers and memories hold cannot be computed.
    #[error("{np}: {source}")]
    Arithmetic {
        /// Which.
        np: NpAddress,
        /// Why.
        source: PrepareError,
    },
    /// A layer could not be computed.
    #[error("layer {layer}: {source}")]
    Run {
        /// The layer.
        layer: u8,
        /// Why.
        source: RunError,
    },
    /// A job's input of the wrong length.
    #[error("the input has {got} {unit}, the network takes {expected}")]
    InputLength {
        /// What was counted.
        unit: &'static str,
        /// How many there were.
        got: usize,
        /// How many there must be.
        expected: usize,
    },
    /// A value that has too many bits.
    #[error("input element {index} is {value}, the network takes {bits}-bit elements")]
    InputValue {
        /// Its number, row-major (height, width, channels).
        index: usize,
        /// Its value.
        value: i16,
        /// Bits of an element.
        bits: u8,
    },
    /// External weights could not be read.
    #[error("weights of {np}: {source}")]
    External {
        /// Whose.
        np: NpAddress,
        /// Why.
        source: MemoryFault,
    },
}
