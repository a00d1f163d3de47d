//! Cutting a transfer into linked lists (hardware.md section 3.2).

use zerocopy::IntoBytes;

use super::Segment;
use super::engine::Way;
use crate::regs::edma::ChannelControl;
use crate::regs::lists::{DataElement, LinkElement, SLOT};

/// One contiguous piece: what a data element says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub host: u64,
    pub device: u32,
    pub len: u32,
}

/// The pieces of a transfer, none longer than `limit` bytes.
pub fn pieces(segments: &[Segment<'_>], limit: u32) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for segment in segments {
        let mut done = 0;
        while done < segment.len {
            let len = (segment.len - done).min(limit as usize);
            pieces.push(Piece {
                host: segment.buffer.iova() + (segment.offset + done) as u64,
                device: segment.address + done as u32,
                len: len as u32,
            });
            done += len;
        }
    }
    pieces
}

/// A list image: 32-bit words with their offset in the list region, in the order in which they are to be written. The
/// control word of an element comes last, so that the engine never sees half an element.
pub fn image(pieces: &[Piece], way: Way, list: u32, cycle: bool) -> Vec<(u32, u32)> {
    let mut words = Vec::with_capacity(pieces.len() * 6 + 4);
    for (i, piece) in pieces.iter().enumerate() {
        let mut control = ChannelControl::empty();
        control.set(ChannelControl::CYCLE, cycle);
        if i + 1 == pieces.len() {
            control |= ChannelControl::LOCAL_INTERRUPT | ChannelControl::REMOTE_INTERRUPT;
        }
        let (source, destination) = match way {
            Way::ToDevice => (piece.host, piece.device.into()),
            Way::ToHost => (piece.device.into(), piece.host),
        };
        let element = DataElement::new(control, piece.len, source, destination);
        push(&mut words, i as u32 * SLOT, element.as_bytes());
    }
    let mut control = ChannelControl::LINK | ChannelControl::TOGGLE_CYCLE;
    control.set(ChannelControl::CYCLE, !cycle);
    push(&mut words, pieces.len() as u32 * SLOT, LinkElement::new(control, list.into()).as_bytes());
    words
}

fn push(words: &mut Vec<(u32, u32)>, at: u32, element: &[u8]) {
    let (chunks, _) = element.as_chunks::<4>();
    let word = |i: usize| (at + i as u32 * 4, u32::from_le_bytes(chunks[i]));
    words.extend((1..chunks.len()).map(word));
    words.push(word(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The single-element list of hardware.md section 16.3.
    #[test]
    fn one_element_is_that_of_the_reference_sequence() {
        let piece = Piece { host: 0x1_0000_2000, device: 0x2400_0000, len: 1024 };
        let words = image(&[piece], Way::ToDevice, 0x2000_0080, true);
        let expected = [
            (4, 1024),
            (8, 0x2000),
            (12, 1),
            (16, 0x2400_0000),
            (20, 0),
            (0, 0x19),
            (28, 0),
            (32, 0x2000_0080),
            (36, 0),
            (24, 0x6),
        ];
        assert_eq!(words, expected);
        let back = image(&[piece], Way::ToHost, 0x2000_0000, true);
        assert_eq!(back[1..5], [(8, 0x2400_0000), (12, 0), (16, 0x2000), (20, 1)]);
    }

    #[test]
    fn only_the_last_element_interrupts_and_cycle_bits_alternate() {
        let piece = Piece { host: 0, device: 0, len: 1 };
        let controls = |cycle| -> Vec<u32> {
            let words = image(&[piece; 3], Way::ToHost, 0, cycle);
            words.iter().filter(|(at, _)| at % SLOT == 0).map(|(_, w)| *w).collect()
        };
        assert_eq!(controls(true), [0x1, 0x1, 0x19, 0x6]);
        assert_eq!(controls(false), [0x0, 0x0, 0x18, 0x7]);
    }
}
