//! The frames a temporal convolution remembers (quantization.md 5.8).

use crate::RunError;

/// The last frames of one tensor, held as one tensor with the frames one after another in the channels, oldest first.
/// Zero until written.
#[derive(Clone, Debug)]
pub struct Fifo {
    frames: usize,
    channels: usize,
    data: Vec<u8>,
}

impl Fifo {
    /// Room for `frames` frames of (height, width, channels).
    pub fn new(frames: usize, [height, width, channels]: [usize; 3]) -> Self {
        Self { frames, channels, data: vec![0; frames * height * width * channels] }
    }

    /// Drops the oldest frame and appends the newest; gives (height, width, frames * channels).
    pub fn push(&mut self, frame: &[u8]) -> Result<&[u8], RunError> {
        let expected = self.data.len() / self.frames.max(1);
        if frame.len() != expected {
            return Err(RunError::Length { what: "frame", got: frame.len(), expected });
        }
        let pixel = self.frames * self.channels;
        if pixel > 0 {
            for (held, new) in self.data.chunks_exact_mut(pixel).zip(frame.chunks_exact(self.channels)) {
                held.copy_within(self.channels.., 0);
                held[pixel - self.channels..].copy_from_slice(new);
            }
        }
        Ok(&self.data)
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.data.fill(0);
    }
}
