//! Weights and inputs as kernels take them: quads of bytes.

use std::ops::Range;
use std::sync::OnceLock;

use super::End;
use super::pairs::Pairs;
use super::winograd::Winograd;
use super::words::Words;
use crate::Aligned;

/// Filters of a block: one register of 32-bit sums on the widest machine.
pub const BLOCK: usize = 16;

/// Quads of weights of the sixteen filters of a block, on a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [[i8; 4]; BLOCK]);

/// Weights in the order all kernel sets take them: block of 16 filters, run, quad, filter, 4 weights. A run is what lies
/// together in memory under a filter: a row of its kernel, all channels. Runs are padded to whole quads with zeros, and
/// filters to whole blocks.
#[derive(Clone, Debug)]
pub struct Packed {
    filters: usize,
    runs: usize,
    quads: usize,
    lines: Vec<Line>,
    sums: Vec<i32>,
    fields: Option<Fields>,
    /// Largest input.
    most: u8,
    words: OnceLock<Option<Words>>,
    pairs: OnceLock<Pairs>,
    winograd: OnceLock<Option<Winograd>>,
}

/// Weights of two or four bits, several to a byte: for products of few positions, which take as long as reading weights. A byte of line i
/// of a run has those of quads n * i to n * i + n - 1 in the same place, n of them, the first in its lowest bits.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    pub(crate) bits: u8,
    pub(crate) lines: Vec<Line>,
}

/// Bytes of weights from which on [`Fields`] are worth their memory: those a first-level cache does not hold.
const MANY: usize = 64 << 10;

impl Fields {
    /// None where weights are few, or have more bits, or do not fill the lines, or where sums of bytes would not fit 32 bits if all weights
    /// were as large as a byte's: sums are made of weights times a power of two.
    fn new(lines: &[Line], runs: usize, quads: usize) -> Option<Self> {
        let weights = || lines.iter().flat_map(|line| line.0.as_flattened());
        let fit = |bits: u8| weights().all(|&w| (-(1 << (bits - 1))..1 << (bits - 1)).contains(&w));
        let bits = [2u8, 4].into_iter().find(|&bits| fit(bits))?;
        let each = usize::from(8 / bits);
        let fits = (runs * quads * 4).checked_mul(255 * 128).is_some_and(|sum| sum <= i32::MAX as usize);
        if size_of_val(lines) < MANY || !quads.is_multiple_of(each) || !fits {
            return None;
        }
        let mask = (1u8 << bits) - 1;
        let place = |quads: &[Line], filter: usize, tap: usize| {
            let fields = quads.iter().enumerate();
            fields.fold(0, |byte, (i, quad)| byte | (quad.0[filter][tap].cast_unsigned() & mask) << (bits * i as u8))
        };
        let line =
            |quads: &[Line]| Line(std::array::from_fn(|f| std::array::from_fn(|t| place(quads, f, t).cast_signed())));
        Some(Self { bits, lines: lines.chunks_exact(each).map(line).collect() })
    }
}

impl Packed {
    /// Packs `filters` filters of `runs` runs each; `weights` is (filter, run, value).
    pub fn new(weights: &[i8], filters: usize, runs: usize) -> Self {
        let row = weights.len() / filters.max(1);
        // Filters without weights, as some phases of transposed convolutions have, meet no input.
        let runs = if row == 0 { 0 } else { runs };
        let run = row / runs.max(1);
        let quads = run.div_ceil(4);
        let mut lines = vec![Line([[0; 4]; BLOCK]); filters.div_ceil(BLOCK) * runs * quads];
        let mut sums = vec![0i32; filters.next_multiple_of(BLOCK)];
        if run > 0 {
            for (filter, weights) in weights.chunks_exact(row).take(filters).enumerate() {
                for (r, weights) in weights.chunks_exact(run).enumerate() {
                    let lines = &mut lines[(filter / BLOCK * runs + r) * quads..][..quads];
                    let (whole, rest) = weights.as_chunks::<4>();
                    for (line, quad) in lines.iter_mut().zip(whole) {
                        line.0[filter % BLOCK] = *quad;
                    }
                    if let Some(line) = lines.get_mut(whole.len()) {
                        line.0[filter % BLOCK][..rest.len()].copy_from_slice(rest);
                    }
                }
                sums[filter] = weights.iter().map(|&w| i32::from(w)).fold(0, i32::wrapping_add);
            }
        }
        Self {
            filters,
            runs,
            quads,
            lines,
            sums,
            fields: None,
            most: u8::MAX,
            words: OnceLock::new(),
            pairs: OnceLock::new(),
            winograd: OnceLock::new(),
        }
    }

    /// The same, for products of few positions.
    #[must_use]
    pub fn for_few_positions(mut self) -> Self {
        self.fields = Fields::new(&self.lines, self.runs, self.quads);
        self
    }

    /// The same for input bytes up to `most`: products of smaller ones may be added in fewer bits.
    #[must_use]
    pub fn for_inputs_up_to(mut self, most: u8) -> Self {
        self.most = most;
        self
    }

    /// Filters.
    pub fn filters(&self) -> usize {
        self.filters
    }

    /// Filters padded to whole blocks: sums of one position.
    pub fn width(&self) -> usize {
        self.sums.len()
    }

    /// What sums start with, by filter, where every input byte is larger than its value by `offset`. Arithmetic is
    /// modulo 2^32, as that of the sums.
    pub fn start(&self, offset: i32) -> Aligned<i32> {
        self.sums.iter().map(|s| s.wrapping_mul(offset).wrapping_neg()).collect()
    }

    /// The sum of each filter's weights.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn sums(&self) -> &[i32] {
        &self.sums
    }

    /// Bytes of a filter's weights.
    pub(crate) fn len(&self) -> usize {
        self.runs * self.quads * 4
    }

    pub(super) fn runs(&self) -> usize {
        self.runs
    }

    pub(super) fn quads(&self) -> usize {
        self.quads
    }

    pub(super) fn fields(&self) -> Option<&Fields> {
        self.fields.as_ref()
    }

    /// For sums of 16 bits, where these are better. Made when it is first asked for.
    pub(super) fn words(&self) -> Option<&Words> {
        let shape = (self.width() / BLOCK, self.runs, self.quads);
        self.words.get_or_init(|| Words::new(&self.lines, shape, self.most)).as_ref()
    }

    /// Weights of 16 bits. Made when they are first asked for.
    pub(super) fn pairs(&self) -> &Pairs {
        self.pairs.get_or_init(|| Pairs::new(&self.lines, self.quads))
    }

    /// For products of tiles, of kernels of 3x3, where these are exact. Made when it is first asked for.
    pub(super) fn winograd(&self) -> Option<&Winograd> {
        self.winograd.get_or_init(|| Winograd::new(&self.lines, self.width() / BLOCK, self.most)).as_ref()
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }
}

/// Input bytes of several positions in rows: run r of position p of row y starts at byte
/// `y * row_step + p * step + r * run_step`.
#[derive(Clone, Copy, Debug)]
pub struct Panel<'a> {
    /// Unsigned bytes. Behind the last run lie at least as many as fill its last quad; their values do not matter.
    pub data: &'a [u8],
    /// Bytes from a position to the next.
    pub step: usize,
    /// Positions of a row.
    pub count: usize,
    /// Bytes from a row to the next.
    pub row_step: usize,
    /// Rows.
    pub rows: usize,
    /// Bytes from a run to the next.
    pub run_step: usize,
}

impl Panel<'_> {
    /// The same positions in as few rows as possible.
    pub(super) fn joined(mut self) -> Self {
        if self.row_step == self.count * self.step || self.rows == 1 {
            self.count *= self.rows;
            self.rows = 1;
        }
        self
    }

    /// Bytes up to the last that `w` meets.
    pub(super) fn met(&self, w: &Packed) -> usize {
        if self.count * self.rows == 0 || w.runs == 0 {
            return 0;
        }
        let position = (self.rows - 1) * self.row_step + (self.count - 1) * self.step;
        position + (w.runs - 1) * self.run_step + w.quads * 4
    }

    /// Whether every byte that `w` meets is there: what kernels rely on.
    pub(super) fn check_inputs(&self, w: &Packed) {
        let last = self.met(w);
        assert!(last <= self.data.len(), "{last} input bytes are needed, {} are there", self.data.len());
    }

    /// The same, and whether every filter has a start and an end and every output a place.
    pub(super) fn check_ended(&self, w: &Packed, start: &[i32], end: End<'_>, out: &[u8]) {
        self.check_inputs(w);
        let elements = self.count * self.rows * w.filters;
        assert!(out.len() >= elements, "{elements} outputs are made, there is room for {}", out.len());
        assert!(start.len() == w.width() && end.width() >= w.width(), "a start and an end for every filter");
    }

    /// The same, and whether every sum has a place. `out_step` is how far apart the sums of two positions are.
    pub(super) fn check(&self, w: &Packed, blocks: &Range<usize>, start: &[i32], out: &[i32], out_step: usize) {
        let (positions, width) = (self.count * self.rows, blocks.len() * BLOCK);
        if positions == 0 || blocks.is_empty() {
            return;
        }
        self.check_inputs(w);
        let last = (positions - 1) * out_step + width;
        assert!(out_step >= width && last <= out.len(), "{last} sums are made, there is room for {}", out.len());
        assert!(
            blocks.end * BLOCK <= w.width() && start.len() == w.width(),
            "one start for each filter of every block"
        );
    }
}
