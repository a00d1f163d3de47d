//! Depthwise convolutions of three columns, which are read where they lie: the next position meets some of them again, and they are
//! shuffled once.

// Intrinsics and pointers into rows that were checked once; every block says why it is sound.
#![allow(unsafe_code)]
// As in `depthwise`.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::super::{CHUNK, Columns, Taps, TapsEnd};
use super::ahead::Ahead;
use super::depthwise::{Ends, FLOAT, FLOAT_LIMITED, FREE, Kernel, LIMITED, Sums, add, begin, by_how, how, shuffled};
use super::ends::packed;

/// Goes from column to column of a chunk of filters.
struct Cursor {
    /// Where the chunk begins in the next column there is, and by how much that moves: rows of padding stay.
    rows: [*const u8; 4],
    steps: [usize; 4],
    /// Columns of padding that come first, and those there are.
    before: usize,
    there: usize,
    pad: *const u8,
}

impl Cursor {
    fn new(x: &Columns<'_>, place: usize) -> Self {
        let row = |row: Option<&[u8]>| row.unwrap_or(x.pad).as_ptr().wrapping_add(place);
        Self {
            rows: x.rows.map(row),
            steps: x.rows.map(|row| if row.is_some() { x.step } else { 0 }),
            before: x.before,
            there: x.there,
            pad: x.pad.as_ptr().wrapping_add(place),
        }
    }

    /// The next column, shuffled.
    ///
    /// # Safety
    /// The machine has AVX-512 VNNI; columns and padding have the chunk.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn next(&mut self) -> [__m512i; 4] {
        let mut rows = [self.pad; 4];
        if self.before > 0 {
            self.before -= 1;
        } else if self.there > 0 {
            self.there -= 1;
            rows = self.rows;
            for r in 0..4 {
                self.rows[r] = self.rows[r].wrapping_add(self.steps[r]);
            }
        }
        // SAFETY: the caller's promise.
        unsafe { shuffled(rows, 0) }
    }
}

/// Depthwise convolutions of the same rows by some kernels.
///
/// # Safety
/// The machine has AVX-512 VNNI; columns are checked, for each kernel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn depthwise_columns<const N: usize>(x: &Columns<'_>, w: [&Taps; N], end: &TapsEnd, out: [&mut [u8]; N]) {
    // SAFETY: the caller's promise.
    unsafe {
        by_how!(end, HOW, SIGNED => match x.stride {
            2 => columns::<N, 2, HOW, SIGNED>(x, w, end, out),
            _ => columns::<N, 1, HOW, SIGNED>(x, w, end, out),
        })
    }
}

/// All positions of a chunk of filters, two at once, then the next. `STRIDE` is 1 or 2.
///
/// # Safety
/// As [`depthwise_columns`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn columns<const N: usize, const STRIDE: usize, const HOW: u8, const SIGNED: bool>(
    x: &Columns<'_>,
    w: [&Taps; N],
    end: &TapsEnd,
    out: [&mut [u8]; N],
) {
    let (period, len) = (w[0].period(), out[0].len());
    let (w, ends, out) = (w.map(Kernel::of), Ends::of(end), out.map(|out| out.as_mut_ptr()));
    let mut ahead = Ahead::new(x.next.as_ptr(), x.next.len(), len / CHUNK / 2);
    for place in (0..period).step_by(CHUNK) {
        let lines = place / CHUNK * 3 * 4;
        let mut column = Cursor::new(x, place);
        // SAFETY: the caller's promise; weights and ends have four registers for each chunk of the period (and column).
        unsafe {
            let mut first = column.next();
            let mut second = if STRIDE == 1 { column.next() } else { first };
            let mut at = place;
            while at + period < len {
                let mut sums: Sums<2, N> = begin::<2, N, HOW>(&w, place);
                if STRIDE == 1 {
                    add(&mut sums, [&first, &second], &w, lines);
                    let third = column.next();
                    add(&mut sums, [&second, &third], &w, lines + 4);
                    let fourth = column.next();
                    add(&mut sums, [&third, &fourth], &w, lines + 8);
                    (first, second) = (third, fourth);
                } else {
                    let (a, b, c) = (column.next(), column.next(), column.next());
                    add(&mut sums, [&first, &b], &w, lines);
                    add(&mut sums, [&a, &c], &w, lines + 4);
                    first = column.next();
                    add(&mut sums, [&b, &first], &w, lines + 8);
                }
                ends.chunk::<2, N, HOW>(&mut sums, place);
                for p in 0..2 {
                    for n in 0..N {
                        let bytes = packed(sums[p][n], SIGNED, ends.ceiling);
                        _mm512_storeu_si512(out[n].add(at + p * period).cast(), bytes);
                    }
                }
                ahead.ask();
                at += 2 * period;
            }
            if at < len {
                let mut sums: Sums<1, N> = begin::<1, N, HOW>(&w, place);
                add(&mut sums, [&first], &w, lines);
                if STRIDE == 2 {
                    second = column.next();
                }
                add(&mut sums, [&second], &w, lines + 4);
                add(&mut sums, [&column.next()], &w, lines + 8);
                ends.chunk::<1, N, HOW>(&mut sums, place);
                for n in 0..N {
                    _mm512_storeu_si512(out[n].add(at).cast(), packed(sums[0][n], SIGNED, ends.ceiling));
                }
            }
        }
    }
}
