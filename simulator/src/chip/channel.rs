//! One channel of the PCIe DMA engine: walks a linked list in device memory and asks for bytes to be moved.
//!
//! Shared by the legacy eDMA and the native HDMA register files, whose elements have the same layout (hardware.md 3.2
//! and 3.3). The channel never touches host memory itself: it hands out [`Transfer`]s and is told how they ended, so
//! that whoever drives it may move the bytes outside any lock.

use akida_hal::regs::edma::ChannelControl;

use super::bus::Unmapped;
use super::memory::NoMemory;

/// Which way bytes go, in the engine's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Write channels: device to host.
    Write,
    /// Read channels: host to device.
    Read,
}

/// Largest piece moved at once. Elements are cut so that a register access never waits for megabytes.
pub const PIECE: u32 = 64 * 1024;
/// Elements one doorbell may consume: more than a 4 MiB list region holds. Silicon would walk an endless list
/// endlessly; the model aborts the channel instead (ours).
pub const ELEMENTS_MAX: u32 = 1 << 18;

const CB: u32 = ChannelControl::CYCLE.bits();
const TCB: u32 = ChannelControl::TOGGLE_CYCLE.bits();
const LLP: u32 = ChannelControl::LINK.bits();
const LIE: u32 = ChannelControl::LOCAL_INTERRUPT.bits();
const RIE: u32 = ChannelControl::REMOTE_INTERRUPT.bits();
const CCS: u32 = ChannelControl::CYCLE_STATE.bits();
const LLE: u32 = ChannelControl::LIST_ENABLE.bits();

/// A piece of an element that is to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Way.
    pub direction: Direction,
    /// Channel number.
    pub channel: usize,
    /// Host address (IOVA).
    pub host: u64,
    /// Device address.
    pub local: u64,
    /// Bytes, 1..=[`PIECE`].
    pub len: u32,
    /// Which start of the channel this belongs to; pieces of earlier starts are ignored.
    pub run: u64,
}

/// Why a channel aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A list element could not be read from device memory.
    List,
    /// The list did not end.
    Endless,
    /// The device side of a transfer is not reachable.
    Local,
    /// The host side of a transfer is not reachable.
    Host,
    /// The fault plan said so.
    Injected,
}

impl From<NoMemory> for Cause {
    fn from(_: NoMemory) -> Self {
        Self::Local
    }
}

impl From<Unmapped> for Cause {
    fn from(refused: Unmapped) -> Self {
        log::debug!(target: "akida::sim::dma", "PCIe DMA engine: {refused}");
        Self::Host
    }
}

/// What the register file has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An element was moved completely; its interrupt bits.
    Element {
        /// Local interrupt enable of the element.
        local: bool,
        /// Remote interrupt enable of the element.
        remote: bool,
    },
    /// The channel reached the end of its list (or of its single transfer).
    Stopped,
    /// The channel gave up.
    Aborted(Cause),
}

/// Channel status as read in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Status {
    /// Never started since reset.
    #[default]
    Idle = 0,
    /// Between doorbell and end.
    Running = 1,
    /// Aborted.
    Halted = 2,
    /// Ended.
    Stopped = 3,
}

#[derive(Clone, Copy, Debug)]
struct Element {
    left: u32,
    source: u64,
    destination: u64,
    local: bool,
    remote: bool,
}

/// A channel's registers and position.
#[derive(Clone, Debug)]
pub struct Channel {
    direction: Direction,
    number: usize,
    /// Control bits as in the legacy control 1 register; status bits are in `status`.
    pub control: u32,
    /// Bytes of a transfer without a list.
    pub size: u32,
    /// Source address.
    pub source: u64,
    /// Destination address.
    pub destination: u64,
    /// Where the next element is read.
    pub list: u64,
    status: Status,
    element: Option<Element>,
    /// A piece is out and not finished.
    busy: bool,
    stalled: bool,
    elements: u32,
    run: u64,
}

impl Channel {
    /// An idle channel.
    pub fn new(direction: Direction, number: usize) -> Self {
        Self {
            direction,
            number,
            control: 0,
            size: 0,
            source: 0,
            destination: 0,
            list: 0,
            status: Status::Idle,
            element: None,
            busy: false,
            stalled: false,
            elements: 0,
            run: 0,
        }
    }

    /// Status bits.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Back to power-up. A piece that is out will be ignored when it returns.
    pub fn reset(&mut self) {
        let run = self.run + 1;
        *self = Self { run, ..Self::new(self.direction, self.number) };
    }

    /// The doorbell. Ignored while running.
    pub fn start(&mut self) {
        if self.status == Status::Running {
            return;
        }
        self.run += 1;
        self.status = Status::Running;
        self.elements = 0;
        self.busy = false;
        self.element = if self.control & LLE == 0 {
            Some(Element {
                left: self.size,
                source: self.source,
                destination: self.destination,
                local: self.control & LIE != 0,
                remote: self.control & RIE != 0,
            })
        } else {
            None
        };
    }

    /// The engine was switched off: no further piece is moved, no event is raised.
    pub fn halt(&mut self) {
        self.run += 1;
        self.busy = false;
        self.stalled = false;
        self.element = None;
        if self.status == Status::Running {
            self.status = Status::Stopped;
        }
    }

    /// The next piece to move. `fetch` reads 24 bytes of device memory. Events that happen on the way are appended.
    pub fn next(
        &mut self,
        mut fetch: impl FnMut(u64) -> Option<[u8; 24]>,
        events: &mut Vec<Event>,
    ) -> Option<Transfer> {
        while self.status == Status::Running && !self.busy && !self.stalled {
            if let Some(element) = self.element {
                if element.left > 0 {
                    self.busy = true;
                    return Some(self.piece(&element));
                }
                self.element = None;
                events.push(Event::Element { local: element.local, remote: element.remote });
                if self.control & LLE == 0 {
                    self.end(Status::Stopped, Event::Stopped, events);
                }
                continue;
            }
            self.elements += 1;
            if self.elements > ELEMENTS_MAX {
                self.end(Status::Halted, Event::Aborted(Cause::Endless), events);
                return None;
            }
            let Some(bytes) = fetch(self.list) else {
                self.end(Status::Halted, Event::Aborted(Cause::List), events);
                return None;
            };
            self.take(&bytes, events);
        }
        None
    }

    fn piece(&self, element: &Element) -> Transfer {
        let (host, local) = match self.direction {
            Direction::Write => (element.destination, element.source),
            Direction::Read => (element.source, element.destination),
        };
        Transfer {
            direction: self.direction,
            channel: self.number,
            host,
            local,
            len: element.left.min(PIECE),
            run: self.run,
        }
    }

    /// Consumes one list element, or stops at one that the producer has not handed over.
    ///
    /// A link is followed whatever its cycle bit: the published driver writes links whose bit does not match and then
    /// rewrites the list from its start, possibly shorter, before the next doorbell (deduced).
    fn take(&mut self, bytes: &[u8; 24], events: &mut Vec<Event>) {
        let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let long = |i: usize| (word(i + 4) as u64) << 32 | word(i) as u64;
        let control = word(0);
        if control & LLP != 0 {
            self.list = long(8);
            if control & TCB != 0 {
                self.control ^= CCS;
            }
        } else if (control & CB != 0) != (self.control & CCS != 0) {
            self.end(Status::Stopped, Event::Stopped, events);
        } else {
            self.list = self.list.wrapping_add(24);
            self.size = word(4);
            self.source = long(8);
            self.destination = long(16);
            self.element = Some(Element {
                left: self.size,
                source: self.source,
                destination: self.destination,
                local: control & LIE != 0,
                remote: control & RIE != 0,
            });
        }
    }

    /// Takes back a piece that was handed out and not started.
    pub fn put_back(&mut self, transfer: &Transfer) {
        if self.awaits(transfer) {
            self.busy = false;
        }
    }

    /// Whether this piece is out.
    pub fn awaits(&self, transfer: &Transfer) -> bool {
        transfer.run == self.run && self.busy
    }

    /// Whether the current element has been moved completely.
    pub fn element_done(&self) -> bool {
        self.element.is_some_and(|e| e.left == 0)
    }

    /// The fault plan's stall: running, and not moving until the engine is switched off.
    pub fn stall(&mut self) {
        self.stalled = true;
        self.busy = false;
    }

    /// A piece came back. Returns false when it belongs to an earlier start.
    pub fn finish(&mut self, transfer: &Transfer, result: Result<(), Cause>, events: &mut Vec<Event>) -> bool {
        if !self.awaits(transfer) {
            return false;
        }
        self.busy = false;
        match (result, &mut self.element) {
            (Ok(()), Some(element)) => {
                element.left -= transfer.len;
                element.source = element.source.wrapping_add(transfer.len as u64);
                element.destination = element.destination.wrapping_add(transfer.len as u64);
                self.size = element.left;
                self.source = element.source;
                self.destination = element.destination;
            }
            (Ok(()), None) => {}
            (Err(cause), _) => self.end(Status::Halted, Event::Aborted(cause), events),
        }
        true
    }

    fn end(&mut self, status: Status, event: Event, events: &mut Vec<Event>) {
        self.status = status;
        self.element = None;
        events.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: u64 = 0x2000_0000;

    fn data(control: u32, size: u32, source: u64, destination: u64) -> [u8; 24] {
        let mut e = [0; 24];
        e[..4].copy_from_slice(&control.to_le_bytes());
        e[4..8].copy_from_slice(&size.to_le_bytes());
        e[8..16].copy_from_slice(&source.to_le_bytes());
        e[16..].copy_from_slice(&destination.to_le_bytes());
        e
    }

    fn link(control: u32, pointer: u64) -> [u8; 24] {
        data(control, 0, pointer, 0)
    }

    /// Runs a channel over a list at `LIST`, finishing every piece well; returns pieces and events.
    fn walk(channel: &mut Channel, list: &[[u8; 24]]) -> (Vec<(u64, u64, u32)>, Vec<Event>) {
        let (mut pieces, mut events) = (Vec::new(), Vec::new());
        loop {
            let fetch = |at: u64| list.get(((at.checked_sub(LIST)?) / 24) as usize).copied();
            let Some(t) = channel.next(fetch, &mut events) else { return (pieces, events) };
            pieces.push((t.host, t.local, t.len));
            assert!(channel.finish(&t, Ok(()), &mut events));
        }
    }

    fn started(direction: Direction) -> Channel {
        let mut channel = Channel::new(direction, 0);
        channel.control = CCS | LLE;
        channel.list = LIST;
        channel.start();
        channel
    }

    const DONE: Event = Event::Element { local: true, remote: true };
    const QUIET: Event = Event::Element { local: false, remote: false };

    #[test]
    fn one_element_as_the_published_driver_writes_it() {
        let mut channel = started(Direction::Read);
        let (pieces, events) = walk(&mut channel, &[data(0x19, 1024, 0x1_0000_1000, 0x2000_0100), link(6, LIST)]);
        assert_eq!(pieces, [(0x1_0000_1000, 0x2000_0100, 1024)]);
        assert_eq!(events, [DONE, Event::Stopped]);
        assert_eq!((channel.status(), channel.list, channel.control & CCS), (Status::Stopped, LIST, 0));
        // The next chunk of the same descriptor: same list, other cycle bit, only the doorbell.
        channel.start();
        let (pieces, _) = walk(&mut channel, &[data(0x18, 8, 0x10, 0x2000_0200), link(7, LIST)]);
        assert_eq!(pieces, [(0x10, 0x2000_0200, 8)]);
        assert_eq!(channel.control & CCS, CCS);
    }

    #[test]
    fn a_shorter_second_chunk_is_found_at_the_start_of_the_list() {
        let mut channel = started(Direction::Write);
        let first = [data(1, 4, 0, 0), data(1, 4, 4, 4), data(0x19, 4, 8, 8), link(6, LIST)];
        assert_eq!(walk(&mut channel, &first).1, [QUIET, QUIET, DONE, Event::Stopped]);
        channel.start();
        let second = [data(0x18, 4, 0x40, 0x80), link(7, LIST), first[2], first[3]];
        assert_eq!(walk(&mut channel, &second).0, [(0x80, 0x40, 4)]);
    }

    #[test]
    fn large_elements_are_cut_and_empty_ones_pass() {
        let mut channel = started(Direction::Read);
        let (pieces, events) =
            walk(&mut channel, &[data(1, 0, 0, 0), data(0x19, PIECE + 5, 0x1000, 0x2000), link(6, LIST)]);
        assert_eq!(pieces, [(0x1000, 0x2000, PIECE), (0x1000 + PIECE as u64, 0x2000 + PIECE as u64, 5)]);
        assert_eq!(events, [QUIET, DONE, Event::Stopped]);
    }

    #[test]
    fn lists_that_are_wrong_end() {
        // A link to itself, a link to nowhere, a list that never hands back, memory that is not there.
        for (list, cause) in [
            (vec![link(LLP, LIST)], Cause::Endless),
            (vec![link(LLP | TCB, LIST)], Cause::Endless),
            (vec![link(LLP, 0)], Cause::List),
            (vec![data(1, 0, 0, 0), link(LLP | CB, LIST)], Cause::Endless),
            (vec![data(1, 0, 0, 0)], Cause::List),
        ] {
            let mut channel = started(Direction::Read);
            let (_, events) = walk(&mut channel, &list);
            assert_eq!(events.last(), Some(&Event::Aborted(cause)), "{list:?}");
            assert_eq!(channel.status(), Status::Halted);
        }
        // Nothing handed over at all.
        let mut channel = started(Direction::Read);
        assert_eq!(walk(&mut channel, &[data(0, 64, 0, 0)]), (vec![], vec![Event::Stopped]));
    }

    #[test]
    fn a_failed_piece_aborts_and_a_late_one_is_ignored() {
        let mut channel = started(Direction::Read);
        let list = data(0x19, 64, 0xdead_0000, 0x2000_0100);
        let mut events = Vec::new();
        let piece = channel.next(|_| Some(list), &mut events).unwrap();
        assert!(channel.next(|_| Some(list), &mut events).is_none(), "one piece at a time");
        assert!(channel.finish(&piece, Err(Cause::Host), &mut events));
        assert_eq!(events, [Event::Aborted(Cause::Host)]);
        channel.list = LIST;
        channel.start();
        let piece = channel.next(|_| Some(list), &mut events).unwrap();
        channel.halt();
        assert!(!channel.finish(&piece, Ok(()), &mut events));
        assert_eq!(channel.status(), Status::Stopped);
    }

    #[test]
    fn without_a_list_the_registers_are_the_transfer() {
        let mut channel = Channel::new(Direction::Write, 1);
        (channel.control, channel.size, channel.source, channel.destination) = (LIE, 12, 0x2000_0000, 0x5000);
        channel.start();
        let (pieces, events) = walk(&mut channel, &[]);
        assert_eq!(pieces, [(0x5000, 0x2000_0000, 12)]);
        assert_eq!(events, [Event::Element { local: true, remote: false }, Event::Stopped]);
        assert_eq!(channel.size, 0);
    }
}
