//! Eight filters a register, for products of bytes of which an instruction takes 32.
#![allow(unsafe_code)] // Instruction set intrinsics; every block says why it is sound.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::super::tile::Lanes;

/// How products are added.
///
/// # Safety
/// Nothing but registers is touched.
pub unsafe trait Dot {
    /// Adds products of quads.
    ///
    /// # Safety
    /// The machine has the instructions.
    unsafe fn dot(sums: __m256i, x: __m256i, w: __m256i) -> __m256i;
}

/// Registers of eight filters.
pub struct Eights<D>(PhantomData<D>);

// SAFETY: loads and stores touch what the trait says and ask for no alignment.
unsafe impl<D: Dot> Lanes for Eights<D> {
    const PER_BLOCK: usize = 2;
    type Sums = __m256i;
    type Quad = __m256i;
    type Weights = __m256i;

    #[inline(always)]
    unsafe fn start(at: *const i32) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }

    #[inline(always)]
    unsafe fn quad(at: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_epi32(at.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn weights(at: *const i8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { D::dot(sums, x, w) }
    }

    #[inline(always)]
    unsafe fn store(sums: __m256i, at: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(at.cast(), sums) }
    }
}
