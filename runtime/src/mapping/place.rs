//! Which NP holds which part. Deterministic: counts first (the scarce types before the common one), then addresses in
//! order, so that the same stages always land on the same NPs.

use akida_hal::mesh::{Mesh, NpAddress, NpTypes};
use akida_hal::np::{MAX_LAYER, Op};

use super::limits::{DENSE_INPUTS_1, DENSE_INPUTS_2};
use super::split::{self, Cut, Part};
use super::stage::{Feed, Stage};
use super::{Mode, Reason};

/// Units of a layer: register "FNP neuron total" as used by `akida_hal::np`.
const MAX_UNITS: usize = 0xFFFF;

/// A part on an NP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Index of the stage.
    pub stage: usize,
    /// Its part.
    pub part: Part,
    /// Where; the HRC for the stage on it.
    pub np: NpAddress,
    /// As what the NP is configured.
    pub kind: NpTypes,
}

fn short(rule: &'static str, what: &str, have: usize, need: usize) -> Reason {
    Reason {
        rule,
        limit: format!("{have} {what} on this mesh"),
        value: format!("{need} are needed, {} too many", need.saturating_sub(have)),
        remedy: "the layers are cut into several sequences or passes; a larger mesh holds more".into(),
    }
}

/// Cuts and seats all stages of one pass, or says what the mesh is short of. The number of slices of a dense stage is
/// settled here.
pub fn place(stages: &mut [Stage], mesh: &Mesh, mode: Mode) -> Result<Vec<Seat>, Reason> {
    if stages.len() > MAX_LAYER as usize {
        return Err(short("mesh.layers", "layer ids", MAX_LAYER.into(), stages.len()));
    }
    if let Some(hrc) = stages.iter().position(Stage::is_hrc) {
        if !mesh.hrc {
            return Err(short("mesh.hrc", "HRC", 0, 1));
        }
        let others = |(i, s): (usize, &Stage)| i != hrc && s.inbound.feeds().any(|f| f == Feed::Input);
        if let Some((i, _)) = stages.iter().enumerate().find(|(i, s)| others((*i, s))) {
            return Err(Reason {
                rule: "hrc.only",
                limit: "what the HRC takes in goes nowhere else".into(),
                value: format!("layer {:?} takes the input too", stages[i].layer.name),
                remedy: "start both branches behind one first layer".into(),
            });
        }
    }
    skips(stages, mesh)?;
    let mut cuts = cut(stages, mesh, mode)?;
    if mode != Mode::Minimal {
        refine(stages, &mut cuts, mesh);
    }
    for (stage, cut) in stages.iter_mut().zip(&cuts) {
        if let Cut::Dense(slices) = cut {
            stage.slices = slices.len();
            if stage.slices * stage.filters > MAX_UNITS {
                return Err(short(
                    "mesh.units",
                    "units in one layer, slices included",
                    MAX_UNITS,
                    stage.slices * stage.filters,
                ));
            }
        }
    }
    seat(stages, &cuts, mesh)
}

/// Merges need a skip channel from where the older tensor is made until it is merged (targets.md 2.5).
fn skips(stages: &[Stage], mesh: &Mesh) -> Result<(), Reason> {
    let position = |feed: Feed| match feed {
        Feed::Input => 0,
        Feed::Stage(n) => n + 1,
    };
    let spans: Vec<[usize; 2]> = stages
        .iter()
        .enumerate()
        .filter(|(_, s)| s.inbound.feeds().count() == 2)
        .map(|(i, s)| [s.inbound.feeds().map(position).min().unwrap_or(0), i + 1])
        .collect();
    // Two consumers of one sum share its channel: spans with the same origin count once.
    let alive = |at: usize| {
        let mut origins: Vec<_> = spans.iter().filter(|[a, b]| *a < at && at <= *b).map(|[a, _]| *a).collect();
        origins.dedup();
        origins.len()
    };
    let most = (1..=stages.len()).map(alive).max().unwrap_or(0);
    if most > mesh.skip_channels as usize {
        return Err(short("mesh.skip_channels", "skip DMA channels", mesh.skip_channels.into(), most));
    }
    Ok(())
}

/// NPs by type, without double use.
struct Counts {
    /// All NPs.
    all: usize,
    cnp2: usize,
    fnp2: usize,
    fnp3: usize,
    tnp: usize,
}

impl Counts {
    fn of(mesh: &Mesh) -> Self {
        let count = |t: NpTypes| mesh.nps.iter().filter(|(_, types)| types.contains(t)).count();
        Self {
            all: mesh.nps.len(),
            cnp2: count(NpTypes::CNP2),
            fnp2: count(NpTypes::FNP2),
            fnp3: count(NpTypes::FNP3),
            tnp: count(NpTypes::TNP_B),
        }
    }

    /// What cuts take away; an error names the first type that is short.
    fn without(&self, stages: &[Stage], cuts: &[Cut]) -> Result<Counts, Reason> {
        let mut used = Counts { all: 0, cnp2: 0, fnp2: 0, fnp3: 0, tnp: 0 };
        for (stage, cut) in stages.iter().zip(cuts) {
            let [fnp2, fnp3] = cut.fnps();
            used.all += cut.nps();
            used.fnp2 += fnp2;
            used.fnp3 += fnp3;
            used.cnp2 += if stage.needs == NpTypes::CNP2 { cut.nps() } else { 0 };
            used.tnp += if stage.needs == NpTypes::TNP_B { cut.nps() } else { 0 };
        }
        for (rule, what, have, need) in [
            ("mesh.nps.fnp2", "FNP2", self.fnp2, used.fnp2),
            ("mesh.nps.fnp3", "FNP3", self.fnp3, used.fnp3),
            ("mesh.nps.cnp2", "CNP2", self.cnp2, used.cnp2),
            ("mesh.nps.tnp_b", "TNP_B", self.tnp, used.tnp),
            ("mesh.nps", "NPs", self.all, used.all),
        ] {
            if need > have {
                return Err(short(rule, what, have, need));
            }
        }
        Ok(Counts {
            all: self.all - used.all,
            cnp2: self.cnp2 - used.cnp2,
            fnp2: self.fnp2 - used.fnp2,
            fnp3: self.fnp3 - used.fnp3,
            tnp: self.tnp - used.tnp,
        })
    }
}

/// The smallest cuts. Where spare NPs would be put to use, dense layers keep FNP3s as long as there are enough of them.
fn cut(stages: &[Stage], mesh: &Mesh, mode: Mode) -> Result<Vec<Cut>, Reason> {
    match cut_with(stages, mesh, mode == Mode::Minimal) {
        Err(reason) if mode != Mode::Minimal => cut_with(stages, mesh, true).map_err(|_| reason),
        other => other,
    }
}

/// `external`: an FNP2 takes the place of several FNP3s wherever there is one.
fn cut_with(stages: &[Stage], mesh: &Mesh, external: bool) -> Result<Vec<Cut>, Reason> {
    let have = Counts::of(mesh);
    let most_inputs = if mesh.version.generation() == 2 { DENSE_INPUTS_2 } else { DENSE_INPUTS_1 };
    // Dense stages: everything on FNP3s; while they are short, one more FNP2 for the stage that takes most of them.
    let mut fnp2 = vec![0; stages.len()];
    let dense: Vec<usize> = (0..stages.len()).filter(|&i| stages[i].op == Op::Dense).collect();
    let mut dense_cuts: Vec<Option<Cut>>;
    loop {
        dense_cuts = (0..stages.len())
            .map(|i| dense.contains(&i).then(|| split::dense(&stages[i], mesh, fnp2[i], most_inputs)).flatten())
            .collect();
        let takes = |i: usize| dense_cuts[i].as_ref().map_or(usize::MAX, |c| c.fnps()[1]);
        let total = dense.iter().map(|&i| takes(i)).fold(0usize, usize::saturating_add);
        if total <= have.fnp3 {
            break;
        }
        let used: usize = fnp2.iter().sum();
        let hungriest = dense.iter().copied().max_by_key(|&i| (takes(i), usize::MAX - i));
        match hungriest {
            Some(i) if used < have.fnp2 && takes(i) > 0 => fnp2[i] += 1,
            Some(i) if total == usize::MAX => return Err(no_unit_fits(&stages[i], mesh)),
            _ => return Err(short("mesh.nps.fnp3", "FNP3 (all FNP2 are in use)", have.fnp3, total)),
        }
    }
    // An FNP2 in place of several FNP3s is less hardware.
    while external && fnp2.iter().sum::<usize>() < have.fnp2 {
        let gain = |i: usize| {
            let now = dense_cuts[i].as_ref().map_or(0, Cut::nps);
            let other = split::dense(&stages[i], mesh, fnp2[i] + 1, most_inputs)?;
            (other.nps() < now).then(|| (now - other.nps(), i, other))
        };
        let most = dense.iter().copied().filter_map(gain).max_by_key(|(gained, i, _)| (*gained, usize::MAX - i));
        let Some((_, i, other)) = most else { break };
        fnp2[i] += 1;
        dense_cuts[i] = Some(other);
    }
    let mut cuts = Vec::with_capacity(stages.len());
    for (stage, dense_cut) in stages.iter().zip(dense_cuts) {
        cuts.push(match dense_cut {
            Some(cut) => cut,
            None => split::minimal(stage, mesh)?,
        });
    }
    have.without(stages, &cuts)?;
    Ok(cuts)
}

fn no_unit_fits(stage: &Stage, mesh: &Mesh) -> Reason {
    let inputs: usize = stage.input.iter().product();
    Reason {
        rule: "mesh.sram.filter",
        limit: format!("{} bytes of filter SRAM in an FNP3, {} of packet SRAM", mesh.sram.filter, mesh.sram.packet),
        value: format!("one unit of layer {:?} has {inputs} weights of {} bits", stage.layer.name, stage.weight_bits),
        remedy: "use fewer inputs".into(),
    }
}

/// Gives spare NPs to the stages with the most work per NP.
fn refine(stages: &[Stage], cuts: &mut [Cut], mesh: &Mesh) {
    let have = Counts::of(mesh);
    let mut settled = vec![false; stages.len()];
    let mut loads: Vec<u64> = stages.iter().zip(cuts.iter()).map(|(stage, cut)| split::load(stage, cut)).collect();
    loop {
        let Some(i) = (0..stages.len())
            .filter(|&i| !settled[i])
            .max_by_key(|&i| (loads[i], usize::MAX - i))
            .filter(|&i| loads[i] > 0)
        else {
            return;
        };
        let Ok(spare) = have.without(stages, cuts) else { return };
        let finer = split::finer(&stages[i], &cuts[i], spare.all, spare.fnp3);
        let mut tried = cuts.to_vec();
        match finer {
            Some(cut) => {
                tried[i] = cut;
                if have.without(stages, &tried).is_ok() {
                    cuts.clone_from_slice(&tried);
                    loads[i] = split::load(&stages[i], &cuts[i]);
                } else {
                    settled[i] = true;
                }
            }
            None => settled[i] = true,
        }
    }
}

/// Addresses: first what only few NPs can do, each time the NP with the fewest other talents.
fn seat(stages: &[Stage], cuts: &[Cut], mesh: &Mesh) -> Result<Vec<Seat>, Reason> {
    let mut free = mesh.nps.clone();
    let mut seats = Vec::new();
    for wanted in [NpTypes::FNP2, NpTypes::FNP3, NpTypes::CNP2, NpTypes::TNP_B, NpTypes::CNP1] {
        for (i, (stage, cut)) in stages.iter().zip(cuts).enumerate() {
            for part in cut.parts(stage) {
                if *cut == Cut::Hrc {
                    if wanted == NpTypes::FNP2 {
                        seats.push(Seat { stage: i, part, np: NpAddress::HRC, kind: NpTypes::empty() });
                    }
                    continue;
                }
                if part.needs != wanted {
                    continue;
                }
                let best = (0..free.len())
                    .filter(|&n| free[n].1.contains(wanted))
                    .min_by_key(|&n| (free[n].1.iter().count(), free[n].0))
                    .ok_or_else(|| short("mesh.nps", "NPs", mesh.nps.len(), mesh.nps.len() + 1))?;
                let (np, _) = free.remove(best);
                seats.push(Seat { stage: i, part, np, kind: wanted });
            }
        }
    }
    seats.sort_by_key(|s| (s.stage, s.part.slice, s.part.filters[0], s.part.rows[0], s.part.columns[0]));
    Ok(seats)
}
