//! Which words that a driver writes are addresses of host memory, and their names.

use std::collections::BTreeMap;

use crate::board::{Bar, Chip};
use crate::memory_map::ListLayout;
use crate::regs::edma::{self, ChannelControl};
use crate::regs::iatu::unrolled;
use crate::regs::lists::SLOT;
use crate::regs::{hdma, pci, pci::Command};

/// Mapped memory by address, and what is known of the board's registers.
pub struct Symbols {
    chip: Chip,
    /// Where in configuration space the MSI capability is.
    message: Option<u16>,
    layout: ListLayout,
    /// IOVA to (bytes, number).
    live: BTreeMap<u64, (u64, u64)>,
    next: u64,
    /// What was written to the linked lists, by offset from their start, and the names of addresses in them.
    lists: BTreeMap<u32, (u32, Option<String>)>,
    /// The list each channel points at, by offset in BAR4; in the order of the layout.
    pointers: [u32; 4],
    /// The channel that the legacy engine's window shows.
    shown: Option<usize>,
    /// Words of an element whose control word is still to come.
    waiting: Vec<(u64, u32)>,
}

/// A line of an element's words: offset in BAR4, value, name.
type Word = (u64, u32, Option<String>);

/// What a register holds.
enum Holds {
    Low,
    High,
    Data,
}

impl Symbols {
    pub fn new(chip: Chip, message: Option<u16>) -> Self {
        Self {
            chip,
            message,
            layout: ListLayout::of(chip),
            live: BTreeMap::new(),
            next: 0,
            lists: BTreeMap::new(),
            pointers: ListLayout::of(chip).offsets,
            shown: None,
            waiting: Vec::new(),
        }
    }

    /// The number of a new mapping.
    pub fn mapped(&mut self, iova: u64, len: usize) -> u64 {
        self.next += 1;
        self.live.insert(iova, (len as u64, self.next));
        self.next
    }

    pub fn unmapped(&mut self, iova: u64) {
        self.live.remove(&iova);
    }

    /// Memory keeps what was written; which element is half written does not matter any more.
    pub fn reset(&mut self) {
        self.waiting.clear();
    }

    /// Words of configuration space that the host chose. Of the command register memory decoding is the driver's, and bus
    /// mastering where it writes it (a kernel's VFIO has it on before); other bits are the kernel's.
    pub fn config(&self, offset: u16, word: u32, written: bool) -> Option<String> {
        if offset == pci::COMMAND_STATUS {
            let master = if written { Command::BUS_MASTER } else { Command::empty() };
            return Some(format!("command:{:#x}", word & (Command::MEMORY | master).bits()));
        }
        let bars = pci::BAR0..pci::BAR0 + 24;
        let message = self.message.is_some_and(|at| (at..at + 16).contains(&offset));
        if bars.contains(&offset) { Some("bar".into()) } else { message.then(|| "msi".into()) }
    }

    fn address(&self, address: u64) -> Option<String> {
        let (base, (len, number)) = self.live.range(..=address).next_back()?;
        (address - base < *len).then(|| format!("host#{number}+{:#x}", address - base))
    }

    /// A low half alone: the newest mapping it may belong to.
    fn low(&self, low: u32) -> Option<String> {
        let offset = |iova: u64| u64::from(low.wrapping_sub(iova as u32));
        let fits = self.live.iter().filter(|(iova, (len, _))| offset(**iova) < *len);
        let (iova, (_, number)) = fits.max_by_key(|(_, (_, number))| *number)?;
        Some(format!("host#{number}+{:#x}", offset(*iova)))
    }

    /// The name of what a register gets.
    pub fn register(&self, bar: Bar, offset: u64, word: u32) -> Option<String> {
        match self.holds(bar, u32::try_from(offset).ok()?)? {
            Holds::Low => Some(self.low(word).unwrap_or_else(|| "msi".into())),
            Holds::High => Some("high".into()),
            Holds::Data => Some("msi".into()),
        }
    }

    fn holds(&self, bar: Bar, offset: u32) -> Option<Holds> {
        let pick = |low: &[u32], data: &[u32], at: u32| {
            let low_half = low.contains(&at).then_some(Holds::Low);
            let high_half = || at.checked_sub(4).filter(|at| low.contains(at)).map(|_| Holds::High);
            low_half.or_else(high_half).or_else(|| data.contains(&at).then_some(Holds::Data))
        };
        match (self.chip, bar) {
            (Chip::Akd1500, Bar::Bar0) if offset < hdma::CHANNELS as u32 * hdma::PAIR => pick(
                &[hdma::STOP_LOW, hdma::WATERMARK_LOW, hdma::ABORT_LOW],
                &[hdma::MSI_DATA],
                offset % hdma::READ_BLOCK,
            ),
            (Chip::Akd1500, Bar::Bar0) => pick(&[unrolled::outbound(0, unrolled::TARGET_LOW)], &[], offset),
            (Chip::Akd1500, _) => None,
            (_, Bar::Bar2) => pick(
                &[edma::WRITE_DONE_LOW, edma::WRITE_ABORT_LOW, edma::READ_DONE_LOW, edma::READ_ABORT_LOW],
                &[edma::WRITE_DATA_01, edma::READ_DATA_01],
                offset.checked_sub(edma::BAR2_BASE)?,
            ),
            _ => None,
        }
    }

    /// The list a BAR4 offset lies in: its number (0 and 1 to the host, 2 and 3 to the device) and the offset there.
    fn list(&self, at: u32) -> Option<(usize, u32)> {
        let within = |(i, start): (usize, &u32)| {
            let offset = at.checked_sub(*start)?;
            (offset < self.layout.len).then_some((i, offset))
        };
        self.layout.offsets.iter().enumerate().find_map(within)
    }

    /// A word written to a linked list: held back until the element's control word, then all of the element. `None` for other
    /// places.
    pub fn list_word(&mut self, bar: Bar, offset: u64, word: u32) -> Option<Vec<Word>> {
        let at = u32::try_from(offset).ok().filter(|_| bar == Bar::Bar4)?;
        let (list, offset_in_list) = self.list(at)?;
        self.lists.insert(at, (word, None));
        self.waiting.push((offset, word));
        if !offset_in_list.is_multiple_of(SLOT) {
            return Some(Vec::new());
        }
        let link = ChannelControl::from_bits_truncate(word).contains(ChannelControl::LINK);
        // Source for reads by the board, destination for its writes.
        let host = if list < 2 { 16 } else { 8 };
        let address = self.pair(at + host);
        let named = std::mem::take(&mut self.waiting).into_iter().map(|(place, word)| {
            let symbol = match (place as u32).wrapping_sub(at) {
                _ if link => None,
                d if d == host => self.address(address),
                d if d == host + 4 => self.address(address).map(|_| "high".into()),
                _ => None,
            };
            self.lists.insert(place as u32, (word, symbol.clone()));
            (place, word, symbol)
        });
        Some(named.collect())
    }

    fn pair(&self, at: u32) -> u64 {
        u64::from(self.word(at + 4)) << 32 | u64::from(self.word(at))
    }

    fn word(&self, at: u32) -> u32 {
        self.lists.get(&at).map_or(0, |(word, _)| *word)
    }

    /// The name of what is read from a list, where it is what was written.
    pub fn list_read(&self, bar: Bar, offset: u64, word: u32) -> Option<String> {
        let at = u32::try_from(offset).ok().filter(|_| bar == Bar::Bar4)?;
        self.lists.get(&at).filter(|(wrote, _)| *wrote == word)?.1.clone()
    }

    /// Follows where channels point.
    pub fn pointed(&mut self, bar: Bar, offset: u64, word: u32) {
        let Ok(offset) = u32::try_from(offset) else { return };
        let list = word.wrapping_sub(self.layout.base);
        match (self.chip, bar) {
            (Chip::Akd1500, Bar::Bar0) if offset < hdma::CHANNELS as u32 * hdma::PAIR => {
                let channel = offset / hdma::PAIR + 2 * u32::from(offset % hdma::PAIR >= hdma::READ_BLOCK);
                if offset % hdma::READ_BLOCK == hdma::LIST_LOW {
                    self.pointers[channel as usize % 4] = list;
                }
            }
            (Chip::Akd1500, _) => {}
            (_, Bar::Bar2) => match (offset.checked_sub(edma::BAR2_BASE), self.shown) {
                (Some(edma::VIEWPORT), _) => {
                    let read = word & edma::READ.viewport != 0;
                    self.shown = Some(edma::CHANNEL.get(word) as usize % 2 + 2 * usize::from(read));
                }
                (Some(edma::CHANNEL_LIST_LOW), Some(channel)) => self.pointers[channel] = list,
                _ => {}
            },
            _ => {}
        }
    }

    /// The line that says what a doorbell starts.
    pub fn submitted(&self, bar: Bar, offset: u64, word: u32) -> Option<String> {
        let offset = u32::try_from(offset).ok()?;
        let (list, name) = match (self.chip, bar) {
            (Chip::Akd1500, Bar::Bar0) if offset < hdma::CHANNELS as u32 * hdma::PAIR => {
                let (channel, read) = (offset / hdma::PAIR, offset % hdma::PAIR >= hdma::READ_BLOCK);
                if offset % hdma::READ_BLOCK != hdma::DOORBELL {
                    return None;
                }
                (channel + 2 * u32::from(read), if read { "read" } else { "write" })
            }
            (Chip::Akd1500, _) => return None,
            (_, Bar::Bar2) => match offset.checked_sub(edma::BAR2_BASE)? {
                edma::WRITE_DOORBELL => (edma::CHANNEL.get(word), "write"),
                edma::READ_DOORBELL => (edma::CHANNEL.get(word) + 2, "read"),
                _ => return None,
            },
            _ => return None,
        };
        let start = *self.pointers.get(list as usize)?;
        let region = self.layout.len;
        let mut elements = 0u32;
        let mut bytes = 0u64;
        loop {
            let at = start + elements * SLOT;
            let control = self.word(at);
            let inside = (elements + 1) * SLOT <= region;
            if !inside || ChannelControl::from_bits_truncate(control).contains(ChannelControl::LINK) {
                break;
            }
            bytes += u64::from(self.word(at + 4));
            elements += 1;
        }
        let (source, destination) = (self.pair(start + 8), self.pair(start + 16));
        let (host, device) = if list < 2 { (destination, source) } else { (source, destination) };
        let host = self.address(host).unwrap_or_else(|| "host?".into());
        Some(format!("dma {name}#{} {elements} {bytes} {host} {device:#010x}", list % 2))
    }
}
