//! Sums to bytes.
#![allow(unsafe_code)] // Instruction set intrinsics; every block says why it is sound.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::methods::{by_line, by_slope};
use super::super::{Affine, BLOCK, Slope, Wide};

/// The parameters of sixteen filters.
pub trait Sixteen {
    /// Those of all filters.
    type End;
    /// Whether bytes are signed.
    const SIGNED: bool;

    /// Those from `at` on.
    ///
    /// # Safety
    /// The machine has AVX-512 VNNI; `at` and the fifteen behind are places of `end`.
    unsafe fn of(end: &Self::End, at: usize) -> Self;

    /// Sums to integers that become bytes by saturation.
    ///
    /// # Safety
    /// The machine has AVX-512 VNNI.
    unsafe fn ended(&self, sums: __m512i) -> __m512i;

    /// Where bytes without a sign saturate, in every place.
    ///
    /// # Safety
    /// The machine has AVX-512 VNNI.
    unsafe fn ceiling(&self) -> __m512i;
}

/// Of an [`Affine`] end; whether limits of sums matter.
#[derive(Clone, Copy)]
pub struct Line<const SIGNED: bool, const LIMITED: bool> {
    low: __m512i,
    high: __m512i,
    m: __m512i,
    add: __m512i,
    k: __m512i,
    ceiling: __m512i,
}

impl<const SIGNED: bool, const LIMITED: bool> Sixteen for Line<SIGNED, LIMITED> {
    type End = Affine;
    const SIGNED: bool = SIGNED;

    #[inline(always)]
    unsafe fn of(end: &Affine, at: usize) -> Self {
        // SAFETY: the caller's promise; all vectors of an ending have one length.
        let load = |v: &[i32]| unsafe { _mm512_loadu_si512(v.as_ptr().add(at).cast()) };
        // SAFETY: the caller's promise.
        let ceiling = unsafe { _mm512_set1_epi8(end.ceiling.cast_signed()) };
        Self {
            low: load(&end.low),
            high: load(&end.high),
            m: load(&end.m),
            add: load(&end.add),
            k: load(&end.k),
            ceiling,
        }
    }

    #[inline(always)]
    unsafe fn ended(&self, sums: __m512i) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe {
            let held = if LIMITED { _mm512_min_epi32(_mm512_max_epi32(sums, self.low), self.high) } else { sums };
            _mm512_srav_epi32(_mm512_add_epi32(_mm512_mullo_epi32(held, self.m), self.add), self.k)
        }
    }

    #[inline(always)]
    unsafe fn ceiling(&self) -> __m512i {
        self.ceiling
    }
}

/// Of a [`Slope`]; whether its ceilings matter.
#[derive(Clone, Copy)]
pub struct Sloping<const LIMITED: bool> {
    a: __m512,
    b: __m512,
    ceiling: __m512,
    most: __m512i,
}

impl<const LIMITED: bool> Sixteen for Sloping<LIMITED> {
    type End = Slope;
    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn of(end: &Slope, at: usize) -> Self {
        // SAFETY: the caller's promise; all vectors of an ending have one length.
        let load = |v: &[f32]| unsafe { _mm512_loadu_ps(v.as_ptr().add(at)) };
        // SAFETY: the caller's promise.
        let most = unsafe { _mm512_set1_epi8(end.most.cast_signed()) };
        Self { a: load(&end.a), b: load(&end.b), ceiling: load(&end.ceiling), most }
    }

    #[inline(always)]
    unsafe fn ended(&self, sums: __m512i) -> __m512i {
        // SAFETY: the caller's promise. What is too far below for 32 bits becomes their least integer.
        unsafe {
            let y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), self.a, self.b);
            _mm512_cvttps_epi32(if LIMITED { _mm512_min_ps(y, self.ceiling) } else { y })
        }
    }

    #[inline(always)]
    unsafe fn ceiling(&self) -> __m512i {
        self.most
    }
}

/// Sixteen integers, saturating as signed bytes, or else between 0 and `ceiling`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn sixteen_bytes(y: __m512i, signed: bool, ceiling: __m512i) -> __m128i {
    if signed {
        return _mm512_cvtsepi32_epi8(y);
    }
    let bytes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(y, _mm512_setzero_si512()));
    _mm_min_epu8(bytes, _mm512_castsi512_si128(ceiling))
}

/// Four times sixteen integers, saturating as those, packed: four of each in every lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn packed(y: [__m512i; 4], signed: bool, ceiling: __m512i) -> __m512i {
    let (low, high) = (_mm512_packs_epi32(y[0], y[1]), _mm512_packs_epi32(y[2], y[3]));
    if signed { _mm512_packs_epi16(low, high) } else { _mm512_min_epu8(_mm512_packus_epi16(low, high), ceiling) }
}

/// The same, one behind the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn bytes(y: [__m512i; 4], signed: bool, ceiling: __m512i) -> __m512i {
    let lanes = packed(y, signed, ceiling);
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(order, lanes)
}

/// Stores sixteen bytes of each of four positions, `step` apart.
///
/// # Safety
/// There is room for them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn store_four(y: __m512i, to: *mut u8, step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if step == BLOCK {
            return _mm512_storeu_si512(to.cast(), y);
        }
        for (i, y) in quarters(y).into_iter().enumerate() {
            _mm_storeu_si128(to.add(i * step).cast(), y);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn quarters(y: __m512i) -> [__m128i; 4] {
    [
        _mm512_castsi512_si128(y),
        _mm512_extracti32x4_epi32::<1>(y),
        _mm512_extracti32x4_epi32::<2>(y),
        _mm512_extracti32x4_epi32::<3>(y),
    ]
}

/// Sixteen filters of all positions, their parameters in registers.
///
/// # Safety
/// Every position has sixteen sums from `from` on, `step` apart, and room for as many bytes from `to` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn one_block<S: Sixteen>(
    end: &S,
    positions: usize,
    (from, step): (*const i32, usize),
    (to, out_step): (*mut u8, usize),
) {
    let mut position = 0;
    // SAFETY: the caller's promise, for positions up to `positions`.
    unsafe {
        while position + 4 <= positions {
            let y: [__m512i; 4] =
                std::array::from_fn(|i| end.ended(_mm512_loadu_si512(from.add((position + i) * step).cast())));
            store_four(bytes(y, S::SIGNED, end.ceiling()), to.add(position * out_step), out_step);
            position += 4;
        }
        while position < positions {
            let y = end.ended(_mm512_loadu_si512(from.add(position * step).cast()));
            _mm_storeu_si128(to.add(position * out_step).cast(), sixteen_bytes(y, S::SIGNED, end.ceiling()));
            position += 1;
        }
    }
}

/// The same of two blocks.
///
/// # Safety
/// Every position has 32 sums from `from` on, `step` apart, and room for as many bytes from `to` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn two_blocks<S: Sixteen>(
    ends: [S; 2],
    positions: usize,
    (from, step): (*const i32, usize),
    (to, out_step): (*mut u8, usize),
) {
    // SAFETY: the caller's promise, for positions up to `positions`.
    unsafe {
        let pair = |position: usize| {
            let from = from.add(position * step);
            let (first, second) = (_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(BLOCK).cast()));
            [ends[0].ended(first), ends[1].ended(second)]
        };
        let mut position = 0;
        while position < positions {
            // The last of an odd number is made twice.
            let next = (position + 1).min(positions - 1);
            let ([a, b], [c, d]) = (pair(position), pair(next));
            let y = bytes([a, b, c, d], S::SIGNED, ends[0].ceiling());
            _mm256_storeu_si256(to.add(position * out_step).cast(), _mm512_castsi512_si256(y));
            _mm256_storeu_si256(to.add(next * out_step).cast(), _mm512_extracti64x4_epi64::<1>(y));
            position += 2;
        }
    }
}

/// Sums of all positions to bytes.
///
/// # Safety
/// Lengths are checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn affine(sums: &[i32], step: usize, end: &Affine, filters: Range<usize>, out: &mut [u8], out_step: usize) {
    // SAFETY: the caller's promise.
    unsafe { by_line!(end, Rule => ended_by::<Rule>(sums, step, end, filters, out, out_step)) }
}

/// The same by a [`Slope`].
///
/// # Safety
/// Lengths are checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn slope(sums: &[i32], step: usize, end: &Slope, filters: Range<usize>, out: &mut [u8], out_step: usize) {
    // SAFETY: the caller's promise.
    unsafe { by_slope!(end, Rule => ended_by::<Rule>(sums, step, end, filters, out, out_step)) }
}

/// # Safety
/// Lengths are checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn ended_by<S: Sixteen>(
    sums: &[i32],
    step: usize,
    end: &S::End,
    filters: Range<usize>,
    out: &mut [u8],
    out_step: usize,
) {
    let positions = sums.len() / step;
    let mut at = 0;
    while at < filters.len() {
        let lanes = filters.len() - at;
        // SAFETY: vectors of an ending have whole blocks; sums and outputs of every position are inside their slices, as
        // was checked, and nothing beyond `lanes` of them is touched.
        unsafe {
            let (from, to) = ((sums.as_ptr().add(at), step), (out.as_mut_ptr().add(at), out_step));
            let first = S::of(end, filters.start + at);
            if lanes >= 2 * BLOCK {
                let both = [first, S::of(end, filters.start + at + BLOCK)];
                two_blocks(both, positions, from, to);
                at += BLOCK;
            } else if lanes >= BLOCK {
                one_block(&first, positions, from, to);
            } else {
                let mask = (1 << lanes) - 1;
                let mut position = 0;
                if step >= BLOCK && out_step == lanes {
                    // All filters, so few that the rest of a block lies where the next positions' outputs go: they come after it.
                    // Behind the last positions there may be nothing.
                    position = positions.saturating_sub(BLOCK.div_ceil(out_step));
                    one_block(&first, position, from, to);
                }
                for position in position..positions {
                    let sums = _mm512_maskz_loadu_epi32(mask, from.0.add(position * step));
                    let y = sixteen_bytes(first.ended(sums), S::SIGNED, first.ceiling());
                    _mm_mask_storeu_epi8(to.0.add(position * out_step).cast(), mask, y);
                }
            }
        }
        at += BLOCK;
    }
}

/// The parameters of sixteen filters whose ends take 64 bits. Of those, even filters come first, then odd ones.
pub struct WideSixteen {
    low: __m512i,
    high: __m512i,
    m: [__m512i; 2],
    add: [__m512i; 2],
    k: [__m512i; 2],
    floor: __m512i,
    ceiling: __m512i,
}

impl WideSixteen {
    /// # Safety
    /// `at` and the fifteen behind are places of `end`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub unsafe fn of(end: &Wide, at: usize) -> Self {
        // SAFETY: the caller's promise; all vectors of an ending have one length.
        let load = |v: &[i32]| unsafe { _mm512_loadu_si512(v.as_ptr().add(at).cast()) };
        let parted = |v: &[i64]| {
            // SAFETY: as above.
            let (first, second) = unsafe {
                let from = v.as_ptr().add(at);
                (_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(8).cast()))
            };
            let (even, odd) =
                (_mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15));
            [_mm512_permutex2var_epi64(first, even, second), _mm512_permutex2var_epi64(first, odd, second)]
        };
        let m = load(&end.m);
        Self {
            low: load(&end.low),
            high: load(&end.high),
            m: [m, _mm512_srli_epi64::<32>(m)],
            add: parted(&end.add),
            k: parted(&end.k),
            floor: load(&end.floor),
            ceiling: load(&end.ceiling),
        }
    }

    /// Sums to integers that fit bytes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub fn ended(&self, sums: __m512i) -> __m512i {
        let held = _mm512_min_epi32(_mm512_max_epi32(sums, self.low), self.high);
        let scaled = |sums: __m512i, i: usize| {
            _mm512_srav_epi64(_mm512_add_epi64(_mm512_mul_epi32(sums, self.m[i]), self.add[i]), self.k[i])
        };
        let (even, odd) = (scaled(held, 0), scaled(_mm512_srli_epi64::<32>(held), 1));
        let both = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64::<32>(odd));
        _mm512_min_epi32(_mm512_max_epi32(both, self.floor), self.ceiling)
    }
}

/// Sums of all positions to bytes, by 64 bits.
///
/// # Safety
/// Lengths are checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn wide(sums: &[i32], step: usize, end: &Wide, filters: Range<usize>, out: &mut [u8], out_step: usize) {
    let positions = sums.len() / step;
    for at in (0..filters.len()).step_by(BLOCK) {
        let mask = lanes(at, filters.len());
        // SAFETY: vectors of an ending have whole blocks; sums and outputs of every position are inside their slices, as was
        // checked, and no lane but those of `mask` is touched.
        unsafe {
            let (from, to) = (sums.as_ptr().add(at), out.as_mut_ptr().add(at));
            let end = WideSixteen::of(end, filters.start + at);
            for position in 0..positions {
                let y = end.ended(_mm512_maskz_loadu_epi32(mask, from.add(position * step)));
                _mm_mask_storeu_epi8(to.add(position * out_step).cast(), mask, _mm512_cvtepi32_epi8(y));
            }
        }
    }
}

/// Which filters there are of the block that begins with `at`.
pub fn lanes(at: usize, filters: usize) -> __mmask16 {
    match filters - at {
        lanes @ ..BLOCK => (1 << lanes) - 1,
        _ => __mmask16::MAX,
    }
}
