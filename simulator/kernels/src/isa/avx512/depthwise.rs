//! Depthwise convolutions: four rows of bytes are shuffled together, so that one instruction adds four taps.

// Instruction set intrinsics; every block says why it is sound.
#![allow(unsafe_code)]
// Sums in arrays stay in registers where loops count; iterators over arrays of arrays leave them in memory, which is half as fast.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::super::pack::Line;
use super::super::{BLOCK, CHUNK, Taps, TapsEnd};
use super::ends::packed;

/// Where the rows of a quad of taps begin. Behind the last tap there are weights of 0 for whatever is read.
fn quad(x: &[&[u8]], quad: usize) -> [*const u8; 4] {
    std::array::from_fn(|t| x.get(quad * 4 + t).unwrap_or(&x[0]).as_ptr())
}

/// The chunk of four rows that begins at byte `at`, shuffled together.
///
/// # Safety
/// The machine has AVX-512 VNNI, the rows the chunk.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn shuffled(rows: [*const u8; 4], at: usize) -> [__m512i; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (a, b) = (_mm512_loadu_si512(rows[0].add(at).cast()), _mm512_loadu_si512(rows[1].add(at).cast()));
        let (c, d) = (_mm512_loadu_si512(rows[2].add(at).cast()), _mm512_loadu_si512(rows[3].add(at).cast()));
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

/// How sums end: by a line, which may hold them between limits, or in floating point, which may hold results below ceilings.
pub const FREE: u8 = 0;
pub const LIMITED: u8 = 1;
pub const FLOAT: u8 = 2;
pub const FLOAT_LIMITED: u8 = 3;

/// What of these it is, and whether bytes are signed.
pub fn how(end: &TapsEnd) -> (u8, bool) {
    match (&end.floats, end.lanes.limited) {
        (Some(floats), _) => (if floats.limited { FLOAT_LIMITED } else { FLOAT }, false),
        (None, limited) => (if limited { LIMITED } else { FREE }, end.lanes.signed),
    }
}

/// An expression in which two names stand for what [`how`] says.
macro_rules! by_how {
    ($end:expr, $how:ident, $signed:ident => $run:expr) => {
        by_how!($end, $how, $signed => $run; FREE false, FREE true, LIMITED false, LIMITED true, FLOAT false, FLOAT_LIMITED false)
    };
    ($end:expr, $how:ident, $signed:ident => $run:expr; $($case:ident $sign:literal),*) => {
        match how($end) {
            $(($case, $sign) => {
                const $how: u8 = $case;
                const $signed: bool = $sign;
                $run
            })*
            other => unreachable!("no such end: {other:?}"),
        }
    };
}
pub(super) use by_how;

/// What an end has, found once: stores of bytes might change where vectors are, for all that a compiler
/// knows. Rules are those of [`Line`](super::ends::Line) and [`Sloping`](super::ends::Sloping), whose factors, sums and ceilings are in `m`,
/// `add` and `high`; layers that move by one took 4 to 10 % longer with one made from these.
#[derive(Clone, Copy)]
pub struct Ends {
    low: *const i32,
    high: *const i32,
    m: *const i32,
    add: *const i32,
    k: *const i32,
    pub ceiling: __m512i,
}

/// Where a vector of floats is, as one of integers.
fn floats(of: &[f32]) -> *const i32 {
    of.as_ptr().cast()
}

impl Ends {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub fn of(end: &TapsEnd) -> Self {
        let lanes = &end.lanes;
        let (low, k) = (lanes.low.as_ptr(), lanes.k.as_ptr());
        if let Some(slope) = &end.floats {
            let ceiling = _mm512_set1_epi8(slope.most.cast_signed());
            return Self { low, high: floats(&slope.ceiling), m: floats(&slope.a), add: floats(&slope.b), k, ceiling };
        }
        Self {
            low,
            high: lanes.high.as_ptr(),
            m: lanes.m.as_ptr(),
            add: if lanes.limited { lanes.add.as_ptr() } else { end.begun.as_ptr() },
            k,
            ceiling: _mm512_set1_epi8(lanes.ceiling.cast_signed()),
        }
    }

    /// Ends sums of a chunk of several positions, each parameter loaded once for all.
    ///
    /// # Safety
    /// The machine has AVX-512 VNNI; the chunk at `place` has an end.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub unsafe fn chunk<const P: usize, const N: usize, const HOW: u8>(self, sums: &mut Sums<P, N>, place: usize) {
        for j in 0..4 {
            // SAFETY: the caller's promise.
            unsafe {
                let at = place + j * BLOCK;
                let m = _mm512_load_si512(self.m.add(at).cast());
                let add = _mm512_load_si512(self.add.add(at).cast());
                if HOW == FLOAT || HOW == FLOAT_LIMITED {
                    let (a, b) = (_mm512_castsi512_ps(m), _mm512_castsi512_ps(add));
                    for p in 0..P {
                        for n in 0..N {
                            let mut y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[p][n][j]), a, b);
                            if HOW == FLOAT_LIMITED {
                                y = _mm512_min_ps(y, _mm512_load_ps(self.high.add(at).cast()));
                            }
                            sums[p][n][j] = _mm512_cvttps_epi32(y);
                        }
                    }
                    continue;
                }
                let k = _mm512_load_si512(self.k.add(at).cast());
                for p in 0..P {
                    for n in 0..N {
                        let mut y = sums[p][n][j];
                        if HOW == LIMITED {
                            let low = _mm512_load_si512(self.low.add(at).cast());
                            let high = _mm512_load_si512(self.high.add(at).cast());
                            y = _mm512_min_epi32(_mm512_max_epi32(y, low), high);
                        }
                        sums[p][n][j] = _mm512_srav_epi32(_mm512_add_epi32(_mm512_mullo_epi32(y, m), add), k);
                    }
                }
            }
        }
    }
}

/// Where starts and weights of a kernel are, for the same reason.
#[derive(Clone, Copy)]
pub struct Kernel {
    starts: *const i32,
    weights: *const Line,
}

impl Kernel {
    pub fn of(taps: &Taps) -> Self {
        Self { starts: taps.lanes().as_ptr(), weights: taps.quads().as_ptr() }
    }
}

/// Sums of a chunk, of some positions by some kernels.
pub type Sums<const P: usize, const N: usize> = [[[__m512i; 4]; N]; P];

/// What sums begin with: where nothing limits them it is in their end already, or is 0.
///
/// # Safety
/// The machine has AVX-512 VNNI; there are starts for the chunk at `place`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn begin<const P: usize, const N: usize, const HOW: u8>(w: &[Kernel; N], place: usize) -> Sums<P, N> {
    let mut sums = [[[_mm512_setzero_si512(); 4]; N]; P];
    if HOW == LIMITED {
        for n in 0..N {
            for j in 0..4 {
                // SAFETY: the caller's promise.
                let start = unsafe { _mm512_load_si512(w[n].starts.add(place + j * BLOCK).cast()) };
                sums.iter_mut().for_each(|sums| sums[n][j] = start);
            }
        }
    }
    sums
}

/// Adds what four taps meet; weights are loaded once for all positions.
///
/// # Safety
/// The machine has AVX-512 VNNI; weights are those of the chunk and the taps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn add<const P: usize, const N: usize>(
    sums: &mut Sums<P, N>,
    quads: [&[__m512i; 4]; P],
    w: &[Kernel; N],
    line: usize,
) {
    for n in 0..N {
        for j in 0..4 {
            // SAFETY: the caller's promise.
            let w = unsafe { _mm512_load_si512(w[n].weights.add(line + j).cast()) };
            for p in 0..P {
                sums[p][n][j] = _mm512_dpbusd_epi32(sums[p][n][j], quads[p][j], w);
            }
        }
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
    unsafe { by_how!(end, HOW, SIGNED => depthwise_by::<N, HOW, SIGNED>(x, w, end, out)) }
}

/// # Safety
/// As [`depthwise_of`]; all vectors of the weights are as long as their period.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn depthwise_by<const N: usize, const HOW: u8, const SIGNED: bool>(
    x: &[&[u8]],
    (w, period): ([Kernel; N], usize),
    end: &TapsEnd,
    out: ([*mut u8; N], usize),
) {
    let ends = Ends::of(end);
    // SAFETY: the caller's promise.
    unsafe {
        match x.len().div_ceil(4) {
            // 3x3: addresses in registers.
            3 => {
                let rows: [[*const u8; 4]; 3] = std::array::from_fn(|q| quad(x, q));
                chunks::<N, HOW, SIGNED>((3, |q| rows[q]), (w, period), ends, out);
            }
            quads => chunks::<N, HOW, SIGNED>((quads, |q| quad(x, q)), (w, period), ends, out),
        }
    }
}

/// Chunk by chunk; two at once where they meet the same weights.
///
/// # Safety
/// Rows of all quads have whole chunks for every element of the outputs; ends are as long as the weights' period.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn chunks<const N: usize, const HOW: u8, const SIGNED: bool>(
    (quads, quad): (usize, impl Fn(usize) -> [*const u8; 4]),
    (w, period): ([Kernel; N], usize),
    ends: Ends,
    (out, len): ([*mut u8; N], usize),
) {
    let (mut at, mut place) = (0, 0);
    // SAFETY: the caller's promise; places go round in the period. Stores are masked to what there is of the output.
    unsafe {
        while period == CHUNK && at + CHUNK < len {
            let mut sums = begin::<2, N, HOW>(&w, 0);
            for q in 0..quads {
                let rows = quad(q);
                let (first, second) = (shuffled(rows, at), shuffled(rows, at + CHUNK));
                add(&mut sums, [&first, &second], &w, q * 4);
            }
            ends.chunk::<2, N, HOW>(&mut sums, 0);
            for p in 0..2 {
                let at = at + p * CHUNK;
                for n in 0..N {
                    store(out[n].add(at), len - at, packed(sums[p][n], SIGNED, ends.ceiling));
                }
            }
            at += 2 * CHUNK;
        }
        while at < len {
            let mut sums = begin::<1, N, HOW>(&w, place);
            for q in 0..quads {
                add(&mut sums, [&shuffled(quad(q), at)], &w, (place / CHUNK * quads + q) * 4);
            }
            ends.chunk::<1, N, HOW>(&mut sums, place);
            for n in 0..N {
                store(out[n].add(at), len - at, packed(sums[0][n], SIGNED, ends.ceiling));
            }
            at += CHUNK;
            place = if place + CHUNK == period { 0 } else { place + CHUNK };
        }
    }
}

/// A chunk, or what there is room for.
///
/// # Safety
/// The machine has AVX-512; there is that room.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn store(out: *mut u8, room: usize, bytes: __m512i) {
    // SAFETY: the caller's promise.
    unsafe {
        if room >= CHUNK {
            _mm512_storeu_si512(out.cast(), bytes);
        } else {
            _mm512_mask_storeu_epi8(out.cast(), (1 << room) - 1, bytes);
        }
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
            let (w, place, quads) = ([Kernel::of(w)], i % chunks * CHUNK, x.len().div_ceil(4));
            let mut sums = begin::<1, 1, LIMITED>(&w, place);
            for q in 0..quads {
                add(&mut sums, [&shuffled(quad(x, q), i * CHUNK)], &w, (place / CHUNK * quads + q) * 4);
            }
            let at = ordered.as_mut_ptr();
            for (j, sums) in sums[0][0].into_iter().enumerate() {
                _mm_storeu_si128(at.add(j * 4).cast(), _mm512_extracti32x4_epi32::<0>(sums));
                _mm_storeu_si128(at.add(16 + j * 4).cast(), _mm512_extracti32x4_epi32::<1>(sums));
                _mm_storeu_si128(at.add(32 + j * 4).cast(), _mm512_extracti32x4_epi32::<2>(sums));
                _mm_storeu_si128(at.add(48 + j * 4).cast(), _mm512_extracti32x4_epi32::<3>(sums));
            }
        }
        out.copy_from_slice(&ordered[..out.len()]);
    }
}
