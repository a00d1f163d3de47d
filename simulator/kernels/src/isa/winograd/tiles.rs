//! Convolutions by [`Winograd`] on x86-64: tiles of the input to 36 matrices, products of pairs of 16 bits, and what sets make outputs of.

// Intrinsics and pointers into panels that were checked once; every block says why it is sound.
#![allow(unsafe_code)]
// Arrays of registers stay in them where loops count.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::array;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use super::super::tile::{self, Lanes, Shape, Tile};
use super::super::{BLOCK, Panel};
use super::{ACROSS, CHANNELS, FACTORS, POINTS, SIDE, Winograd};
use crate::Aligned;

/// Elements of the transformed input that are held at once, about: half of a second-level cache.
const HELD: usize = 192 << 10;
/// Tiles that are held at once, at least and at most.
const TILES: [usize; 2] = [6, 18];
/// Blocks whose products are made at once, at most.
const BLOCKS: usize = 4;

/// What sums of products start with.
static NOTHING: [i32; BLOCKS * BLOCK] = [0; BLOCKS * BLOCK];

/// A point of 16 channels of a tile.
type Input = [i16; CHANNELS];
/// Sums of a block's filters.
pub type Sums = [[i32; BLOCK]; POINTS];

/// Products of all points of `P` tiles, of which the first point of the first is given, with kernels of `N` registers of filters.
///
/// # Safety
/// The machine has the instructions of `L`, which multiply pairs of 16 bits. As [`tile::sums`], of all points: inputs of one follow
/// those of another after a step of runs, of which there is one, its lines at once. [`Sums`] are by tile and block.
#[inline(always)]
pub unsafe fn product<L: Lanes, const P: usize, const N: usize>(first: &Tile) {
    let per = BLOCK / L::PER_BLOCK;
    for point in 0..POINTS {
        // SAFETY: the caller's promise.
        unsafe {
            let x = first.x.add(point * first.run_step);
            let w = first.w.add(point * first.quads);
            let out = first.out.cast::<[i32; BLOCK]>().add(point);
            let sums = tile::sums::<L, P, N>(&Tile { x, w, ..*first });
            for p in 0..P {
                for n in 0..N {
                    let block = p * N.div_ceil(L::PER_BLOCK) + n / L::PER_BLOCK;
                    L::store(sums[p][n], out.add(block * POINTS).cast::<i32>().add(n % L::PER_BLOCK * per));
                }
            }
        }
    }
}

/// Computes products of as many tiles as its index in its table says, less one.
pub type Product = unsafe fn(&Tile);

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

/// A tile of 16 channels, `rows` and `columns` of it where they are, to points that are `step` apart.
///
/// # Safety
/// The machine has AVX2. 16 bytes are readable at every row and column; `out` has all points.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transform(rows: [*const u8; ACROSS], columns: [usize; ACROSS], out: *mut Input, step: usize) {
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
            // SAFETY: an array is a register long; the caller's promise.
            unsafe { _mm256_storeu_si256(out.add((r * ACROSS + c) * step).cast(), d[c]) };
        }
    }
}

/// Which of a tile's rows and columns are there, and where.
#[derive(Clone, Copy)]
pub struct Place {
    pub rows: usize,
    pub columns: usize,
    /// The position of the first.
    pub first: usize,
    /// Positions from a row to the next.
    pub across: usize,
}

/// A register of sums.
///
/// # Safety
/// Functions are called where the machine has the instructions. Nothing but registers is touched, and by `load` and `store` what they say.
pub unsafe trait Vector: Copy {
    /// Filters of a register.
    const FILTERS: usize;

    /// Reads [`FILTERS`](Self::FILTERS) values.
    unsafe fn load(from: *const i32) -> Self;
    /// Writes as many.
    unsafe fn store(self, to: *mut i32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn twice(self) -> Self;
    /// `(self * factor) >> SHIFT`.
    unsafe fn scaled(self, factor: i32) -> Self;
}

/// A'm along an axis, rows times 24, 12, 6 and 6.
///
/// # Safety
/// The machine has the instructions of `V`.
#[inline(always)]
unsafe fn back<V: Vector>(m: [V; ACROSS]) -> [V; SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        let (a, b) = (m[1].add(m[2]), m[3].add(m[4]));
        let (c, d) = (m[1].sub(m[2]), m[3].sub(m[4]));
        [m[0].add(b).add(a.twice().twice()), c.twice().add(d), a.add(b), c.add(m[5]).add(d.twice())]
    }
}

/// Outputs of a register's filters of a tile, by row: what `ended` makes of four columns.
///
/// # Safety
/// The machine has the instructions of `V`. As many values as it holds follow at `start + filter`.
#[inline(always)]
pub unsafe fn outputs<V: Vector, T: Copy>(
    sums: &Sums,
    (start, filter): (*const i32, usize),
    nothing: T,
    ended: impl Fn([V; SIDE]) -> T,
) -> [T; SIDE] {
    // SAFETY: the caller's promise; sums are those of a block.
    unsafe {
        let part = filter % BLOCK;
        let start = V::load(start.add(filter));
        let mut along = [[start; ACROSS]; SIDE];
        for c in 0..ACROSS {
            let y = back(array::from_fn(|r| V::load(sums[r * ACROSS + c].as_ptr().add(part))));
            for r in 0..SIDE {
                along[r][c] = y[r];
            }
        }
        let mut rows = [nothing; SIDE];
        for r in 0..SIDE {
            let mut y = back(along[r]);
            for c in 0..SIDE {
                y[c] = y[c].scaled(FACTORS[r][c]).add(start);
            }
            rows[r] = ended(y);
        }
        rows
    }
}

/// Where sums of some blocks go.
pub struct Raw<'a, V> {
    out: &'a mut [i32],
    /// From a position to the next.
    step: usize,
    /// First filter of the first block.
    first: usize,
    vector: PhantomData<V>,
}

impl<V: Vector> Raw<'_, V> {
    /// Up to the last there is a place for: blocks are whole.
    pub fn filters(&self) -> usize {
        self.first + self.step
    }

    /// Those of a tile, of a register's filters from `filter` on.
    ///
    /// # Safety
    /// As [`outputs`]; there are places for whole blocks at these positions.
    #[inline(always)]
    pub unsafe fn rows(&mut self, sums: &Sums, start: *const i32, filter: usize, place: Place) {
        // SAFETY: the caller's promise.
        unsafe {
            let rows = outputs::<V, _>(sums, (start, filter), [V::load(NOTHING.as_ptr()); SIDE], |sums| sums);
            for (r, sums) in rows.iter().enumerate().take(place.rows) {
                let position = place.first + r * place.across;
                for (c, &sums) in sums.iter().enumerate().take(place.columns) {
                    sums.store(self.out.as_mut_ptr().add((position + c) * self.step + filter - self.first));
                }
            }
        }
    }
}

/// Where outputs go.
pub trait To {
    /// Whose filters are taken at once.
    type Vector: Vector;

    /// Filters that there are.
    fn filters(&self) -> usize;

    /// Those of a tile, of some filters from `filter` on.
    ///
    /// # Safety
    /// The machine has the instructions; there are such positions and this filter, and values at `start` for whole blocks.
    unsafe fn take(&mut self, sums: &Sums, start: *const i32, filter: usize, place: Place);
}

/// Transformed inputs, by tile, point and 16 channels, and sums, by tile and block.
#[derive(Default)]
struct Room {
    inputs: Aligned<Input>,
    sums: Aligned<Sums>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// A convolution: what its tiles are made of.
#[derive(Clone, Copy)]
pub struct Convolution<'a> {
    /// In falling order of blocks, as for [`tile::multiply`].
    pub products: &'a [Shape<Product>],
    pub kernels: &'a Winograd,
    pub x: &'a Panel<'a>,
    pub start: &'a [i32],
}

impl Convolution<'_> {
    /// Sums of some blocks, as [`Kernels::multiply`](super::super::Kernels::multiply) makes them.
    ///
    /// # Safety
    /// As [`to`](Self::to).
    pub unsafe fn sums<V: Vector>(&self, blocks: Range<usize>, out: &mut [i32], step: usize)
    where
        for<'a> Raw<'a, V>: To,
    {
        let first = blocks.start * BLOCK;
        // SAFETY: the caller's promise.
        unsafe { self.to(blocks, &mut Raw::<V> { out, step, first, vector: PhantomData }) }
    }

    /// All of some blocks.
    ///
    /// # Safety
    /// The machine has AVX2 and the instructions of products and outputs. The panel was checked, and [`is_square`](Panel::is_square).
    /// Kernels are those of the weights it was checked with, blocks are among theirs. As [`To::take`].
    pub unsafe fn to(&self, blocks: Range<usize>, to: &mut impl To) {
        let x = self.x;
        let across = x.count.div_ceil(SIDE);
        let tiles = x.rows.div_ceil(SIDE) * across;
        let held = (HELD / (POINTS * x.step)).clamp(TILES[0], TILES[1]);
        let held = tiles.div_ceil(tiles.div_ceil(held).max(1)).max(1);
        let mut places = (0..tiles).map(|tile| [tile / across * SIDE, tile % across * SIDE]);
        ROOM.with_borrow_mut(|room| {
            for first in (0..tiles).step_by(held) {
                let mut some = [[0; 2]; TILES[1]];
                let some = &mut some[..held.min(tiles - first)];
                some.iter_mut().zip(&mut places).for_each(|(to, place)| *to = place);
                // SAFETY: the caller's promise.
                unsafe { self.some(some, blocks.clone(), room, to) };
            }
        });
    }

    /// Some tiles, of which the first row and column are given.
    ///
    /// # Safety
    /// As [`to`](Self::to); these are positions of the panel.
    unsafe fn some<T: To>(&self, tiles: &[[usize; 2]], blocks: Range<usize>, room: &mut Room, to: &mut T) {
        let Self { products, kernels, x, start } = *self;
        let chunks = x.step / CHANNELS;
        let step = step(POINTS * chunks);
        let inputs = room.inputs.at_least(tiles.len() * step);
        let sums = room.sums.at_least(tiles.len() * BLOCKS);
        // SAFETY: the caller's promise.
        unsafe { transforms(x, tiles, inputs, step) };
        let mut block = blocks.start;
        while block < blocks.end {
            let Some(shape) = tile::shape_for(products, blocks.end - block, tiles.len()) else { return };
            let lines = &kernels.lines[block * POINTS * kernels.pairs..][..shape.blocks * POINTS * kernels.pairs];
            let parts = tiles.len().div_ceil(shape.tiles.len());
            let (each, more) = (tiles.len() / parts, tiles.len() % parts);
            let mut tile = 0;
            for part in 0..parts {
                let count = each + usize::from(part < more);
                let first = Tile {
                    x: inputs[tile * step..].as_ptr().cast(),
                    step: step * size_of::<Input>(),
                    run_step: chunks * size_of::<Input>(),
                    runs: 1,
                    quads: kernels.pairs,
                    w: lines.as_ptr(),
                    block_lines: POINTS * kernels.pairs,
                    behind: 0,
                    start: NOTHING.as_ptr(),
                    out: sums.as_mut_ptr().cast(),
                    out_step: shape.blocks * POINTS * BLOCK,
                };
                // SAFETY: so many tiles follow there, and lines are those of these blocks, of as many channels; there are sums for as
                // many tiles and blocks.
                unsafe { (shape.tiles[count - 1])(&first) };
                for (&[row, column], sums) in tiles[tile..][..count].iter().zip(sums.chunks_exact(shape.blocks)) {
                    let place = Place {
                        rows: x.rows - row,
                        columns: x.count - column,
                        first: row * x.count + column,
                        across: x.count,
                    };
                    for (sums, block) in sums.iter().zip(block..) {
                        for filter in (block * BLOCK..to.filters().min((block + 1) * BLOCK)).step_by(T::Vector::FILTERS)
                        {
                            // SAFETY: the panel was checked: every filter has a start, and every position of it a place.
                            unsafe { to.take(sums, start.as_ptr(), filter, place) };
                        }
                    }
                }
                tile += count;
            }
            block += shape.blocks;
        }
    }
}

/// From a tile to the next of so many inputs: an odd number of lines of a cache, so that tiles are not all in the same places of it.
fn step(inputs: usize) -> usize {
    const LINE: usize = 64 / size_of::<Input>();
    (inputs.div_ceil(LINE) | 1) * LINE
}

/// Inputs of some tiles, of which the first row and column are given, by tile, point and 16 channels.
///
/// # Safety
/// The machine has AVX2; the panel was checked, its kernels are squares, and these are positions of it.
#[target_feature(enable = "avx2")]
unsafe fn transforms(x: &Panel<'_>, tiles: &[[usize; 2]], inputs: &mut [Input], step: usize) {
    let chunks = x.step / CHANNELS;
    assert!(step >= POINTS * chunks && inputs.len() >= tiles.len() * step, "a place for every point");
    for (tile, &[row, column]) in tiles.iter().enumerate() {
        // Of what is behind the last row and column nothing is used.
        let rows = array::from_fn(|r| x.data.as_ptr().wrapping_add((row + r).min(x.rows + 1) * x.row_step));
        let columns: [usize; ACROSS] = array::from_fn(|c| (column + c).min(x.count + 1) * x.step);
        for chunk in 0..chunks {
            // SAFETY: positions of the panel were checked, two rows and columns more are what their kernels meet; inputs have all points.
            unsafe {
                let out = inputs.as_mut_ptr().add(tile * step + chunk);
                transform(rows, columns.map(|at| at + chunk * CHANNELS), out, chunks);
            }
        }
    }
}
