//! Depthwise convolutions: four rows of bytes are shuffled together, so that one instruction adds four taps.
#![allow(unsafe_code)] // Instruction set intrinsics; every block says why it is sound.

use std::arch::x86_64::*;

use super::super::pack::Line;
use super::super::{Affine, BLOCK, CHUNK, Taps, TapsEnd};
use super::ends::packed;

/// Where the rows of a quad of taps begin. Behind the last tap there are weights of 0 for whatever is read.
fn quad(x: &[&[u8]], quad: usize) -> [*const u8; 4] {
    std::array::from_fn(|t| x.get(quad * 4 + t).unwrap_or(&x[0]).as_ptr())
}

/// A chunk of four rows, shuffled together.
///
/// # Safety
/// The machine has AVX-512 VNNI, the rows a chunk.
#[inline(always)]
unsafe fn shuffled(rows: [*const u8; 4]) -> [__m512i; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let [a, b, c, d] = rows.map(|row| _mm512_loadu_si512(row.cast()));
        let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
        [
            _mm512_unpacklo_epi16(ab, cd),
            _mm512_unpackhi_epi16(ab, cd),
            _mm512_unpacklo_epi16(ab_high, cd_high),
            _mm512_unpackhi_epi16(ab_high, cd_high),
        ]
    }
}

/// What an [`Affine`] end has, found once: stores of bytes might change where vectors are, for all that a compiler knows. The rule is
/// that of [`Line`](super::ends::Line); layers that move by one took 4 to 10 % longer with one made from these.
#[derive(Clone, Copy)]
struct Ends {
    low: *const i32,
    high: *const i32,
    m: *const i32,
    add: *const i32,
    k: *const i32,
    ceiling: __m512i,
}

impl Ends {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn of(end: &Affine) -> Self {
        Self {
            low: end.low.as_ptr(),
            high: end.high.as_ptr(),
            m: end.m.as_ptr(),
            add: end.add.as_ptr(),
            k: end.k.as_ptr(),
            ceiling: _mm512_set1_epi8(end.ceiling.cast_signed()),
        }
    }

    /// Ends the sums of a chunk and packs them, which undoes what shuffling did to the order of filters.
    ///
    /// # Safety
    /// The machine has AVX-512 VNNI; the chunk at `place` has an end.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn chunk<const LIMITED: bool, const SIGNED: bool>(self, sums: [__m512i; 4], place: usize) -> __m512i {
        // SAFETY: the caller's promise.
        let of = |from: *const i32, j: usize| unsafe { _mm512_load_si512(from.add(place + j * BLOCK).cast()) };
        let mut y = sums;
        for (j, y) in y.iter_mut().enumerate() {
            if LIMITED {
                *y = _mm512_min_epi32(_mm512_max_epi32(*y, of(self.low, j)), of(self.high, j));
            }
            let product = _mm512_add_epi32(_mm512_mullo_epi32(*y, of(self.m, j)), of(self.add, j));
            *y = _mm512_srav_epi32(product, of(self.k, j));
        }
        packed(y, SIGNED, self.ceiling)
    }
}

/// Where starts and weights of a kernel are, for the same reason.
#[derive(Clone, Copy)]
struct Kernel {
    starts: *const i32,
    weights: *const Line,
}

impl Kernel {
    fn of(taps: &Taps) -> Self {
        Self { starts: taps.lanes().as_ptr(), weights: taps.quads().as_ptr() }
    }
}

/// Four registers of depthwise sums of the chunk at byte `at` of every row, by each of some kernels.
///
/// # Safety
/// Rows of all quads have the chunk; `place` is where one begins in the weights' period.
#[inline(always)]
unsafe fn chunk<const N: usize>(
    (quads, quad): (usize, impl Fn(usize) -> [*const u8; 4]),
    w: [Kernel; N],
    at: usize,
    place: usize,
) -> [[__m512i; 4]; N] {
    // SAFETY: the caller's promise; weights and starts have four registers for each chunk of the period (and quad).
    unsafe {
        let mut sums: [[__m512i; 4]; N] =
            w.map(|w| std::array::from_fn(|j| _mm512_load_si512(w.starts.add(place + j * BLOCK).cast())));
        let weights = w.map(|w| w.weights.add(place / CHUNK * quads * 4));
        for q in 0..quads {
            let quads = shuffled(quad(q).map(|row| row.add(at)));
            for n in 0..N {
                for j in 0..4 {
                    let w = _mm512_load_si512(weights[n].add(q * 4 + j).cast());
                    sums[n][j] = _mm512_dpbusd_epi32(sums[n][j], quads[j], w);
                }
            }
        }
        sums
    }
}

/// Depthwise convolutions of the same rows by some kernels.
///
/// # Safety
/// Rows are checked, for each kernel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn depthwise_of<const N: usize>(x: &[&[u8]], w: [&Taps; N], end: &TapsEnd, out: [&mut [u8]; N]) {
    let (period, len) = (w[0].period(), out[0].len());
    assert!(w.iter().all(|w| w.period() == period) && end.lanes.low.len() == period, "an end for every element");
    assert!(out.iter().all(|out| out.len() == len), "rows of one length");
    let out = (out.map(|out| out.as_mut_ptr()), len);
    let w = (w.map(Kernel::of), period);
    // SAFETY: the caller's promise.
    unsafe {
        match x.len().div_ceil(4) {
            // 3x3: addresses in registers.
            3 => {
                let rows: [[*const u8; 4]; 3] = std::array::from_fn(|q| quad(x, q));
                let next = |row: *const u8| row.wrapping_add(period);
                let slide = len > 0
                    && len.is_multiple_of(period)
                    && rows[1] == rows[0].map(next)
                    && rows[2] == rows[1].map(next);
                let ends = Ends::of(&end.lanes);
                match (slide, end.lanes.limited, end.lanes.signed) {
                    (true, false, false) => sliding::<N, false, false>(rows, w, ends, out),
                    (true, false, true) => sliding::<N, false, true>(rows, w, ends, out),
                    (true, true, false) => sliding::<N, true, false>(rows, w, ends, out),
                    (true, true, true) => sliding::<N, true, true>(rows, w, ends, out),
                    (false, false, false) => depthwise_by::<N, false, false>((3, |q| rows[q]), w, ends, out),
                    (false, true, false) => depthwise_by::<N, true, false>((3, |q| rows[q]), w, ends, out),
                    (false, _, true) => depthwise_by::<N, true, true>((3, |q| rows[q]), w, ends, out),
                }
            }
            quads => match end.lanes.signed {
                false => depthwise_by::<N, true, false>((quads, |q| quad(x, q)), w, Ends::of(&end.lanes), out),
                true => depthwise_by::<N, true, true>((quads, |q| quad(x, q)), w, Ends::of(&end.lanes), out),
            },
        }
    }
}

/// Three columns of four rows, each column's rows those of the column before, one period on: then the next position meets two of them
/// again, and they are shuffled once. All positions of a chunk of filters, then the next.
///
/// # Safety
/// Rows have whole chunks for every element of the outputs, which are whole periods; ends are as long as the weights' period.
#[inline(always)]
unsafe fn sliding<const N: usize, const LIMITED: bool, const SIGNED: bool>(
    columns: [[*const u8; 4]; 3],
    (w, period): ([Kernel; N], usize),
    ends: Ends,
    (out, len): ([*mut u8; N], usize),
) {
    for place in (0..period).step_by(CHUNK) {
        // SAFETY: the caller's promise; weights and starts have four registers for each chunk of the period and column.
        unsafe {
            let at = |column: [*const u8; 4], at: usize| shuffled(column.map(|row| row.add(at)));
            let weights = w.map(|w| w.weights.add(place / CHUNK * 3 * 4));
            let starts = w.map(|w| w.starts.add(place));
            let (mut first, mut second) = (at(columns[0], place), at(columns[1], place));
            for element in (place..len).step_by(period) {
                let third = at(columns[2], element);
                for n in 0..N {
                    let mut sums = [0, 1, 2, 3].map(|j| _mm512_load_si512(starts[n].add(j * BLOCK).cast()));
                    for (q, quads) in [first, second, third].iter().enumerate() {
                        for j in 0..4 {
                            let w = _mm512_load_si512(weights[n].add(q * 4 + j).cast());
                            sums[j] = _mm512_dpbusd_epi32(sums[j], quads[j], w);
                        }
                    }
                    _mm512_storeu_si512(out[n].add(element).cast(), ends.chunk::<LIMITED, SIGNED>(sums, place));
                }
                (first, second) = (second, third);
            }
        }
    }
}

/// # Safety
/// Rows of all quads have whole chunks for every element of the outputs; ends are as long as the weights' period.
#[inline(always)]
unsafe fn depthwise_by<const N: usize, const LIMITED: bool, const SIGNED: bool>(
    (quads, quad): (usize, impl Fn(usize) -> [*const u8; 4]),
    (w, period): ([Kernel; N], usize),
    ends: Ends,
    (out, len): ([*mut u8; N], usize),
) {
    let mut place = 0;
    for at in (0..len).step_by(CHUNK) {
        // SAFETY: the caller's promise; places go round in the period. Stores are masked to what there is of the output.
        unsafe {
            for (sums, out) in chunk((quads, &quad), w, at, place).into_iter().zip(out) {
                let bytes = ends.chunk::<LIMITED, SIGNED>(sums, place);
                if len - at >= CHUNK {
                    _mm512_storeu_si512(out.add(at).cast(), bytes);
                } else {
                    _mm512_mask_storeu_epi8(out.add(at).cast(), (1 << (len - at)) - 1, bytes);
                }
            }
        }
        place = if place + CHUNK == period { 0 } else { place + CHUNK };
    }
}

/// A depthwise convolution.
///
/// # Safety
/// Rows are checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn depthwise(x: &[&[u8]], w: &Taps, end: &TapsEnd, out: &mut [u8]) {
    // SAFETY: the caller's promise.
    unsafe { depthwise_of(x, [w], end, [out]) }
}

/// The same, sums.
///
/// # Safety
/// Rows are checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn depthwise_sums(x: &[&[u8]], w: &Taps, out: &mut [i32]) {
    let chunks = w.period() / CHUNK;
    for (i, out) in out.chunks_mut(CHUNK).enumerate() {
        let mut ordered = [0i32; CHUNK];
        // SAFETY: as above; lane l of register j has elements 16 * l + 4 * j .. of the chunk.
        unsafe {
            let [sums] = chunk((x.len().div_ceil(4), |q| quad(x, q)), [Kernel::of(w)], i * CHUNK, i % chunks * CHUNK);
            let at = ordered.as_mut_ptr();
            for (j, sums) in sums.into_iter().enumerate() {
                _mm_storeu_si128(at.add(j * 4).cast(), _mm512_extracti32x4_epi32::<0>(sums));
                _mm_storeu_si128(at.add(16 + j * 4).cast(), _mm512_extracti32x4_epi32::<1>(sums));
                _mm_storeu_si128(at.add(32 + j * 4).cast(), _mm512_extracti32x4_epi32::<2>(sums));
                _mm_storeu_si128(at.add(48 + j * 4).cast(), _mm512_extracti32x4_epi32::<3>(sums));
            }
        }
        out.copy_from_slice(&ordered[..out.len()]);
    }
}
