//! What passes the [`Board`] seam, written down: every register and configuration access, DMA submission, mapping,
//! interrupt and reset, one line each. Two traces of the same run are compared by [`compare()`], whatever the boards were: two
//! simulated ones, one behind a kernel, one of silicon.
//!
//! A line is `TIME WHAT ...`, fields separated by blanks; times are microseconds since the trace began, in the board's time:
//!
//! ```text
//! # akida-trace/1 akd1000 sim:akd1000 (simulated)
//! 0.500 cr 0x004 0x00100002                     configuration read
//! 1.000 cw 0x918 0xfcc00000                     configuration write
//! 1000001.500 r BAR0+0x28028 0x00000001 x12     register read, twelve times in a row with the same value
//! 1000002.000 w BAR4+0x00008 0x00003000 =host#2+0x0     register write; this word is an address of host memory
//! 1000002.500 dma read#0 3 2100 host#2+0x0 0x24000000   a list is started: channel, elements, bytes, host, device
//! 1000003.000 irq                               an interrupt ended a wait
//! 0.500 alloc host#2 262144                     host memory was mapped for the board: number, bytes
//! 9.000 free host#2                             and unmapped
//! 9.000 reset                                   of the function
//! 9.500 r BAR0+0x00050 !...                     an access failed, with the reason
//! ```
//!
//! Host memory is numbered in the order of its mapping and named `host#N+OFFSET` behind an equals sign, since addresses differ
//! from host to host; the raw value stays beside it.

mod compare;
mod symbols;

use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use compare::{Comparison, Difference, TraceError, compare};

use self::symbols::Symbols;
use crate::board::{Bar, Board, Identity, Wake};
use crate::dma::{DmaBuffer, Unmap};
use crate::transport::find_capability;
use crate::{Result, regs::pci};

/// First words of a trace.
pub(crate) const HEADER: &str = "# akida-trace/1";

/// A board whose accesses are written down on their way.
pub struct TracedBoard {
    board: Arc<dyn Board>,
    shared: Arc<Shared>,
}

struct Shared {
    recorder: Mutex<Recorder>,
}

struct Recorder {
    sink: BufWriter<Box<dyn Write + Send>>,
    /// The first failure of writing; nothing is written after it.
    failed: Option<io::Error>,
    start: Duration,
    symbols: Symbols,
    /// The last line, its text without the time, and how often it occurred.
    last: Option<(Duration, String, u64)>,
}

impl TracedBoard {
    /// Writes to `sink` from now on. Nothing of the board is touched but its configuration space, to find the MSI capability.
    ///
    /// # Errors
    /// Those of reading configuration space.
    pub fn new(board: Arc<dyn Board>, sink: Box<dyn Write + Send>) -> Result<Self> {
        let message = find_capability(&*board, pci::CAP_MSI)?;
        let identity = board.identity();
        let chip = format!("{:?}", identity.chip).to_lowercase();
        let mut recorder = Recorder {
            sink: BufWriter::new(sink),
            failed: None,
            start: board.now(),
            symbols: Symbols::new(identity.chip, message),
            last: None,
        };
        recorder.put(&format!("{HEADER} {chip} {identity}"));
        Ok(Self { board, shared: Arc::new(Shared { recorder: Mutex::new(recorder) }) })
    }

    /// Hands everything to the sink.
    ///
    /// # Errors
    /// The first failure of writing since the trace began.
    pub fn finish(&self) -> io::Result<()> {
        let mut recorder = self.shared.recorder();
        recorder.flush();
        let flushed = recorder.sink.flush();
        match recorder.failed.take() {
            Some(error) => Err(error),
            None => flushed,
        }
    }

    /// An access, under the lock so that lines are in the order of the accesses.
    fn traced<T>(
        &self,
        access: impl FnOnce(&dyn Board) -> Result<T>,
        line: impl Fn(&mut Recorder, Result<&T, String>) -> Vec<String>,
    ) -> Result<T> {
        let mut recorder = self.shared.recorder();
        let result = access(&*self.board);
        let lines = line(&mut recorder, result.as_ref().map_err(|e| format!("!{e}")));
        for line in lines {
            recorder.line(self.board.now(), line);
        }
        result
    }
}

impl Shared {
    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder {
    /// Adds a line, or counts it when it says the same as the one before.
    fn line(&mut self, now: Duration, text: String) {
        if let Some((_, last, times)) = &mut self.last
            && *last == text
        {
            *times += 1;
            return;
        }
        self.flush();
        self.last = Some((now.saturating_sub(self.start), text, 1));
    }

    fn flush(&mut self) {
        let Some((at, text, times)) = self.last.take() else { return };
        let at = at.as_nanos();
        let times = if times > 1 { format!(" x{times}") } else { String::new() };
        self.put(&format!("{}.{:03} {text}{times}", at / 1000, at % 1000));
    }

    fn put(&mut self, line: &str) {
        if self.failed.is_none()
            && let Err(error) = writeln!(self.sink, "{line}")
        {
            self.failed = Some(error);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut recorder = self.recorder();
        recorder.flush();
        if let Err(error) = recorder.sink.flush() {
            log::warn!("the end of a trace is lost: {error}");
        }
    }
}

/// A value, with its name where it is an address of the host's.
fn value(value: u32, symbol: Option<String>) -> String {
    match symbol {
        Some(symbol) => format!("{value:#010x} ={symbol}"),
        None => format!("{value:#010x}"),
    }
}

fn place(bar: Bar, offset: u64) -> String {
    format!("BAR{}+{offset:#07x}", bar.index())
}

impl Board for TracedBoard {
    fn identity(&self) -> &Identity {
        self.board.identity()
    }

    fn config_read(&self, offset: u16) -> Result<u32> {
        self.traced(
            |board| board.config_read(offset),
            |recorder, read| {
                let read = read.map_or_else(|e| e, |&v| value(v, recorder.symbols.config(offset, v, false)));
                vec![format!("cr {offset:#05x} {read}")]
            },
        )
    }

    fn config_write(&self, offset: u16, word: u32) -> Result<()> {
        self.traced(
            |board| board.config_write(offset, word),
            |recorder, done| {
                let failed = done.err().map_or_else(String::new, |e| format!(" {e}"));
                vec![format!("cw {offset:#05x} {}{failed}", value(word, recorder.symbols.config(offset, word, true)))]
            },
        )
    }

    fn bar_len(&self, bar: Bar) -> u64 {
        self.board.bar_len(bar)
    }

    fn read(&self, bar: Bar, offset: u64) -> Result<u32> {
        self.traced(
            |board| board.read(bar, offset),
            |recorder, read| {
                let name = |v: u32| value(v, recorder.symbols.list_read(bar, offset, v));
                vec![format!("r {} {}", place(bar, offset), read.map_or_else(|e| e, |&v| name(v)))]
            },
        )
    }

    fn write(&self, bar: Bar, offset: u64, word: u32) -> Result<()> {
        self.traced(
            |board| board.write(bar, offset, word),
            |recorder, done| {
                // What an element's words are, only its control word tells, and that is written last.
                if let Some(element) = recorder.symbols.list_word(bar, offset, word) {
                    let line = |(at, word, symbol)| format!("w {} {}", place(bar, at), value(word, symbol));
                    return element.into_iter().map(line).collect();
                }
                let failed = done.err().map_or_else(String::new, |e| format!(" {e}"));
                recorder.symbols.pointed(bar, offset, word);
                let symbol = recorder.symbols.register(bar, offset, word);
                let submitted = recorder.symbols.submitted(bar, offset, word);
                submitted
                    .into_iter()
                    .chain([format!("w {} {}{failed}", place(bar, offset), value(word, symbol))])
                    .collect()
            },
        )
    }

    fn allocate(&self, len: usize) -> Result<DmaBuffer> {
        let mut recorder = self.shared.recorder();
        let now = self.board.now();
        let buffer = self.board.allocate(len).inspect_err(|e| recorder.line(now, format!("alloc {len} !{e}")))?;
        let number = recorder.symbols.mapped(buffer.iova(), buffer.len());
        recorder.line(now, format!("alloc host#{number} {}", buffer.len()));
        drop(recorder);
        let (memory, iova, generation) = (buffer.memory().clone(), buffer.iova(), buffer.generation());
        let owner =
            Traced { board: self.board.clone(), shared: self.shared.clone(), number, buffer: Mutex::new(Some(buffer)) };
        Ok(DmaBuffer::new(memory, iova, generation, Arc::new(owner)))
    }

    fn wait_interrupt(&self, timeout: Duration) -> Result<Wake> {
        let wake = self.board.wait_interrupt(timeout)?;
        if wake == Wake::Interrupt {
            self.shared.recorder().line(self.board.now(), "irq".into());
        }
        Ok(wake)
    }

    fn reset(&self) -> Result<()> {
        self.traced(
            |board| board.reset(),
            |recorder, done| {
                recorder.symbols.reset();
                vec![done.map_or_else(|e| format!("reset {e}"), |()| "reset".into())]
            },
        )
    }

    fn generation(&self) -> u64 {
        self.board.generation()
    }

    fn now(&self) -> Duration {
        self.board.now()
    }

    fn pause(&self, time: Duration) {
        self.board.pause(time);
    }
}

/// Owner of a traced board's buffer: notes the end of the mapping, then ends it.
struct Traced {
    board: Arc<dyn Board>,
    shared: Arc<Shared>,
    number: u64,
    buffer: Mutex<Option<DmaBuffer>>,
}

impl Unmap for Traced {
    fn unmap(&self, iova: u64, _: usize) {
        {
            let mut recorder = self.shared.recorder();
            recorder.symbols.unmapped(iova);
            recorder.line(self.board.now(), format!("free host#{}", self.number));
        }
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
