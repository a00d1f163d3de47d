//! NPs that hold slices of one layer, taken together: one layer over all rows, columns and filters gives the same integers
//! as its slices, and keeps a processor busier. Nothing but what the NPs hold tells of it: slices are joined where their
//! memories and registers agree on everything they should, and run one after another where they do not.

use akida_kernels::{Activation, Finish, Kind, LayerSpec, Scale, Steps, Tile};

/// What one NP holds, unpacked.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub spec: LayerSpec,
    pub main: Vec<i8>,
    pub pointwise: Vec<i8>,
}

/// The layer that slices make together, which cover a box without meeting; None where they do not fit together.
pub(super) fn join(slices: &[Slice]) -> Option<Slice> {
    let mut groups: Vec<&Slice> = Vec::new();
    for slice in slices {
        let filters = &slice.spec.tile.filters;
        match groups.iter().find(|g| g.spec.tile.filters == *filters) {
            // The same filters at other places.
            Some(group) if same(group, slice) => {}
            Some(_) => return None,
            None => groups.push(slice),
        }
    }
    groups.sort_by_key(|g| g.spec.tile.filters.start);
    let (first, rest) = groups.split_first()?;
    let mut whole = (*first).clone();
    for group in rest {
        let tile = &group.spec.tile;
        if tile.filters.start != whole.spec.tile.filters.end {
            return None;
        }
        whole.spec.tile.filters.end = tile.filters.end;
        whole.spec.finish = finish(whole.spec.finish, &group.spec.finish)?;
        if whole.spec.kind == Kind::Separable {
            // Every NP has the depthwise kernels of all input channels.
            if whole.main != group.main {
                return None;
            }
        } else {
            whole.main.extend_from_slice(&group.main);
        }
        whole.pointwise.extend_from_slice(&group.pointwise);
    }
    let all = |of: fn(&Tile) -> &std::ops::Range<usize>| {
        let ranges = || slices.iter().map(|s| of(&s.spec.tile));
        Some(ranges().map(|r| r.start).min()?..ranges().map(|r| r.end).max()?)
    };
    whole.spec.tile.rows = all(|t| &t.rows)?;
    whole.spec.tile.columns = all(|t| &t.columns)?;
    // Every filter everywhere, once.
    let made: usize = slices.iter().map(|s| s.spec.tile.len()).sum();
    (made == whole.spec.tile.len()).then_some(whole)
}

fn same(a: &Slice, b: &Slice) -> bool {
    a.main == b.main && a.pointwise == b.pointwise && a.spec.finish == b.spec.finish
}

/// Parameters of more filters.
fn finish(a: Finish, b: &Finish) -> Option<Finish> {
    let activation = match (a.activation, &b.activation) {
        (Activation::Clipped(a), Activation::Clipped(b)) => Activation::Clipped(both(a, b)),
        (Activation::Lut { table, scale: a }, Activation::Lut { table: other, scale: b }) if table == *other => {
            Activation::Lut { table, scale: scale(a, b) }
        }
        (Activation::Steps(a), Activation::Steps(b)) => Activation::Steps(Steps {
            threshold: both(a.threshold, &b.threshold),
            step_16ths: both(a.step_16ths, &b.step_16ths),
        }),
        (a @ (Activation::None | Activation::Relu), b) if a == *b => a,
        _ => return None,
    };
    if a.bias.is_empty() != b.bias.is_empty() {
        return None;
    }
    let scale = match (a.scale, &b.scale) {
        (Some(a), Some(b)) => Some(scale(a, b)),
        (None, None) => None,
        _ => return None,
    };
    Some(Finish { bias: both(a.bias, &b.bias), activation, scale, ..a })
}

fn scale(a: Scale, b: &Scale) -> Scale {
    Scale { m: both(a.m, &b.m), k: both(a.k, &b.k) }
}

fn both<T: Clone>(mut a: Vec<T>, b: &[T]) -> Vec<T> {
    a.extend_from_slice(b);
    a
}
