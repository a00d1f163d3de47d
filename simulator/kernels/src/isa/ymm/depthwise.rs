//! Depthwise convolutions: two rows of bytes are shuffled together, so that one instruction adds two taps: in 16 bits where inputs are small
//! enough ([`Grouped`]), or else widened.

// Intrinsics and pointers into rows that were checked once; every block says why it is sound.
#![allow(unsafe_code)]
// Sums in arrays stay in registers where loops count.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::super::taps::Grouped;
use super::super::{BLOCK, CHUNK, Taps, TapsEnd};

/// Elements that are computed at once: half of a chunk, and as many in each of four registers as in half of a block.
const HALF: usize = CHUNK / 2;
const EIGHT: usize = BLOCK / 2;

/// Where the parameters of half a chunk begin, in the order of registers: register j has elements `16 * lane + 4 * j ..` of it. Found once:
/// stores of bytes might change where vectors are, for all that a compiler knows.
#[derive(Clone, Copy)]
struct Parameters {
    start: *const i32,
    low: *const i32,
    high: *const i32,
    m: *const i32,
    add: *const i32,
    k: *const i32,
}

impl Parameters {
    fn new(start: &[i32], end: &TapsEnd) -> Self {
        let lanes = &end.lanes;
        Self {
            start: start.as_ptr(),
            low: lanes.low.as_ptr(),
            high: lanes.high.as_ptr(),
            m: lanes.m.as_ptr(),
            add: lanes.add.as_ptr(),
            k: lanes.k.as_ptr(),
        }
    }

    /// Those of the half that begins at element `place` of the period.
    fn at(self, place: usize) -> Self {
        let (chunk, half) = (place / CHUNK, place % CHUNK / HALF);
        let of = |from: *const i32| from.wrapping_add(chunk * CHUNK + half * EIGHT);
        Self {
            start: of(self.start),
            low: of(self.low),
            high: of(self.high),
            m: of(self.m),
            add: of(self.add),
            k: of(self.k),
        }
    }
}

/// How sums of half a chunk are made.
trait Sums: Copy {
    /// Those of the half that begins at element `at` of every row and at `place` of the period, in the order of registers.
    ///
    /// # Safety
    /// The machine has AVX2. Rows have the elements; there are weights for as many taps.
    unsafe fn of(self, x: &[&[u8]], start: *const i32, at: usize, place: usize) -> [__m256i; 4];
}

/// A pair of rows: the first byte of each, then the second, of eight elements of both lanes and of the other eight.
///
/// # Safety
/// The machine has AVX2; rows have the elements.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn together([first, second]: [&[u8]; 2], at: usize) -> [__m256i; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let a = _mm256_loadu_si256(first.as_ptr().add(at).cast());
        let b = _mm256_loadu_si256(second.as_ptr().add(at).cast());
        [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)]
    }
}

/// Pairs of taps in 32 bits.
#[derive(Clone, Copy)]
struct Widened {
    weights: *const [[i16; 2]; EIGHT],
    pairs: usize,
}

impl Sums for Widened {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn of(self, x: &[&[u8]], start: *const i32, at: usize, place: usize) -> [__m256i; 4] {
        let zero = _mm256_setzero_si256();
        let mut sums = [zero; 4];
        let (chunk, half) = (place / CHUNK, place % CHUNK / HALF);
        let mut weights = self.weights.wrapping_add((chunk * self.pairs * 2 + half) * 4);
        // SAFETY: the caller's promise; there are four registers of starts, and of weights for each pair.
        unsafe {
            for j in 0..4 {
                sums[j] = _mm256_loadu_si256(start.add(j * BLOCK).cast());
            }
            for pair in x.chunks(2) {
                // Behind the last tap there is a weight of 0 for whatever is read.
                let [low, high] = together([pair[0], pair[pair.len() - 1]], at);
                let words = [
                    _mm256_unpacklo_epi8(low, zero),
                    _mm256_unpackhi_epi8(low, zero),
                    _mm256_unpacklo_epi8(high, zero),
                    _mm256_unpackhi_epi8(high, zero),
                ];
                for j in 0..4 {
                    let w = _mm256_loadu_si256(weights.add(j).cast());
                    sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(words[j], w));
                }
                // The other half's lie between.
                weights = weights.add(2 * 4);
            }
        }
        sums
    }
}

/// Taps of the kernels there are sums of 16 bits for: 3x3.
const NINE: usize = Grouped::TAPS;

/// Pairs of taps in 16 bits, in groups of `A`, `B` and, unless that is 0, `C`: two groups together become 32 bits.
#[derive(Clone, Copy)]
struct InGroups<'a, const A: usize, const B: usize, const C: usize>(&'a Grouped);

impl<const A: usize, const B: usize, const C: usize> InGroups<'_, A, B, C> {
    const PAIRS: usize = A + B + C;
    const GROUPS: usize = if C == 0 { 2 } else { 3 };

    /// The sums of `N` pairs of taps from the first on.
    ///
    /// # Safety
    /// The machine has AVX2. Rows have the elements; there are two registers of weights for each pair, and of starts.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn group<const N: usize>(
        (x, at): (&[&[u8]; NINE], usize),
        first: usize,
        weights: *const [[i8; 2]; EIGHT * 2],
        starts: *const [i16; EIGHT * 2],
    ) -> [__m256i; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [0, 1].map(|side| _mm256_loadu_si256(starts.add(side).cast()));
            for pair in first..first + N {
                let bytes = together([x[2 * pair], x[(2 * pair + 1).min(NINE - 1)]], at);
                for side in 0..2 {
                    let w = _mm256_loadu_si256(weights.add(2 * pair + side).cast());
                    sums[side] = _mm256_add_epi16(sums[side], _mm256_maddubs_epi16(bytes[side], w));
                }
            }
            sums
        }
    }
}

/// Sums of two groups in the order of registers, added to others.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn both(sums: [__m256i; 4], a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 4] {
    let words = [
        _mm256_unpacklo_epi16(a[0], b[0]),
        _mm256_unpackhi_epi16(a[0], b[0]),
        _mm256_unpacklo_epi16(a[1], b[1]),
        _mm256_unpackhi_epi16(a[1], b[1]),
    ];
    let mut all = sums;
    for j in 0..4 {
        all[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(words[j], _mm256_set1_epi16(1)));
    }
    all
}

impl<const A: usize, const B: usize, const C: usize> Sums for InGroups<'_, A, B, C> {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn of(self, x: &[&[u8]], start: *const i32, at: usize, place: usize) -> [__m256i; 4] {
        let Ok(x) = x.try_into() else { unreachable!("groups are those of nine taps") };
        let half = place / HALF;
        let weights = self.0.pairs.as_ptr().wrapping_add(half * Self::PAIRS * 2);
        let starts = self.0.starts.as_ptr().wrapping_add(half * Self::GROUPS * 2);
        // SAFETY: the caller's promise; there are four registers of starts.
        unsafe {
            let sums = [0, 1, 2, 3].map(|j| _mm256_loadu_si256(start.add(j * BLOCK).cast()));
            let a = Self::group::<A>((x, at), 0, weights, starts);
            let b = Self::group::<B>((x, at), A, weights, starts.wrapping_add(2));
            let sums = both(sums, a, b);
            if C == 0 {
                return sums;
            }
            let c = Self::group::<C>((x, at), A + B, weights, starts.wrapping_add(4));
            both(sums, c, [_mm256_setzero_si256(); 2])
        }
    }
}

/// Ends sums of half a chunk, and packs them, which undoes what shuffling did to the order of filters; as unsigned bytes where there is a
/// ceiling.
///
/// # Safety
/// The machine has AVX2; there are parameters for the half.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn ended<const LIMITED: bool>(mut sums: [__m256i; 4], p: &Parameters, ceiling: Option<__m256i>) -> __m256i {
    for j in 0..4 {
        // SAFETY: the caller's promise.
        unsafe {
            if LIMITED {
                let low = _mm256_loadu_si256(p.low.add(j * BLOCK).cast());
                let high = _mm256_loadu_si256(p.high.add(j * BLOCK).cast());
                sums[j] = _mm256_min_epi32(_mm256_max_epi32(sums[j], low), high);
            }
            let m = _mm256_loadu_si256(p.m.add(j * BLOCK).cast());
            let add = _mm256_loadu_si256(p.add.add(j * BLOCK).cast());
            let k = _mm256_loadu_si256(p.k.add(j * BLOCK).cast());
            sums[j] = _mm256_srav_epi32(_mm256_add_epi32(_mm256_mullo_epi32(sums[j], m), add), k);
        }
    }
    let (low, high) = (_mm256_packs_epi32(sums[0], sums[1]), _mm256_packs_epi32(sums[2], sums[3]));
    match ceiling {
        Some(ceiling) => _mm256_min_epu8(_mm256_packus_epi16(low, high), ceiling),
        None => _mm256_packs_epi16(low, high),
    }
}

/// A depthwise convolution.
///
/// # Safety
/// The machine has AVX2 and FMA; rows are checked.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn depthwise(x: &[&[u8]], w: &Taps, end: &TapsEnd, out: &mut [u8]) {
    assert!(end.width() == w.period(), "an end for every element");
    // SAFETY: the caller's promise; sums are of these weights.
    unsafe {
        let grouped = w.grouped();
        let begin = grouped.map_or(w.lanes(), |grouped| &grouped.begin);
        let all = Parameters::new(begin, end);
        match grouped.map(|grouped| (grouped, grouped.groups)) {
            Some((grouped, [3, 2])) => either(InGroups::<3, 2, 0>(grouped), x, w, (all, end), out),
            Some((grouped, [2, 3])) => either(InGroups::<2, 3, 0>(grouped), x, w, (all, end), out),
            Some((grouped, [2, 2, 1])) => either(InGroups::<2, 2, 1>(grouped), x, w, (all, end), out),
            _ => {
                let widened = Widened { weights: w.pairs().as_ptr(), pairs: w.taps().div_ceil(2) };
                either(widened, x, w, (Parameters::new(w.lanes(), end), end), out);
            }
        }
    }
}

/// By whether sums come near their limits.
///
/// # Safety
/// As [`by`].
#[target_feature(enable = "avx2,fma")]
unsafe fn either<S: Sums>(sums: S, x: &[&[u8]], w: &Taps, end: (Parameters, &TapsEnd), out: &mut [u8]) {
    // SAFETY: the caller's promise.
    unsafe {
        if end.1.lanes.limited { by::<_, true>(sums, x, w, end, out) } else { by::<_, false>(sums, x, w, end, out) }
    }
}

/// # Safety
/// As [`depthwise`]; parameters and weights are for the same period.
#[target_feature(enable = "avx2,fma")]
unsafe fn by<S: Sums, const LIMITED: bool>(
    sums: S,
    x: &[&[u8]],
    w: &Taps,
    (all, end): (Parameters, &TapsEnd),
    out: &mut [u8],
) {
    let period = w.period();
    let ceiling = (!end.lanes.signed).then(|| _mm256_set1_epi8(end.lanes.ceiling.cast_signed()));
    // SAFETY: the caller's promise; rows have whole chunks for every element of the output, and arrays are a register long.
    let made = |at: usize, place: usize, half: &mut [u8; HALF]| unsafe {
        let p = all.at(place);
        let bytes = ended::<LIMITED>(sums.of(x, p.start, at, place), &p, ceiling);
        _mm256_storeu_si256(half.as_mut_ptr().cast(), bytes);
    };
    let (halves, rest) = out.as_chunks_mut::<HALF>();
    let (mut at, mut place) = (0, 0);
    for half in halves {
        made(at, place, half);
        at += HALF;
        place = if place + HALF == period { 0 } else { place + HALF };
    }
    if !rest.is_empty() {
        let mut whole = [0u8; HALF];
        made(at, place, &mut whole);
        rest.copy_from_slice(&whole[..rest.len()]);
    }
}
