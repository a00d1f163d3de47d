//! Loops over elements that compilers turn into vectors. Each kernel set compiles them for its own instructions.

use std::ops::Range;

use super::{Affine, Bytewise, CHUNK, Lookup, Shifts, Slope, Taps, TapsEnd, Terms, Wide, Windows};

#[inline(always)]
pub(super) fn affine_of(sum: i32, (low, high): (i32, i32), m: i32, add: i32, k: i32, (least, most): (i32, i32)) -> u8 {
    let scaled = sum.max(low).min(high).wrapping_mul(m).wrapping_add(add) >> (k & 31);
    scaled.max(least).min(most) as u8
}

/// Where results saturate.
#[inline(always)]
pub(super) fn bounds(end: &Affine) -> (i32, i32) {
    if end.signed { (i8::MIN.into(), i8::MAX.into()) } else { (0, end.ceiling.into()) }
}

/// Sums to bytes, all filters of a position in turn.
#[inline(always)]
pub(super) fn affine(
    sums: &[i32],
    step: usize,
    affine: &Affine,
    filters: Range<usize>,
    out: &mut [u8],
    out_step: usize,
) {
    let len = filters.len();
    let (low, high) = (&affine.low[filters.clone()], &affine.high[filters.clone()]);
    let (m, add, k) = (&affine.m[filters.clone()], &affine.add[filters.clone()], &affine.k[filters]);
    let bounds = bounds(affine);
    for (sums, out) in sums.chunks_exact(step).zip(out.chunks_mut(out_step)) {
        let (sums, out) = (&sums[..len], &mut out[..len]);
        for i in 0..len {
            out[i] = affine_of(sums[i], (low[i], high[i]), m[i], add[i], k[i], bounds);
        }
    }
}

/// The same in floating point.
#[inline(always)]
pub(super) fn slope(sums: &[i32], step: usize, slope: &Slope, filters: Range<usize>, out: &mut [u8], out_step: usize) {
    let len = filters.len();
    let (a, b, ceiling) = (&slope.a[filters.clone()], &slope.b[filters.clone()], &slope.ceiling[filters]);
    for (sums, out) in sums.chunks_exact(step).zip(out.chunks_mut(out_step)) {
        let (sums, out) = (&sums[..len], &mut out[..len]);
        for i in 0..len {
            out[i] = slope_of(sums[i], a[i], b[i], ceiling[i]);
        }
    }
}

/// What a slope makes of one sum.
#[inline(always)]
pub fn slope_of(sum: i32, a: f32, b: f32, ceiling: f32) -> u8 {
    (sum as f32).mul_add(a, b).min(ceiling) as u8
}

/// The same in 64 bits.
#[inline(always)]
pub(super) fn wide(sums: &[i32], step: usize, wide: &Wide, filters: Range<usize>, out: &mut [u8], out_step: usize) {
    let len = filters.len();
    let (low, high) = (&wide.low[filters.clone()], &wide.high[filters.clone()]);
    let (m, add, k) = (&wide.m[filters.clone()], &wide.add[filters.clone()], &wide.k[filters.clone()]);
    let (floor, ceiling) = (&wide.floor[filters.clone()], &wide.ceiling[filters]);
    for (sums, out) in sums.chunks_exact(step).zip(out.chunks_mut(out_step)) {
        let (sums, out) = (&sums[..len], &mut out[..len]);
        for i in 0..len {
            let sum = sums[i].max(low[i]).min(high[i]);
            let scaled = (i64::from(sum) * i64::from(m[i]) + add[i]) >> (k[i] & 63);
            out[i] = scaled.max(floor[i].into()).min(ceiling[i].into()) as u8;
        }
    }
}

/// What is looked up for sums, position by position.
#[inline(always)]
pub(super) fn looked_up(sums: &[i32], step: usize, lookup: &Lookup, filters: Range<usize>, values: &mut [i32]) {
    let (index, len) = (&lookup.index, filters.len());
    let (low, high) = (&index.low[filters.clone()], &index.high[filters.clone()]);
    let (m, add, k) = (&index.m[filters.clone()], &index.add[filters.clone()], &index.k[filters.clone()]);
    let (floor, ceiling) = (&index.floor[filters.clone()], &index.ceiling[filters]);
    for (position, values) in values.chunks_exact_mut(len.max(1)).enumerate() {
        let sums = &sums[position * step..][..len];
        for i in 0..len {
            let sum = sums[i].max(low[i]).min(high[i]);
            // What is shifted fits 32 bits.
            let scaled = ((i64::from(sum) * i64::from(m[i]) + add[i]) >> (k[i] & 63)) as i32;
            values[i] = scaled.max(floor[i]).min(ceiling[i]);
        }
        for value in values {
            *value = lookup.table[*value as usize % lookup.table.len()];
        }
    }
}

/// How many of a filter's edges lie below its sum; edges are (edge, filter), `width` filters.
#[inline(always)]
pub(super) fn steps(
    sums: &[i32],
    step: usize,
    (edges, width): (&[i32], usize),
    filters: Range<usize>,
    out: &mut [u8],
    out_step: usize,
) {
    let len = filters.len();
    for (sums, out) in sums.chunks_exact(step).zip(out.chunks_mut(out_step)) {
        let (sums, out) = (&sums[..len], &mut out[..len]);
        out.fill(0);
        for edges in edges.chunks_exact(width) {
            for ((out, &sum), &edge) in out.iter_mut().zip(sums).zip(&edges[filters.clone()]) {
                *out += u8::from(sum > edge);
            }
        }
    }
}

/// Terms of every position, added to their totals.
#[inline(always)]
pub(super) fn totals(sums: &[i32], step: usize, terms: &Terms, filters: Range<usize>, totals: &mut [i32]) {
    let (bias, ceiling) = (&terms.bias[filters.clone()], &terms.ceiling[filters.clone()]);
    let totals = &mut totals[filters];
    for sums in sums.chunks_exact(step) {
        for (((total, &sum), &bias), &ceiling) in totals.iter_mut().zip(sums).zip(bias).zip(ceiling) {
            let held = sum.max(terms.low).min(terms.high).wrapping_add(bias);
            *total = total.wrapping_add(held.min(ceiling).max(terms.floor));
        }
    }
}

#[inline(always)]
fn add_as<const A: bool, const B: bool>(a: &[u8], b: &[u8], shifts: &Shifts, out: &mut [u8]) {
    let value = |x: u8, signed: bool| if signed { i32::from(x.cast_signed()) } else { i32::from(x) };
    let period = shifts.a.len();
    for ((a, b), out) in a.chunks(period).zip(b.chunks(period)).zip(out.chunks_mut(period)) {
        let len = out.len();
        let (a, b, out) = (&a[..len], &b[..len], &mut out[..len]);
        let (a_shift, b_shift) = (&shifts.a[..len], &shifts.b[..len]);
        let (half, k) = (&shifts.half[..len], &shifts.k[..len]);
        for i in 0..len {
            let sum = (value(a[i], A) << (a_shift[i] & 31)) + (value(b[i], B) << (b_shift[i] & 31));
            out[i] = ((sum + half[i]) >> (k[i] & 31)).max(shifts.low).min(shifts.high) as u8;
        }
    }
}

/// Two tensors into one.
#[inline(always)]
pub(super) fn add(a: &[u8], b: &[u8], shifts: &Shifts, out: &mut [u8]) {
    match shifts.signed {
        [true, true] => add_as::<true, true>(a, b, shifts, out),
        [true, false] => add_as::<true, false>(a, b, shifts, out),
        [false, true] => add_as::<false, true>(a, b, shifts, out),
        [false, false] => add_as::<false, false>(a, b, shifts, out),
    }
}

/// Depthwise sums of the elements from `first` on, at most a chunk.
#[inline(always)]
fn chunk(x: &[&[u8]], w: &Taps, first: usize, sums: &mut [i32; CHUNK]) {
    let at = first % w.period();
    sums.copy_from_slice(&w.start()[at..][..CHUNK]);
    for (x, w) in x.iter().zip(w.plain().chunks_exact(w.period())) {
        let (x, w) = (&x[first..][..CHUNK], &w[at..][..CHUNK]);
        for i in 0..CHUNK {
            // 255 * -128 is the farthest from 0.
            sums[i] = sums[i].wrapping_add(i32::from(i16::from(x[i]) * i16::from(w[i])));
        }
    }
}

/// A depthwise convolution.
#[inline(always)]
pub(super) fn depthwise(x: &[&[u8]], w: &Taps, end: &TapsEnd, out: &mut [u8]) {
    let mut sums = [0; CHUNK];
    let bounds = bounds(&end.plain);
    for (i, out) in out.chunks_mut(CHUNK).enumerate() {
        let at = i * CHUNK % w.period();
        chunk(x, w, i * CHUNK, &mut sums);
        let Affine { low, high, m, add, k, .. } = &end.plain;
        let (low, high) = (&low[at..][..CHUNK], &high[at..][..CHUNK]);
        let (m, add, k) = (&m[at..][..CHUNK], &add[at..][..CHUNK], &k[at..][..CHUNK]);
        let bytes: [u8; CHUNK] =
            std::array::from_fn(|i| affine_of(sums[i], (low[i], high[i]), m[i], add[i], k[i], bounds));
        out.copy_from_slice(&bytes[..out.len()]);
    }
}

/// The same, sums.
#[inline(always)]
pub(super) fn depthwise_sums(x: &[&[u8]], w: &Taps, out: &mut [i32]) {
    let mut sums = [0; CHUNK];
    for (i, out) in out.chunks_mut(CHUNK).enumerate() {
        chunk(x, w, i * CHUNK, &mut sums);
        out.copy_from_slice(&sums[..out.len()]);
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

/// The largest of each window of a row.
#[inline(always)]
pub(super) fn pool(row: &[u8], windows: Windows, out: &mut [u8]) {
    let Windows { filters, size, stride, before, signed } = windows;
    let columns = row.len() / filters.max(1);
    for (window, out) in out.chunks_exact_mut(filters.max(1)).enumerate() {
        let first = (window * stride).saturating_sub(before);
        let end = (window * stride + size).saturating_sub(before).min(columns);
        out.copy_from_slice(&row[first * filters..][..filters]);
        for column in first + 1..end {
            largest(out, &row[column * filters..][..filters], signed);
        }
    }
}

/// Bytes with their sign bits inverted: signed values, larger by 128.
#[inline(always)]
pub(super) fn offset(bytes: &[u8], out: &mut [u8]) {
    out.iter_mut().zip(bytes).for_each(|(o, &b)| *o = b ^ 0x80);
}

/// Bytes to bytes.
#[inline(always)]
pub(super) fn bytewise(x: &[u8], rule: &Bytewise, out: &mut [u8]) {
    assert!(x.len() == out.len() && rule.a.len() == rule.b.len(), "a byte for each, and both parameters");
    let period = rule.a.len().max(1);
    let (k, low, high) = (u32::from(rule.k) & 15, rule.low, rule.high);
    for (x, out) in x.chunks(period).zip(out.chunks_mut(period)) {
        let (a, b, out) = (&rule.a[..x.len()], &rule.b[..x.len()], &mut out[..x.len()]);
        for i in 0..x.len() {
            let product = Bytewise::product((x[i] ^ rule.inverted).cast_signed(), a[i]);
            out[i] = (product.wrapping_add(b[i]) >> k).max(low).min(high) as u8;
        }
    }
}

/// The methods of a set that has no better ones. With features, they are those of loops compiled for them.
macro_rules! loop_methods {
    () => {
        loop_methods!(@methods loops);
    };
    (@methods $loops:ident) => {
        fn depthwise(&self, x: &[&[u8]], w: &Taps, end: &TapsEnd, out: &mut [u8]) {
            check_depthwise(x, w, out.len());
            $loops::depthwise(x, w, end, out);
        }

        fn depthwise_sums(&self, x: &[&[u8]], w: &Taps, out: &mut [i32]) {
            check_depthwise(x, w, out.len());
            $loops::depthwise_sums(x, w, out);
        }

        fn affine(&self, sums: &[i32], step: usize, end: &Affine, f: Range<usize>, out: &mut [u8], out_step: usize) {
            check_ending(sums, step, end.low.len(), &f, out, out_step);
            $loops::affine(sums, step, end, f, out, out_step);
        }

        fn slope(&self, sums: &[i32], step: usize, end: &Slope, f: Range<usize>, out: &mut [u8], out_step: usize) {
            check_ending(sums, step, end.a.len(), &f, out, out_step);
            $loops::slope(sums, step, end, f, out, out_step);
        }

        fn wide(&self, sums: &[i32], step: usize, end: &Wide, f: Range<usize>, out: &mut [u8], out_step: usize) {
            check_ending(sums, step, end.low.len(), &f, out, out_step);
            $loops::wide(sums, step, end, f, out, out_step);
        }

        fn looked_up(&self, sums: &[i32], step: usize, lookup: &Lookup, filters: Range<usize>, values: &mut [i32]) {
            $loops::looked_up(sums, step, lookup, filters, values);
        }

        fn steps(
            &self,
            sums: &[i32],
            step: usize,
            edges: (&[i32], usize),
            f: Range<usize>,
            out: &mut [u8],
            out_step: usize,
        ) {
            check_ending(sums, step, edges.1, &f, out, out_step);
            $loops::steps(sums, step, edges, f, out, out_step);
        }

        fn totals(&self, sums: &[i32], step: usize, terms: &Terms, filters: Range<usize>, totals: &mut [i32]) {
            $loops::totals(sums, step, terms, filters, totals);
        }

        fn add(&self, a: &[u8], b: &[u8], shifts: &Shifts, out: &mut [u8]) {
            $loops::add(a, b, shifts, out);
        }

        fn largest(&self, held: &mut [u8], new: &[u8], signed: bool) {
            $loops::largest(held, new, signed);
        }

        fn pool(&self, row: &[u8], windows: Windows, out: &mut [u8]) {
            $loops::pool(row, windows, out);
        }

        fn offset(&self, bytes: &[u8], out: &mut [u8]) {
            $loops::offset(bytes, out);
        }

        fn bytewise(&self, x: &[u8], rule: &Bytewise, out: &mut [u8]) {
            $loops::bytewise(x, rule, out);
        }
    };
}
pub(super) use loop_methods;
