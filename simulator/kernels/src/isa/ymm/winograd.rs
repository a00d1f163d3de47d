//! Convolutions of 3x3 by [`Winograd`]: tiles of the input to 36 matrices, products of pairs of 16 bits, and back.

// Intrinsics and pointers into panels that were checked once; every block says why it is sound.
#![allow(unsafe_code)]
// Arrays of registers stay in them where loops count.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::array;
use std::cell::RefCell;
use std::ops::Range;

use super::super::tile::{self, Lanes, Tile};
use super::super::winograd::{ACROSS, CHANNELS, FACTORS, POINTS, SHIFT, SIDE, Winograd};
use super::super::{BLOCK, End, Panel};
use super::ends::{Eight, Line, Sloping};
use super::{Dot, Eights};
use crate::Aligned;

/// Filters of a register.
const EIGHT: usize = BLOCK / 2;
/// Elements of the transformed input that are held at once, about: half of a second-level cache.
const HELD: usize = 192 << 10;
/// Tiles that are held at once, at most.
const TILES: usize = 18;
/// Tiles whose products are made at once, at most. 16 registers: 12 sums, two of weights, one of inputs, one of products.
const AT_ONCE: usize = 6;

/// What sums of products start with.
static NOTHING: [i32; BLOCK] = [0; BLOCK];

/// What is made of 16 channels of a tile, and sums of a block's filters.
type Inputs = [[i16; CHANNELS]; POINTS];
type Sums = [[i32; BLOCK]; POINTS];

/// Products of all points of `P` tiles, of which the first point of the first is given, with the kernels of a block.
///
/// # Safety
/// The machine has the instructions. As [`tile::sums`], of all points: [`CHANNELS`] inputs, all lines and the sums of one follow those of
/// another.
#[inline(always)]
pub unsafe fn product<D: Dot, const P: usize>(first: &Tile) {
    for point in 0..POINTS {
        // SAFETY: the caller's promise.
        unsafe {
            let x = first.x.cast::<[i16; CHANNELS]>().add(point).cast();
            let w = first.w.add(point * first.runs * first.quads);
            let out = first.out.cast::<[i32; BLOCK]>().add(point);
            let sums = tile::sums::<Eights<D>, P, 2>(&Tile { x, w, ..*first });
            for p in 0..P {
                for half in 0..2 {
                    Eights::<D>::store(sums[p][half], out.add(p * POINTS).cast::<i32>().add(half * EIGHT));
                }
            }
        }
    }
}

/// Products by tiles at once, less one.
pub type Products = [unsafe fn(&Tile); AT_ONCE];

/// B'd along an axis.
#[inline]
#[target_feature(enable = "avx2")]
fn forth(d: [__m256i; ACROSS]) -> [__m256i; ACROSS] {
    let (add, sub) = (|a, b| _mm256_add_epi16(a, b), |a, b| _mm256_sub_epi16(a, b));
    let (twice, four) = (|a| _mm256_slli_epi16::<1>(a), |a| _mm256_slli_epi16::<2>(a));
    let (even, odd) = (sub(d[4], d[2]), sub(d[3], d[1]));
    let (g, h) = (sub(d[4], four(d[2])), sub(d[3], four(d[1])));
    let double = twice(odd);
    [
        add(four(sub(d[0], d[2])), even),
        add(g, h),
        sub(g, h),
        add(even, double),
        sub(even, double),
        sub(sub(d[5], d[3]), twice(double)),
    ]
}

/// A'm along an axis, rows times 24, 12, 6 and 6.
#[inline]
#[target_feature(enable = "avx2")]
fn back(m: [__m256i; ACROSS]) -> [__m256i; SIDE] {
    let (add, sub) = (|a, b| _mm256_add_epi32(a, b), |a, b| _mm256_sub_epi32(a, b));
    let (twice, four) = (|a| _mm256_slli_epi32::<1>(a), |a| _mm256_slli_epi32::<2>(a));
    let (a, b) = (add(m[1], m[2]), add(m[3], m[4]));
    let (c, d) = (sub(m[1], m[2]), sub(m[3], m[4]));
    [add(add(m[0], b), four(a)), add(twice(c), d), add(a, b), add(add(c, m[5]), twice(d))]
}

/// A tile of 16 channels, `rows` and `columns` of it where they are.
///
/// # Safety
/// The machine has AVX2. 16 bytes are readable at every row and column.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transform(rows: [*const u8; ACROSS], columns: [usize; ACROSS], out: &mut Inputs) {
    let mut along = [[_mm256_setzero_si256(); ACROSS]; ACROSS];
    for c in 0..ACROSS {
        // SAFETY: the caller's promise.
        let d = rows.map(|row| unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(row.add(columns[c]).cast())) });
        let d = forth(d);
        for r in 0..ACROSS {
            along[r][c] = d[r];
        }
    }
    for r in 0..ACROSS {
        let d = forth(along[r]);
        for c in 0..ACROSS {
            // SAFETY: an array is a register long.
            unsafe { _mm256_storeu_si256(out[r * ACROSS + c].as_mut_ptr().cast(), d[c]) };
        }
    }
}

/// Sums of eight filters, by row and column of a tile.
type Outputs = [[__m256i; SIDE]; SIDE];

/// Which of a tile's rows and columns are there, and where.
#[derive(Clone, Copy)]
struct Place {
    rows: usize,
    columns: usize,
    /// The position of the first.
    first: usize,
    /// Positions from a row to the next.
    across: usize,
}

/// Where outputs go.
trait To {
    /// Filters that there are.
    fn filters(&self) -> usize;

    /// Those of a tile, of eight filters from `filter` on.
    ///
    /// # Safety
    /// The machine has AVX2 and FMA; there are such positions, and this filter.
    unsafe fn take(&mut self, sums: &Outputs, place: Place, filter: usize);
}

/// Sums of some blocks, of which the first begins with filter `first`.
struct Raw<'a> {
    out: &'a mut [i32],
    step: usize,
    first: usize,
}

impl To for Raw<'_> {
    /// Blocks are whole.
    fn filters(&self) -> usize {
        self.first + self.step
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn take(&mut self, sums: &Outputs, place: Place, filter: usize) {
        for (r, sums) in sums.iter().enumerate().take(place.rows) {
            let position = place.first + r * place.across;
            for (c, &sums) in sums.iter().enumerate().take(place.columns) {
                // SAFETY: the caller's promise: there are places for whole blocks.
                unsafe {
                    let out = self.out.as_mut_ptr().add((position + c) * self.step + filter - self.first);
                    _mm256_storeu_si256(out.cast(), sums);
                }
            }
        }
    }
}

/// Outputs of all filters, by the rule `S`.
struct Ended<'a, S: Eight, const SIGNED: bool> {
    end: &'a S::End,
    ceiling: u8,
    filters: usize,
    out: &'a mut [u8],
}

impl<S: Eight, const SIGNED: bool> To for Ended<'_, S, SIGNED> {
    fn filters(&self) -> usize {
        self.filters
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn take(&mut self, sums: &Outputs, place: Place, filter: usize) {
        // SAFETY: the caller's promise; an end has whole blocks.
        let rule = unsafe { S::of(self.end, filter) };
        let ceiling = _mm256_set1_epi8(self.ceiling.cast_signed());
        let there = EIGHT.min(self.filters - filter);
        let whole = there == EIGHT && place.columns >= SIDE;
        for (r, sums) in sums.iter().enumerate().take(place.rows) {
            let at = (place.first + r * place.across) * self.filters + filter;
            // SAFETY: the caller's promise.
            let bytes = bytes_of_four::<SIGNED>(sums.map(|sums| unsafe { rule.ended(sums) }), ceiling);
            if whole {
                // SAFETY: there are four positions and eight filters of each.
                unsafe {
                    let out = self.out.as_mut_ptr().add(at);
                    let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
                    _mm_storel_epi64(out.cast(), low);
                    _mm_storel_epi64(out.add(self.filters).cast(), _mm_unpackhi_epi64(low, low));
                    _mm_storel_epi64(out.add(2 * self.filters).cast(), high);
                    _mm_storel_epi64(out.add(3 * self.filters).cast(), _mm_unpackhi_epi64(high, high));
                }
            } else {
                let mut four = [[0u8; EIGHT]; SIDE];
                // SAFETY: the array is a register long.
                unsafe { _mm256_storeu_si256(four.as_mut_ptr().cast(), bytes) };
                for (c, eight) in four.iter().enumerate().take(place.columns) {
                    self.out[at + c * self.filters..][..there].copy_from_slice(&eight[..there]);
                }
            }
        }
    }
}

/// Saturates results of eight filters of four positions, position by position.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes_of_four<const SIGNED: bool>(y: [__m256i; SIDE], ceiling: __m256i) -> __m256i {
    let (a, b) = (_mm256_packs_epi32(y[0], y[1]), _mm256_packs_epi32(y[2], y[3]));
    let bytes = if SIGNED { _mm256_packs_epi16(a, b) } else { _mm256_min_epu8(_mm256_packus_epi16(a, b), ceiling) };
    // The first four filters of all positions are in one half, the others in the other.
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// Outputs of eight filters of a tile.
///
/// # Safety
/// The machine has AVX2 and FMA. Eight values are readable at `start`; as [`To::take`].
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn outputs(sums: &Sums, start: *const i32, filter: usize, place: Place, to: &mut impl To) {
    let half = filter % BLOCK;
    let mut y = [[_mm256_setzero_si256(); SIDE]; SIDE];
    let mut along = [[_mm256_setzero_si256(); ACROSS]; SIDE];
    for c in 0..ACROSS {
        // SAFETY: eight values follow half of a block.
        let load = |r: usize| unsafe { _mm256_loadu_si256(sums[r * ACROSS + c].as_ptr().add(half).cast()) };
        let y = back(array::from_fn(load));
        for r in 0..SIDE {
            along[r][c] = y[r];
        }
    }
    // SAFETY: the caller's promise.
    let start = unsafe { _mm256_loadu_si256(start.add(filter).cast()) };
    for r in 0..SIDE {
        let row = back(along[r]);
        for c in 0..SIDE {
            let scaled = _mm256_mullo_epi32(row[c], _mm256_set1_epi32(FACTORS[r][c]));
            y[r][c] = _mm256_add_epi32(_mm256_srai_epi32::<SHIFT>(scaled), start);
        }
    }
    // SAFETY: the caller's promise.
    unsafe { to.take(&y, place, filter) }
}

/// Transformed inputs, by tile and 16 channels, and sums, by tile.
#[derive(Default)]
struct Room {
    inputs: Aligned<Inputs>,
    sums: Aligned<Sums>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// A convolution: what its tiles are made of.
#[derive(Clone, Copy)]
pub struct Convolution<'a> {
    pub products: Products,
    pub kernels: &'a Winograd,
    pub x: &'a Panel<'a>,
    pub start: &'a [i32],
}

impl Convolution<'_> {
    /// Sums of some blocks, as [`Kernels::multiply`](super::super::Kernels::multiply) makes them.
    ///
    /// # Safety
    /// The machine has AVX2, FMA and the instructions of the products; the panel was checked, and
    /// [`is_square`](Panel::is_square). Kernels are those of the weights it was checked with.
    pub unsafe fn sums(&self, blocks: Range<usize>, out: &mut [i32], step: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.to(blocks.clone(), &mut Raw { out, step, first: blocks.start * BLOCK }) }
    }

    /// Outputs of all filters, as [`Kernels::ended`](super::super::Kernels::ended) makes them.
    ///
    /// # Safety
    /// As [`sums`](Self::sums); ends and output were checked too.
    pub unsafe fn ended(&self, filters: usize, end: End<'_>, out: &mut [u8]) -> bool {
        let blocks = 0..filters.div_ceil(BLOCK);
        // SAFETY: the caller's promise. Nothing exceeds the ceiling of a slope, which is a byte.
        unsafe {
            match end {
                End::Slope(end) => {
                    self.to(blocks, &mut Ended::<Sloping, false> { end, ceiling: u8::MAX, filters, out });
                }
                End::Affine(end) => {
                    let ceiling = end.ceiling;
                    match (end.signed, end.limited) {
                        (false, false) => {
                            self.to(blocks, &mut Ended::<Line<false>, false> { end, ceiling, filters, out });
                        }
                        (false, true) => {
                            self.to(blocks, &mut Ended::<Line<true>, false> { end, ceiling, filters, out });
                        }
                        (true, false) => {
                            self.to(blocks, &mut Ended::<Line<false>, true> { end, ceiling, filters, out });
                        }
                        (true, true) => {
                            self.to(blocks, &mut Ended::<Line<true>, true> { end, ceiling, filters, out });
                        }
                    }
                }
                End::Wide(_) => return false,
            }
        }
        true
    }

    /// # Safety
    /// As [`sums`](Self::sums) and [`To::take`].
    unsafe fn to(&self, blocks: Range<usize>, to: &mut impl To) {
        let x = self.x;
        let across = x.count.div_ceil(SIDE);
        let tiles = x.rows.div_ceil(SIDE) * across;
        let held = (HELD / (POINTS * x.step)).clamp(AT_ONCE, TILES);
        let held = tiles.div_ceil(tiles.div_ceil(held).max(1)).max(1);
        let mut places = (0..tiles).map(|tile| [tile / across * SIDE, tile % across * SIDE]);
        ROOM.with_borrow_mut(|room| {
            for first in (0..tiles).step_by(held) {
                let mut some = [[0; 2]; TILES];
                let some = &mut some[..held.min(tiles - first)];
                some.iter_mut().zip(&mut places).for_each(|(to, place)| *to = place);
                // SAFETY: the caller's promise.
                unsafe { self.tiles(some, blocks.clone(), room, to) };
            }
        });
    }

    /// Some tiles, of which the first row and column are given.
    ///
    /// # Safety
    /// As [`to`](Self::to); these are positions of the panel.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tiles(&self, tiles: &[[usize; 2]], blocks: Range<usize>, room: &mut Room, to: &mut impl To) {
        let Self { products, kernels, x, start } = *self;
        let chunks = x.step / CHANNELS;
        let inputs = room.inputs.at_least(tiles.len() * chunks);
        let sums = room.sums.at_least(tiles.len());
        for (&[row, column], inputs) in tiles.iter().zip(inputs.chunks_exact_mut(chunks)) {
            // Of what is behind the last row and column nothing is used.
            let rows = array::from_fn(|r| x.data.as_ptr().wrapping_add((row + r).min(x.rows + 1) * x.row_step));
            let columns: [usize; ACROSS] = array::from_fn(|c| (column + c).min(x.count + 1) * x.step);
            for (chunk, inputs) in inputs.iter_mut().enumerate() {
                // SAFETY: positions of the panel were checked, two rows and columns more are what their kernels meet.
                unsafe { transform(rows, columns.map(|at| at + chunk * CHANNELS), inputs) };
            }
        }
        let parts = tiles.len().div_ceil(AT_ONCE);
        let (each, more) = (tiles.len() / parts, tiles.len() % parts);
        for block in blocks {
            let lines = &kernels.lines[block * POINTS * kernels.pairs..][..POINTS * kernels.pairs];
            let mut tile = 0;
            for part in 0..parts {
                let count = each + usize::from(part < more);
                let first = Tile {
                    x: inputs[tile * chunks..].as_ptr().cast(),
                    step: chunks * size_of::<Inputs>(),
                    run_step: size_of::<Inputs>(),
                    runs: chunks,
                    quads: CHANNELS / 2,
                    w: lines.as_ptr(),
                    start: NOTHING.as_ptr(),
                    out: sums[tile..].as_mut_ptr().cast(),
                    out_step: POINTS * BLOCK,
                };
                // SAFETY: so many tiles follow there, and lines are those of the block, of as many channels.
                unsafe { products[count - 1](&first) };
                tile += count;
            }
            for (&[row, column], sums) in tiles.iter().zip(&*sums) {
                let place = Place {
                    rows: x.rows - row,
                    columns: x.count - column,
                    first: row * x.count + column,
                    across: x.count,
                };
                for filter in (block * BLOCK..to.filters().min((block + 1) * BLOCK)).step_by(EIGHT) {
                    // SAFETY: the panel was checked: every filter has a start, and every position of it a place.
                    unsafe { outputs(sums, start.as_ptr(), filter, place, to) };
                }
            }
        }
    }
}
