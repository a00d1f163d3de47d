//! Look-up tables: a line to the place of each sum, and a line from what is there to a byte.

use std::ops::Range;

use super::line::{self, affine, limits, wide};
use crate::finish::{Activation, Finisher, LUT_ENTRIES};
use crate::isa::{Affine, Kernels, Lookup};

/// Both lines of every filter, and the table.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    lookup: Lookup,
    end: Affine,
}

/// Filters, and all values, that are looked up before they are ended.
const FILTERS: usize = 256;
const VALUES: usize = 1024;

/// Of sums that are no farther from 0 than `largest`, by filter; none where there is no table, or no line.
pub(super) fn prepare(finisher: &Finisher, largest: &[i64]) -> Option<Ends> {
    let (filters, finish) = finisher.parts();
    let (Activation::Lut { table, scale: index }, Some(scale)) = (&finish.activation, &finish.scale) else {
        return None;
    };
    let places = (0..filters).map(|f| {
        let limits = limits(|sum| finisher.place(sum, f), largest[f]);
        line::line(index, f, finisher.bias(f), limits).filter(line::Line::is_wide)
    });
    let index = wide(&places.collect::<Option<Vec<_>>>()?);

    let farthest = 1 << 15;
    let bounds = finisher.byte_bounds();
    let ends = (0..filters).map(|f| {
        let limits = limits(|value| finisher.emit(value.into(), f), farthest);
        line::line(scale, f, 0, limits).filter(|line| line.is_narrow(bounds))
    });
    let end = affine(&ends.collect::<Option<Vec<_>>>()?, bounds, &vec![farthest; filters]);
    let table: Box<[i32; LUT_ENTRIES]> = table.iter().map(|&y| i32::from(y)).collect::<Box<[i32]>>().try_into().ok()?;
    Some(Ends { lookup: Lookup { index, table }, end })
}

impl Ends {
    /// Sums of some filters, `step` a position, to bytes; the first filter of all is the first output, and positions are `all` outputs apart.
    pub(super) fn emit(
        &self,
        kernels: &dyn Kernels,
        (sums, step): (&[i32], usize),
        filters: Range<usize>,
        out: &mut [u8],
        all: usize,
    ) {
        let mut values = [0; VALUES];
        let positions = sums.len() / step.max(1);
        for first in filters.clone().step_by(FILTERS) {
            let some = first..filters.end.min(first + FILTERS);
            let offset = first - filters.start;
            let many = VALUES / some.len();
            for position in (0..positions).step_by(many) {
                let values = &mut values[..many.min(positions - position) * some.len()];
                kernels.looked_up(&sums[position * step + offset..], step, &self.lookup, some.clone(), values);
                kernels.affine(values, some.len(), &self.end, some.clone(), &mut out[position * all + offset..], all);
            }
        }
    }
}
