//! The boards' self-test passes on every simulated board, and notices boards that are broken.

use std::sync::Arc;

use akida_hal::board::Wake;
use akida_hal::selftest::{self, Verdict};
use akida_simulator::{Clock, FaultPlan, Model, SimBoard, SimSpec};

#[test]
fn every_simulated_board_passes() {
    // Real time only once: translation takes a second to settle, each time.
    let threaded = (Model::Akd1000, Clock::Threaded);
    for (model, clock) in Model::ALL.map(|m| (m, Clock::Stepped)).into_iter().chain([threaded]) {
        let board = Arc::new(SimBoard::open(&SimSpec::new(model).with_clock(clock)).expect("opens"));
        for outcome in selftest::run(board.clone()) {
            assert!(matches!(outcome.verdict, Verdict::Passed(_)), "{model} {clock:?} {outcome:?}");
        }
        assert_eq!(selftest::interrupt(board.clone()).expect("runs"), Some(Wake::Interrupt), "{model} {clock:?}");
        assert_eq!(board.inspect().mappings.len(), 0, "{model}: nothing stays mapped");
    }
}

#[test]
fn a_broken_board_fails_once_and_skips_the_rest() {
    let cases = [
        ("all-ones@1x*", "identity"),
        ("lose-device@40:forever", "open"),
        ("stall-link@12x*", "memory"),
        ("corrupt-packet@1x*:word=2,bits=0x1", "packets"),
    ];
    for (plan, at_the_latest) in cases {
        let faults: FaultPlan = plan.parse().expect("a plan");
        let spec = SimSpec::new(Model::Akd1000).with_faults(faults);
        let outcomes = selftest::run(Arc::new(SimBoard::open(&spec).expect("opens")));
        let failed: Vec<&str> =
            outcomes.iter().filter(|o| matches!(o.verdict, Verdict::Failed(_))).map(|o| o.name).collect();
        assert_eq!(failed.len(), 1, "{plan}: {outcomes:?}");
        let place = |name: &str| outcomes.iter().position(|o| o.name == name).expect("a check");
        assert!(place(failed[0]) <= place(at_the_latest), "{plan}: only {} failed", failed[0]);
        assert!(outcomes[place(failed[0]) + 1..].iter().all(|o| matches!(o.verdict, Verdict::Skipped)), "{plan}");
    }
}
