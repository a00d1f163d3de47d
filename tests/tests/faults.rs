//! Every fault in every phase (akida_tests::faults), on all simulated boards. One test in this binary: it counts the descriptors
//! and threads of the process.
//!
//! `AKIDA_FAULTS=N` injections of each pair instead of 4; tests/reliability writes docs/reliability.md with it.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akida_hal::Board;
use akida_runtime::model::Target;
use akida_simulator::{Model, SimBoard, SimSpec};
use akida_tests::faults::{PAIRS, Pair, Patient, Tally, Work, inject};

struct Simulated(Arc<SimBoard>);

impl Patient for Simulated {
    fn board(&self) -> Arc<dyn Board> {
        self.0.clone()
    }

    fn arm(&self, plan: &str) {
        self.0.arm(&plan.parse().expect("the table has plans"));
    }

    fn fired(&self) -> bool {
        !self.0.faults_fired().is_empty()
    }

    fn mappings(&self) -> usize {
        self.0.inspect().mappings.len()
    }
}

fn target(board: Model) -> Target {
    match board {
        Model::Akd1000 => Target::Akd1000,
        Model::Akd1500 => Target::Akd1500,
        _ => Target::Akida2,
    }
}

/// Open descriptors and threads of this process. A thread that was joined may still be leaving.
fn held() -> (usize, usize) {
    let count = |folder: &str| fs::read_dir(folder).expect("procfs").count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

fn settled(wanted: (usize, usize)) -> (usize, usize) {
    let end = Instant::now() + Duration::from_secs(5);
    while held() != wanted && Instant::now() < end {
        std::thread::yield_now();
    }
    held()
}

/// A quarter of a pair's injections on one board; `None` where its occasion does not come there.
fn on(model: Model, pair: &Pair, count: u32, work: &Work) -> Option<Tally> {
    let make = || -> Box<dyn Patient> {
        Box::new(Simulated(Arc::new(SimBoard::open(&SimSpec::new(model)).expect("a simulated board opens"))))
    };
    match inject(pair, count, work, &make) {
        Ok(tally) => Some(tally),
        Err(e) if e.ends_with("the occasion never comes") => None,
        Err(e) => panic!("{model}: {e}"),
    }
}

#[test]
fn every_fault_in_every_phase_is_survived() {
    let count: u32 = std::env::var("AKIDA_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let boards = Model::ALL.map(|m| (m, Work::small(target(m), &m.mesh()).unwrap_or_else(|e| panic!("{m}: {e}"))));
    assert!(PAIRS.len() >= 40);
    let mut rows = Vec::new();
    for pair in PAIRS {
        let before = held();
        let start = Instant::now();
        let mut sum = Tally::default();
        let mut names = Vec::new();
        for (i, (model, work)) in boards.iter().enumerate() {
            // What the boards before could not do is done here.
            let left = boards.len() - i;
            let part = (count - sum.injected()).div_ceil(left as u32);
            if let Some(tally) = on(*model, pair, part, work) {
                sum = sum + tally;
                names.push(model.name());
            }
        }
        assert_eq!(settled(before), before, "{pair}: descriptors and threads");
        assert!(sum.injected() >= count, "{pair}: {sum:?}");
        let parameters = if pair.parameters.is_empty() { String::new() } else { format!(":{}", pair.parameters) };
        rows.push(format!(
            "| `{}{}{parameters}` | {} | {} | {} | {} | {} | {} |",
            pair.fault,
            pair.times,
            pair.phase.name(),
            sum.injected(),
            sum.right,
            sum.errors,
            sum.recovered,
            sum.quarantined
        ));
        println!("{pair}: {sum:?} on {names:?}, {:.1?}", start.elapsed());
    }
    if let Some(path) = std::env::var_os("AKIDA_FAULTS_TABLE") {
        fs::write(path, rows.join("\n") + "\n").expect("the table can be written");
    }
}
