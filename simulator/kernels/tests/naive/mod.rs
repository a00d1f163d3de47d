//! The formulas of quantization.md 5 and 6.4 as loops over single elements in 128-bit integers. Shares no code with the
//! crate under test.

use akida_kernels::*;
use proptest::test_runner::TestCaseError;

/// A layer with everything it needs.
#[derive(Debug)]
pub struct Case {
    pub spec: LayerSpec,
    pub weights: Vec<i8>,
    pub pointwise: Vec<i8>,
    pub input: Vec<u8>,
    pub frames: usize,
}

/// Reproducible values; extremes on request.
pub struct Values {
    state: u64,
    extreme: bool,
}

impl Values {
    pub fn new(seed: u64, extreme: bool) -> Self {
        Self { state: seed | 1, extreme }
    }

    fn next(&mut self) -> u64 {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// From `low..=high`, only the two ends when extreme.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        let r = self.next();
        if self.extreme && !r.is_multiple_of(8) {
            return if r & 256 == 0 { low } else { high };
        }
        low + (r % (high - low + 1) as u64) as i64
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.between(0, 255) as u8).collect()
    }

    pub fn case(
        mut self,
        mut spec: LayerSpec,
        weight_bits: u8,
        frames: usize,
        finish: (u8, Arithmetic, u8, bool),
    ) -> Case {
        let [h, w, c] = spec.geometry.input;
        let (low, high) = range(spec.input_bits, spec.input_signed);
        let input = (0..h * w * c).map(|_| self.between(low, high) as u8).collect();
        let taps = spec.geometry.kernel[0] * spec.geometry.kernel[1];
        let filters = spec.tile.filters.len();
        let count = match spec.kind {
            Kind::Standard | Kind::Transposed => filters * taps * c,
            Kind::Depthwise | Kind::DepthwiseTransposed => filters * taps,
            Kind::DepthwiseTemporal => filters * frames,
            Kind::Separable => c * taps,
        };
        let (low, high) = range(weight_bits, weight_bits > 1);
        let weights = (0..count).map(|_| self.between(low, high) as i8).collect();
        let pointwise = if spec.kind == Kind::Separable { filters * c } else { 0 };
        let pointwise = (0..pointwise).map(|_| self.between(low, high) as i8).collect();
        spec.finish = self.finish(filters, finish);
        Case { spec, weights, pointwise, input, frames }
    }

    fn finish(&mut self, filters: usize, (activation, arithmetic, bits, signed): (u8, Arithmetic, u8, bool)) -> Finish {
        let scale = |v: &mut Self| Scale {
            m: v.bytes(filters),
            k: (0..filters)
                .map(|_| if v.next().is_multiple_of(3) { v.between(-31, 32) } else { v.between(0, 20) } as i8)
                .collect(),
        };
        let wide = |v: &mut Self| {
            let span = [3, 200, 5_000, i64::from(i32::MAX)][(v.next() % 4) as usize];
            v.between(-span, span) as i32
        };
        let steps = activation == 5;
        let activation = match activation {
            0 => Activation::None,
            1 | 2 => Activation::Relu,
            3 => Activation::Clipped((0..filters).map(|_| self.between(0, 30_000) as i32).collect()),
            4 => Activation::Lut {
                table: (0..2048).map(|_| self.between(-8192, 8191) as i16).collect(),
                scale: scale(self),
            },
            _ => Activation::Steps(Steps {
                threshold: (0..filters).map(|_| wide(self)).collect(),
                step_16ths: (0..filters)
                    .map(|_| [self.between(0, 64), self.between(0, 1 << 20)][(self.next() % 2) as usize] as u32)
                    .collect(),
            }),
        };
        let bits = if steps { bits.min(4) } else { bits };
        Finish {
            arithmetic,
            bias: if steps || self.next().is_multiple_of(4) {
                Vec::new()
            } else {
                (0..filters).map(|_| wide(self)).collect()
            },
            activation,
            scale: (!steps && bits != 32).then(|| scale(self)),
            output_bits: bits,
            output_signed: signed && !steps,
        }
    }
}

pub fn plain(arithmetic: Arithmetic) -> Finish {
    Finish {
        arithmetic,
        bias: Vec::new(),
        activation: Activation::None,
        scale: None,
        output_bits: 32,
        output_signed: true,
    }
}

/// What a layer makes of a case, given no more than it needs.
pub fn run(case: &Case, kernels: &'static dyn Kernels) -> Result<Vec<i32>, TestCaseError> {
    let weights = Weights { main: &case.weights, pointwise: &case.pointwise };
    let layer = Layer::prepare(case.spec.clone(), weights, kernels)?;
    let [rows, columns] = layer.needed().clone();
    let [_, width, channels] = case.spec.geometry.input;
    let window: Vec<u8> = rows
        .clone()
        .flat_map(|r| columns.clone().map(move |c| (r * width + c) * channels))
        .flat_map(|start| case.input[start..start + channels].iter().copied())
        .collect();
    let view = View::window(&window, rows, columns, channels)?;
    let len = case.spec.tile.len();
    let mut scratch = Scratch::default();
    if case.spec.finish.output_bits == 32 {
        let mut out = vec![7; len];
        layer.run(&view, &mut scratch, Output::Words(&mut out))?;
        Ok(out)
    } else {
        let mut out = vec![7; len];
        layer.run(&view, &mut scratch, Output::Bytes(&mut out))?;
        let signed = case.spec.finish.output_signed;
        let sign = |b: u8| if signed && case.spec.finish.output_bits == 8 { i32::from(b as i8) } else { i32::from(b) };
        // Narrow signed values are stored sign-extended.
        let narrow = |b: u8| if signed { i32::from(b as i8) } else { sign(b) };
        Ok(out.into_iter().map(narrow).collect())
    }
}

fn range(bits: u8, signed: bool) -> (i64, i64) {
    if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// How many output positions a pool can make: every window holds at least one position.
pub fn output_size(pool: &Pool, conv: [usize; 2]) -> [usize; 2] {
    [0, 1].map(|a| match *pool {
        Pool::None => conv[a],
        Pool::Global { .. } => 1,
        Pool::Max { stride, pad, .. } => (0..).take_while(|o| o * stride[a] < conv[a] + pad[a]).count(),
    })
}

/// `floor(a * m / 2^k + 1/2)`, saturating.
pub fn scale(a: i128, m: u8, k: i8, bits: u8, signed: bool, chip: bool) -> i128 {
    let mut p = a * i128::from(m);
    if chip {
        p = p.clamp(i32::MIN.into(), i32::MAX.into());
    }
    let y = if k > 0 { (2 * p + (1 << k)).div_euclid(1 << (k + 1)) } else { p << -k };
    let (low, high) = range(bits, signed);
    y.clamp(low.into(), high.into())
}

pub fn layer(case: &Case) -> Vec<i32> {
    let spec = &case.spec;
    let Geometry { conv, .. } = spec.geometry;
    let mut out = Vec::new();
    for row in spec.tile.rows.clone() {
        for column in spec.tile.columns.clone() {
            for f in 0..spec.tile.filters.len() {
                let sum = |y: usize, x: usize| hold(spec, sum_at(case, y, x, f));
                let y = match spec.pool {
                    Pool::None => emit(spec, activate(spec, sum(row, column), f), f),
                    Pool::Max { size, stride, pad } => {
                        let mut best = i128::MIN;
                        for i in 0..size[0] {
                            for j in 0..size[1] {
                                let y = (row * stride[0] + i).checked_sub(pad[0]).filter(|y| *y < conv[0]);
                                let x = (column * stride[1] + j).checked_sub(pad[1]).filter(|x| *x < conv[1]);
                                if let (Some(y), Some(x)) = (y, x) {
                                    best = best.max(sum(y, x));
                                }
                            }
                        }
                        emit(spec, activate(spec, best, f), f)
                    }
                    Pool::Global { after_activation } => {
                        let positions = (0..conv[0]).flat_map(|y| (0..conv[1]).map(move |x| (y, x)));
                        if after_activation {
                            emit(spec, positions.map(|(y, x)| activate(spec, sum(y, x), f)).sum(), f)
                        } else {
                            // The bias belongs to every position.
                            let total = positions.map(|(y, x)| sum(y, x) + bias(spec, f)).sum::<i128>();
                            emit(spec, activate(spec, total - bias(spec, f), f), f)
                        }
                    }
                };
                out.push(y as i32);
            }
        }
    }
    out
}

fn input_at(case: &Case, y: i64, x: i64, c: usize) -> Option<i128> {
    let [h, w, channels] = case.spec.geometry.input;
    if y < 0 || x < 0 || y >= h as i64 || x >= w as i64 {
        return None;
    }
    Some(value(case, case.input[(y as usize * w + x as usize) * channels + c]))
}

fn value(case: &Case, byte: u8) -> i128 {
    if case.spec.input_signed { i128::from(byte as i8) } else { i128::from(byte) }
}

/// Input under tap (ky, kx) of position (y, x); padding where there is none, nothing between transposed inputs.
fn under(case: &Case, y: usize, x: usize, ky: usize, kx: usize, c: usize) -> i128 {
    let Geometry { stride, pad, .. } = case.spec.geometry;
    let at = |o: usize, k: usize, a: usize| (o * stride[a]) as i64 + k as i64 - pad[a] as i64;
    if matches!(case.spec.kind, Kind::Transposed | Kind::DepthwiseTransposed) {
        let back = |o: usize, k: usize, a: usize| {
            let i = (o + pad[a]) as i64 - k as i64;
            (i % stride[a] as i64 == 0).then_some(i / stride[a] as i64)
        };
        return match (back(y, ky, 0), back(x, kx, 1)) {
            (Some(y), Some(x)) => input_at(case, y, x, c).unwrap_or(0),
            _ => 0,
        };
    }
    input_at(case, at(y, ky, 0), at(x, kx, 1), c)
        .unwrap_or_else(|| case.spec.pad_value.get(c).map_or(0, |&p| value(case, p)))
}

fn sum_at(case: &Case, y: usize, x: usize, f: usize) -> i128 {
    let Geometry { input: [_, _, channels], kernel: [kh, kw], .. } = case.spec.geometry;
    let w = |i: usize| i128::from(case.weights[i]);
    let taps = || (0..kh).flat_map(move |ky| (0..kw).map(move |kx| (ky, kx)));
    let first = case.spec.tile.filters.start;
    match case.spec.kind {
        Kind::Standard | Kind::Transposed => taps()
            .flat_map(|(ky, kx)| (0..channels).map(move |c| (ky, kx, c)))
            .map(|(ky, kx, c)| under(case, y, x, ky, kx, c) * w(((f * kh + ky) * kw + kx) * channels + c))
            .sum(),
        Kind::Depthwise | Kind::DepthwiseTransposed => {
            taps().map(|(ky, kx)| under(case, y, x, ky, kx, first + f) * w((f * kh + ky) * kw + kx)).sum()
        }
        Kind::DepthwiseTemporal => {
            let frame = channels / case.frames;
            (0..case.frames).map(|t| under(case, y, x, 0, 0, t * frame + first + f) * w(f * case.frames + t)).sum()
        }
        Kind::Separable => (0..channels)
            .map(|c| {
                let depthwise: i128 =
                    taps().map(|(ky, kx)| under(case, y, x, ky, kx, c) * w((c * kh + ky) * kw + kx)).sum();
                depthwise * i128::from(case.pointwise[f * channels + c])
            })
            .sum(),
    }
}

fn hold(spec: &LayerSpec, sum: i128) -> i128 {
    match spec.finish.arithmetic {
        Arithmetic::Chip { accumulator_bits: b } => sum.clamp(-(1 << (b - 1)), (1 << (b - 1)) - 1),
        Arithmetic::Graph => sum,
    }
}

fn bias(spec: &LayerSpec, f: usize) -> i128 {
    spec.finish.bias.get(f).map_or(0, |&b| b.into())
}

fn activate(spec: &LayerSpec, sum: i128, f: usize) -> i128 {
    let chip = spec.finish.arithmetic != Arithmetic::Graph;
    let a = sum + bias(spec, f);
    match &spec.finish.activation {
        Activation::None | Activation::Steps(_) => a,
        Activation::Relu => a.max(0),
        Activation::Clipped(max) => a.clamp(0, max[f].into()),
        Activation::Lut { table, scale: s } => {
            let index = scale(a, s.m[f], s.k[f], 11, true, chip);
            table[index.rem_euclid(2048) as usize].into()
        }
    }
}

fn emit(spec: &LayerSpec, a: i128, f: usize) -> i128 {
    let Finish { output_bits: bits, output_signed: signed, .. } = spec.finish;
    let chip = spec.finish.arithmetic != Arithmetic::Graph;
    if let Activation::Steps(steps) = &spec.finish.activation {
        let top = (1 << bits) - 1;
        let above = 16 * (a - i128::from(steps.threshold[f]));
        let interval = i128::from(steps.step_16ths[f]) << (4 - bits);
        if above <= 0 {
            return 0;
        }
        return if interval == 0 { top } else { (above + interval - 1).div_euclid(interval).min(top) };
    }
    match &spec.finish.scale {
        Some(s) => scale(a, s.m[f], s.k[f], bits, signed, chip),
        None => a.clamp(i32::MIN.into(), i32::MAX.into()),
    }
}
