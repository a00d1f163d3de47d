//! The stages of a hardware sequence cut into passes.
//!
//! Between two passes the board configures its mesh anew by itself and gives the first one's output to the second as its
//! input (hardware.md 8.4: multi-pass through the config DMA). So a pass ends where exactly one tensor of activations
//! goes on. What one FNP2 holds in device memory stays there for all passes: its address register is written once, when
//! the program is loaded, so no FNP2 serves two passes.
//!
//! All ways to cut are compared, by dynamic programming over the stages:
//!
//! | mode | fewest of | then |
//! |---|---|---|
//! | `Minimal` | passes | NPs |
//! | `AllNps` | passes | cycles |
//! | `HwPr` | cycles, reprogramming included | passes |

use akida_hal::mesh::{Mesh, NpAddress, NpTypes};

use super::place::{Seat, place};
use super::stage::{Feed, Inbound, Stage};
use super::{Mode, Reason, cost};

/// One pass: its stages, whose feeds are those of this pass, and who holds them.
#[derive(Clone, Debug)]
pub struct Planned<'m> {
    /// In order; the last one's output leaves.
    pub stages: Vec<Stage<'m>>,
    /// Who holds which part.
    pub seats: Vec<Seat>,
}

/// Cuts and places the stages of a sequence.
///
/// Errors: the stage that does not fit, and why.
pub fn plan<'m>(stages: Vec<Stage<'m>>, mesh: &Mesh, mode: Mode) -> Result<Vec<Planned<'m>>, (usize, Reason)> {
    let mut whole = stages.clone();
    if let (Ok(seats), true) = (place(&mut whole, mesh, mode), mode != Mode::HwPr) {
        return Ok(vec![Planned { stages: whole, seats }]);
    }
    // Two passes that each count on the same FNP2 are found out only when all are placed: then none counts on one.
    match arrange(&stages, mesh, mesh, mode) {
        Err(reason) => arrange(&stages, &without_fnp2(mesh, |_| true), mesh, mode).map_err(|_| reason),
        planned => planned,
    }
}

/// A mesh some of whose NPs are no FNP2s.
fn without_fnp2(mesh: &Mesh, taken: impl Fn(NpAddress) -> bool) -> Mesh {
    let mut mesh = mesh.clone();
    mesh.nps.iter_mut().filter(|(np, _)| taken(*np)).for_each(|(_, types)| types.remove(NpTypes::FNP2));
    mesh
}

/// Cuts stages into the passes that are cheapest on the mesh `counted`, and places them on `mesh`.
fn arrange<'m>(
    stages: &[Stage<'m>],
    counted: &Mesh,
    mesh: &Mesh,
    mode: Mode,
) -> Result<Vec<Planned<'m>>, (usize, Reason)> {
    let ends = cheapest(stages, counted, mode)?;
    let starts = [0].into_iter().chain(ends.iter().copied());
    let pieces: Vec<_> = starts.zip(&ends).map(|(start, &end)| (end - 1, cut_out(stages, start, end))).collect();
    // Passes that cannot do without an FNP2 choose first.
    let bare = without_fnp2(mesh, |_| true);
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&pass| place(&mut pieces[pass].1.clone(), &bare, mode).is_ok());
    let mut mesh = mesh.clone();
    let mut passes: Vec<(usize, Planned)> = Vec::new();
    for pass in order {
        let (last, mut stages) = pieces[pass].clone();
        let seats = place(&mut stages, &mesh, mode).map_err(|reason| (last, reason))?;
        let taken = |np| seats.iter().any(|s| s.kind == NpTypes::FNP2 && s.np == np);
        mesh = without_fnp2(&mesh, taken);
        passes.push((pass, Planned { stages, seats }));
    }
    passes.sort_by_key(|(pass, _)| *pass);
    Ok(passes.into_iter().map(|(_, planned)| planned).collect())
}

/// Where each pass of the cheapest cut ends.
fn cheapest(stages: &[Stage], mesh: &Mesh, mode: Mode) -> Result<Vec<usize>, (usize, Reason)> {
    let count = stages.len();
    // By the stage a pass may end before: the lowest cost of all before it, and where the last of these passes begins.
    let mut best: Vec<Option<([u64; 3], usize)>> = vec![None; count + 1];
    best[0] = Some(([0; 3], 0));
    let mut short: Option<(usize, Reason)> = None;
    for start in 0..count {
        let Some((before, _)) = best[start] else { continue };
        for length in 1..=count - start {
            let end = start + length;
            let mut piece = cut_out(stages, start, end);
            let seats = match place(&mut piece, mesh, mode) {
                Ok(seats) => seats,
                Err(reason) => {
                    // The farthest stage that could not be reached says what the mesh is short of.
                    if short.as_ref().is_none_or(|(stage, _)| *stage < end - 1) {
                        short = Some((end - 1, reason));
                    }
                    break;
                }
            };
            if !ends_before(stages, end) {
                continue;
            }
            let whole = start == 0 && end == count;
            let cost = cost_of(&piece, &seats, mesh, mode, whole);
            let total = [0, 1, 2].map(|i| before[i] + cost[i]);
            if best[end].is_none_or(|(lowest, _)| total < lowest) {
                best[end] = Some((total, start));
            }
        }
    }
    let mut ends = Vec::new();
    let mut end = count;
    while end > 0 {
        let Some((_, start)) = best[end] else {
            return Err(short.unwrap_or((count - 1, no_boundary())));
        };
        ends.push(end);
        end = start;
    }
    ends.reverse();
    Ok(ends)
}

/// What a pass costs in a mode, first things first.
fn cost_of(stages: &[Stage], seats: &[Seat], mesh: &Mesh, mode: Mode, whole: bool) -> [u64; 3] {
    let nps = seats.iter().filter(|s| !s.kind.is_empty()).count() as u64;
    let cycles = cost::pass_cycles(stages, seats, mesh, whole);
    match mode {
        Mode::Minimal => [1, nps, cycles],
        Mode::AllNps => [1, cycles, 0],
        Mode::HwPr => [cycles, 1, 0],
    }
}

/// Whether what follows stage `end - 1` takes nothing but its output, and that as activations.
fn ends_before(stages: &[Stage], end: usize) -> bool {
    if end == stages.len() {
        return true;
    }
    let boundary = &stages[end - 1];
    let crosses = |feed: Feed| match feed {
        Feed::Input => false,
        Feed::Stage(made) => made + 1 >= end,
    };
    boundary.output_bits <= 8
        && stages[end..].iter().all(|s| s.inbound.feeds().all(crosses))
        && stages.iter().all(|s| s.fifo == 0)
}

/// Stages `start..end`, with the output of the stage before them as input.
fn cut_out<'m>(stages: &[Stage<'m>], start: usize, end: usize) -> Vec<Stage<'m>> {
    let feed = |feed: Feed| match feed {
        Feed::Stage(made) if made >= start => Feed::Stage(made - start),
        _ => Feed::Input,
    };
    stages[start..end]
        .iter()
        .map(|stage| Stage {
            inbound: match stage.inbound {
                Inbound::One(a) => Inbound::One(feed(a)),
                Inbound::Add(a, b, layer) => Inbound::Add(feed(a), feed(b), layer),
                Inbound::Concat(a, b) => Inbound::Concat(feed(a), feed(b)),
            },
            ..stage.clone()
        })
        .collect()
}

fn no_boundary() -> Reason {
    Reason {
        rule: "mesh.pass",
        limit: "a pass ends where one tensor of activations goes on".into(),
        value: "there is no such place".into(),
        remedy: "the layers are cut into several sequences; a larger mesh holds more".into(),
    }
}
