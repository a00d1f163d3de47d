//! One channel of the DMA engine: its lists in device memory, and a transfer from doorbell to end.

use super::TransportOptions;
use super::engine::{ChannelId, Engine, Progress};
use super::io::Io;
use super::list::{self, Kept, Piece};
use super::mailbox::Mailbox;
use crate::board::Bar;
use crate::device::Completion;
use crate::dma::DmaBuffer;
use crate::wait::{Between, Wait};
use crate::{Error, Result};

/// What one channel owns.
pub struct Channel {
    pub id: ChannelId,
    /// Device address of its list region, and the offset of that in BAR4.
    base: u32,
    offset: u32,
    /// Lists that are in the region.
    kept: Kept,
    /// Mapped at first use.
    pub bounce: Option<DmaBuffer>,
}

/// What a transfer needs beside its channel.
pub struct Road<'a> {
    pub io: &'a Io,
    pub engine: &'a dyn Engine,
    pub options: &'a TransportOptions,
    pub mailbox: Option<&'a Mailbox>,
}

impl Channel {
    /// `offset` is that of its list region of `len` bytes, which BAR4 shows and the device sees from `base` on.
    pub fn new(id: ChannelId, base: u32, offset: u32, len: u32) -> Self {
        Self { id, base, offset, kept: Kept::new(len), bounce: None }
    }

    /// Moves pieces, as many lists as it takes, and calls `ringing` before each doorbell. After an error the channel may still
    /// run.
    pub fn run(&mut self, road: &Road<'_>, pieces: &[Piece], mut ringing: impl FnMut()) -> Result<()> {
        // After a reset nobody knows what memory holds.
        self.kept.since(road.io.board.generation());
        let result = pieces.chunks(self.kept.capacity()).try_for_each(|part| {
            self.start(road, part)?;
            ringing();
            self.finish(road, part)
        });
        if result.is_err() {
            self.kept.forget();
        }
        result
    }

    /// Everything up to the doorbell. A list that an earlier transfer left there is not written again.
    fn start(&mut self, road: &Road<'_>, pieces: &[Piece]) -> Result<()> {
        let Road { io, engine, options, .. } = *road;
        // Done is told at the last data element; the engine may not have reached the link behind it yet.
        let what = format_args!("DMA {} idle", self.id);
        Wait::new(&*io.board, what, options.timeout)
            .until(|| Ok(u32::from(engine.running(io, self.id)?)), |running| running == 0)?;
        let place = match self.kept.find(pieces) {
            Some(place) => place,
            None => {
                let place = self.kept.place(pieces.len());
                self.write(road, place, pieces)?;
                // Unless all of it was read back it might be anything.
                if options.read_back {
                    self.kept.keep(place, pieces);
                }
                place
            }
        };
        let list = self.base + place;
        engine.load(io, self.id, list)?;
        if options.read_back {
            let loaded = engine.loaded(io, self.id)?;
            if loaded != list {
                return Err(self.differs(io, "pointer", 0, list, loaded));
            }
        }
        Ok(())
    }

    /// Writes to BAR4 are posted: reading back makes sure that the list is in memory before the doorbell. The kernel driver
    /// reads one word; all of them show one that got lost, which would move other bytes than asked for.
    fn write(&self, road: &Road<'_>, place: u32, pieces: &[Piece]) -> Result<()> {
        let words = list::image(pieces, self.id.way, self.base + place);
        let at = |offset: &u32| self.offset + place + offset;
        for (offset, value) in &words {
            road.io.write(Bar::Bar4, at(offset), *value)?;
        }
        let all = road.options.read_back;
        for (offset, value) in words.iter().filter(|(offset, _)| all || *offset == 0) {
            let read = road.io.read(Bar::Bar4, at(offset))?;
            if read != *value {
                return Err(self.differs(road.io, "linked list", *offset, *value, read));
            }
        }
        Ok(())
    }

    fn differs(&self, io: &Io, what: &str, offset: u32, wrote: u32, read: u32) -> Error {
        Error::ReadBack {
            board: io.name(),
            what: format!("{what} of DMA {}", self.id),
            offset: offset.into(),
            wrote,
            read,
        }
    }

    /// From the doorbell to the end.
    fn finish(&self, road: &Road<'_>, pieces: &[Piece]) -> Result<()> {
        let Road { io, engine, options, mailbox } = *road;
        let id = self.id;
        let expected = mailbox.map(|m| m.expect(engine.message(id))).transpose()?;
        let by_message = expected.as_ref().is_some_and(|e| e.counts());
        // Only the message tells this list's end from that of the one before, should its acknowledgement have got lost.
        if options.read_back && !by_message && engine.progress(id, engine.status(io, id)?) != Progress::Running {
            engine.acknowledge(io, id)?;
            engine.status(io, id)?;
        }
        engine.ring(io, id)?;
        let came = expected.as_ref().map_or(Ok(false), |e| e.wait(&*io.board))?;
        let between = match options.completion {
            Completion::Poll => Between::Pause,
            Completion::Interrupt => Between::Interrupt,
        };
        let what = format_args!("end of DMA {id}");
        let mut looks = 0u32;
        let mut look = || {
            looks += 1;
            engine.status(io, id)
        };
        let wait = Wait { between, ..Wait::new(&*io.board, what, options.timeout) };
        let ended = |s| engine.progress(id, s) != Progress::Running;
        let mut status = wait.until(&mut look, ended)?;
        if let Some(expected) = expected.filter(|_| by_message && !came && looks == 1) {
            // Done without a message: a message that got lost, or the end of the list before.
            if engine.running(io, id)? {
                engine.acknowledge(io, id)?;
                status = wait.until(|| engine.status(io, id), ended)?;
            } else {
                expected.missed();
            }
        }
        if engine.progress(id, status) == Progress::Aborted {
            let first = pieces.first();
            return Err(Error::DmaAbort {
                board: io.name(),
                channel: id.to_string(),
                iova: first.map_or(0, |p| p.host),
                address: first.map_or(0, |p| p.device),
                len: pieces.iter().map(|p| u64::from(p.len)).sum(),
                status: engine.error_status(io, id)?,
            });
        }
        engine.acknowledge(io, id)
    }
}
