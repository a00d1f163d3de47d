//! Several streams of frames on one board.
//!
//! Temporal layers keep the last frames of their input, on the board or on the host: one set of them. Whoever feeds several
//! streams in turns holds a [`Stream`] for each. It remembers the frames that the network can still see; when another
//! stream was on the board before, the session starts anew and shows it these again, which brings back exactly the state
//! it had. That costs [`Session::memory`] inferences for a change of streams, and none as long as a stream goes on.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::SessionError;
use super::inputs::Inputs;
use super::values::{Batch, Outputs};
use super::{Detail, Session};
use crate::model::{LayerKind, Model};

/// Numbers of streams, over all sessions: a stream of another session is none of this one's.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A stream of frames, and what the network remembers of it.
#[derive(Clone, Debug)]
pub struct Stream {
    id: u64,
    /// The latest frames, as they enter the first layer, oldest first.
    frames: VecDeque<Vec<u8>>,
}

impl Stream {
    /// Forgets all frames: the stream begins anew.
    pub fn reset(&mut self) {
        self.frames.clear();
        // What a session has of it is of before.
        self.id = NEXT.fetch_add(1, Ordering::Relaxed);
    }

    /// How many frames it remembers.
    pub fn remembered(&self) -> usize {
        self.frames.len()
    }
}

impl Model {
    /// How many earlier frames of its input a result depends on: over the layers in a row, a FIFO of T frames adds T - 1.
    pub fn memory(&self) -> usize {
        let mut reach = vec![0usize; self.layers.len() + 1];
        for (index, layer) in self.layers.iter().enumerate() {
            let before = layer.inputs.iter().map(|&tensor| reach[tensor]).max().unwrap_or(0);
            let own = match &layer.kind {
                LayerKind::Conv(conv) if conv.kind.temporal() => conv.fifo.saturating_sub(1),
                _ => 0,
            };
            reach[index + 1] = before + own;
        }
        reach.into_iter().max().unwrap_or(0)
    }
}

impl Session {
    /// A new stream without frames.
    pub fn stream(&self) -> Stream {
        Stream { id: NEXT.fetch_add(1, Ordering::Relaxed), frames: VecDeque::new() }
    }

    /// How many earlier frames a result depends on.
    pub fn memory(&self) -> usize {
        self.model.memory()
    }

    /// Infers the next frames of a stream, whatever was inferred in between. After an error the stream is as it was before
    /// these frames, and may go on.
    ///
    /// # Errors
    /// As [`Session::infer`].
    pub fn infer_stream(&mut self, stream: &mut Stream, batch: Batch<'_>) -> Result<Outputs, SessionError> {
        let memory = self.model.memory();
        let model = self.model.clone();
        let inputs = Inputs::new(&model, batch)?;
        let frames: Vec<Vec<u8>> =
            (0..inputs.len()).map(|n| inputs.get(n).map(Cow::into_owned)).collect::<Result<_, _>>()?;
        if memory > 0 && self.streaming != Some(stream.id) {
            self.reset();
            if !stream.frames.is_empty() {
                let seen: Vec<Vec<u8>> = stream.frames.iter().cloned().collect();
                self.run(Batch::Bytes(&seen), Detail::Outputs)?;
            }
        }
        self.streaming = None;
        let outputs = self.infer_with(Batch::Bytes(&frames), Detail::Outputs)?;
        self.streaming = Some(stream.id);
        stream.frames.extend(frames);
        while stream.frames.len() > memory {
            stream.frames.pop_front();
        }
        Ok(outputs)
    }
}
