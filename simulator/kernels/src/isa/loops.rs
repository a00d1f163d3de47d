//! Loops over elements that compilers turn into vectors. Each kernel set compiles them for its own instructions.

use super::{Affine, Quads};

/// Four neighbours of each channel as one quad.
#[inline(always)]
pub(super) fn interleave(x: &[u8], quads: Quads, out: &mut [u32]) {
    let Quads { tap, step, count, positions, used } = quads;
    if step == count {
        return neighbours(x, tap, used, &mut out[..count * positions]);
    }
    for (p, out) in out.chunks_exact_mut(count.max(1)).take(positions).enumerate() {
        neighbours(&x[p * step..], tap, used, out);
    }
}

#[inline(always)]
fn neighbours(x: &[u8], tap: usize, used: usize, out: &mut [u32]) {
    let len = out.len();
    // Taps that no weight meets are not read: they may lie behind the end.
    let a = &x[..len];
    let b = &x[if used > 1 { tap } else { 0 }..][..len];
    let c = &x[if used > 2 { 2 * tap } else { 0 }..][..len];
    let d = &x[if used > 3 { 3 * tap } else { 0 }..][..len];
    for i in 0..len {
        out[i] = u32::from(a[i]) | u32::from(b[i]) << 8 | u32::from(c[i]) << 16 | u32::from(d[i]) << 24;
    }
}

/// Sums to bytes, all filters of a position in turn.
#[inline(always)]
pub(super) fn affine(sums: &[i32], affine: &Affine, out: &mut [u8]) {
    let period = affine.low.len();
    for (sums, out) in sums.chunks(period).zip(out.chunks_mut(period)) {
        let len = sums.len().min(out.len());
        let (sums, out) = (&sums[..len], &mut out[..len]);
        let (low, high) = (&affine.low[..len], &affine.high[..len]);
        let (m, add, k) = (&affine.m[..len], &affine.add[..len], &affine.k[..len]);
        for i in 0..len {
            let sum = sums[i].max(low[i]).min(high[i]);
            out[i] = (sum.wrapping_mul(m[i]).wrapping_add(add[i]) >> (k[i] & 31)) as u8;
        }
    }
}

/// How many of a filter's edges lie below its sum; `edges` is (edge, filter).
#[inline(always)]
pub(super) fn steps(sums: &[i32], edges: &[i32], period: usize, out: &mut [u8]) {
    for (sums, out) in sums.chunks(period).zip(out.chunks_mut(period)) {
        out.fill(0);
        for edges in edges.chunks_exact(period) {
            for ((out, &sum), &edge) in out.iter_mut().zip(sums).zip(edges) {
                *out += u8::from(sum > edge);
            }
        }
    }
}

/// The larger of two, element by element.
#[inline(always)]
pub(super) fn largest(held: &mut [u8], new: &[u8], signed: bool) {
    if signed {
        held.iter_mut().zip(new).for_each(|(h, &n)| *h = n.cast_signed().max(h.cast_signed()).cast_unsigned());
    } else {
        held.iter_mut().zip(new).for_each(|(h, &n)| *h = n.max(*h));
    }
}

/// Bytes with their sign bits inverted: signed values, larger by 128.
#[inline(always)]
pub(super) fn offset(bytes: &[u8], out: &mut [u8]) {
    out.iter_mut().zip(bytes).for_each(|(o, &b)| *o = b ^ 0x80);
}
