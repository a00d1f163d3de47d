//! What a call of a hybrid session gives.

use std::time::Duration;

use akida_hal::board::Identity;

use super::HostValues;
use crate::session::Outputs;

/// Results of a call, in the order of the batch.
#[derive(Clone, Debug)]
pub struct HybridOutputs {
    /// The board that computed the board parts.
    pub board: Identity,
    /// For each output of the network: (batch, ...).
    pub outputs: Vec<HostValues>,
    /// For each part, in order.
    pub parts: Vec<PartResults>,
    /// The whole call, host time.
    pub elapsed: Duration,
}

/// What one part did.
#[derive(Clone, Debug)]
pub enum PartResults {
    /// A board part.
    Board {
        /// The bytes that entered its first layer, by sample, in (height, width, channels) order; empty where it takes
        /// the network's input, whose bytes the caller has.
        inputs: Vec<Vec<u8>>,
        /// Its outputs: floats, integers, layers, and where the time went.
        outputs: Box<Outputs>,
    },
    /// A host segment.
    Host {
        /// Host time for all samples.
        computing: Duration,
    },
}
