//! Any convolution as part of a SAME one, and which input a piece of output needs.
//!
//! The chips pad SAME (targets.md 1.2, 2.2). A convolution with less padding has its windows on the same grid when
//! the difference is a multiple of the stride; it is then the SAME convolution of which some rows and columns are
//! never made: parts cover only the wanted ones, and coordinates are moved on the way out
//! ([`akida_hal::np::NpLayer::crop`]). Nothing extra is computed and no value changes.

use akida_hal::np::Span;

/// Pooling along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolAxis {
    /// None.
    None,
    /// Maximum over `size`, every `stride`, the first window starting at `-pad`.
    Max {
        /// Window.
        size: usize,
        /// Step.
        stride: usize,
        /// Before the map.
        pad: usize,
    },
    /// Everything into one.
    Global,
}

/// What a layer wants along one axis.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Input length.
    pub input: usize,
    /// Kernel length.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Padding before and after.
    pub pads: [usize; 2],
    /// Pooling, with padding before the map.
    pub pool: PoolAxis,
    /// Output length after pooling.
    pub output: usize,
}

/// How the chip does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Input length.
    pub input: usize,
    /// Kernel length.
    pub kernel: usize,
    /// Stride; for transposed convolutions that of the output.
    pub stride: usize,
    /// Padding before.
    pub pad: usize,
    /// Length of the whole convolution's output, before pooling.
    pub conv: usize,
    /// Pooling.
    pub pool: PoolAxis,
    /// First wanted position after pooling; leaves as 0.
    pub first: usize,
    /// How many positions are wanted.
    pub len: usize,
    /// Transposed convolution.
    pub transposed: bool,
}

/// Why an axis cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Windows are not on the grid of a SAME convolution.
    Padding {
        /// [before, after] that SAME has here.
        same: [usize; 2],
    },
    /// A pooling window reaches over rows that a smaller padding does not have.
    PoolOverCrop,
    /// Lengths contradict each other: a broken model.
    Length {
        /// What the parameters give.
        computed: usize,
    },
}

/// [before, after] of SAME padding: the odd one after (quantization.md 7.2).
pub fn same_pads(input: usize, kernel: usize, stride: usize) -> [usize; 2] {
    let outputs = input.div_ceil(stride);
    let total = ((outputs.max(1) - 1) * stride + kernel).saturating_sub(input);
    [total / 2, total - total / 2]
}

impl Axis {
    /// A forward convolution. `upper`: the odd padding may also be before (Akida 2.0, stride 2). `valid`: the block
    /// pads not at all if asked to (the HRC).
    pub fn convolution(wanted: &Wanted, upper: bool, valid: bool) -> Result<Axis, Misfit> {
        let Wanted { input, kernel, stride, pads, pool, output } = *wanted;
        if input == 0 || kernel == 0 || stride == 0 || input + pads[0] + pads[1] < kernel {
            return Err(Misfit::Length { computed: 0 });
        }
        let made = (input + pads[0] + pads[1] - kernel) / stride + 1;
        let [low, high] = same_pads(input, kernel, stride);
        let all = input.div_ceil(stride);
        let (pad, conv, skip) = if valid && pads == [0, 0] {
            (0, made, 0)
        } else if pads[0] <= low && (low - pads[0]).is_multiple_of(stride) && (low - pads[0]) / stride + made <= all {
            (low, all, (low - pads[0]) / stride)
        } else if upper && pads[0] == high && made <= all {
            (high, all, 0)
        } else {
            return Err(Misfit::Padding { same: [low, high] });
        };
        let cropped = [skip > 0, skip + made < conv];
        let (pool, first) = match pool {
            PoolAxis::None if output != made => return Err(Misfit::Length { computed: made }),
            PoolAxis::None => (pool, skip),
            PoolAxis::Global if output != 1 => return Err(Misfit::Length { computed: 1 }),
            PoolAxis::Global if cropped != [false; 2] => return Err(Misfit::PoolOverCrop),
            PoolAxis::Global => (pool, 0),
            PoolAxis::Max { size, stride: step, pad: before } => {
                if size == 0 || step == 0 || output == 0 || before >= size || (output - 1) * step >= made + before {
                    return Err(Misfit::Length { computed: made });
                }
                // Windows start at skip - before + step * u in the numbers of the SAME convolution.
                let end = skip + (output - 1) * step + size;
                if (cropped[0] && before > 0) || (cropped[1] && end > skip + made + before) {
                    return Err(Misfit::PoolOverCrop);
                }
                let pad = if before > 0 { before } else { (step - skip % step) % step };
                (PoolAxis::Max { size, stride: step, pad }, if before > 0 { 0 } else { (skip + pad) / step })
            }
        };
        Ok(Axis { input, kernel, stride, pad, conv, pool, first, len: output, transposed: false })
    }

    /// A transposed convolution: `out = stride * (in - 1) + kernel - before - after`, SAME only.
    pub fn transposed(wanted: &Wanted) -> Result<Axis, Misfit> {
        let Wanted { input, kernel, stride, pads, output, .. } = *wanted;
        if input == 0 || kernel == 0 || stride == 0 {
            return Err(Misfit::Length { computed: 0 });
        }
        let made = (stride * (input - 1) + kernel).saturating_sub(pads[0] + pads[1]);
        if made != output {
            return Err(Misfit::Length { computed: made });
        }
        let total = kernel.saturating_sub(stride);
        let same = [total / 2, total - total / 2];
        if pads != same || made != stride * input {
            return Err(Misfit::Padding { same });
        }
        let pool = PoolAxis::None;
        Ok(Axis { input, kernel, stride, pad: pads[0], conv: made, pool, first: 0, len: made, transposed: true })
    }

    /// The only position there is, for dense layers.
    pub fn point() -> Axis {
        let pool = PoolAxis::None;
        Axis { input: 1, kernel: 1, stride: 1, pad: 0, conv: 1, pool, first: 0, len: 1, transposed: false }
    }

    /// Whether less than the whole SAME output is made.
    pub fn is_cropped(&self) -> bool {
        let whole = match self.pool {
            PoolAxis::None => self.conv,
            _ => return self.first > 0,
        };
        self.first > 0 || self.len < whole
    }

    /// Positions of the convolution that `len` outputs from `origin` on (counted from [`first`](Self::first)) need:
    /// [start, end).
    pub fn conv_range(&self, origin: usize, len: usize) -> [usize; 2] {
        let first = self.first + origin;
        match self.pool {
            PoolAxis::None => [first, first + len],
            PoolAxis::Global => [0, self.conv],
            PoolAxis::Max { size, stride, pad } => {
                let start = (first * stride).saturating_sub(pad);
                let end = ((first + len - 1) * stride + size).saturating_sub(pad);
                [start.min(self.conv), end.min(self.conv)]
            }
        }
    }

    /// Input positions, halo included, that `len` outputs from `origin` on need.
    pub fn input_span(&self, origin: usize, len: usize) -> Span {
        let [start, end] = self.conv_range(origin, len);
        let (low, high) = if self.transposed {
            // Output o takes inputs i with stride * i + t = o + pad for a tap t of the kernel.
            let low = (start + self.pad + 1).saturating_sub(self.kernel).div_ceil(self.stride);
            (low, (end - 1 + self.pad) / self.stride + 1)
        } else {
            let low = (start * self.stride).saturating_sub(self.pad);
            (low, ((end - 1) * self.stride + self.kernel).saturating_sub(self.pad))
        };
        let (low, high) = (low.min(self.input), high.min(self.input));
        span(low, high - low)
    }

    /// Output positions as the NP counts them.
    pub fn output_span(&self, origin: usize, len: usize) -> Span {
        span(self.first + origin, len)
    }
}

/// Limits keep every coordinate below 2^16; what does not fit is refused before it gets here.
pub fn span(origin: usize, len: usize) -> Span {
    Span { origin: origin.min(u16::MAX as usize) as u16, len: len.min(u16::MAX as usize) as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every window of the layer as wanted covers the same input positions as the chip's window at the shifted
    /// coordinate, and pooling windows cover the same convolution outputs.
    #[test]
    fn windows_are_those_of_the_wanted_convolution() {
        let (mut mapped, mut refused) = (0, 0);
        for input in 1..12usize {
            for kernel in [1usize, 3, 5, 7] {
                for (stride, before, after) in
                    (1..3).flat_map(|s| (0..4).flat_map(move |b| (0..4).map(move |a| (s, b, a))))
                {
                    if input + before + after < kernel {
                        continue;
                    }
                    let made = (input + before + after - kernel) / stride + 1;
                    let mut pools = vec![(PoolAxis::None, made), (PoolAxis::Global, 1)];
                    for (size, step) in [(2usize, 1usize), (2, 2), (3, 2)] {
                        for pad in 0..2 {
                            let floor = (made + pad).checked_sub(size).map(|n| n / step + 1);
                            let ceil = (made + pad).div_ceil(step);
                            pools.extend(floor.map(|n| (PoolAxis::Max { size, stride: step, pad }, n)));
                            pools.push((PoolAxis::Max { size, stride: step, pad }, ceil));
                        }
                    }
                    for (pool, output) in pools {
                        let wanted = Wanted { input, kernel, stride, pads: [before, after], pool, output };
                        match Axis::convolution(&wanted, true, false) {
                            Ok(axis) => {
                                mapped += 1;
                                check(&wanted, &axis);
                            }
                            Err(_) => refused += 1,
                        }
                    }
                }
            }
        }
        assert!(mapped > 1000 && refused > 1000, "{mapped} {refused}");
    }

    /// Input positions of convolution output `i`, outside the map as None-like -1.
    fn taps(input: usize, kernel: usize, stride: usize, pad: usize, i: usize) -> Vec<isize> {
        (0..kernel)
            .map(|t| (i * stride + t) as isize - pad as isize)
            .map(|p| if p < 0 || p >= input as isize { -1 } else { p })
            .collect()
    }

    fn windows(conv: usize, pool: PoolAxis, u: usize) -> Vec<usize> {
        match pool {
            PoolAxis::None => vec![u],
            PoolAxis::Global => (0..conv).collect(),
            PoolAxis::Max { size, stride, pad } => {
                (u * stride..u * stride + size).filter_map(|p| p.checked_sub(pad)).filter(|&p| p < conv).collect()
            }
        }
    }

    fn check(wanted: &Wanted, axis: &Axis) {
        let made = (wanted.input + wanted.pads[0] + wanted.pads[1] - wanted.kernel) / wanted.stride + 1;
        for u in 0..wanted.output {
            let want: Vec<_> = windows(made, wanted.pool, u)
                .into_iter()
                .map(|i| taps(wanted.input, wanted.kernel, wanted.stride, wanted.pads[0], i))
                .collect();
            let have: Vec<_> = windows(axis.conv, axis.pool, axis.first + u)
                .into_iter()
                .map(|i| taps(axis.input, axis.kernel, axis.stride, axis.pad, i))
                .collect();
            assert_eq!(want, have, "{wanted:?} {axis:?} at {u}");
            let held = axis.input_span(u, 1);
            for p in have.concat().into_iter().filter(|&p| p >= 0) {
                let p = p as usize;
                assert!(
                    (held.origin as usize..(held.origin + held.len) as usize).contains(&p),
                    "{wanted:?} {axis:?} {u}"
                );
            }
        }
    }

    #[test]
    fn transposed_spans_hold_every_tap() {
        for (input, kernel) in [(1usize, 3usize), (4, 3), (5, 4), (9, 4)] {
            let [before, after] = [(kernel - 2) / 2, (kernel - 2).div_ceil(2)];
            let wanted =
                Wanted { input, kernel, stride: 2, pads: [before, after], pool: PoolAxis::None, output: 2 * input };
            let axis = Axis::transposed(&wanted).unwrap();
            for origin in 0..2 * input {
                let held = axis.input_span(origin, 1);
                for i in 0..input {
                    let used = (origin + before).checked_sub(2 * i).is_some_and(|t| t < kernel);
                    let inside = (held.origin as usize..(held.origin + held.len) as usize).contains(&i);
                    assert!(!used || inside, "{input} {kernel} {origin} {i} {held:?}");
                }
            }
        }
    }
}
