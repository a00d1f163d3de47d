//! Cutting a transfer into linked lists (hardware.md section 3.2), and what of them is left in device memory.

use std::collections::VecDeque;
use std::ops::Range;

use zerocopy::IntoBytes;

use super::Segment;
use super::engine::Way;
use crate::regs::edma::ChannelControl;
use crate::regs::lists::{self, DataElement, LinkElement, SLOT};

/// One contiguous piece: what a data element says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub host: u64,
    pub device: u32,
    pub len: u32,
}

/// The pieces of a transfer, none longer than `limit` bytes. Segments that continue each other on both sides are one.
pub fn pieces(segments: &[Segment<'_>], limit: u32) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::with_capacity(segments.len());
    for segment in segments {
        let mut done = 0;
        while done < segment.len {
            let (host, device) =
                (segment.buffer.iova() + (segment.offset + done) as u64, segment.address + done as u32);
            let room = match pieces.last_mut() {
                Some(last) if last.host + u64::from(last.len) == host && last.device + last.len == device => {
                    let len = (segment.len - done).min((limit - last.len.min(limit)) as usize);
                    last.len += len as u32;
                    len
                }
                _ => 0,
            };
            done += room;
            if room == 0 {
                let len = (segment.len - done).min(limit as usize);
                pieces.push(Piece { host, device, len: len as u32 });
                done += len;
            }
        }
    }
    pieces
}

/// Lists that are in a channel's region from earlier transfers, one behind the other. Jobs that follow each other move the same
/// pieces again and again: what is there need not be written again.
pub struct Kept {
    /// Bytes of the region.
    len: u32,
    /// In the order in which they were written: where, and what of.
    lists: VecDeque<(Range<u32>, Vec<Piece>)>,
    /// Where the next one goes, a multiple of an element's length so that elements of all lists are in step.
    next: u32,
    generation: u64,
}

/// Lists that are kept at most. Jobs that come one by one take a list for each slot of their ring, which has twice as many as may be
/// in flight.
const MOST: usize = 64;

/// Bytes of a list, its link element included.
fn bytes(pieces: usize) -> u32 {
    (pieces as u32 + 1) * SLOT
}

impl Kept {
    pub fn new(len: u32) -> Self {
        Self { len, lists: VecDeque::new(), next: 0, generation: 0 }
    }

    /// Most pieces of one list.
    pub fn capacity(&self) -> usize {
        lists::capacity(self.len).max(1) as usize
    }

    /// What was kept before a reset is not.
    pub fn since(&mut self, generation: u64) {
        if self.generation != generation {
            self.forget();
            self.generation = generation;
        }
    }

    pub fn forget(&mut self) {
        self.lists.clear();
    }

    /// Where a list of these pieces is.
    pub fn find(&self, pieces: &[Piece]) -> Option<u32> {
        self.lists.iter().find(|(_, kept)| kept == pieces).map(|(place, _)| place.start)
    }

    /// Where a list of so many pieces may be written. What was there is forgotten.
    pub fn place(&mut self, pieces: usize) -> u32 {
        let start = if self.next + bytes(pieces) > self.len { 0 } else { self.next };
        let end = start + bytes(pieces);
        self.lists.retain(|(place, _)| place.end <= start || end <= place.start);
        self.next = end;
        start
    }

    /// The list at a place that [`place`](Self::place) named is whole.
    pub fn keep(&mut self, start: u32, pieces: &[Piece]) {
        if self.lists.len() == MOST {
            self.lists.pop_front();
        }
        self.lists.push_back((start..start + bytes(pieces.len()), pieces.to_vec()));
    }
}

/// A list image: 32-bit words with their offset in the list region, in the order in which they are to be written. The
/// control word of an element comes last, so that the engine never sees half an element. All cycle bits are 1: each list is
/// started anew.
pub fn image(pieces: &[Piece], way: Way, list: u32) -> Vec<(u32, u32)> {
    let mut words = Vec::with_capacity(pieces.len() * 6 + 4);
    for (i, piece) in pieces.iter().enumerate() {
        let mut control = ChannelControl::CYCLE;
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
    let control = ChannelControl::LINK | ChannelControl::TOGGLE_CYCLE;
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
        let words = image(&[piece], Way::ToDevice, 0x2000_0080);
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
        let back = image(&[piece], Way::ToHost, 0x2000_0000);
        assert_eq!(back[1..5], [(8, 0x2400_0000), (12, 0), (16, 0x2000), (20, 1)]);
    }

    #[test]
    fn only_the_last_element_interrupts() {
        let piece = Piece { host: 0, device: 0, len: 1 };
        let words = image(&[piece; 3], Way::ToHost, 0);
        let controls: Vec<u32> = words.iter().filter(|(at, _)| at % SLOT == 0).map(|(_, w)| *w).collect();
        assert_eq!(controls, [0x1, 0x1, 0x19, 0x6]);
    }

    fn some(first: u32, n: u32) -> Vec<Piece> {
        (first..first + n).map(|i| Piece { host: u64::from(i) << 12, device: i, len: 4 }).collect()
    }

    #[test]
    fn lists_are_kept_until_their_place_is_needed_or_memory_is_not_trusted() {
        let mut kept = Kept::new(0x1000);
        let add = |kept: &mut Kept, pieces: &[Piece]| {
            let place = kept.place(pieces.len());
            kept.keep(place, pieces);
            place
        };
        // 25 lists of 6 slots each take 3,600 of 4,096 bytes, one of 19 slots 456 more; what comes then begins anew.
        let lists: Vec<_> = (0..25).map(|i| some(i, 5)).collect();
        let places: Vec<u32> = lists.iter().map(|l| add(&mut kept, l)).collect();
        assert!(places.iter().all(|p| p % SLOT == 0 && p + bytes(5) <= 0x1000), "{places:x?}");
        for (list, place) in lists.iter().zip(&places) {
            assert_eq!(kept.find(list), Some(*place));
        }
        assert_eq!(kept.find(&some(0, 2)), None, "part of another list");
        let last = add(&mut kept, &some(100, 18));
        assert!(last == places[24] + bytes(5) && kept.find(&lists[0]).is_some(), "there is room behind all others");
        assert_eq!(add(&mut kept, &some(200, 6)), 0);
        let there = [0, 1, 2].map(|i| kept.find(&lists[i]).is_some());
        assert_eq!(there, [false, false, true], "those give way that lie where it does");
        // The whole region: nothing else is left.
        let (whole, capacity) = (some(300, 169), kept.capacity());
        assert_eq!((capacity, add(&mut kept, &whole)), (169, 0));
        assert!(kept.lists.len() == 1 && kept.find(&whole) == Some(0));
        assert_eq!(add(&mut kept, &lists[2]), 0, "begins anew");
        assert_eq!(kept.find(&whole), None);
        for list in 0..MOST as u32 {
            kept.keep(0, &some(list, 1));
        }
        assert!(kept.lists.len() == MOST && kept.find(&lists[2]).is_none(), "the oldest of too many");
        add(&mut kept, &lists[2]);
        kept.since(1);
        assert_eq!(kept.find(&lists[2]), None, "after a reset");
    }

    #[test]
    fn what_continues_on_both_sides_is_one_piece() -> crate::Result<()> {
        struct Nobody;
        impl crate::dma::Unmap for Nobody {
            fn unmap(&self, _: u64, _: usize) {}
        }
        let memory = std::sync::Arc::new(crate::dma::DmaMemory::new(4096)?);
        let buffer = crate::dma::DmaBuffer::new(memory, 0x1000, 0, std::sync::Arc::new(Nobody));
        let segment = |offset, address, len| Segment { buffer: &buffer, offset, address, len };
        let cut = |segments: &[Segment<'_>], limit| -> Vec<(u32, u32)> {
            pieces(segments, limit).iter().map(|p| (p.device, p.len)).collect()
        };
        let joined = [segment(0, 100, 8), segment(8, 108, 8), segment(16, 200, 8), segment(32, 208, 8)];
        assert_eq!(cut(&joined, 1024), [(100, 16), (200, 8), (208, 8)]);
        assert_eq!(cut(&joined, 10), [(100, 10), (110, 6), (200, 8), (208, 8)]);
        assert_eq!(cut(&[segment(0, 0, 2048), segment(2048, 2048, 100)], 1024), [(0, 1024), (1024, 1024), (2048, 100)]);
        Ok(())
    }
}
