//! AVX-VNNI: `vpdpbusd` on 256 bits, on machines without AVX-512. Kernels of 3x3 that move by one go by [`winograd`], whose products are
//! `vpdpwssd`.
#![allow(unsafe_code)] // Instruction set intrinsics; every block says why it is sound.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::methods::{kernels, loops_with};
use super::tile::{self, Shape, Tiles};
use super::winograd::CHANNELS;
use super::winograd::tiles::Convolution;
use super::ymm::winograd::{self, squares};
use super::ymm::{Dot, Eights, affine, depthwise, slope};
use super::{
    Affine, Bytewise, End, Kernels, Lookup, Packed, Panel, Shifts, Slope, Taps, TapsEnd, Terms, Wide, Windows,
    check_depthwise, check_ending, loops,
};

/// AVX-VNNI kernels.
#[derive(Debug)]
pub struct AvxVnni(());

impl AvxVnni {
    /// None where the machine lacks AVX2 or AVX-VNNI.
    pub fn new() -> Option<Self> {
        if !is_x86_feature_detected!("avxvnni") {
            return None;
        }
        // SAFETY: the processor executes what it was just asked for.
        unsafe { Self::emulated() }
    }

    /// For machines without AVX-VNNI. None where the machine lacks AVX2.
    ///
    /// # Safety
    /// Something executes `vpdpbusd` and `vpdpwssd` in the processor's place, in all threads, from now on.
    pub unsafe fn emulated() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

struct Vnni;

// SAFETY: an instruction of registers.
unsafe impl Dot for Vnni {
    #[inline(always)]
    unsafe fn dot(sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_dpbusd_avx_epi32(sums, x, w) }
    }
}

/// Sums of 32 bits.
type Ymm = Eights<Vnni>;

/// # Safety
/// As [`tile::tiles`].
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn compute<const P: usize, const N: usize>(t: &Tiles) {
    // SAFETY: the caller's promise.
    unsafe { tile::tiles::<Ymm, P, N>(t) }
}

/// 16 registers: 12 sums, two of weights, one of inputs.
const SHAPES: &[Shape] = &[
    Shape { blocks: 4, tiles: &[compute::<1, 8>], half: &[] },
    Shape { blocks: 2, tiles: &[compute::<1, 4>, compute::<2, 4>], half: &[] },
    Shape {
        blocks: 1,
        tiles: &[compute::<1, 2>, compute::<2, 2>, compute::<3, 2>, compute::<4, 2>, compute::<5, 2>, compute::<6, 2>],
        half: &[],
    },
];

/// Products of pairs of 16 bits.
struct Pairs;

// SAFETY: an instruction of registers.
unsafe impl Dot for Pairs {
    #[inline(always)]
    unsafe fn dot(sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { dot_of_pairs(sums, x, w) }
    }
}

/// The compiler makes two instructions of the intrinsic for this one, as it does for that of AVX-512.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn dot_of_pairs(mut sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
    // SAFETY: an instruction of registers, which the machine has.
    unsafe {
        asm!(
            "{{vex}} vpdpwssd {sums}, {x}, {w}",
            sums = inout(ymm_reg) sums,
            x = in(ymm_reg) x,
            w = in(ymm_reg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

squares!("avx2,avxvnni", Pairs);

#[target_feature(enable = "avx2,avxvnni")]
fn peak(rounds: u64) -> u64 {
    // SAFETY: called where the instructions were detected.
    unsafe { tile::peak::<Ymm, 6>(rounds) }
}

loops_with!("avx2,fma", all);

/// # Safety
/// The machine has AVX-VNNI.
unsafe fn multiply(x: &Panel<'_>, w: &Packed, blocks: Range<usize>, start: &[i32], out: &mut [i32], out_step: usize) {
    if let Some(kernels) = x.squares(w, CHANNELS) {
        x.check(w, &blocks, start, out, out_step);
        // SAFETY: the caller's promise; the panel was checked.
        return unsafe { Convolution { products: SQUARES, kernels, x, start }.sums::<__m256i>(blocks, out, out_step) };
    }
    // SAFETY: the caller's promise.
    unsafe { tile::multiply(SHAPES, x, w, blocks, start, out, out_step) }
}

kernels!(AvxVnni, "x86_64-u8i8-avxvnni", {
    fn ended(&self, x: &Panel<'_>, w: &Packed, start: &[i32], end: End<'_>, out: &mut [u8]) -> bool {
        x.check_ended(w, start, end, out);
        let Some(kernels) = x.squares(w, CHANNELS) else { return false };
        // SAFETY: a value of this type exists only where its instructions were detected; panel, starts, end and output are checked.
        unsafe { winograd::ended(&Convolution { products: SQUARES, kernels, x, start }, w.filters(), end, out) }
    }
});
