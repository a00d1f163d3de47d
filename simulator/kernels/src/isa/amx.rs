//! AMX: tiles of 16 positions by 16 filters by 64 bytes, one instruction each (`tdpbusd`), sums exact in 32 bits. All else
//! is AVX-512 VNNI.
//!
//! Weights lie as tiles already: sixteen lines of a block are one. Inputs are loaded where they are, one position a row
//! of a tile, so a convolution is a sum over the rows of its kernel of products of overlapping rows of bytes.
#![allow(unsafe_code)] // Instructions that Rust has no names for yet; every block says why it is sound.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::ops::Range;

use super::pack::Line;
use super::{Affine, Avx512Vnni, BLOCK, Kernels, Packed, Panel, Shifts, Taps, TapsEnd, Terms, Wide, Windows};

/// AMX kernels.
#[derive(Debug)]
pub struct Amx {
    others: Avx512Vnni,
}

/// Request number of `arch_prctl`: the permission to use a state component that is off until asked for.
const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
/// State component of tile data.
const XTILEDATA: usize = 18;
/// Rows of a tile, which are positions, or quads of weights.
const ROWS: usize = 16;
/// Fewest positions of a row for which tiles are worth it.
const FEWEST: usize = 5;
/// Bytes of weights that stay in a first-level cache.
const WEIGHTS: usize = 24 << 10;

impl Amx {
    /// None where the machine lacks AMX or AVX-512 VNNI, or the operating system refuses tiles to this process.
    pub fn new() -> Option<Self> {
        let others = Avx512Vnni::new()?;
        (instructions() && permission()).then_some(Self { others })
    }
}

/// Whether there is `amx-tile` and `amx-int8`, and the operating system keeps their state.
fn instructions() -> bool {
    if __cpuid(0).eax < 7 {
        return false;
    }
    let (osxsave, tile, int8) = (1 << 27, 1 << 24, 1 << 25);
    if __cpuid(1).ecx & osxsave == 0 || __cpuid_count(7, 0).edx & (tile | int8) != tile | int8 {
        return false;
    }
    #[target_feature(enable = "xsave")]
    fn states() -> u64 {
        // SAFETY: register 0 exists wherever the instruction does.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: the operating system has turned `xgetbv` on, which the processor said above.
    let states = unsafe { states() };
    let tiles = 3 << 17;
    states & tiles == tiles
}

/// Asks Linux for tiles, for all threads of the process.
fn permission() -> bool {
    let (number, mut result) = (158usize, 0isize);
    // SAFETY: `arch_prctl` with this request takes a number and touches no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

// Tile registers hold what they hold between the blocks of assembly below: the compiler has none to give to others, as
// those who wrote the C intrinsics also rely on.

/// What the eight tile registers are: 0 to 3 sums, 4 and 5 inputs, 6 and 7 weights.
#[repr(C, align(64))]
struct Shape([u8; 64]);

impl Shape {
    /// `rows` positions; 5 and 7 have `rest` quads.
    fn new(rows: usize, rest: usize) -> Self {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = |register: usize, rows: usize, quads: usize| {
            bytes[16 + 2 * register] = (quads * 4) as u8;
            bytes[48 + register] = rows as u8;
        };
        (0..4).for_each(|sums| tile(sums, rows, BLOCK));
        tile(4, rows, ROWS);
        tile(5, rows, rest);
        tile(6, ROWS, BLOCK);
        tile(7, rest, BLOCK);
        Self(bytes)
    }

    /// # Safety
    /// The machine has tiles.
    unsafe fn take(&self) {
        // SAFETY: the caller's promise; 64 bytes are read.
        unsafe { asm!("ldtilecfg [{}]", in(reg) self.0.as_ptr(), options(nostack, readonly)) }
    }
}

/// # Safety
/// The machine has tiles.
unsafe fn release() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}

/// Loads a tile, `step` bytes from a row to the next.
///
/// # Safety
/// Every row of the tile is readable.
#[inline(always)]
unsafe fn load<const T: usize>(at: *const u8, step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tileloadd tmm{t}, [{at} + 1*{step}]", t = const T, at = in(reg) at, step = in(reg) step,
            options(nostack, readonly));
    }
}

/// Stores a tile.
///
/// # Safety
/// Every row of the tile is writable.
#[inline(always)]
unsafe fn store<const T: usize>(at: *mut u8, step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tilestored [{at} + 1*{step}], tmm{t}", t = const T, at = in(reg) at, step = in(reg) step, options(nostack));
    }
}

/// Sums C of unsigned inputs A and signed weights B.
///
/// # Safety
/// The shapes of the three go together.
#[inline(always)]
unsafe fn dot<const C: usize, const A: usize, const B: usize>() {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tdpbusd tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B, options(nostack, nomem));
    }
}

/// A few tiles of sums.
struct Work {
    /// First byte of the first position of each tile.
    x: [*const u8; 4],
    /// First sum of each tile.
    out: [*mut i32; 4],
    /// Bytes from a position to the next.
    step: usize,
    /// Bytes from the sums of a position to those of the next.
    out_step: usize,
    /// First lines of weights of each block.
    w: [*const Line; 2],
    /// Lines from a run to the next.
    lines: usize,
    runs: usize,
    /// Bytes from a run to the next.
    run_step: usize,
    /// Whole tiles of a run.
    whole: usize,
    /// What sums start with, for both blocks; else they go on.
    start: Option<*const i32>,
}

const LINE: usize = size_of::<Line>();
const TILE: usize = LINE * ROWS;

/// `P` tiles of positions and one block of filters; `REST`: runs end with part of a tile.
///
/// # Safety
/// Registers are shaped; positions, weights, starts and sums are there.
unsafe fn narrow<const P: usize, const REST: bool>(t: &Work) {
    // SAFETY: the caller's promise. Inputs and weights advance by what was loaded of them, inside their runs.
    unsafe {
        let (first, first_step) = match t.start {
            Some(start) => ([start.cast(); 4], 0),
            None => (t.out.map(|out| out.cast_const().cast()), t.out_step),
        };
        load::<0>(first[0], first_step);
        if P > 1 {
            load::<1>(first[1], first_step);
        }
        if P > 2 {
            load::<2>(first[2], first_step);
        }
        if P > 3 {
            load::<3>(first[3], first_step);
        }
        for run in 0..t.runs {
            let mut w: *const u8 = t.w[0].wrapping_add(run * t.lines).cast();
            let mut x = t.x.map(|x| x.wrapping_add(run * t.run_step));
            for _ in 0..t.whole {
                load::<6>(w, LINE);
                load::<4>(x[0], t.step);
                dot::<0, 4, 6>();
                if P > 1 {
                    load::<4>(x[1], t.step);
                    dot::<1, 4, 6>();
                }
                if P > 2 {
                    load::<4>(x[2], t.step);
                    dot::<2, 4, 6>();
                }
                if P > 3 {
                    load::<4>(x[3], t.step);
                    dot::<3, 4, 6>();
                }
                w = w.wrapping_add(TILE);
                x = x.map(|x| x.wrapping_add(4 * ROWS));
            }
            if REST {
                load::<7>(w, LINE);
                load::<5>(x[0], t.step);
                dot::<0, 5, 7>();
                if P > 1 {
                    load::<5>(x[1], t.step);
                    dot::<1, 5, 7>();
                }
                if P > 2 {
                    load::<5>(x[2], t.step);
                    dot::<2, 5, 7>();
                }
                if P > 3 {
                    load::<5>(x[3], t.step);
                    dot::<3, 5, 7>();
                }
            }
        }
        store::<0>(t.out[0].cast(), t.out_step);
        if P > 1 {
            store::<1>(t.out[1].cast(), t.out_step);
        }
        if P > 2 {
            store::<2>(t.out[2].cast(), t.out_step);
        }
        if P > 3 {
            store::<3>(t.out[3].cast(), t.out_step);
        }
    }
}

/// `P` (1 or 2) tiles of positions and two blocks of filters, runs of whole tiles.
///
/// # Safety
/// As [`narrow`], with registers 5 and 7 shaped as 4 and 6.
unsafe fn square<const P: usize>(t: &Work) {
    // SAFETY: as above.
    unsafe {
        let (first, first_step) = match t.start {
            Some(start) => ([start.cast::<u8>(); 4], 0),
            None => (t.out.map(|out| out.cast_const().cast()), t.out_step),
        };
        let next = BLOCK * size_of::<i32>();
        load::<0>(first[0], first_step);
        load::<1>(first[0].wrapping_add(next), first_step);
        if P > 1 {
            load::<2>(first[1], first_step);
            load::<3>(first[1].wrapping_add(next), first_step);
        }
        for run in 0..t.runs {
            let mut w: [*const u8; 2] = t.w.map(|w| w.wrapping_add(run * t.lines).cast());
            let mut x = [t.x[0], t.x[1]].map(|x| x.wrapping_add(run * t.run_step));
            for _ in 0..t.whole {
                load::<6>(w[0], LINE);
                load::<4>(x[0], t.step);
                dot::<0, 4, 6>();
                load::<7>(w[1], LINE);
                dot::<1, 4, 7>();
                if P > 1 {
                    load::<5>(x[1], t.step);
                    dot::<2, 5, 6>();
                    dot::<3, 5, 7>();
                }
                w = w.map(|w| w.wrapping_add(TILE));
                x = x.map(|x| x.wrapping_add(4 * ROWS));
            }
        }
        store::<0>(t.out[0].cast(), t.out_step);
        store::<1>(t.out[0].cast::<u8>().wrapping_add(next), t.out_step);
        if P > 1 {
            store::<2>(t.out[1].cast(), t.out_step);
            store::<3>(t.out[1].cast::<u8>().wrapping_add(next), t.out_step);
        }
    }
}

/// Part of the weights of every filter: so many runs, or part of one run.
#[derive(Clone, Copy)]
struct Part {
    run: usize,
    runs: usize,
    /// First tile of a run, and how many.
    tile: usize,
    whole: usize,
    rest: bool,
}

/// The parts of weights of `blocks` blocks that fit a first-level cache.
fn parts(w: &Packed, blocks: usize, once: bool) -> impl Iterator<Item = Part> {
    let (runs, whole, rest) = (w.runs(), w.quads() / ROWS, !w.quads().is_multiple_of(ROWS));
    let run_bytes = w.quads() * LINE * blocks;
    let (runs_at_once, tiles_at_once) = match WEIGHTS / run_bytes {
        _ if once => (runs, whole),
        0 => (1, (WEIGHTS / (TILE * blocks)).max(1)),
        runs_at_once => (runs_at_once, whole),
    };
    (0..runs).step_by(runs_at_once).flat_map(move |run| {
        (0..whole.max(1)).step_by(tiles_at_once.max(1)).map(move |tile| {
            let count = tiles_at_once.min(whole - tile);
            Part { run, runs: runs_at_once.min(runs - run), tile, whole: count, rest: rest && tile + count == whole }
        })
    })
}

/// The product of a checked panel, which has positions and runs.
///
/// # Safety
/// The machine has tiles, and the process may use them.
unsafe fn product(x: &Panel<'_>, w: &Packed, blocks: Range<usize>, start: &[i32], out: &mut [i32], out_step: usize) {
    let across = x.count.div_ceil(ROWS);
    let rows = x.count.div_ceil(across);
    let tiles = x.rows * across;
    let rest = w.quads() % ROWS;
    let shape = if rest == 0 { Shape::new(rows, ROWS) } else { Shape::new(rows, rest) };
    // Tiles at the end of a row overlap with those before: both make the same sums.
    let position = |tile: usize| (tile / across, (tile % across * rows).min(x.count - rows));
    // But not twice: then weights are not parted.
    let overlap = !x.count.is_multiple_of(rows);
    // SAFETY: the caller's promise, and everything a panel's check has shown: all positions have their bytes, all blocks
    // their lines and starts, all sums their places.
    unsafe {
        shape.take();
        let mut block = blocks.start;
        while block < blocks.end {
            let two = rest == 0 && block + 1 < blocks.end;
            let (high, at_once) = if two { (2, 2) } else { (1, 4) };
            for part in parts(w, high, tiles <= at_once || overlap) {
                let lines =
                    w.lines().as_ptr().wrapping_add((block * w.runs() + part.run) * w.quads() + part.tile * ROWS);
                let mut work = Work {
                    x: [x.data.as_ptr(); 4],
                    out: [out.as_mut_ptr(); 4],
                    step: x.step,
                    out_step: out_step * size_of::<i32>(),
                    w: [lines, lines.wrapping_add(w.runs() * w.quads())],
                    lines: w.quads(),
                    runs: part.runs,
                    run_step: x.run_step,
                    whole: part.whole,
                    start: (part.run == 0 && part.tile == 0).then(|| start.as_ptr().wrapping_add(block * BLOCK)),
                };
                let mut tile = 0;
                while tile < tiles {
                    let count = at_once.min(tiles - tile);
                    for i in 0..count {
                        let (row, at) = position(tile + i);
                        let byte = row * x.row_step + at * x.step + part.run * x.run_step + part.tile * 4 * ROWS;
                        work.x[i] = x.data.as_ptr().wrapping_add(byte);
                        let sum = (row * x.count + at) * out_step + (block - blocks.start) * BLOCK;
                        work.out[i] = out.as_mut_ptr().wrapping_add(sum);
                    }
                    match (two, count, part.rest) {
                        (true, 1, _) => square::<1>(&work),
                        (true, ..) => square::<2>(&work),
                        (_, 1, true) => narrow::<1, true>(&work),
                        (_, 2, true) => narrow::<2, true>(&work),
                        (_, 3, true) => narrow::<3, true>(&work),
                        (_, _, true) => narrow::<4, true>(&work),
                        (_, 1, _) => narrow::<1, false>(&work),
                        (_, 2, _) => narrow::<2, false>(&work),
                        (_, 3, _) => narrow::<3, false>(&work),
                        (..) => narrow::<4, false>(&work),
                    }
                    tile += count;
                }
            }
            block += high;
        }
        release();
    }
}

/// # Safety
/// The machine has tiles, and the process may use them.
unsafe fn peak(rounds: u64) -> u64 {
    let zeros = [0u8; 64];
    // SAFETY: the caller's promise; every row of a tile that is loaded is the same 64 bytes.
    unsafe {
        Shape::new(ROWS, ROWS).take();
        load::<4>(zeros.as_ptr(), 0);
        load::<5>(zeros.as_ptr(), 0);
        load::<6>(zeros.as_ptr(), 0);
        load::<7>(zeros.as_ptr(), 0);
        for _ in 0..rounds {
            dot::<0, 4, 6>();
            dot::<1, 4, 7>();
            dot::<2, 5, 6>();
            dot::<3, 5, 7>();
        }
        release();
    }
    rounds * (4 * ROWS * BLOCK * 4 * ROWS) as u64
}

impl Kernels for Amx {
    fn name(&self) -> &'static str {
        "x86_64-u8i8-amx"
    }

    fn multiply(
        &self,
        x: &Panel<'_>,
        w: &Packed,
        blocks: Range<usize>,
        start: &[i32],
        out: &mut [i32],
        out_step: usize,
    ) {
        let x = x.joined();
        if x.count < FEWEST || x.rows == 0 || w.runs() == 0 {
            return self.others.multiply(&x, w, blocks, start, out, out_step);
        }
        x.check(w, &blocks, start, out, out_step);
        // SAFETY: a value of this type exists only where there are tiles; the panel is checked.
        unsafe { product(&x, w, blocks, start, out, out_step) }
    }

    fn peak(&self, rounds: u64) -> u64 {
        // SAFETY: as above.
        unsafe { peak(rounds) }
    }

    fn depthwise(&self, x: &[&[u8]], w: &Taps, end: &TapsEnd, out: &mut [u8]) {
        self.others.depthwise(x, w, end, out);
    }

    fn depthwise_sums(&self, x: &[&[u8]], w: &Taps, out: &mut [i32]) {
        self.others.depthwise_sums(x, w, out);
    }

    fn affine(&self, sums: &[i32], step: usize, end: &Affine, f: Range<usize>, out: &mut [u8], out_step: usize) {
        self.others.affine(sums, step, end, f, out, out_step);
    }

    fn wide(&self, sums: &[i32], step: usize, end: &Wide, f: Range<usize>, out: &mut [u8], out_step: usize) {
        self.others.wide(sums, step, end, f, out, out_step);
    }

    fn steps(&self, sums: &[i32], step: usize, e: (&[i32], usize), f: Range<usize>, out: &mut [u8], out_step: usize) {
        self.others.steps(sums, step, e, f, out, out_step);
    }

    fn totals(&self, sums: &[i32], step: usize, terms: &Terms, filters: Range<usize>, totals: &mut [i32]) {
        self.others.totals(sums, step, terms, filters, totals);
    }

    fn add(&self, a: &[u8], b: &[u8], shifts: &Shifts, out: &mut [u8]) {
        self.others.add(a, b, shifts, out);
    }

    fn largest(&self, held: &mut [u8], new: &[u8], signed: bool) {
        self.others.largest(held, new, signed);
    }

    fn pool(&self, row: &[u8], windows: Windows, out: &mut [u8]) {
        self.others.pool(row, windows, out);
    }

    fn offset(&self, bytes: &[u8], out: &mut [u8]) {
        self.others.offset(bytes, out);
    }
}
