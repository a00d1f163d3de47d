//! A stage cut by filters, rows, columns or inputs so that each part fits one NP.

use akida_hal::mesh::{Mesh, NpTypes, SramSizes};
use akida_hal::np::{Destination, Inbound, NpLayer, Op, OutputFormat, Pool, Source, Span};

use super::geometry::{PoolAxis, span};
use super::stage::Stage;
use super::{Reason, SramUse};

/// Filters of one part: register "filter total" (hardware.md 10).
const MAX_FILTERS: usize = 2048;

/// Rows and columns of the inputs an NP holds: registers "i size cut" and "j size cut" (hardware.md 10).
const MAX_WINDOW: u16 = 2048;

/// One NP's part of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Output rows wanted, counted from the first wanted one.
    pub rows: [usize; 2],
    /// Output columns.
    pub columns: [usize; 2],
    /// Filters, of the slice.
    pub filters: [usize; 2],
    /// Which slice of a dense layer.
    pub slice: usize,
    /// Inputs of a dense layer.
    pub inputs: [usize; 2],
    /// What an NP must be able to do: FNP2 or FNP3 for dense layers.
    pub needs: NpTypes,
}

/// How a stage is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// On the HRC, in one piece.
    Hrc,
    /// Into filters x rows x columns.
    Grid {
        /// Parts along the filters.
        filters: usize,
        /// Parts along the output rows.
        rows: usize,
        /// Parts along the output columns.
        columns: usize,
    },
    /// Dense: for each slice its inputs and into how many parts its units are cut; 0: one FNP2.
    Dense(Vec<DenseSlice>),
}

/// One slice of a dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenseSlice {
    /// [first, count].
    pub inputs: [usize; 2],
    /// FNP3s its units are spread over, 0: one FNP2 holds them all.
    pub fnp3: usize,
}

impl Cut {
    /// NPs that are not the HRC.
    pub fn nps(&self) -> usize {
        match self {
            Cut::Hrc => 0,
            Cut::Grid { filters, rows, columns } => filters * rows * columns,
            Cut::Dense(slices) => slices.iter().map(|s| s.fnp3.max(1)).sum(),
        }
    }

    /// FNP2s and FNP3s of a dense stage.
    pub fn fnps(&self) -> [usize; 2] {
        match self {
            Cut::Dense(slices) => [slices.iter().filter(|s| s.fnp3 == 0).count(), slices.iter().map(|s| s.fnp3).sum()],
            _ => [0, 0],
        }
    }

    /// The parts, in the order slice, filters, rows, columns.
    pub fn parts(&self, stage: &Stage) -> Vec<Part> {
        let [all_rows, all_columns, _] = stage.output();
        let whole = Part {
            rows: [0, all_rows],
            columns: [0, all_columns],
            filters: [0, stage.filters],
            slice: 0,
            inputs: [0, 0],
            needs: stage.needs,
        };
        match self {
            Cut::Hrc => vec![whole],
            Cut::Grid { filters, rows, columns } => {
                let mut parts = Vec::with_capacity(self.nps());
                for f in shares(stage.filters, *filters) {
                    for r in shares(all_rows, *rows) {
                        for c in shares(all_columns, *columns) {
                            parts.push(Part { rows: r, columns: c, filters: f, ..whole });
                        }
                    }
                }
                parts
            }
            Cut::Dense(slices) => {
                let mut parts = Vec::new();
                for (slice, s) in slices.iter().enumerate() {
                    let needs = if s.fnp3 == 0 { NpTypes::FNP2 } else { NpTypes::FNP3 };
                    for filters in shares(stage.filters, s.fnp3.max(1)) {
                        parts.push(Part { filters, slice, inputs: s.inputs, needs, ..whole });
                    }
                }
                parts
            }
        }
    }
}

/// `total` in `parts` shares as equal as can be: [first, count].
pub fn shares(total: usize, parts: usize) -> impl Iterator<Item = [usize; 2]> {
    let parts = parts.max(1);
    (0..parts).map(move |i| {
        let (start, end) = (total * i / parts, total * (i + 1) / parts);
        [start, end - start]
    })
}

/// The NP configuration of a part; ids and external register are filled in by the encoder.
pub fn np_layer(stage: &Stage, part: &Part) -> NpLayer {
    let [rows, columns] = &stage.axes;
    let dense = stage.op == Op::Dense;
    let u8s = |v: [usize; 2]| v.map(|n| n.min(255) as u8);
    let u16s = |v: usize| v.min(u16::MAX as usize) as u16;
    let pool = match (rows.pool, columns.pool) {
        (PoolAxis::Max { size: h, stride: sh, pad: ph }, PoolAxis::Max { size: w, stride: sw, pad: pw }) => {
            Pool::Max { size: u8s([h, w]), stride: u8s([sh, sw]), pad: u8s([ph, pw]) }
        }
        (PoolAxis::Global, _) => Pool::Global,
        _ => Pool::None,
    };
    let (in_rows, in_columns) = if dense || stage.is_hrc() {
        (span(0, stage.input[0]), span(0, stage.input[1]))
    } else {
        (rows.input_span(part.rows[0], part.rows[1]), columns.input_span(part.columns[0], part.columns[1]))
    };
    NpLayer {
        layer: 1,
        inbound: match stage.inbound {
            super::stage::Inbound::One(_) => Inbound::One(Source::Input),
            super::stage::Inbound::Add(..) => Inbound::Add(Source::Input, Source::Input),
            super::stage::Inbound::Concat(..) => Inbound::Concat(Source::Input, Source::Input),
        },
        destination: Destination::Output(OutputFormat::Dense),
        op: stage.op,
        input: stage.input.map(u16s),
        input_bits: stage.input_bits,
        input_signed: stage.input_signed,
        in_rows,
        in_columns,
        inputs: span(part.inputs[0], part.inputs[1]),
        kernel: u8s(stage.kernel),
        stride: u8s([rows.stride, columns.stride]),
        pad: u8s([rows.pad, columns.pad]),
        pad_value: [0; 3],
        conv: [u16s(rows.conv), u16s(columns.conv)],
        pool,
        out_rows: rows.output_span(part.rows[0], part.rows[1]),
        out_columns: columns.output_span(part.columns[0], part.columns[1]),
        crop: [u16s(rows.first), u16s(columns.first)],
        filters: span(part.slice * stage.filters + part.filters[0], part.filters[1]),
        fifo: stage.fifo.min(255) as u8,
        weight_bits: stage.weight_bits,
        pointwise_bits: stage.pointwise_bits,
        external: (part.needs == NpTypes::FNP2).then_some(0),
        activation: stage.activation,
        output_bits: stage.output_bits,
        output_signed: stage.output_signed,
        accumulator_bits: stage.accumulator_bits,
    }
}

/// Bytes that a configured part takes.
pub fn sram_use(layer: &NpLayer, hrc: bool, generation: u8) -> SramUse {
    let lut = if layer.activation == akida_hal::np::Activation::Lut { akida_hal::np::sram::LUT_WORDS * 4 } else { 0 };
    let bytes = |n: usize| n.min(u32::MAX as usize) as u32;
    if hrc {
        return SramUse { filter: bytes(layer.hrc_words(generation) * 4), ..SramUse::default() };
    }
    let external =
        if layer.external.is_some() { (layer.filter_words() + layer.parameter_words(generation)) * 4 } else { 0 };
    SramUse {
        packet: bytes(layer.packet_bytes()),
        filter: bytes(layer.filter_bytes()),
        parameter: bytes(layer.parameter_bytes(generation)),
        lut: bytes(lut),
        external: bytes(external),
    }
}

fn over(rule: &'static str, what: &str, limit: u32, value: u32, stage: &Stage, remedy: &str) -> Reason {
    Reason {
        rule,
        limit: format!("{limit} bytes of {what}"),
        value: format!(
            "the smallest part of layer {:?} takes {value}, {} too many",
            stage.layer.name,
            value.saturating_sub(limit)
        ),
        remedy: remedy.into(),
    }
}

/// Why a part does not fit.
fn misfit(stage: &Stage, part: &Part, sram: &SramSizes, generation: u8) -> Option<Reason> {
    let layer = np_layer(stage, part);
    if !window_fits(&layer) {
        return Some(Reason {
            rule: "mesh.window",
            limit: format!("{MAX_WINDOW} rows and columns of inputs in one NP (register fields)"),
            value: format!(
                "the smallest part of layer {:?} takes {}x{}",
                stage.layer.name, layer.in_rows.len, layer.in_columns.len
            ),
            remedy: "make the map smaller, or leave the layer on the host".into(),
        });
    }
    let used = sram_use(&layer, stage.is_hrc(), generation);
    let smaller = "use smaller maps, or leave the layer on the host";
    if stage.is_hrc() {
        return (used.filter > sram.hrc)
            .then(|| over("mesh.sram.hrc", "HRC SRAM", sram.hrc, used.filter, stage, "use fewer filters"));
    }
    if used.packet > sram.packet {
        return Some(over("mesh.sram.packet", "packet SRAM", sram.packet, used.packet, stage, smaller));
    }
    if used.filter > sram.filter {
        return Some(over(
            "mesh.sram.filter",
            "filter SRAM",
            sram.filter,
            used.filter,
            stage,
            "use smaller kernels or fewer channels",
        ));
    }
    if used.parameter > sram.parameter {
        return Some(over("mesh.sram.parameter", "parameter SRAM", sram.parameter, used.parameter, stage, smaller));
    }
    (used.lut > sram.lut).then(|| over("mesh.sram.lut", "look-up table SRAM", sram.lut, used.lut, stage, "use a ReLU"))
}

fn window_fits(layer: &NpLayer) -> bool {
    layer.in_rows.len <= MAX_WINDOW && layer.in_columns.len <= MAX_WINDOW
}

fn fits(stage: &Stage, cut: &Cut, sram: &SramSizes, generation: u8) -> bool {
    cut.parts(stage).iter().all(|p| misfit(stage, p, sram, generation).is_none())
}

/// The smallest cut of a stage that is not dense.
pub fn minimal(stage: &Stage, mesh: &Mesh) -> Result<Cut, Reason> {
    let (sram, generation) = (&mesh.sram, mesh.version.generation());
    let smallest = |cut: &Cut| -> Reason {
        let parts = cut.parts(stage);
        parts.iter().find_map(|p| misfit(stage, p, sram, generation)).unwrap_or_else(|| {
            over("mesh.sram.packet", "packet SRAM", sram.packet, sram.packet, stage, "leave the layer on the host")
        })
    };
    if stage.is_hrc() {
        return if fits(stage, &Cut::Hrc, sram, generation) { Ok(Cut::Hrc) } else { Err(smallest(&Cut::Hrc)) };
    }
    let whole = Cut::Hrc.parts(stage)[0];
    // Weights and parameters depend on filters only, the tile on rows and columns only.
    let weights_fit = |parts: usize| {
        stage.filters.div_ceil(parts) <= MAX_FILTERS
            && shares(stage.filters, parts).all(|filters| {
                let used = sram_use(&np_layer(stage, &Part { filters, ..whole }), false, generation);
                used.filter <= sram.filter && used.parameter <= sram.parameter
            })
    };
    let [rows, columns, _] = stage.output();
    let Some(filters) = (1..=stage.filters).find(|&parts| weights_fit(parts)) else {
        return Err(smallest(&Cut::Grid { filters: stage.filters, rows, columns }));
    };
    let mut best: Option<(usize, usize)> = None;
    for c in 1..=columns {
        let tile_fits = |r: usize| {
            shares(rows, r).all(|rows| {
                shares(columns, c).all(|columns| {
                    let layer = np_layer(stage, &Part { rows, columns, filters: [0, 1], ..whole });
                    window_fits(&layer) && sram_use(&layer, false, generation).packet <= sram.packet
                })
            })
        };
        // Only fewer parts than the best has are of use. One by one, as above: few are the rule, and the first tells that all are too large.
        let most = best.map_or(rows, |(r, k)| rows.min((r * k - 1) / c));
        if most == 0 {
            break;
        }
        best = (1..=most).find(|&r| tile_fits(r)).map(|r| (r, c)).or(best);
    }
    match best {
        Some((rows, columns)) => {
            let cut = Cut::Grid { filters, rows, columns };
            if fits(stage, &cut, sram, generation) { Ok(cut) } else { Err(smallest(&cut)) }
        }
        None => Err(smallest(&Cut::Grid { filters: stage.filters, rows, columns })),
    }
}

/// The smallest n in 1..=most that satisfies a condition which stays satisfied.
fn first_that(most: usize, holds: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (1, most.max(1));
    if !holds(high) {
        return None;
    }
    while low < high {
        let middle = (low + high) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    Some(high)
}

/// Units of a slice with `inputs` inputs that one FNP3 holds.
fn units_per_fnp3(stage: &Stage, inputs: usize, mesh: &Mesh) -> usize {
    let holds = |units: usize| {
        let part = Part { filters: [0, units], inputs: [0, inputs], needs: NpTypes::FNP3, ..Cut::Hrc.parts(stage)[0] };
        misfit(stage, &part, &mesh.sram, mesh.version.generation()).is_none()
    };
    // Largest n: one less than the first that does not fit.
    first_that(stage.filters + 1, |n| n > stage.filters || !holds(n)).map_or(0, |n| n - 1)
}

/// Cuts a dense stage for `fnp2` FNP2s and as many FNP3s as it takes: None when a single unit does not fit an FNP3.
pub fn dense(stage: &Stage, mesh: &Mesh, fnp2: usize, most_inputs: usize) -> Option<Cut> {
    let total: usize = stage.input.iter().product();
    let mut slices = Vec::new();
    let mut first = 0;
    if fnp2 > 0 && fnp2 * most_inputs >= total {
        slices.extend(shares(total, fnp2).map(|inputs| DenseSlice { inputs, fnp3: 0 }));
        first = total;
    } else {
        for _ in 0..fnp2 {
            slices.push(DenseSlice { inputs: [first, most_inputs], fnp3: 0 });
            first += most_inputs;
        }
    }
    let rest = total - first;
    if rest > 0 {
        for [start, inputs] in shares(rest, rest.div_ceil(most_inputs)) {
            let units = units_per_fnp3(stage, inputs, mesh);
            if units == 0 {
                return None;
            }
            slices.push(DenseSlice { inputs: [first + start, inputs], fnp3: stage.filters.div_ceil(units) });
        }
    }
    let packet_fits = slices.iter().filter(|s| s.fnp3 == 0).all(|s| {
        let part = Part { inputs: s.inputs, needs: NpTypes::FNP2, ..Cut::Hrc.parts(stage)[0] };
        misfit(stage, &part, &mesh.sram, mesh.version.generation()).is_none()
    });
    packet_fits.then_some(Cut::Dense(slices))
}

/// Multiply-adds of a part, per sample.
pub fn macs(stage: &Stage, part: &Part) -> u64 {
    stage.macs(part.filters[1], [part.rows[1], part.columns[1]], part.inputs[1])
}

/// Multiply-adds of the part with the most of them: what a layer takes when its NPs work side by side.
pub fn load(stage: &Stage, cut: &Cut) -> u64 {
    cut.parts(stage).iter().map(|part| macs(stage, part)).max().unwrap_or(0)
}

/// The next number of shares above `parts` whose largest share is smaller.
fn next_useful(total: usize, parts: usize) -> usize {
    let largest = total.div_ceil(parts.max(1));
    if largest > 1 { total.div_ceil(largest - 1) } else { parts + 1 }
}

/// A cut into more parts that leaves less to the NP with the most work: along filters while parts keep several, or along
/// rows, whichever leaves less.
pub fn finer(stage: &Stage, cut: &Cut, spare: usize, spare_fnp3: usize) -> Option<Cut> {
    match cut {
        Cut::Hrc => None,
        Cut::Grid { filters, rows, columns } => {
            let [all_rows, ..] = stage.output();
            let (more_filters, more_rows) = (next_useful(stage.filters, *filters), next_useful(all_rows, *rows));
            let by_filters = Cut::Grid { filters: more_filters, rows: *rows, columns: *columns };
            let by_rows = Cut::Grid { filters: *filters, rows: more_rows, columns: *columns };
            let splittable = stage.axes[0].pool != PoolAxis::Global;
            let now = load(stage, cut);
            [(stage.filters >= more_filters * 8, by_filters), (splittable && all_rows >= more_rows * 2, by_rows)]
                .into_iter()
                .filter(|(useful, finer)| *useful && finer.nps() - cut.nps() <= spare)
                .map(|(_, finer)| (load(stage, &finer), finer))
                .filter(|(load, _)| *load < now)
                .min_by_key(|(load, _)| *load)
                .map(|(_, finer)| finer)
        }
        Cut::Dense(slices) => {
            if spare == 0 || spare_fnp3 == 0 {
                return None;
            }
            let widest = slices
                .iter()
                .enumerate()
                .filter(|(_, s)| s.fnp3 > 0 && stage.filters >= (s.fnp3 + 1) * 8)
                .max_by_key(|(i, s)| (s.inputs[1] * stage.filters / s.fnp3, usize::MAX - i))?
                .0;
            let mut slices = slices.clone();
            slices[widest].fnp3 += 1;
            Some(Cut::Dense(slices))
        }
    }
}

/// Where a span ends.
pub fn end(s: Span) -> usize {
    s.origin as usize + s.len as usize
}
