//! The model cut into hardware and host sequences.
//!
//! A hardware sequence is a run of layers with one tensor in and one tensor out, in as many passes as it takes: the board
//! goes from pass to pass by itself, where the host would have to program it anew from sequence to sequence. From the first
//! layer that is not done yet, the longest run that can be built and placed becomes one; a layer with which none begins goes
//! to the host, with the reason. Then [`super::cost`] sends sequences that are not worth their reprogramming to the host.

use akida_hal::mesh::Mesh;
use akida_hal::np::OutputFormat;
use akida_hal::program::{InputKind, OutputKind};

use super::facts::facts;
use super::{
    HardwareOutput, HardwareSequence, HostSequence, HostStep, MapError, MapOptions, Mapping, OutputForm, Reason,
    Remark, Sequence, Sequences, build, cost, encode, limits, passes, ports,
};
use crate::model::{LayerKind, Model, TensorId};

/// Cuts a model that is for this mesh's target.
pub fn cut(model: &Model, mesh: &Mesh, options: &MapOptions) -> Result<Mapping, MapError> {
    let outputs = match options.upto {
        Some(tensor) if tensor > model.layers.len() => {
            return Err(MapError::NoSuchTensor { tensor, count: model.layers.len() + 1 });
        }
        Some(tensor) => vec![tensor],
        None => model.outputs.iter().map(|o| o.tensor).collect(),
    };
    let cutter = Cutter { model, mesh, options, needed: needed(model, &outputs)?, outputs };
    let mut host: Vec<(usize, Reason)> = Vec::new();
    let (mut sequences, mut remarks) = cutter.sequences(&host)?;
    if options.sequences == Sequences::Auto && !options.hw_only {
        while let Some((layers, reason)) = not_worth(&sequences, options.batch) {
            host.extend(layers.into_iter().map(|l| (l, reason.clone())));
            (sequences, remarks) = cutter.sequences(&host)?;
        }
    }
    if cutter.loses_frames(&sequences) {
        let reason = Reason {
            rule: "temporal.reprogrammed",
            limit: "frames are kept on a board that is programmed once".into(),
            value: "the model takes several hardware sequences".into(),
            remedy: "make the model smaller, or its temporal layers the last".into(),
        };
        host.extend(cutter.temporal().map(|l| (l, reason.clone())));
        (sequences, remarks) = cutter.sequences(&host)?;
    }
    Ok(Mapping { mesh: mesh.clone(), sequences, outputs: cutter.outputs, remarks })
}

/// See [`super::prefix`].
pub fn prefix(
    model: &Model,
    mesh: &Mesh,
    options: &MapOptions,
    sequence: &HardwareSequence,
    tensor: TensorId,
) -> Result<Result<HardwareSequence, Reason>, MapError> {
    let ancestors = needed(model, &[tensor])?;
    let piece: Vec<usize> = sequence.layers.iter().copied().filter(|l| ancestors.contains(l)).collect();
    if piece.last().map(|l| l + 1) != Some(tensor) {
        return Err(MapError::NoSuchTensor { tensor, count: model.layers.len() + 1 });
    }
    // A tensor that is only looked at leaves in the form that every tensor has.
    let options = MapOptions { output: OutputForm::Dense, ..options.clone() };
    let cutter = Cutter { model, mesh, options: &options, needed: piece.clone(), outputs: vec![tensor] };
    match cutter.plan(&piece, sequence.input)? {
        Ok(planned) => Ok(Ok(cutter.encode(planned)?.0)),
        Err((_, reason)) => Ok(Err(reason)),
    }
}

/// The layers of the next sequence that is not worth it, and the reason.
fn not_worth(sequences: &[Sequence], batch: usize) -> Option<(Vec<usize>, Reason)> {
    let hardware: Vec<_> = sequences
        .iter()
        .filter_map(|s| match s {
            Sequence::Hardware(h) => Some(&**h),
            Sequence::Host(_) => None,
        })
        .collect();
    let verdict = cost::not_worth(&hardware, batch)?;
    let threshold = verdict.threshold;
    let reason = Reason {
        rule: "host.cost",
        limit: format!("the {threshold} multiply-adds that the host makes while program and tensors are moved"),
        value: format!("{} multiply-adds in a batch of {batch}", verdict.macs),
        remedy: "--sequences all puts them on the board".into(),
    };
    Some((hardware[verdict.index].layers.clone(), reason))
}

/// Layers that the outputs depend on, ascending.
fn needed(model: &Model, outputs: &[TensorId]) -> Result<Vec<usize>, MapError> {
    let mut wanted = vec![false; model.layers.len() + 1];
    for &tensor in outputs {
        *wanted.get_mut(tensor).ok_or(MapError::NoSuchTensor { tensor, count: model.layers.len() + 1 })? = true;
    }
    for (index, layer) in model.layers.iter().enumerate().rev() {
        for &input in &layer.inputs {
            if input > index {
                let what = format!("takes tensor {input}, which is made later");
                return Err(MapError::Model { layer: layer.name.clone(), what });
            }
            wanted[input] |= wanted[index + 1];
        }
    }
    Ok((0..model.layers.len()).filter(|&i| wanted[i + 1]).collect())
}

struct Cutter<'a> {
    model: &'a Model,
    mesh: &'a Mesh,
    options: &'a MapOptions,
    needed: Vec<usize>,
    outputs: Vec<TensorId>,
}

impl Cutter<'_> {
    fn sequences(&self, host: &[(usize, Reason)]) -> Result<(Vec<Sequence>, Vec<Remark>), MapError> {
        let (mut sequences, mut remarks) = (Vec::<Sequence>::new(), Vec::new());
        let mut at = 0;
        while at < self.needed.len() {
            let index = self.needed[at];
            let demoted = host.iter().find(|(l, _)| *l == index).map(|(_, r)| r.clone());
            let outcome = match demoted {
                Some(reason) => Outcome::Host(reason),
                None => self.longest(at, host)?,
            };
            let (steps, taken) = match outcome {
                Outcome::Host(reason) => {
                    self.refuse_if_hw_only(index, &reason)?;
                    (Some((HostStep::Layer(index), reason)), 1)
                }
                Outcome::Hardware { sequence, stopped, remarks: more } => {
                    let taken = sequence.layers.len();
                    if let (true, Some((layer, reason))) = (at + taken < self.needed.len() || at > 0, stopped) {
                        self.refuse_if_hw_only(layer, &reason)?;
                    }
                    remarks.extend(more);
                    let finish = match sequence.output {
                        HardwareOutput::Slices { layer, slices } => {
                            Some((HostStep::Finish { layer, slices }, self.finish_reason(layer, slices)))
                        }
                        HardwareOutput::Tensor(_) => None,
                    };
                    sequences.push(Sequence::Hardware(sequence));
                    (finish, taken)
                }
            };
            if let Some(step) = steps {
                match sequences.last_mut() {
                    Some(Sequence::Host(h)) => h.steps.push(step),
                    _ => sequences.push(Sequence::Host(HostSequence { steps: vec![step] })),
                }
            }
            at += taken;
        }
        let hardware = sequences.iter().filter(|s| matches!(s, Sequence::Hardware(_))).count();
        if self.options.hw_only && (hardware > 1 || sequences.len() > hardware) {
            // A cut without a broken rule behind it: the piece after it has other inputs or outputs.
            let layer = self.needed.last().map_or(String::new(), |&l| self.model.layers[l].name.clone());
            let reason = Reason {
                rule: "sequence.single",
                limit: "one hardware sequence".into(),
                value: format!("{} sequences", sequences.len()),
                remedy: "allow several sequences".into(),
            };
            return Err(MapError::NotOnHardware { layer, reason });
        }
        Ok((sequences, remarks))
    }

    fn temporal(&self) -> impl Iterator<Item = usize> {
        let temporal = |l: &usize| matches!(&self.model.layers[*l].kind, LayerKind::Conv(c) if c.kind.temporal());
        self.needed.iter().copied().filter(temporal)
    }

    /// Whether a reprogramming would clear the frames that temporal layers keep.
    fn loses_frames(&self, sequences: &[Sequence]) -> bool {
        let hardware = |s: &&Sequence| matches!(s, Sequence::Hardware(_));
        let holds = |s: &Sequence| match s {
            Sequence::Hardware(h) => self.temporal().any(|l| h.layers.contains(&l)),
            Sequence::Host(_) => false,
        };
        sequences.iter().filter(hardware).count() > 1 && sequences.iter().any(holds)
    }

    fn refuse_if_hw_only(&self, layer: usize, reason: &Reason) -> Result<(), MapError> {
        match self.options.hw_only {
            true => {
                Err(MapError::NotOnHardware { layer: self.model.layers[layer].name.clone(), reason: reason.clone() })
            }
            false => Ok(()),
        }
    }

    fn finish_reason(&self, layer: usize, slices: usize) -> Reason {
        let inputs = match &self.model.layers[layer].kind {
            LayerKind::Dense(dense) => dense.weights.filter_len(),
            _ => 0,
        };
        Reason {
            rule: "akida2.dense.inputs",
            limit: "at most 2048 inputs".into(),
            value: format!(
                "{inputs} inputs, done in {slices} slices on the board; the host adds them, bias and activation"
            ),
            remedy: "pool or stride more before it".into(),
        }
    }

    /// The only tensor that a piece takes from outside.
    fn single_input(&self, piece: &[usize]) -> Option<TensorId> {
        let mut outside = piece
            .iter()
            .flat_map(|&l| &self.model.layers[l].inputs)
            .copied()
            .filter(|&t| t == 0 || !piece.contains(&(t - 1)));
        let first = outside.next()?;
        outside.all(|t| t == first).then_some(first)
    }

    /// Whether only the last layer's output is used outside.
    fn single_output(&self, piece: &[usize]) -> bool {
        let (last, inner) = (piece[piece.len() - 1], &piece[..piece.len() - 1]);
        let used_outside = |tensor: TensorId| {
            self.outputs.contains(&tensor)
                || self.needed.iter().any(|l| *l > last && self.model.layers[*l].inputs.contains(&tensor))
        };
        inner.iter().all(|&l| !used_outside(l + 1))
    }

    /// The longest hardware sequence from `needed[at]` on. The mesh reconfigures itself, so whatever can be built fits into
    /// some number of passes: the whole rest is tried first, then what is up to the layer that stopped it, then what is before.
    fn longest(&self, at: usize, host: &[(usize, Reason)]) -> Result<Outcome, MapError> {
        let demoted = |l: &usize| host.iter().find(|(h, _)| h == l);
        let mut stopped: Option<(usize, Reason)> = None;
        let mut end = self.needed.len();
        if let Some(until) = self.needed[at..].iter().position(|l| demoted(l).is_some()) {
            end = at + until;
            stopped = demoted(&self.needed[end]).cloned();
        }
        while end > at {
            let piece = &self.needed[at..end];
            let ends = |what| (piece[piece.len() - 1], open_ended(what));
            let refusal = match self.single_input(piece) {
                None => self.own_limit(piece).unwrap_or_else(|| ends("one tensor in")),
                Some(_) if !self.single_output(piece) => ends("one tensor out"),
                Some(input) => match self.plan(piece, input)? {
                    Ok(planned) => {
                        let (sequence, remarks) = self.encode(planned)?;
                        return Ok(Outcome::Hardware { sequence: Box::new(sequence), stopped, remarks });
                    }
                    Err(refusal) => refusal,
                },
            };
            // What stopped it lies in the piece, so the piece becomes shorter. What is refused inside may do at the end: a dense
            // layer whose slices the host adds.
            let with = self.needed.partition_point(|l| *l <= refusal.0);
            let without = self.needed.partition_point(|l| *l < refusal.0);
            end = if with < end { with } else { without.min(end - 1) }.max(at);
            // That branches cross a cut is a consequence of what made the cut.
            if stopped.is_none() || refusal.1.rule != "sequence.ends" {
                stopped = Some(refusal);
            }
        }
        let (_, reason) = stopped.unwrap_or((self.needed[at], open_ended("one tensor out")));
        Ok(Outcome::Host(reason))
    }

    /// What keeps a single layer from the hardware whatever is around it.
    fn own_limit(&self, piece: &[usize]) -> Option<(usize, Reason)> {
        let &[layer] = piece else { return None };
        let facts = facts(self.model, layer, self.options).ok()?;
        limits::check(&facts).err().map(|reason| (layer, reason))
    }

    /// Builds and places a piece.
    fn plan(&self, piece: &[usize], input: TensorId) -> Result<Result<Planned<'_>, build::Refusal>, MapError> {
        let last = piece[piece.len() - 1];
        let built = match build::build(self.model, piece, input, last + 1, self.options)? {
            Ok(built) => built,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let indices: Vec<usize> = built.stages.iter().map(|s| s.index).collect();
        Ok(match passes::plan(built.stages, self.mesh, self.options.mode) {
            Ok(passes) => match self.roads(&passes, input) {
                Ok(roads) => Ok(Planned { layers: piece.to_vec(), input, passes, roads, remarks: built.remarks }),
                Err((first, reason)) => Err((if first { piece[0] } else { last }, reason)),
            },
            Err((stage, reason)) => Err((indices.get(stage).copied().unwrap_or(last), reason)),
        })
    }

    /// How the ends of a sequence are reached; an error says whether it is the first one that cannot be.
    fn roads(&self, passes: &[passes::Planned], input: TensorId) -> Result<(InputKind, OutputKind), (bool, Reason)> {
        let first = passes.first().map_or(&[][..], |p| &p.stages);
        let into =
            ports::input(first, self.model.tensor(input), input != 0, self.options.input).map_err(|r| (true, r))?;
        let last = passes.last().and_then(|p| p.stages.last());
        let out = last.map_or(Ok(OutputKind::Dense), |l| ports::output(l, self.options.output));
        Ok((into, out.map_err(|r| (false, r))?))
    }

    fn encode(&self, planned: Planned) -> Result<(HardwareSequence, Vec<Remark>), MapError> {
        let Planned { layers, input, passes, roads, remarks } = planned;
        let last_layer = layers[layers.len() - 1];
        let (mut plans, mut encoded) = (Vec::new(), Vec::new());
        for (number, pass) in passes.iter().enumerate() {
            // Between passes the board keeps dense tensors.
            let leaves = if number + 1 == passes.len() { self.options.output.format() } else { OutputFormat::Dense };
            let (plan, pass) = encode::pass(self.model, &pass.stages, &pass.seats, self.mesh, leaves)?;
            plans.push(plan);
            encoded.push(pass);
        }
        let (Some(first), Some(last)) = (passes.first(), passes.last().and_then(|p| p.stages.last())) else {
            let layer = self.model.layers[last_layer].name.clone();
            return Err(MapError::Model { layer, what: "makes no hardware layer".into() });
        };
        let program = encode::program(&first.stages, last, encoded, self.model.tensor(input), roads, self.mesh);
        let output = match last.slices {
            1 => HardwareOutput::Tensor(last_layer + 1),
            slices => HardwareOutput::Slices { layer: last_layer, slices },
        };
        Ok((HardwareSequence { layers, input, output, passes: plans, program }, remarks))
    }
}

/// A piece that fits.
struct Planned<'m> {
    layers: Vec<usize>,
    input: TensorId,
    passes: Vec<passes::Planned<'m>>,
    roads: (InputKind, OutputKind),
    remarks: Vec<Remark>,
}

enum Outcome {
    Hardware { sequence: Box<HardwareSequence>, stopped: Option<(usize, Reason)>, remarks: Vec<Remark> },
    Host(Reason),
}

fn open_ended(what: &str) -> Reason {
    Reason {
        rule: "sequence.ends",
        limit: format!("a hardware sequence has {what}"),
        value: "branches cross the cut".into(),
        remedy: "keep both branches on the hardware".into(),
    }
}
