//! How inputs enter a hardware sequence and outputs leave it: dense, or as events of what is not 0 (hardware.md 12).
//!
//! The results are the same. Events are fewer words where most elements are 0; their fields have ranges, and what could leave
//! them is refused here, since a cut-off value would be a wrong one.

use akida_hal::np::{Op, OutputFormat};
use akida_hal::program::{InputKind, OutputKind};

use super::Reason;
use super::geometry::PoolAxis;
use super::stage::{Role, Stage};
use crate::model::{LayerKind, Tensor, Weights};

/// How inputs enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InputRoad {
    /// Dense where the HRC takes them, a layer made them, or events cannot say where they are; else as events.
    #[default]
    Auto,
    /// Every element, through the HRC's DMA.
    Dense,
    /// What is not 0, through the event DMA. The HRC takes none.
    Events,
}

/// How outputs leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputForm {
    /// Every element.
    #[default]
    Dense,
    /// What is not 0.
    Events,
}

impl OutputForm {
    /// As NPs are told.
    pub fn format(self) -> OutputFormat {
        match self {
            OutputForm::Dense => OutputFormat::Dense,
            OutputForm::Events => OutputFormat::Events,
        }
    }
}

/// Rows and columns of an event have 12 bits, channels 11; one position is kept for the dummy event of an empty input.
const SIDE: usize = 1 << 12;
const CHANNELS: usize = 1 << 11;
/// Positions of an FNP event: 18 bits.
const UNITS: usize = 1 << 18;

/// How the input of a sequence enters whose first pass has these stages; `made`: by a layer before it, else it is the model's.
pub fn input(first: &[Stage], tensor: &Tensor, made: bool, road: InputRoad) -> Result<InputKind, Reason> {
    let [height, width, channels] = tensor.shape;
    let events = if height < SIDE && width < SIDE && channels < CHANNELS {
        Some(InputKind::CnpEvents)
    } else if height == 1 && width == 1 && channels < UNITS {
        Some(InputKind::FnpEvents)
    } else {
        None
    };
    let hrc = first.iter().any(Stage::is_hrc);
    match (road, hrc) {
        (InputRoad::Dense, _) | (InputRoad::Auto, true) => Ok(InputKind::Dense),
        // An event is eight bytes: of activations, far more than one in eight is not 0.
        (InputRoad::Auto, false) if made => Ok(InputKind::Dense),
        (InputRoad::Auto, false) => Ok(events.unwrap_or(InputKind::Dense)),
        (InputRoad::Events, true) => Err(Reason {
            rule: "input.events.hrc",
            limit: "events go to NPs, the HRC takes dense images (hardware.md 8)".into(),
            value: format!("the HRC takes {:?}", tensor.name),
            remedy: "let the input enter dense".into(),
        }),
        (InputRoad::Events, false) => events.ok_or_else(|| Reason {
            rule: "input.events.shape",
            limit: format!("events of fewer than {SIDE} rows and columns and {CHANNELS} channels, or 1x1 and {UNITS}"),
            value: format!("input {height}x{width}x{channels}"),
            remedy: "let the input enter dense".into(),
        }),
    }
}

/// How the output of a sequence's last stage leaves.
pub fn output(last: &Stage, form: OutputForm) -> Result<OutputKind, Reason> {
    if form == OutputForm::Dense {
        return Ok(OutputKind::Dense);
    }
    let dense = "let the output leave dense";
    let [height, width, channels] = last.output();
    // Bits of a potential, sign included (hardware.md 12.2).
    let (kind, bits) = match last.op {
        _ if last.is_hrc() => (OutputKind::HrcEvents, 24),
        Op::Dense => (OutputKind::FnpEvents, 26),
        _ => (OutputKind::CnpEvents, 20),
    };
    let fits = match kind {
        OutputKind::FnpEvents => height * width * channels <= UNITS,
        _ => height <= SIDE && width <= SIDE && channels <= CHANNELS,
    };
    if !fits {
        return Err(Reason {
            rule: "output.events.shape",
            limit: format!("events of {SIDE} rows and columns and {CHANNELS} channels, or of {UNITS} units"),
            value: format!("output {height}x{width}x{channels}"),
            remedy: dense.into(),
        });
    }
    if last.output_bits > 8 {
        let most = largest_potential(last);
        if most.is_none_or(|most| most >= 1 << (bits - 1)) {
            return Err(Reason {
                rule: "output.events.range",
                limit: format!("potentials of {bits} bits signed in events"),
                value: match most {
                    Some(most) => format!("the weights of layer {:?} allow {most}", last.layer.name),
                    None => format!("layer {:?} scales or adds to its potentials", last.layer.name),
                },
                remedy: dense.into(),
            });
        }
    }
    Ok(kind)
}

/// The largest magnitude that a potential of an Akida 1.0 layer can have with its actual weights; None for layers that do
/// more than sum products.
fn largest_potential(stage: &Stage) -> Option<u64> {
    if stage.role != Role::Layer || !stage.layer.kind.bias().is_empty() || stage.layer.kind.scale().is_some() {
        return None;
    }
    let input = if stage.input_signed { 1 << (stage.input_bits - 1) } else { (1u64 << stage.input_bits) - 1 };
    let sum = |weights: &Weights, filter: usize| {
        weights.filter(filter).iter().map(|w| u64::from(w.unsigned_abs())).sum::<u64>()
    };
    let most = match &stage.layer.kind {
        LayerKind::Dense(dense) => (0..dense.weights.filters()).map(|u| sum(&dense.weights, u)).max(),
        LayerKind::Conv(conv) => match &conv.pointwise {
            None => (0..conv.weights.filters()).map(|f| sum(&conv.weights, f)).max(),
            Some(pointwise) => {
                let depthwise: Vec<u64> = (0..conv.weights.filters()).map(|c| sum(&conv.weights, c)).collect();
                let of = |f: usize| {
                    let weights = pointwise.filter(f).iter().zip(&depthwise);
                    weights.map(|(w, d)| u64::from(w.unsigned_abs()) * d).sum::<u64>()
                };
                (0..pointwise.filters()).map(of).max()
            }
        },
        LayerKind::Add(_) | LayerKind::Concat => None,
    };
    let summed = match stage.axes[0].pool {
        PoolAxis::Global => (stage.axes[0].conv * stage.axes[1].conv) as u64,
        _ => 1,
    };
    most.map(|most| most.saturating_mul(input).saturating_mul(summed))
}
