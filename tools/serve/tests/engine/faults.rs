//! Boards that fail: requests are tried again once, boards come back or are quarantined, and it is said.

use std::time::{Duration, Instant};

use akida_serve::engine::Engine;
use akida_serve::error::Kind;
use akida_serve::service::{BoardStatus, Service};
use akida_tools::exit::Exit;

use crate::support::*;

/// Jobs of a board before the first request: known answers of the board (8) and of the model (1).
const BEFORE: usize = 9;

fn board(engine: &Engine, number: usize) -> BoardStatus {
    engine.status().boards.swap_remove(number)
}

/// The board, as soon as it is in this state: resets and tests go on after another board has answered.
fn board_in(engine: &Engine, number: usize, state: &str) -> BoardStatus {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let board = board(engine, number);
        if board.state == state {
            return board;
        }
        assert!(Instant::now() < limit, "not {state}: {board:?}");
        std::thread::yield_now();
    }
}

fn mnist() -> Repository {
    let repository = Repository::new();
    repository.put("m", 1, "mnist_cnn");
    repository
}

/// One digit after the other; on these boards, with these settings changed.
fn ask_all(engine: &Engine, count: u64) -> Vec<Result<String, Kind>> {
    let clean = start(settings(&mnist(), &["sim:akida2"]));
    let one = |seed| {
        let expected = ask(&clean, digits(&clean, "m", 1, seed)).expect("a healthy board").outputs;
        ask(engine, digits(engine, "m", 1, seed)).map_err(|e| e.kind).map(|answer| {
            assert_eq!(answer.outputs, expected, "an answer is right or none");
            answer.device
        })
    };
    (0..count).map(one).collect()
}

#[test]
fn a_fault_that_passes_is_never_seen_by_clients() {
    // Two in a row: the session recovers from the first, the second is the board's.
    for plan in ["stall-input@{}", "stall-input@{}x2", "truncate-header@{}x2", "wrong-job-id@{}x2"] {
        let repository = mnist();
        let plan = plan.replace("{}", &(BEFORE + 3).to_string());
        let engine = start(settings(&repository, &[&format!("sim:akida2!{plan}")]));
        let answers = ask_all(&engine, 6);
        assert!(answers.iter().all(Result::is_ok), "{plan}: {answers:?}");
        let board = board_in(&engine, 0, "healthy");
        assert!(board.resets >= 1, "{plan}: {board:?}");
    }
}

#[test]
fn a_board_that_stays_broken_is_quarantined_and_another_of_its_kind_goes_on() {
    let repository = mnist();
    let plan = format!("stall-input@{}x*", BEFORE + 1);
    let engine = start(settings(&repository, &[&format!("sim:akida2!{plan}"), "sim:akida2"]));
    // The first board gets the first request, since both are empty; it fails for good.
    let answers = ask_all(&engine, 8);
    let other = Ok("sim:akida2#1 (simulated)".to_owned());
    assert!(answers.iter().all(|a| *a == other), "{answers:?}");
    let lost = board_in(&engine, 0, "quarantined");
    assert!(lost.reason.contains("after a reset"), "{lost:?}");
    let status = engine.status();
    assert_eq!(status.boards[1].state, "healthy");
    assert!(status.errors.iter().any(|e| e.about == "sim:akida2#0" && e.message.starts_with("quarantined")));
    assert!(engine.ready() && engine.live());
    let mut text = String::new();
    engine.metrics(&mut text);
    assert!(text.contains("akida_board_quarantines_total{board=\"sim:akida2#0\"} 1"), "{text}");
    assert!(text.contains("akida_board_retries_total{board=\"sim:akida2#0\"} 1"), "{text}");
}

#[test]
fn another_kind_never_helps_out() {
    let repository = mnist();
    let plan = format!("stall-input@{}x*", BEFORE + 1);
    let engine = start(settings(&repository, &[&format!("sim:akida2!{plan}"), "sim:akida2-2node", "sim:akd1000"]));
    let answers = ask_all(&engine, 3);
    assert!(answers.iter().all(|a| *a == Err(Kind::Unavailable)), "{answers:?}");
    board_in(&engine, 0, "quarantined");
    assert_eq!((board(&engine, 1).requests, board(&engine, 2).requests), (0, 0));
    // Unless it is named.
    repository.write("m", "model.toml", "boards = [\"sim:akida2-2node#1\"]\n");
    engine.rescan();
    engine.load("m").expect("it is placed anew");
    assert_eq!(ask_all(&engine, 1), [Ok("sim:akida2-2node#1 (simulated)".to_owned())]);
}

#[test]
fn a_board_that_fails_too_often_is_quarantined_although_it_passes_its_tests() {
    let repository = mnist();
    // Pairs of faults: each costs a reset and a known-answer test of 8 jobs.
    let mut at = BEFORE + 1;
    let mut plan = Vec::new();
    for _ in 0..6 {
        plan.push(format!("stall-input@{at}x2"));
        at += 2 + 8 + 1;
    }
    let mut settings = settings(&repository, &[&format!("sim:akida2!{}", plan.join("; "))]);
    settings.health.failures = 2;
    let engine = start(settings);
    let answers = ask_all(&engine, 3);
    let board = board_in(&engine, 0, "quarantined");
    assert!(board.reason.contains("failed 2 times"), "{board:?}");
    assert!(answers.iter().any(|a| matches!(a, Err(Kind::Unavailable | Kind::Internal))), "{answers:?}");
    assert!(!engine.ready(), "no board is healthy");
    assert_eq!(engine.status().state, "no board is healthy");
    // An operator can have it tested again.
    engine.retest();
    engine.load("m").expect("the board answers again");
}

#[test]
fn a_quarantined_board_is_tested_again_after_a_while() {
    let repository = mnist();
    // Failing for long enough that the resets at once do not help, then well.
    let mut settings = settings(&repository, &[&format!("sim:akida2!stall-input@{}x8", BEFORE + 1)]);
    settings.health.retest = Duration::from_millis(1);
    let engine = start(settings);
    let mut answers = ask_all(&engine, 1);
    for _ in 0..1000 {
        if answers.last().is_some_and(Result::is_ok) {
            break;
        }
        answers.extend(ask_all(&engine, 1));
    }
    assert!(answers.last().is_some_and(Result::is_ok), "{answers:?}");
    assert_eq!(board(&engine, 0).state, "healthy");
}

#[test]
fn boards_that_fail_at_the_start_are_quarantined_and_none_at_all_is_no_start() {
    let repository = mnist();
    let engine = start(settings(&repository, &["sim:akida2!lose-device@1:forever", "sim:akida2"]));
    board_in(&engine, 0, "quarantined");
    assert!(ask_all(&engine, 2).iter().all(Result::is_ok));
    let failure = Engine::start(settings(&repository, &["sim:akida2!lose-device@1:forever"]));
    let failure = failure.map(|_| ()).expect_err("no board");
    assert_eq!(failure.exit, Exit::Unavailable, "{failure}");
    let mut nowhere = settings(&repository, &["sim:akida2"]);
    nowhere.repository.path = repository.path().join("nothing");
    assert_eq!(Engine::start(nowhere).map(|_| ()).expect_err("no folder").exit, Exit::NoInput);
}

/// A board that computes in real time and stalls keeps its thread for the whole time-out of a step.
#[test]
fn a_board_that_is_stuck_does_not_look_alive() {
    let repository = mnist();
    let plan = format!("stall-input@{}", BEFORE + 1);
    let mut settings = settings(&repository, &[&format!("sim:akida2!{plan}"), "sim:akida2"]);
    settings.health.stuck = Duration::from_secs(2);
    settings.boards[0].simulation.real_time = true;
    settings.boards[0].timeout = Duration::from_secs(6);
    let engine = start(settings);
    assert!(engine.live() && engine.progress().sane, "{:?}", engine.progress());
    let pending = send(&engine, digits(&engine, "m", 1, 1));
    let limit = Instant::now() + Duration::from_secs(60);
    let stuck = loop {
        let progress = engine.progress();
        if !progress.sane {
            break progress;
        }
        assert!(Instant::now() < limit, "never stuck: {progress:?}");
        std::thread::yield_now();
    };
    assert!(stuck.longest.is_some_and(|time| time >= Duration::from_secs(2)), "{stuck:?}");
    assert!(!engine.live() && engine.status().state == "stuck" && engine.summary().starts_with("stuck "));
    // The step's time-out brings it back, and the request with it.
    assert!(pending.wait().is_ok());
    while !engine.progress().sane {
        assert!(Instant::now() < limit, "stuck for good: {:?}", engine.progress());
        std::thread::yield_now();
    }
    assert!(engine.live() && engine.summary().starts_with("serving "), "{}", engine.summary());
}

/// The fault comes with the test of a board that has nothing to do.
#[test]
fn a_board_that_fails_while_it_is_idle_is_noticed() {
    let repository = mnist();
    let plan = format!("stall-input@{}x*", BEFORE + 1);
    let mut settings = settings(&repository, &["sim:akida2", &format!("sim:akida2!{plan}")]);
    settings.health.retest = Duration::from_millis(500);
    let engine = start(settings);
    assert_eq!(board_in(&engine, 1, "quarantined").requests, 0);
    assert_eq!(board(&engine, 0).state, "healthy", "it passes its tests");
    assert!(ask(&engine, digits(&engine, "m", 1, 1)).is_ok());
}
