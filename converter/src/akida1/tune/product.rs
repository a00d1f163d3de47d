//! Matrix products in 32-bit floats that are the same on every machine.
//!
//! Each element of the result is a sum in the order of the inner index, product by product, without fused
//! multiply-adds: how many of them are made at a time, and in how wide a register, changes nothing. (A product of a
//! library uses what the processor has, and gives other last bits elsewhere.)
#![allow(unsafe_code)] // One call of a function for AVX2, after a check.

/// A matrix as it lies in a slice: element (i, k) is `values[i * row + k * inner]`.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Elements.
    pub values: &'a [f32],
    /// From a row to the next.
    pub row: usize,
    /// From an inner index to the next.
    pub inner: usize,
}

impl<'a> View<'a> {
    /// Rows of `columns` elements one after another.
    pub fn rows(values: &'a [f32], columns: usize) -> Self {
        Self { values, row: columns, inner: 1 }
    }

    /// The same with rows and columns exchanged.
    pub fn transposed(values: &'a [f32], columns: usize) -> Self {
        Self { values, row: 1, inner: columns }
    }
}

/// `c += a b`; `b` is (inner, columns) and `c` (rows, columns), both row-major.
///
/// # Panics
/// When the slices are not of these sizes.
pub fn add_product(a: View<'_>, rows: usize, inner: usize, b: &[f32], c: &mut [f32]) {
    if rows == 0 || inner == 0 {
        return;
    }
    let columns = c.len() / rows;
    assert!(c.len() == rows * columns && b.len() == inner * columns, "sizes of a product");
    assert!(a.values.len() > (rows - 1) * a.row + (inner - 1) * a.inner, "size of the left matrix");
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        unsafe { wide(a, rows, inner, b, c, columns) };
        return;
    }
    all(a, rows, inner, b, c, columns);
}

/// [`all`], compiled for registers of 256 bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn wide(a: View<'_>, rows: usize, inner: usize, b: &[f32], c: &mut [f32], columns: usize) {
    all(a, rows, inner, b, c, columns);
}

/// Rows made at a time.
const ROWS: usize = 4;

#[inline(always)]
fn all(a: View<'_>, rows: usize, inner: usize, b: &[f32], c: &mut [f32], columns: usize) {
    // Four rows of the left matrix side by side, without those where all four are 0: a 0 adds nothing.
    let mut packed: Vec<(u32, [f32; ROWS])> = Vec::with_capacity(inner);
    for first in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - first);
        packed.clear();
        for k in 0..inner {
            let mut side = [0.0; ROWS];
            for (r, value) in side.iter_mut().take(count).enumerate() {
                *value = a.values[(first + r) * a.row + k * a.inner];
            }
            if side != [0.0; ROWS] {
                packed.push((k as u32, side));
            }
        }
        let c = &mut c[first * columns..(first + count) * columns];
        let mut at = 0;
        while at < columns {
            at += match columns - at {
                16.. => tile::<16>(&packed, b, c, columns, at),
                8.. => tile::<8>(&packed, b, c, columns, at),
                4.. => tile::<4>(&packed, b, c, columns, at),
                _ => tile::<1>(&packed, b, c, columns, at),
            };
        }
    }
}

/// N columns from `at` on; gives N.
#[inline(always)]
fn tile<const N: usize>(packed: &[(u32, [f32; ROWS])], b: &[f32], c: &mut [f32], columns: usize, at: usize) -> usize {
    let mut sums = [[0.0f32; N]; ROWS];
    for (sums, row) in sums.iter_mut().zip(c.chunks_exact(columns)) {
        sums.copy_from_slice(&row[at..at + N]);
    }
    for (k, side) in packed {
        let row = &b[*k as usize * columns + at..][..N];
        for (sums, &x) in sums.iter_mut().zip(side) {
            for (sum, &y) in sums.iter_mut().zip(row) {
                *sum += x * y;
            }
        }
    }
    for (sums, row) in sums.iter().zip(c.chunks_exact_mut(columns)) {
        row[at..at + N].copy_from_slice(sums);
    }
    N
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against sums in the stated order, bit by bit, for sizes around those of the tiles.
    #[test]
    fn sums_have_the_stated_order() {
        let value = |i: usize| ((i * 2_654_435_761) % 1009) as f32 / 7.0 - 60.0;
        for (rows, inner, columns) in [(1, 1, 1), (3, 5, 7), (4, 9, 16), (5, 33, 29), (9, 17, 45), (8, 64, 10)] {
            let mut a: Vec<f32> = (0..rows * inner).map(value).collect();
            a.iter_mut().step_by(3).for_each(|x| *x = 0.0);
            let b: Vec<f32> = (0..inner * columns).map(|i| value(i + 31)).collect();
            for flipped in [false, true] {
                let view = if flipped { View::transposed(&a, rows) } else { View::rows(&a, inner) };
                let mut found: Vec<f32> = (0..rows * columns).map(|i| value(i + 77)).collect();
                let mut expected = found.clone();
                for (at, sum) in expected.iter_mut().enumerate() {
                    let (i, j) = (at / columns, at % columns);
                    for k in 0..inner {
                        *sum += a[i * view.row + k * view.inner] * b[k * columns + j];
                    }
                }
                add_product(view, rows, inner, &b, &mut found);
                assert!(
                    found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{rows} {inner} {columns}"
                );
                let mut narrow: Vec<f32> = (0..rows * columns).map(|i| value(i + 77)).collect();
                all(view, rows, inner, &b, &mut narrow, columns);
                assert_eq!(narrow, expected);
            }
        }
    }
}
