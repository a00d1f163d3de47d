//! Sums that lie in memory, block by block, to bytes: for products that are stored first.
#![allow(unsafe_code)] // Instruction set intrinsics; every block says why it is sound.

use std::arch::x86_64::*;

use super::super::{BLOCK, Wide};
use super::ends::{Sixteen, WideSixteen, bytes, lanes, quarters, sixteen_bytes, store_four};

/// How the sums of a block of filters end, a few positions at a time.
pub trait Block {
    /// The parameters of all filters.
    type End;

    /// Of the block that begins with filter `at` of so many.
    ///
    /// # Safety
    /// The machine has AVX-512 VNNI; `at` and the fifteen behind are places of `end`.
    unsafe fn of(end: &Self::End, at: usize, filters: usize) -> Self;

    /// Up to four positions, whose sums lie one behind the other and whose outputs are `step` apart.
    ///
    /// # Safety
    /// The machine has AVX-512 VNNI; every position has its sums, and outputs for the filters that there are.
    unsafe fn end(&self, sums: *const i32, positions: usize, out: *mut u8, step: usize);
}

/// Ends of a block that become bytes by saturation.
pub struct Narrow<S> {
    end: S,
    lanes: __mmask16,
}

impl<S: Sixteen> Block for Narrow<S> {
    type End = S::End;

    #[inline(always)]
    unsafe fn of(end: &S::End, at: usize, filters: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { end: S::of(end, at), lanes: lanes(at, filters) } }
    }

    #[inline(always)]
    unsafe fn end(&self, sums: *const i32, positions: usize, out: *mut u8, step: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let ended = |i: usize| self.end.ended(_mm512_loadu_si512(sums.add(i * BLOCK).cast()));
            if positions < 4 {
                for i in 0..positions {
                    _mm_mask_storeu_epi8(
                        out.add(i * step).cast(),
                        self.lanes,
                        sixteen_bytes(ended(i), S::SIGNED, self.end.ceiling()),
                    );
                }
                return;
            }
            let y = bytes([ended(0), ended(1), ended(2), ended(3)], S::SIGNED, self.end.ceiling());
            if self.lanes == __mmask16::MAX {
                return store_four(y, out, step);
            }
            for (i, y) in quarters(y).into_iter().enumerate() {
                _mm_mask_storeu_epi8(out.add(i * step).cast(), self.lanes, y);
            }
        }
    }
}

/// [`Wide`] ends of a block.
pub struct Long {
    end: WideSixteen,
    lanes: __mmask16,
}

impl Block for Long {
    type End = Wide;

    #[inline(always)]
    unsafe fn of(end: &Wide, at: usize, filters: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { end: WideSixteen::of(end, at), lanes: lanes(at, filters) } }
    }

    #[inline(always)]
    unsafe fn end(&self, sums: *const i32, positions: usize, out: *mut u8, step: usize) {
        for i in 0..positions {
            // SAFETY: the caller's promise.
            unsafe {
                let y = self.end.ended(_mm512_loadu_si512(sums.add(i * BLOCK).cast()));
                _mm_mask_storeu_epi8(out.add(i * step).cast(), self.lanes, _mm512_cvtepi32_epi8(y));
            }
        }
    }
}
