//! The scheduler with boards that are numbers: hours go by in no time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::admission::Full;
use super::*;

const MS: Duration = Duration::from_millis(1);

/// The same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn spec(boards: &[BoardId]) -> ModelSpec {
    ModelSpec { max_batch: 64, delay: Duration::ZERO, alone: false, boards: boards.to_vec() }
}

fn scheduler(boards: usize, now: Instant) -> Scheduler<u64> {
    let limits = Limits { requests: 10_000, bytes: 1 << 30 };
    let mut scheduler = Scheduler::new(limits, Policy::default(), boards, now);
    for board in 0..boards {
        assert!(scheduler.set_state(board, BoardState::Healthy).is_empty());
    }
    scheduler
}

fn put(s: &mut Scheduler<u64>, now: Instant, model: ModelId, client: &str, samples: usize) -> JobId {
    let id = s.admit(now, model, client, (0, None), (samples, samples)).expect("there is room");
    s.enqueue(id, id).expect("it is queued");
    id
}

fn run(s: &mut Scheduler<u64>, board: BoardId, now: Instant) -> Option<(ModelId, Vec<Queued<u64>>)> {
    match s.next(board, now) {
        Decision::Run { model, jobs } => Some((model, jobs)),
        Decision::Wait(_) => None,
    }
}

/// Ends what a board runs, at once.
fn end(s: &mut Scheduler<u64>, board: BoardId, jobs: &[Queued<u64>], each: Duration) {
    let samples = jobs.iter().map(|q| q.entry.samples).sum();
    s.finish(board, Done { samples, computing: each * samples as u32, programming: None });
    for queued in jobs {
        s.release(&queued.entry);
    }
}

#[test]
fn a_batch_is_taken_when_it_is_full_or_its_bound_is_over() {
    let now = Instant::now();
    let mut s = scheduler(1, now);
    s.open(1, ModelSpec { delay: 5 * MS, max_batch: 8, ..spec(&[0]) });
    put(&mut s, now, 1, "a", 3);
    put(&mut s, now + MS, 1, "a", 3);
    assert!(matches!(s.next(0, now + MS), Decision::Wait(Some(at)) if at == now + 5 * MS));
    // The bound is that of the oldest.
    let (_, jobs) = run(&mut s, 0, now + 5 * MS).expect("the bound is over");
    assert_eq!(jobs.len(), 2);
    end(&mut s, 0, &jobs, MS);
    for _ in 0..3 {
        put(&mut s, now + 6 * MS, 1, "a", 3);
    }
    // Full before the bound; the third does not fit and waits.
    let (_, jobs) = run(&mut s, 0, now + 6 * MS).expect("there are 9 samples");
    assert_eq!(jobs.iter().map(|q| q.entry.samples).sum::<usize>(), 6);
    end(&mut s, 0, &jobs, MS);
    assert!(run(&mut s, 0, now + 6 * MS).is_none());
    s.drain();
    assert!(run(&mut s, 0, now + 6 * MS).is_some(), "draining waits for no bound");
}

#[test]
fn urgent_requests_come_first_and_are_in_order_within_a_class() {
    let now = Instant::now();
    let mut s = scheduler(1, now);
    s.open(1, ModelSpec { max_batch: 1, ..spec(&[0]) });
    let mut ids = Vec::new();
    for priority in [0, 200, 1, 0, 1, 7] {
        let id = s.admit(now, 1, "a", (priority, None), (1, 1)).expect("there is room");
        s.enqueue(id, id).expect("queued");
        ids.push(id);
    }
    let mut order = Vec::new();
    while let Some((_, jobs)) = run(&mut s, 0, now) {
        order.extend(jobs.iter().map(|q| q.job));
        end(&mut s, 0, &jobs, MS);
    }
    // 1, 1, 7, 0 (which is 100), 0, 200
    assert_eq!(order, [ids[2], ids[4], ids[5], ids[0], ids[3], ids[1]]);
}

#[test]
fn clients_share_by_samples_whatever_the_size_of_their_requests() {
    let now = Instant::now();
    let mut s = scheduler(1, now);
    s.open(1, spec(&[0]));
    // One sends few large requests, one many small ones, one came with a thousand before.
    for _ in 0..1000 {
        put(&mut s, now, 1, "crowd", 1);
    }
    for _ in 0..30 {
        put(&mut s, now, 1, "large", 32);
    }
    for _ in 0..960 {
        put(&mut s, now, 1, "small", 1);
    }
    let mut served: BTreeMap<String, usize> = BTreeMap::new();
    while served.values().sum::<usize>() < 1500 {
        let (_, jobs) = run(&mut s, 0, now).expect("there is work");
        for queued in &jobs {
            *served.entry(queued.entry.client.to_string()).or_default() += queued.entry.samples;
        }
        end(&mut s, 0, &jobs, MS);
    }
    for (client, samples) in &served {
        assert!((440..=560).contains(samples), "{client}: {served:?}");
    }
}

#[test]
fn nobody_fills_the_queues_for_others() {
    let now = Instant::now();
    let mut s: Scheduler<u64> = Scheduler::new(Limits { requests: 100, bytes: 1000 }, Policy::default(), 1, now);
    s.open(1, spec(&[0]));
    let mut take = |client: &str, bytes: usize| s.admit(now, 1, client, (0, None), (1, bytes));
    let greedy = (0..200).filter(|_| take("greedy", 1).is_ok()).count();
    assert_eq!(greedy, 50, "one alone has half");
    let second = (0..200).filter(|_| take("second", 1).is_ok()).count();
    assert_eq!(second, 25);
    let Err(Refusal::Full(full)) = take("second", 1) else { panic!("it is full for this one") };
    assert_eq!((full.what, full.client, full.all, full.limit), ("requests", 25, 75, 100));
    assert!(take("third", 1).is_ok(), "whoever comes new finds room");
    // Bytes in the same way: 76 are held.
    assert!(matches!(take("third", 925), Err(Refusal::Full(Full { what: "bytes", .. }))));
    assert!(take("fourth", 500).is_ok());
    assert!(matches!(take("fifth", 500), Err(Refusal::Full(Full { what: "bytes", .. }))));
}

#[test]
fn refusals_have_their_reasons_and_a_time_to_come_back() {
    let now = Instant::now();
    let mut s: Scheduler<u64> = Scheduler::new(Limits { requests: 8, bytes: 1000 }, Policy::default(), 2, now);
    s.set_state(0, BoardState::Healthy);
    s.set_state(1, BoardState::Quarantined);
    s.open(1, spec(&[0]));
    s.open(2, spec(&[1]));
    let admit = |s: &mut Scheduler<u64>, model, deadline| s.admit(now, model, "a", (0, deadline), (1, 1));
    assert_eq!(admit(&mut s, 3, None), Err(Refusal::Closed));
    assert_eq!(admit(&mut s, 2, None), Err(Refusal::NoBoard));
    assert_eq!(admit(&mut s, 1, Some(now)), Err(Refusal::Deadline));
    // 10 ms a sample were measured; four samples wait.
    let id = put(&mut s, now, 1, "a", 1);
    let (_, jobs) = run(&mut s, 0, now).expect("work");
    assert_eq!(jobs[0].job, id);
    end(&mut s, 0, &jobs, 10 * MS);
    for _ in 0..4 {
        put(&mut s, now, 1, "a", 1);
    }
    let Err(Refusal::Full(full)) = admit(&mut s, 1, None) else { panic!("full") };
    assert_eq!(full.retry_after, Some(40 * MS));
    s.drain();
    assert_eq!(admit(&mut s, 1, None), Err(Refusal::Draining));
}

#[test]
fn deadlines_and_withdrawals_give_back_what_was_held() {
    let now = Instant::now();
    let mut s = scheduler(1, now);
    s.open(1, ModelSpec { delay: 1000 * MS, ..spec(&[0]) });
    let late = s.admit(now, 1, "a", (0, Some(now + 3 * MS)), (1, 10)).expect("room");
    s.enqueue(late, late).expect("queued");
    let gone = put(&mut s, now, 1, "a", 1);
    let preparing = s.admit(now, 1, "a", (0, None), (1, 10)).expect("room");
    assert_eq!(s.next_deadline(), Some(now + 3 * MS));
    assert!(s.expire(now + 2 * MS).is_empty());
    assert_eq!(s.expire(now + 3 * MS).iter().map(|q| q.job).collect::<Vec<_>>(), [late]);
    assert_eq!(s.cancel(gone, 1).map(|q| q.job), Some(gone));
    assert!(s.cancel(gone, 1).is_none(), "once");
    assert!(s.cancel(preparing, 1).is_none());
    assert_eq!(s.enqueue(preparing, preparing), Err((Lost::Cancelled, preparing)));
    assert_eq!(s.held(), Held::default());
    assert!(s.idle());
}

/// What went on in a world of boards.
#[derive(Debug, Default)]
struct World {
    /// Samples of each model.
    samples: BTreeMap<ModelId, usize>,
    programmed: usize,
    busy: Duration,
    programming: Duration,
    longest_wait: Duration,
}

/// Boards work for `time`: `each` a sample, `cost` for another model, while `arrive` brings requests every millisecond.
fn simulate(
    s: &mut Scheduler<u64>,
    boards: usize,
    (each, cost, time): (Duration, Duration, Duration),
    mut arrive: impl FnMut(&mut Scheduler<u64>, Instant),
) -> World {
    let start = Instant::now();
    let mut world = World::default();
    let mut free = vec![start; boards];
    let mut running: Vec<Option<(Vec<Queued<u64>>, Done)>> = (0..boards).map(|_| None).collect();
    let mut now = start;
    while now < start + time {
        arrive(s, now);
        for board in 0..boards {
            while free[board] <= now {
                if let Some((jobs, done)) = running[board].take() {
                    s.finish(board, done);
                    jobs.iter().for_each(|q| s.release(&q.entry));
                }
                let before = s.board(board).1;
                let Some((model, jobs)) = run(s, board, now) else { break };
                let samples: usize = jobs.iter().map(|q| q.entry.samples).sum();
                let programming = (before != Some(model)).then_some(cost);
                let computing = each * samples as u32;
                let busy = computing + programming.unwrap_or_default();
                world.programmed += usize::from(programming.is_some());
                world.programming += programming.unwrap_or_default();
                world.busy += busy;
                *world.samples.entry(model).or_default() += samples;
                let wait = jobs.iter().map(|q| now.saturating_duration_since(q.entry.since)).max();
                world.longest_wait = world.longest_wait.max(wait.unwrap_or_default());
                free[board] = free[board].max(now) + busy;
                running[board] = Some((jobs, Done { samples, computing, programming }));
            }
        }
        now += MS;
    }
    world
}

#[test]
fn a_board_shared_by_models_spends_little_on_programming_and_starves_none() {
    let mut s = scheduler(1, Instant::now());
    for model in 1..=3 {
        s.open(model, ModelSpec { max_batch: 16, ..spec(&[0]) });
    }
    // Model 1 is asked for far more than the board can do, 2 as much as it could, 3 now and then.
    let mut round = 0u64;
    let world = simulate(&mut s, 1, (MS, 10 * MS, 20_000 * MS), |s, now| {
        round += 1;
        for (model, every) in [(1, 1), (2, 1), (3, 400)] {
            if round.is_multiple_of(every) && s.waiting(model).0 < 200 {
                put(s, now, model, &format!("client {model}"), 1);
            }
        }
    });
    // The slice is 4 times the cost: at most a fifth goes into programming, and one that is under way at the end.
    let part = world.programming.as_secs_f64() / world.busy.as_secs_f64();
    assert!(part < 0.21, "{world:?}");
    let (one, two, three) = (world.samples[&1], world.samples[&2], world.samples[&3]);
    assert!(one.abs_diff(two) * 10 < one, "both that have always work get the same: {world:?}");
    assert!(three >= 45, "{world:?}");
}

#[test]
fn a_quiet_model_waits_no_longer_than_the_slices_of_the_others() {
    let mut s = scheduler(1, Instant::now());
    for model in 1..=4 {
        s.open(model, ModelSpec { max_batch: 8, ..spec(&[0]) });
    }
    let mut round = 0u64;
    let mut waits = BTreeMap::new();
    simulate(&mut s, 1, (MS, 10 * MS, 10_000 * MS), |s, now| {
        round += 1;
        for model in 1..=3 {
            while s.waiting(model).0 < 50 {
                put(s, now, model, "busy", 1);
            }
        }
        if round.is_multiple_of(500) {
            put(s, now, 4, "quiet", 1);
        }
        if let (_, _, Some(since)) = s.waiting(4) {
            let wait: &mut Duration = waits.entry(since).or_default();
            *wait = now - since;
        }
    });
    assert!(waits.len() >= 19);
    // Three slices of 40 ms and the batch (8) and programming (10) that each can run over, and its own turn.
    let longest = waits.values().max().expect("some waited");
    assert!(*longest <= 3 * (40 + 8 + 10) * MS + 2 * MS, "{longest:?}");
}

#[test]
fn boards_that_have_a_model_are_preferred_and_others_help_when_these_do_not_keep_up() {
    // A trickle for each of two models on two boards: one board each, and no more programming.
    let mut s = scheduler(2, Instant::now());
    s.open(1, spec(&[0, 1]));
    s.open(2, spec(&[0, 1]));
    let mut round = 0u64;
    let trickle = simulate(&mut s, 2, (MS, 10 * MS, 5_000 * MS), |s, now| {
        round += 1;
        if round.is_multiple_of(5) {
            put(s, now, 1 + (round / 5) % 2, "a", 1);
        }
    });
    assert!(trickle.programmed <= 4, "{trickle:?}");
    // More than one board can do: the other one helps.
    let mut s = scheduler(2, Instant::now());
    s.open(1, spec(&[0, 1]));
    let flood = simulate(&mut s, 2, (MS, 10 * MS, 5_000 * MS), |s, now| {
        if s.waiting(1).0 < 100 {
            put(s, now, 1, "a", 2);
        }
    });
    assert_eq!(flood.programmed, 2);
    assert!(flood.samples[&1] > 9_500, "two boards do a sample a millisecond each: {flood:?}");
}

#[test]
fn an_urgent_model_waits_for_no_slice() {
    let now = Instant::now();
    let mut s = scheduler(1, now);
    s.open(1, ModelSpec { max_batch: 1, ..spec(&[0]) });
    s.open(2, spec(&[0]));
    put(&mut s, now, 1, "a", 1);
    put(&mut s, now, 1, "a", 1);
    let (model, jobs) = run(&mut s, 0, now).expect("work");
    assert_eq!(model, 1);
    end(&mut s, 0, &jobs, MS);
    let id = s.admit(now, 2, "b", (1, None), (1, 1)).expect("room");
    s.enqueue(id, id).expect("queued");
    assert_eq!(run(&mut s, 0, now).expect("work").0, 2);
}

#[test]
fn a_failed_batch_is_tried_once_more_in_front_and_no_board_means_an_end() {
    let now = Instant::now();
    let mut s = scheduler(2, now);
    s.open(1, ModelSpec { max_batch: 2, ..spec(&[0, 1]) });
    let ids: Vec<JobId> = (0..4).map(|_| put(&mut s, now, 1, "a", 1)).collect();
    let (_, jobs) = run(&mut s, 0, now).expect("work");
    s.set_state(0, BoardState::Resetting);
    s.finish(0, Done::default());
    assert!(s.retry(jobs).is_empty());
    assert!(run(&mut s, 0, now).is_none(), "a board that is reset takes nothing");
    // Board 1 has to be programmed: nobody else has the model any more.
    let (_, jobs) = run(&mut s, 1, now).expect("the other board takes it");
    assert_eq!(jobs.iter().map(|q| q.job).collect::<Vec<_>>(), ids[..2], "in the order they came");
    s.set_state(1, BoardState::Resetting);
    s.finish(1, Done::default());
    assert_eq!(s.retry(jobs).iter().map(|q| q.job).collect::<Vec<_>>(), ids[..2], "not a third time");
    assert!(s.set_state(0, BoardState::Quarantined).is_empty(), "board 1 may come back");
    let stranded: BTreeSet<JobId> = s.set_state(1, BoardState::Quarantined).iter().map(|q| q.job).collect();
    assert_eq!(stranded, ids[2..].iter().copied().collect());
    assert_eq!(s.held(), Held::default());
}

#[test]
fn samples_of_a_stream_are_never_put_together_with_others() {
    let now = Instant::now();
    let mut s = scheduler(1, now);
    s.open(1, ModelSpec { alone: true, delay: 50 * MS, ..spec(&[0]) });
    put(&mut s, now, 1, "a", 5);
    put(&mut s, now, 1, "b", 5);
    assert_eq!(run(&mut s, 0, now).expect("no bound is waited for").1.len(), 1);
}

#[test]
fn closed_models_finish_and_go() {
    let now = Instant::now();
    let mut s = scheduler(1, now);
    s.open(1, ModelSpec { delay: 1000 * MS, ..spec(&[0]) });
    put(&mut s, now, 1, "a", 1);
    let preparing = s.admit(now, 1, "a", (0, None), (1, 1)).expect("room");
    s.close(1);
    assert_eq!(s.admit(now, 1, "a", (0, None), (1, 1)), Err(Refusal::Closed));
    assert!(s.reap().is_empty());
    let (_, jobs) = run(&mut s, 0, now).expect("a closed model waits for no bound");
    end(&mut s, 0, &jobs, MS);
    assert!(s.reap().is_empty(), "the input of one is being made");
    s.enqueue(preparing, preparing).expect("it was taken before");
    let (_, jobs) = run(&mut s, 0, now).expect("work");
    assert!(s.reap().is_empty());
    end(&mut s, 0, &jobs, MS);
    assert_eq!(s.reap(), [1]);
    assert!(!s.knows(1));
}

/// Whatever happens in whatever order: each request that was taken ends once, and nothing stays held.
#[test]
fn nothing_is_lost_and_nothing_ends_twice() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let start = Instant::now();
        let mut now = start;
        let mut s = scheduler(3, now);
        let models: [ModelId; 3] = [1, 2, 3];
        s.open(1, spec(&[0, 1, 2]));
        s.open(2, ModelSpec { max_batch: 4, delay: 3 * MS, ..spec(&[0, 1]) });
        s.open(3, ModelSpec { alone: true, ..spec(&[2]) });
        let mut open: BTreeMap<JobId, ModelId> = BTreeMap::new();
        let mut preparing: Vec<JobId> = Vec::new();
        let mut running: BTreeMap<BoardId, Vec<Queued<u64>>> = BTreeMap::new();
        let ended = |open: &mut BTreeMap<JobId, ModelId>, id: JobId| {
            assert!(open.remove(&id).is_some(), "seed {seed}: request {id} ended twice");
        };
        for step in 0..600 {
            now += Duration::from_micros(random.below(2000));
            let board = random.below(3) as usize;
            // Towards the end nothing new comes and all boards are well.
            let calm = step >= 450;
            match if calm { 6 + random.below(3) } else { random.below(9) } {
                0..=2 => {
                    let model = models[random.below(3) as usize];
                    let deadline =
                        (random.below(3) == 0).then(|| now + Duration::from_micros(random.below(20_000) + 1));
                    let client = format!("client {}", random.below(4));
                    let samples = random.below(6) as usize + 1;
                    let when = (random.below(3) as u32, deadline);
                    if let Ok(id) = s.admit(now, model, &client, when, (samples, samples * 10)) {
                        open.insert(id, model);
                        preparing.push(id);
                    }
                }
                3 => {
                    if let Some((&id, &model)) = open.iter().nth(random.below(open.len().max(1) as u64) as usize)
                        && let Some(queued) = s.cancel(id, model)
                    {
                        ended(&mut open, queued.job);
                    }
                }
                4 => {
                    let state = [BoardState::Healthy, BoardState::Resetting, BoardState::Quarantined];
                    if !running.contains_key(&board) {
                        for queued in s.set_state(board, state[random.below(3) as usize]) {
                            ended(&mut open, queued.job);
                        }
                    }
                }
                5 => {
                    if let Some(jobs) = running.remove(&board) {
                        s.set_state(board, BoardState::Resetting);
                        s.finish(board, Done::default());
                        for queued in s.retry(jobs) {
                            ended(&mut open, queued.job);
                        }
                    }
                }
                6 => {
                    if let Some(id) = preparing.pop()
                        && let Err((_, job)) = s.enqueue(id, id)
                    {
                        ended(&mut open, job);
                    }
                    for queued in s.expire(now) {
                        ended(&mut open, queued.job);
                    }
                }
                7 => {
                    if calm {
                        s.set_state(board, BoardState::Healthy);
                    }
                    if let Some((model, jobs)) = run(&mut s, board, now) {
                        assert!(!jobs.is_empty());
                        assert!(jobs.iter().all(|q| q.entry.model == model), "seed {seed}: one model a batch");
                        let samples: usize = jobs.iter().map(|q| q.entry.samples).sum();
                        assert!(jobs.len() == 1 || samples <= 64);
                        assert!(running.insert(board, jobs).is_none(), "seed {seed}: one batch a board");
                    }
                }
                _ => {
                    if let Some(jobs) = running.remove(&board) {
                        end(&mut s, board, &jobs, MS);
                        for queued in jobs {
                            ended(&mut open, queued.job);
                        }
                    }
                }
            }
        }
        // What is left is finished.
        for id in preparing {
            if let Err((_, job)) = s.enqueue(id, id) {
                ended(&mut open, job);
            }
        }
        now += 1000 * MS;
        for queued in s.expire(now) {
            ended(&mut open, queued.job);
        }
        for _ in 0..2000 {
            for board in 0..3 {
                s.set_state(board, BoardState::Healthy);
                let jobs = running.remove(&board).or_else(|| run(&mut s, board, now).map(|(_, jobs)| jobs));
                let Some(jobs) = jobs else { continue };
                end(&mut s, board, &jobs, MS);
                for queued in jobs {
                    ended(&mut open, queued.job);
                }
            }
            now += MS;
        }
        assert!(open.is_empty(), "seed {seed}: {} requests never ended", open.len());
        assert_eq!(s.held(), Held::default(), "seed {seed}");
        assert!(s.idle(), "seed {seed}");
    }
}

#[test]
fn a_request_that_cannot_begin_in_time_is_refused_when_it_comes() {
    let now = Instant::now();
    let mut s = scheduler(2, now);
    s.open(1, spec(&[0, 1]));
    let by = |s: &mut Scheduler<u64>, client: &str, priority, time| {
        let id = s.admit(now, 1, client, (priority, Some(now + time)), (1, 1))?;
        s.enqueue(id, id).expect("it is queued");
        Ok::<_, Refusal>(id)
    };
    // Nothing was measured yet: it may well be in time.
    put(&mut s, now, 1, "a", 64);
    assert!(by(&mut s, "a", 0, MS).is_ok());
    while let Some((_, jobs)) = run(&mut s, 0, now) {
        end(&mut s, 0, &jobs, 10 * MS);
    }
    // Nothing goes before it: it is tried, whatever samples took.
    assert!(by(&mut s, "b", 0, MS).is_ok());
    put(&mut s, now, 1, "a", 40);
    // 40 samples of 10 ms on two boards.
    assert_eq!(by(&mut s, "a", 0, 199 * MS), Err(Refusal::TooLate(200 * MS)));
    assert!(by(&mut s, "a", 0, 201 * MS).is_ok());
    // Another client takes turns with it, and what is more urgent goes first.
    assert!(by(&mut s, "c", 0, MS).is_ok());
    assert!(by(&mut s, "a", 1, MS).is_ok());
    // Less urgent: after all of it, of whomever: a 40 + 1 + 1, b 1, c 1.
    assert_eq!(by(&mut s, "d", 200, 219 * MS), Err(Refusal::TooLate(220 * MS)));
    // Less ahead when those are gone.
    while let Some((_, jobs)) = run(&mut s, 0, now) {
        end(&mut s, 0, &jobs, 10 * MS);
    }
    assert!(by(&mut s, "d", 200, MS).is_ok());
    assert_eq!(s.waiting(1).0, 1);
}
