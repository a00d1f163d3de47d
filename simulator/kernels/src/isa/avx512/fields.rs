//! Products of few positions with weights of two or four bits, several to a byte, which become bytes in registers.

// Intrinsics and pointers into panels that were checked once; every block says why it is sound.
#![allow(unsafe_code)]
// As in `depthwise`.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::pack::{BLOCK, Fields};
use super::super::{Packed, Panel};

/// Most positions this is for: of more, weights are not read often enough to wait for them.
pub const MOST: usize = 3;

/// Where the sums of some blocks of filters and some positions are.
struct Part {
    x: *const u8,
    step: usize,
    run_step: usize,
    runs: usize,
    /// Lines of a run.
    lines: usize,
    w: *const u8,
    start: *const i32,
    out: *mut i32,
    out_step: usize,
}

/// `P` positions with `N` blocks. A field in the highest bits of a byte, with zeros below, is its weight times a power of two, and so is
/// the sum of all, which is shifted down in the end.
///
/// # Safety
/// The machine has AVX-512 VNNI. Positions have their bytes, blocks their lines, starts and places.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn part<const BITS: u32, const P: usize, const N: usize>(t: &Part) {
    let mask = _mm512_set1_epi8((0xff00u16 >> BITS) as u8 as i8);
    let mut sums = [[_mm512_setzero_si512(); N]; P];
    let block = t.runs * t.lines * LINE;
    // SAFETY: the caller's promise.
    unsafe {
        for run in 0..t.runs {
            let (mut x, mut w) = (t.x.add(run * t.run_step), t.w.add(run * t.lines * LINE));
            for _ in 0..t.lines {
                for n in 0..N {
                    let line = _mm512_load_si512(w.add(n * block).cast());
                    for field in 0..8 / BITS {
                        // Words are shifted, and what comes from one byte into the other is below the mask.
                        let up = _mm_cvtsi32_si128((8 - BITS * (field + 1)) as i32);
                        let weights = _mm512_and_si512(_mm512_sll_epi16(line, up), mask);
                        for p in 0..P {
                            let quad = x.add(p * t.step + field as usize * 4).cast::<i32>().read_unaligned();
                            sums[p][n] = _mm512_dpbusd_epi32(sums[p][n], _mm512_set1_epi32(quad), weights);
                        }
                    }
                }
                x = x.add(4 * 8 / BITS as usize);
                w = w.add(LINE);
            }
        }
        let down = _mm_cvtsi32_si128((8 - BITS) as i32);
        for p in 0..P {
            for n in 0..N {
                let start = _mm512_loadu_si512(t.start.add(n * BLOCK).cast());
                let sum = _mm512_add_epi32(_mm512_sra_epi32(sums[p][n], down), start);
                _mm512_storeu_si512(t.out.add(p * t.out_step + n * BLOCK).cast(), sum);
            }
        }
    }
}

/// Bytes of a line.
const LINE: usize = 4 * BLOCK;

type PartFn = unsafe fn(&Part);

/// By how many positions, of eight blocks, four and one.
const fn parts<const BITS: u32>() -> [[PartFn; MOST]; 3] {
    [
        [part::<BITS, 1, 8>, part::<BITS, 2, 8>, part::<BITS, 3, 8>],
        [part::<BITS, 1, 4>, part::<BITS, 2, 4>, part::<BITS, 3, 4>],
        [part::<BITS, 1, 1>, part::<BITS, 2, 1>, part::<BITS, 3, 1>],
    ]
}

/// The whole product, of at most [`MOST`] positions in one row.
///
/// # Safety
/// The machine has AVX-512 VNNI; the panel is checked.
pub unsafe fn multiply(
    x: &Panel<'_>,
    (w, fields): (&Packed, &Fields),
    blocks: Range<usize>,
    start: &[i32],
    out: &mut [i32],
    out_step: usize,
) {
    let shapes = if fields.bits == 2 { parts::<2>() } else { parts::<4>() };
    let lines = w.quads() * usize::from(fields.bits) / 8;
    let mut block = blocks.start;
    while block < blocks.end {
        let (shape, count) = match blocks.end - block {
            8.. => (&shapes[0], 8),
            4.. => (&shapes[1], 4),
            _ => (&shapes[2], 1),
        };
        // SAFETY: the caller's promise, for these blocks; each has as many lines as every other.
        unsafe {
            shape[x.count - 1](&Part {
                x: x.data.as_ptr(),
                step: x.step,
                run_step: x.run_step,
                runs: w.runs(),
                lines,
                w: fields.lines.as_ptr().add(block * w.runs() * lines).cast(),
                start: start.as_ptr().add(block * BLOCK),
                out: out.as_mut_ptr().add((block - blocks.start) * BLOCK),
                out_step,
            });
        }
        block += count;
    }
}
