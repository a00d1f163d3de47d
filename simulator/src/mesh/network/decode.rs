//! From registers to layers: who takes part, who belongs together, who feeds whom.

use std::collections::BTreeMap;
use std::sync::Mutex;

use akida_hal::mesh::{NpAddress, NpTypes};
use akida_hal::np::{Destination, Inbound, NpLayer, Op, Source, Span};
use akida_kernels::{Fifo, Tile};

use super::super::{Mesh, MeshError, OutputSource, Port};
use super::prepare::Memories;
use super::{From, LayerPlan, Merge, Network, Work, prepare, rules};

/// One NP (or the HRC) and what its registers say.
#[derive(Clone, Debug)]
pub(super) struct Configured<'a> {
    pub(super) np: NpAddress,
    pub(super) types: NpTypes,
    pub(super) layer: NpLayer,
    pub(super) memories: Memories<'a>,
}

/// A problem of a whole layer.
pub(super) fn problem<T>(layer: u8, what: impl Into<String>) -> Result<T, MeshError> {
    Err(MeshError::Layer { layer, what: what.into() })
}

impl Network {
    /// Decodes, checks and prepares. `positive`: what it will be given is never negative.
    pub(in super::super) fn decode(mesh: &Mesh, positive: bool) -> Result<Self, MeshError> {
        let generation = mesh.topology.version.generation();
        let mut groups: BTreeMap<u8, Vec<Configured<'_>>> = BTreeMap::new();
        for configured in configured(mesh)? {
            rules::check(&configured, generation)?;
            groups.entry(configured.layer.layer).or_default().push(configured);
        }
        if groups.is_empty() {
            return Err(MeshError::NothingConfigured);
        }
        let ids: Vec<u8> = groups.keys().copied().collect();
        let mut layers: Vec<LayerPlan> = Vec::with_capacity(groups.len());
        let mut input: Option<(u8, Port)> = None;
        for parts in groups.values() {
            let plan = plan(parts, generation, &ids, (&layers, positive), &mut input)?;
            layers.push(plan);
        }
        let Some((_, input)) = input else { return problem(ids[0], "no layer takes the job's input") };
        let mut outputs = groups.values().enumerate().filter_map(|(index, parts)| match parts[0].layer.destination {
            Destination::Output(format) => Some((index, format, source_of(&parts[0]))),
            Destination::Layer(_) => None,
        });
        let Some((output_layer, format, source)) = outputs.next() else {
            return problem(ids[ids.len() - 1], "no layer sends to the output DMA");
        };
        if let Some((second, ..)) = outputs.next() {
            return problem(ids[second], format!("layer {} already sends to the output DMA", ids[output_layer]));
        }
        check_destinations(&groups)?;
        let slots = slots(&layers, output_layer);
        Ok(Self { input, positive, layers, slots, output_layer, format, source, spare: mesh.workspaces.clone() })
    }
}

fn source_of(configured: &Configured<'_>) -> OutputSource {
    match (configured.np, configured.layer.op) {
        (NpAddress::HRC, _) => OutputSource::Hrc,
        (_, Op::Dense) => OutputSource::Fnp,
        _ => OutputSource::Cnp,
    }
}

fn configured(mesh: &Mesh) -> Result<Vec<Configured<'_>>, MeshError> {
    let decode = |np, registers| NpLayer::from_registers(registers).map_err(|source| MeshError::Np { np, source });
    let mut all = Vec::new();
    if let Some(layer) = decode(NpAddress::HRC, &mesh.hrc_registers)? {
        let memories = Memories::Hrc(&mesh.hrc_memory);
        all.push(Configured { np: NpAddress::HRC, types: NpTypes::empty(), layer, memories });
    }
    for np in &mesh.nps {
        if let Some(layer) = decode(np.address, &np.registers)? {
            all.push(Configured { np: np.address, types: np.types, layer, memories: Memories::Np(np) });
        }
    }
    Ok(all)
}

/// A layer without what its NPs may differ in.
fn common(layer: &NpLayer) -> NpLayer {
    let none = Span { origin: 0, len: 0 };
    NpLayer {
        in_rows: none,
        in_columns: none,
        inputs: none,
        out_rows: none,
        out_columns: none,
        filters: none,
        external: None,
        ..layer.clone()
    }
}

pub(super) fn range(span: Span) -> std::ops::Range<usize> {
    let start = usize::from(span.origin);
    start..start + usize::from(span.len)
}

pub(super) fn tile(layer: &NpLayer) -> Tile {
    Tile { rows: range(layer.out_rows), columns: range(layer.out_columns), filters: range(layer.filters) }
}

fn plan(
    parts: &[Configured<'_>],
    generation: u8,
    ids: &[u8],
    (before, positive): (&[LayerPlan], bool),
    input: &mut Option<(u8, Port)>,
) -> Result<LayerPlan, MeshError> {
    let first = &parts[0];
    let NpLayer { layer: id, crop, .. } = first.layer;
    if let Some(other) = parts.iter().find(|p| common(&p.layer) != common(&first.layer)) {
        return problem(id, format!("{} and {} do not describe the same layer", first.np, other.np));
    }
    if parts.len() > 1 && first.np == NpAddress::HRC {
        return problem(id, format!("the HRC and {} have the same layer id", parts[1].np));
    }
    let crop = crop.map(usize::from);
    let output =
        Port { shape: whole(id, parts, crop)?, bits: first.layer.output_bits, signed: first.layer.output_signed };

    let from = |source: Source, input: &mut Option<(u8, Port)>, channels: usize| -> Result<(From, usize), MeshError> {
        let wanted = Port {
            shape: first.layer.input.map(usize::from),
            bits: first.layer.input_bits,
            signed: first.layer.input_signed,
        };
        let (from, port) = match source {
            Source::Input => {
                let own = Port { shape: [wanted.shape[0], wanted.shape[1], channels], ..wanted };
                let (other, port) = *input.get_or_insert((id, own));
                if port != own {
                    return problem(id, format!("takes another job input ({own}) than layer {other} ({port})"));
                }
                (From::Input, port)
            }
            Source::Layer(source) => match ids.iter().position(|&i| i == source) {
                Some(index) if index < before.len() => (From::Layer(index), before[index].output),
                Some(_) => return problem(id, format!("takes from layer {source}, which runs later")),
                None => return problem(id, format!("takes from layer {source}, which no NP has")),
            },
        };
        if (port.bits, port.signed) != (wanted.bits, wanted.signed) {
            return problem(id, format!("takes {wanted} and is sent {port}"));
        }
        Ok((from, port.shape[2]))
    };
    let channels = usize::from(first.layer.input[2]);
    let (inbound, sent) = match first.layer.inbound {
        Inbound::One(a) => {
            let (a, sent) = from(a, input, channels)?;
            (Merge::One(a), sent)
        }
        Inbound::Add(a, b) => {
            let (a, sent) = from(a, input, channels)?;
            let (b, other) = from(b, input, channels)?;
            if other != sent {
                return problem(id, format!("adds {sent} channels to {other}"));
            }
            (Merge::Add(a, b, Box::new(prepare::add(parts)?)), sent)
        }
        Inbound::Concat(a, b) => {
            if a == Source::Input || b == Source::Input {
                return problem(id, "concatenates the job's input, whose channels nobody tells");
            }
            let ((a, first), (b, second)) = (from(a, input, channels)?, from(b, input, channels)?);
            (Merge::Concat(a, b), first + second)
        }
    };
    if sent != channels {
        return problem(id, format!("takes {channels} channels and is sent {sent}"));
    }
    let shape = first.layer.input.map(usize::from);
    let frames = usize::from(first.layer.fifo);
    // Sums and shifts of what is never negative are not either.
    let positive = inbound.sources().all(|from| match from {
        From::Input => positive,
        From::Layer(index) => before[index].positive,
    });
    let parts = prepare::parts(parts, generation, positive)?;
    let fifo = (frames > 0).then(|| Mutex::new(Fifo::new(frames, shape)));
    let positive = parts.iter().all(|part| match &part.work {
        Work::Map(layer) | Work::Dense(_, layer) => layer.never_negative(),
        Work::Pass => positive,
        Work::External(_) => false,
    });
    Ok(LayerPlan { id, inbound, input: shape, fifo, output, positive, crop, parts })
}

/// The output all NPs of a layer make together: the box around their tiles, each element of it made once.
fn whole(id: u8, parts: &[Configured<'_>], crop: [usize; 2]) -> Result<[usize; 3], MeshError> {
    let tiles: Vec<Tile> = parts.iter().map(|p| tile(&p.layer)).collect();
    for (i, a) in tiles.iter().enumerate() {
        for (j, b) in tiles.iter().enumerate().skip(i + 1) {
            let meet = |a: &std::ops::Range<usize>, b: &std::ops::Range<usize>| a.start < b.end && b.start < a.end;
            if meet(&a.rows, &b.rows) && meet(&a.columns, &b.columns) && meet(&a.filters, &b.filters) {
                return problem(id, format!("{} and {} make the same outputs", parts[i].np, parts[j].np));
            }
        }
    }
    let end = |of: fn(&Tile) -> usize| tiles.iter().map(of).max().unwrap_or(0);
    let ends = [end(|t| t.rows.end), end(|t| t.columns.end), end(|t| t.filters.end)];
    // The registers say that no tile starts before the crop.
    let shape = [ends[0] - crop[0], ends[1] - crop[1], ends[2]];
    let made: usize = tiles.iter().map(Tile::len).sum();
    let expected: usize = shape.iter().product();
    if made != expected {
        return problem(id, format!("its NPs make {made} of {expected} outputs ({shape:?})"));
    }
    Ok(shape)
}

/// Whoever is named as destination must take what is sent.
fn check_destinations(groups: &BTreeMap<u8, Vec<Configured<'_>>>) -> Result<(), MeshError> {
    for (&id, parts) in groups {
        let Destination::Layer(to) = parts[0].layer.destination else { continue };
        let takes = groups.get(&to).is_some_and(|parts| {
            let source = Source::Layer(id);
            match parts[0].layer.inbound {
                Inbound::One(a) => a == source,
                Inbound::Add(a, b) | Inbound::Concat(a, b) => a == source || b == source,
            }
        });
        if !takes {
            return problem(id, format!("sends to layer {to}, which does not take it"));
        }
    }
    Ok(())
}

/// Which buffer holds each layer's output: those whose readers are over are used again, the last one first, so that tensors stay in the
/// processor's caches.
fn slots(layers: &[LayerPlan], output_layer: usize) -> Vec<usize> {
    let mut last: Vec<usize> = (0..layers.len()).collect();
    for (index, layer) in layers.iter().enumerate() {
        for from in layer.inbound.sources() {
            if let From::Layer(made) = from {
                last[made] = last[made].max(index);
            }
        }
    }
    last[output_layer] = layers.len();
    let (mut slots, mut free, mut count) = (Vec::with_capacity(layers.len()), Vec::new(), 0);
    for index in 0..layers.len() {
        let slot = free.pop().unwrap_or_else(|| {
            count += 1;
            count - 1
        });
        slots.push(slot);
        free.extend((0..=index).filter(|&made| last[made] == index).map(|made| slots[made]));
    }
    slots
}
