//! Depthwise, then 1x1 over the raw sums (Akida 1.0).

use super::depthwise::Depthwise;
use super::{Context, Room};
use crate::Aligned;
use crate::isa::{BLOCK, Packed, Panel};
use crate::planes::{Planar, Planes};

#[derive(Clone, Debug)]
pub(crate) struct Separable {
    depthwise: Depthwise,
    pointwise: Packed,
    channels: usize,
    /// Starts for bytes that are larger by 128.
    signed: Aligned<i32>,
    /// Starts for bytes as they are.
    plain: Aligned<i32>,
    /// Whether depthwise sums fit a signed byte.
    narrow: bool,
}

impl Separable {
    /// `middle` is the largest possible depthwise sum, which fits 16 bits.
    pub(super) fn new(depthwise: Depthwise, weights: &[i8], filters: usize, channels: usize, middle: i64) -> Self {
        let pointwise = Packed::new(weights, filters, 1);
        let (signed, plain) = (pointwise.start(128), pointwise.start(0));
        Self { depthwise, pointwise, channels, signed, plain, narrow: middle <= i8::MAX.into() }
    }

    pub(super) fn filters(&self) -> usize {
        self.pointwise.filters()
    }

    pub(super) fn width(&self) -> usize {
        self.pointwise.width()
    }

    pub(super) fn planes(&self, context: &Context, pad_pixel: &[u8]) -> Planes {
        self.depthwise.planes(context, pad_pixel, false)
    }

    pub(super) fn row(&self, context: &Context, input: &mut Planar<'_>, y: usize, room: &mut Room, sums: &mut [i32]) {
        let Room { middle, panel, high, .. } = room;
        let (columns, channels, width) = (context.conv[1].len(), self.channels, self.width());
        let middle = middle.at_least(columns * channels);
        self.depthwise.sums(context, input, y, middle);
        let step = channels.next_multiple_of(4);
        let mut multiply = |byte: &dyn Fn(&mut [u8], &[i32]), start: &[i32], out: &mut [i32]| {
            let panel = panel.at_least(columns * step);
            for (row, middle) in panel.chunks_exact_mut(step).zip(middle.chunks_exact(channels)) {
                byte(row, middle);
            }
            let panel = Panel { data: panel, step, count: columns, row_step: 0, rows: 1, run_step: 0 };
            context.kernels.multiply(&panel, &self.pointwise, 0..width / BLOCK, start, out, width);
        };
        fn each(of: impl Fn(i32) -> u8) -> impl Fn(&mut [u8], &[i32]) {
            move |row, middle| row.iter_mut().zip(middle).for_each(|(x, &m)| *x = of(m))
        }
        if self.narrow {
            return multiply(&each(|m| (m + 128) as u8), &self.signed, sums);
        }
        // m = 256 * high + low: low is unsigned, high signed.
        let high = high.at_least(columns * width);
        multiply(&each(|m| ((m >> 8) + 128) as u8), &self.signed, high);
        multiply(&each(|m| m as u8), &self.plain, sums);
        sums.iter_mut().zip(high).for_each(|(s, h)| *s = s.wrapping_add(*h << 8));
    }
}
