//! AVX-512 VNNI: `vpdpbusd` on 512 bits, which adds four products of bytes to each 32-bit sum without saturating. Kernels of 3x3 that move
//! by one go by [`winograd`].
#![allow(unsafe_code)] // Instruction set intrinsics; every block says why it is sound.

mod ahead;
mod blocks;
mod columns;
mod depthwise;
mod ended;
mod ends;
mod fields;
mod merge;
mod winograd;

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::methods::{kernels, loops_with};
use super::tile::{self, Lanes, Shape, Tiles};
use super::winograd::tiles::Convolution;
use ahead::Lines;
pub(super) use ahead::ask;
pub(super) use blocks::{Block, Long, Narrow};
use columns::depthwise_columns;
use depthwise::{depthwise, depthwise_of, depthwise_sums};
pub(super) use ends::{Line, Sloping, affine, slope, wide};
use merge::add;
use winograd::SQUARES;

use super::{
    Affine, Bytewise, ColumnKernels, Columns, End, Kernels, Lookup, Packed, Panel, Shifts, Slope, Taps, TapsEnd, Terms,
    Wide, Windows, check_depthwise, check_ending, loops,
};

/// AVX-512 VNNI kernels.
#[derive(Debug)]
pub struct Avx512Vnni(());

impl Avx512Vnni {
    /// None where the machine lacks AVX-512 F, BW, VL or VNNI.
    pub fn new() -> Option<Self> {
        let there = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        there.then_some(Self(()))
    }
}

/// Sixteen filters a register, products of quads of bytes or of `PAIRS` of 16 bits.
struct Zmm<const PAIRS: bool>;

// SAFETY: loads and stores touch what the trait says and ask for no alignment.
unsafe impl<const PAIRS: bool> Lanes for Zmm<PAIRS> {
    const PER_BLOCK: usize = 1;
    type Sums = __m512i;
    type Quad = __m512i;
    type Weights = __m512i;

    #[inline(always)]
    unsafe fn start(at: *const i32) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline(always)]
    unsafe fn quad(at: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_epi32(at.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn weights(at: *const i8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { if PAIRS { dot_of_pairs(sums, x, w) } else { _mm512_dpbusd_epi32(sums, x, w) } }
    }

    #[inline(always)]
    unsafe fn store(sums: __m512i, at: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(at.cast(), sums) }
    }
}

/// Products of pairs of 16 bits, added. The compiler makes two instructions of the intrinsic for this one, for processors on which it
/// is slow to give its sums to the next, which others fill here.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn dot_of_pairs(mut sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
    // SAFETY: an instruction of registers, which the machine has.
    unsafe {
        asm!(
            "vpdpwssd {sums}, {x}, {w}",
            sums = inout(zmm_reg) sums,
            x = in(zmm_reg) x,
            w = in(zmm_reg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// # Safety
/// As [`tile::tiles`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn compute<const P: usize, const N: usize>(t: &Tiles) {
    // SAFETY: the caller's promise.
    unsafe {
        // Weights of more blocks meet so few positions that nothing would be spared.
        if N != 2 {
            return tile::tiles::<Zmm<false>, P, N>(t);
        }
        tile::tiles_beside::<Zmm<false>, P, N, _>(t, |i| {
            let mut ahead = Lines::behind(&t.first, N, i);
            move || ahead.ask()
        });
    }
}

/// 32 registers: 28 sums, two of weights, one of inputs.
const SHAPES: &[Shape] = &[
    Shape { blocks: 8, tiles: &[compute::<1, 8>, compute::<2, 8>], half: &[] },
    Shape {
        blocks: 4,
        tiles: &[compute::<1, 4>, compute::<2, 4>, compute::<3, 4>, compute::<4, 4>, compute::<5, 4>, compute::<6, 4>],
        half: &[],
    },
    Shape {
        blocks: 2,
        tiles: &[
            compute::<1, 2>,
            compute::<2, 2>,
            compute::<3, 2>,
            compute::<4, 2>,
            compute::<5, 2>,
            compute::<6, 2>,
            compute::<7, 2>,
            compute::<8, 2>,
            compute::<9, 2>,
            compute::<10, 2>,
            compute::<11, 2>,
            compute::<12, 2>,
            compute::<13, 2>,
            compute::<14, 2>,
        ],
        half: &[],
    },
    Shape {
        blocks: 1,
        tiles: &[
            compute::<1, 1>,
            compute::<2, 1>,
            compute::<3, 1>,
            compute::<4, 1>,
            compute::<5, 1>,
            compute::<6, 1>,
            compute::<7, 1>,
            compute::<8, 1>,
            compute::<9, 1>,
            compute::<10, 1>,
            compute::<11, 1>,
            compute::<12, 1>,
            compute::<13, 1>,
            compute::<14, 1>,
        ],
        half: &[],
    },
];

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn peak(rounds: u64) -> u64 {
    // SAFETY: called where the instructions were detected.
    unsafe { tile::peak::<Zmm<false>, 12>(rounds) }
}

/// # Safety
/// The machine has AVX-512 VNNI.
unsafe fn multiply(x: &Panel<'_>, w: &Packed, blocks: Range<usize>, start: &[i32], out: &mut [i32], out_step: usize) {
    let x = x.joined();
    match w.fields() {
        Some(few) if x.rows == 1 && (1..=fields::MOST).contains(&x.count) => {
            x.check(w, &blocks, start, out, out_step);
            // SAFETY: the caller's promise; the panel is checked.
            unsafe { fields::multiply(&x, (w, few), blocks, start, out, out_step) }
        }
        _ if let Some(kernels) = x.squares(w, winograd::CHANNELS) => {
            x.check(w, &blocks, start, out, out_step);
            // SAFETY: the caller's promise; the panel is checked.
            unsafe { Convolution { products: SQUARES, kernels, x: &x, start }.sums::<__m512i>(blocks, out, out_step) }
        }
        // SAFETY: the caller's promise.
        _ => unsafe { tile::multiply(SHAPES, &x, w, blocks, start, out, out_step) },
    }
}

loops_with!("avx512f,avx512bw,avx512vl,avx512vnni");
kernels!(Avx512Vnni, "x86_64-u8i8-avx512vnni", {
    fn ended(&self, x: &Panel<'_>, w: &Packed, start: &[i32], end: End<'_>, out: &mut [u8]) -> bool {
        x.check_ended(w, start, end, out);
        // SAFETY: a value of this type exists only where its instructions were detected; panel, starts, end and output are checked.
        unsafe {
            match x.squares(w, winograd::CHANNELS) {
                Some(kernels) => {
                    winograd::ended(&Convolution { products: SQUARES, kernels, x, start }, w.filters(), end, out)
                }
                None => ended::ended(x, w, start, end, out),
            }
        }
    }

    fn columns(&self) -> Option<&dyn ColumnKernels> {
        Some(self)
    }

    fn depthwise_two(&self, x: &[&[u8]], w: [&Taps; 2], end: &TapsEnd, [first, second]: [&mut [u8]; 2]) -> bool {
        check_depthwise(x, w[0], first.len());
        check_depthwise(x, w[1], second.len());
        // SAFETY: a value of this type exists only where its instructions were detected; lengths were checked.
        unsafe { depthwise_of(x, w, end, [first, second]) }
        true
    }
});

impl ColumnKernels for Avx512Vnni {
    fn one_row(&self, x: &Columns<'_>, w: &Taps, end: &TapsEnd, out: &mut [u8]) {
        x.check(w, end, out.len());
        // SAFETY: a value of this type exists only where its instructions were detected; columns were checked.
        unsafe { depthwise_columns(x, [w], end, [out]) }
    }

    fn two_rows(&self, x: &Columns<'_>, w: [&Taps; 2], end: &TapsEnd, [first, second]: [&mut [u8]; 2]) {
        x.check(w[0], end, first.len());
        x.check(w[1], end, second.len());
        assert!(first.len() == second.len(), "rows of one length");
        // SAFETY: as above.
        unsafe { depthwise_columns(x, w, end, [first, second]) }
    }
}
