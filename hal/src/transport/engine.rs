//! What the two DMA engines have in common, as the transport needs it.

use std::time::Duration;

use super::io::Io;
use super::msi::Message;
use crate::Result;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Host to device: the engine's read channels.
    ToDevice,
    /// Device to host: the engine's write channels.
    ToHost,
}

/// A channel of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelId {
    pub way: Way,
    pub number: u32,
}

impl std::fmt::Display for ChannelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = match self.way {
            Way::ToDevice => "read",
            Way::ToHost => "write",
        };
        write!(f, "{side} {}", self.number)
    }
}

/// How a transfer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Running,
    Done,
    Aborted,
}

/// Messages an engine can be given: one a channel.
pub const MESSAGES: usize = 4;

/// Time a channel gets to stop after its engine was switched off.
pub const HALT_LIMIT: Duration = Duration::from_millis(100);

/// A DMA engine. Callers hold the channel's lock; what channels share is locked inside.
pub trait Engine: Send + Sync {
    /// Channels per direction that may be used.
    fn channels(&self) -> usize;
    /// Which message of [`arm`](Self::arm) a channel's end sends; channels may share one.
    fn message(&self, channel: ChannelId) -> usize;
    /// The idle state: everything masked, cleared, off.
    fn quiet(&self, io: &Io) -> Result<()>;
    /// From idle to ready for lists; `messages` are what the engine writes at the end of each, by [`message`](Self::message).
    fn arm(&self, io: &Io, messages: &[Message; MESSAGES]) -> Result<()>;
    /// Whether the channel still works on a list; its list must not be changed then.
    fn running(&self, io: &Io, channel: ChannelId) -> Result<bool>;
    /// Points the channel at the start of a list with cycle bit 1.
    fn load(&self, io: &Io, channel: ChannelId, list: u32) -> Result<()>;
    /// Where it points, read from the device: right after [`load`](Self::load) what was asked for.
    fn loaded(&self, io: &Io, channel: ChannelId) -> Result<u32>;
    /// Starts.
    fn ring(&self, io: &Io, channel: ChannelId) -> Result<()>;
    /// The raw status word of a channel.
    fn status(&self, io: &Io, channel: ChannelId) -> Result<u32>;
    /// What that word means.
    fn progress(&self, channel: ChannelId, status: u32) -> Progress;
    /// Takes done and abort back.
    fn acknowledge(&self, io: &Io, channel: ChannelId) -> Result<()>;
    /// Error status for messages, 0 where there is none.
    fn error_status(&self, io: &Io, channel: ChannelId) -> Result<u32>;
    /// Switches the channel off. Other channels of its direction may be stopped with it: the caller holds them all.
    fn halt(&self, io: &Io, channel: ChannelId) -> Result<()>;
}
