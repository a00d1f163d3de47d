//! NEON with dot products (`sdot`, FEAT_DotProd), as Cortex-A76 and later have it: bytes are made signed on their way into a register, and
//! sums start with what that takes away. Everything else is plain loops, which compilers vectorise: NEON is always there.
// An instruction that Rust has no stable name for yet, and pointers; every block says why it is sound.
#![allow(unsafe_code)]
// Sums in arrays stay in registers where loops count.
#![allow(clippy::needless_range_loop)]

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};
use std::cell::RefCell;
use std::hint;
use std::ops::Range;

use crate::Aligned;

use super::loops::loop_methods;
use super::tile::{self, Shape, Tile, Tiles};
use super::{
    Affine, BLOCK, Bytewise, Kernels, Lookup, Packed, Panel, Shifts, Slope, Taps, TapsEnd, Terms, Wide, Windows,
    check_depthwise, check_ending, loops,
};

/// NEON kernels.
#[derive(Debug)]
pub struct Neon(());

impl Neon {
    /// None where the machine lacks dot products.
    pub fn new() -> Option<Self> {
        (is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod")).then_some(Self(()))
    }
}

/// Filters of a register.
const FOUR: usize = 4;
/// Registers of a block.
const PER_BLOCK: usize = BLOCK / FOUR;
/// What a byte's value is larger by than that of the same bits with the highest inverted, signed.
const OFFSET: i32 = 128;

/// Adds the products of four weights of four filters each with the four inputs of one lane.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const LANE: usize>(mut sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; the instruction is there.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
            sums = inout(vreg) sums,
            w = in(vreg) w,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Bytes with their highest bits inverted.
#[inline]
#[target_feature(enable = "neon")]
fn signed(bytes: uint8x16_t) -> int8x16_t {
    vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(0x80)))
}

/// A quad of weights, inputs in a lane.
///
/// # Safety
/// There are weights of `N` registers at `w`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn quad<const P: usize, const N: usize, const LANE: usize>(
    sums: &mut [[int32x4_t; N]; P],
    w: [*const i8; N],
    x: [int8x16_t; P],
) {
    for n in 0..N {
        // SAFETY: the caller's promise.
        let w = unsafe { vld1q_s8(w[n]) };
        for p in 0..P {
            sums[p][n] = dot::<LANE>(sums[p][n], w, x[p]);
        }
    }
}

/// # Safety
/// As [`one`], of all tiles.
#[target_feature(enable = "neon,dotprod")]
unsafe fn compute<const P: usize, const N: usize>(tiles: &Tiles) {
    for t in tiles.each(P) {
        // SAFETY: the caller's promise.
        unsafe { one::<P, N>(&t) }
    }
}

/// The sums of `P` positions and `N` registers of filters: four quads of inputs are loaded at once, and stay in a register until all
/// their weights have passed.
///
/// # Safety
/// The machine has dot products. For p < P, run r and quad q: four bytes from `x + p * step + r * run_step + 4 * q` on are readable; `w`
/// has the lines of all blocks of N registers, `start` a place for every filter of them, and so has each of `out + p * out_step`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn one<const P: usize, const N: usize>(t: &Tile) {
    /// Bytes of a quad of weights of a block.
    const LINE: usize = 4 * BLOCK;
    /// Quads of a register of inputs.
    const QUADS: usize = 4;
    // SAFETY: all of it is the caller's promise.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); N]; P];
        for p in 0..P {
            for n in 0..N {
                sums[p][n] = vld1q_s32(t.start.add(n * FOUR));
            }
        }
        for run in 0..t.runs {
            let mut x: [*const u8; P] = std::array::from_fn(|p| t.x.wrapping_add(run * t.run_step + p * t.step));
            let mut w: [*const i8; N] = std::array::from_fn(|n| {
                let line = (n / PER_BLOCK * t.runs + run) * t.quads;
                t.w.wrapping_add(line).cast::<i8>().wrapping_add(n % PER_BLOCK * 4 * FOUR)
            });
            for _ in 0..t.quads / QUADS {
                let inputs = x.map(|x| signed(vld1q_u8(x)));
                quad::<P, N, 0>(&mut sums, w, inputs);
                quad::<P, N, 1>(&mut sums, w.map(|w| w.add(LINE)), inputs);
                quad::<P, N, 2>(&mut sums, w.map(|w| w.add(2 * LINE)), inputs);
                quad::<P, N, 3>(&mut sums, w.map(|w| w.add(3 * LINE)), inputs);
                x = x.map(|x| x.wrapping_add(4 * QUADS));
                w = w.map(|w| w.wrapping_add(QUADS * LINE));
            }
            for _ in 0..t.quads % QUADS {
                let inputs = x.map(|x| signed(vreinterpretq_u8_u32(vdupq_n_u32(x.cast::<u32>().read_unaligned()))));
                quad::<P, N, 0>(&mut sums, w, inputs);
                x = x.map(|x| x.wrapping_add(4));
                w = w.map(|w| w.wrapping_add(LINE));
            }
        }
        for p in 0..P {
            for n in 0..N {
                vst1q_s32(t.out.add(p * t.out_step + n * FOUR), sums[p][n]);
            }
        }
    }
}

/// 32 registers: 24 sums, six of inputs, one of weights; or 16 and 12 where there are few positions.
const SHAPES: &[Shape] = &[
    Shape { blocks: 4, tiles: &[compute::<1, 16>], half: &[] },
    Shape { blocks: 2, tiles: &[compute::<1, 8>, compute::<2, 8>, compute::<3, 8>], half: &[] },
    Shape {
        blocks: 1,
        tiles: &[compute::<1, 4>, compute::<2, 4>, compute::<3, 4>, compute::<4, 4>, compute::<5, 4>, compute::<6, 4>],
        half: &[],
    },
];

/// Products of registers and nothing else.
#[target_feature(enable = "neon,dotprod")]
fn peak(rounds: u64) -> u64 {
    /// Enough for the latency of two a cycle.
    const SUMS: usize = 16;
    let (x, w) = (hint::black_box(vdupq_n_s8(1)), hint::black_box(vdupq_n_s8(1)));
    let mut sums = [vdupq_n_s32(0); SUMS];
    for _ in 0..rounds {
        for sums in &mut sums {
            *sums = dot::<0>(*sums, w, x);
        }
    }
    hint::black_box(sums);
    rounds * (SUMS * 4 * FOUR) as u64
}

thread_local! {
    /// What sums of signed bytes start with.
    static START: RefCell<Aligned<i32>> = RefCell::default();
}

impl Kernels for Neon {
    fn name(&self) -> &'static str {
        "aarch64-u8i8-neon"
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
        x.check(w, &blocks, start, out, out_step);
        START.with_borrow_mut(|all| {
            let all = all.at_least(start.len());
            for ((all, start), sum) in all.iter_mut().zip(start).zip(w.sums()) {
                *all = start.wrapping_add(sum.wrapping_mul(OFFSET));
            }
            // SAFETY: a value of this type exists only where there are dot products; the panel was checked.
            unsafe { tile::checked(SHAPES, x, w.in_lines(w.lines()), blocks, all, out, out_step, |tile, t, _| tile(t)) }
        });
    }

    fn peak(&self, rounds: u64) -> u64 {
        // SAFETY: as above.
        unsafe { peak(rounds) }
    }

    loop_methods!();
}
