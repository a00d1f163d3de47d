//! The thread of a board: opens and tests it, programs it, runs batches, and brings it back when it fails.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use akida_hal::ErrorKind;
use akida_runtime::hybrid::{HybridAnswers, HybridError, HybridOutputs, HybridReady, HybridSession, PartResults};
use akida_runtime::session::{Batch as Samples, Detail, SessionError};
use akida_tools::exit::{Failure, chain};
use crossbeam_channel::Sender;
use ndarray::{Axis, concatenate};

use super::inputs::Input;
use super::model::Served;
use super::pool::{self, Batch, Task};
use super::scheduler::{BoardId, BoardState, Decision, Done, ModelId, Queued};
use super::shared::{Job, Order, Shared, lock};
use super::stats::Times;
use crate::error::{Kind, ServeError};

/// The known-answer network's number; models begin at 1.
pub(super) const KNOWN: ModelId = 0;
/// Answers of more bytes are written by the pool, so that the board need not wait for them.
const LARGE: usize = 64 << 10;

/// A board and what is known of it.
pub struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) id: BoardId,
    pub(super) device: String,
    pub(super) open: Option<Open>,
    /// Models that are not on the board at present, the known-answer network among them.
    parked: HashMap<ModelId, HybridReady>,
    /// Versions that were taken in.
    served: HashMap<ModelId, Installed>,
    /// When it failed lately.
    pub(super) failures: VecDeque<Instant>,
    /// When it is tested again, and how long after that.
    pub(super) retest: Option<(Instant, Duration)>,
    /// Whether no test can ever put it to work.
    pub(super) hopeless: bool,
    /// When it last ended something.
    pub(super) rested: Instant,
    /// What the device counted before.
    moved: u64,
    reset: u64,
}

pub(super) struct Open {
    pub session: HybridSession,
    pub answers: HybridAnswers,
    /// The network that the session is on.
    pub on: ModelId,
}

impl Open {
    /// What a thread that failed had on the session is lost with it: nothing else may answer in its place.
    fn holds(&self, model: ModelId) -> Result<(), Fault> {
        let lost = || Fault::Board("the model is not on this board: this is a mistake in this software".to_owned());
        (self.on == model).then_some(()).ok_or_else(lost)
    }
}

struct Installed {
    answers: Option<Arc<HybridAnswers>>,
    /// Held against its known answers on this board.
    tested: bool,
}

/// What a worker does next.
enum Work {
    Order(Order),
    Batch(ModelId, Vec<Queued<Job>>),
    Retest,
    Probe,
    Stop,
}

/// Why a batch has no results.
enum Fault {
    /// The board: it must be reset and tested.
    Board(String),
    /// A request of it, or the model.
    Request(ServeError),
}

impl Worker {
    /// A worker whose board is not opened yet.
    pub fn new(shared: Arc<Shared>, id: BoardId) -> Self {
        Self {
            device: shared.boards[id].device(),
            shared,
            id,
            open: None,
            parked: HashMap::new(),
            served: HashMap::new(),
            failures: VecDeque::new(),
            retest: None,
            hopeless: false,
            rested: Instant::now(),
            moved: 0,
            reset: 0,
        }
    }

    /// Opens and tests the board, says how that went, and works until the engine stops.
    pub fn run(mut self, opened: &Sender<(BoardId, Result<(), Failure>)>) {
        let result = self.bring_up();
        // Nobody listens any more: then the start failed for another reason, and the next look at the orders ends this.
        let _ = opened.send((self.id, result));
        loop {
            match self.next() {
                Work::Stop => break,
                Work::Order(order) => self.busy(|worker| worker.obey(order)),
                Work::Batch(model, jobs) => self.busy(|worker| worker.batch(model, jobs)),
                Work::Retest => self.busy(Self::test_again),
                Work::Probe => self.busy(Self::probe),
            }
        }
        log::info!(board = self.shared.boards[self.id].name.as_str(); "closed");
    }

    /// Runs something during which the board counts as busy. A panic costs the board, not the service.
    fn busy(&mut self, work: impl FnOnce(&mut Self)) {
        let start = Instant::now();
        let info = &self.shared.clone().boards[self.id];
        *lock(&info.busy) = Some(start);
        let outcome = catch_unwind(AssertUnwindSafe(|| work(self)));
        *lock(&info.busy) = None;
        let elapsed = start.elapsed();
        lock(&info.report).busy += elapsed;
        self.shared.metrics.busy(&info.name, elapsed);
        if outcome.is_err() {
            self.open = None;
            self.retest = None;
            self.shared.inner().scheduler.finish(self.id, Done::default());
            let reason = "its thread failed: this is a mistake in this software; restart the service";
            self.shared.set_state(self.id, BoardState::Quarantined, reason);
        }
        self.count();
        self.rested = Instant::now();
    }

    /// Waits for something to do.
    fn next(&mut self) -> Work {
        let shared = self.shared.clone();
        let mut inner = shared.inner();
        loop {
            if let Some(order) = inner.orders[self.id].pop_front() {
                return Work::Order(order);
            }
            let now = Instant::now();
            if self.retest.is_some_and(|(at, _)| at <= now) {
                return Work::Retest;
            }
            let until = match inner.scheduler.next(self.id, now) {
                Decision::Run { model, jobs } => return Work::Batch(model, jobs),
                Decision::Wait(until) => until,
            };
            if inner.stop {
                return Work::Stop;
            }
            let probe = self.probe_at(inner.scheduler.board(self.id).0);
            if probe.is_some_and(|at| at <= now) {
                return Work::Probe;
            }
            let until = [until, self.retest.map(|(at, _)| at), probe].into_iter().flatten().min();
            let bell = &shared.bells[self.id];
            inner = match until {
                None => bell.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let time = until.saturating_duration_since(now);
                    bell.wait_timeout(inner, time).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Puts a network on the session. Whether it was another before.
    pub(super) fn select(&mut self, model: ModelId) -> bool {
        let Some(open) = &mut self.open else { return false };
        if open.on == model {
            return false;
        }
        let Some(mut ready) = self.parked.remove(&model) else { return false };
        open.session.exchange(&mut ready);
        self.parked.insert(open.on, ready);
        open.on = model;
        true
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Install { served, ready, answers, reply } => {
                let (id, label) = (served.id, served.label());
                self.parked.insert(id, *ready);
                self.served.insert(id, Installed { answers, tested: false });
                let healthy = self.shared.inner().scheduler.board(self.id).0 == BoardState::Healthy;
                let result = if healthy { self.try_out(id) } else { Ok(()) };
                if let Err(reason) = &result {
                    log::warn!(board = self.device.as_str(), model = label.as_str(); "not taken in: {reason}");
                    self.forget(id);
                }
                // The loader gave up waiting: it will order this model to be dropped.
                let _ = reply.send(result);
            }
            Order::Drop(model) => self.forget(model),
            Order::Retest => self.test_again(),
        }
    }

    fn forget(&mut self, model: ModelId) {
        if self.open.as_ref().is_some_and(|open| open.on == model) {
            self.select(KNOWN);
        }
        self.parked.remove(&model);
        self.served.remove(&model);
    }

    /// Holds a model against its known answers on this board, which measures programming too. A board that fails at it is
    /// reset and tested, and the model tried once more.
    fn try_out(&mut self, model: ModelId) -> Result<(), String> {
        for last in [false, true] {
            match self.check(model) {
                Ok(()) => return Ok(()),
                Err(Fault::Request(error)) => return Err(error.message),
                Err(Fault::Board(reason)) => {
                    self.failed(&reason);
                    let healthy = self.shared.inner().scheduler.board(self.id).0 == BoardState::Healthy;
                    if last || !healthy {
                        return Err(reason);
                    }
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, model: ModelId) -> Result<(), Fault> {
        let answers = self.served.get(&model).and_then(|i| i.answers.clone());
        self.select(model);
        let Some(open) = &mut self.open else { return Ok(()) };
        open.holds(model)?;
        if let Some(answers) = answers {
            let start = Instant::now();
            let checked = open.session.check(&answers);
            checked.map_err(|e| fault(&e))?;
            self.shared.inner().scheduler.measured(self.id, model, start.elapsed());
        }
        if let Some(installed) = self.served.get_mut(&model) {
            installed.tested = true;
        }
        Ok(())
    }

    /// Runs a batch and answers its requests.
    fn batch(&mut self, model: ModelId, jobs: Vec<Queued<Job>>) {
        let began = Instant::now();
        let Some(served) = jobs.first().map(|q| q.job.served.clone()) else {
            self.shared.inner().scheduler.finish(self.id, Done::default());
            return;
        };
        // A model that was taken in while the board was away is tried out first.
        if self.served.get(&model).is_some_and(|i| !i.tested)
            && let Err(fault) = self.check(model)
        {
            return self.no_results(fault, jobs);
        }
        let switched = self.select(model);
        match self.infer(&jobs, &served) {
            Ok(results) => {
                let infer = began.elapsed();
                let programming = programming(&results);
                let samples: usize = jobs.iter().map(|q| q.entry.samples).sum();
                let cost = switched.then_some(programming);
                let done =
                    Done { samples, computing: infer.saturating_sub(cost.unwrap_or_default()), programming: cost };
                {
                    let mut report = lock(&self.shared.boards[self.id].report);
                    report.requests += jobs.len() as u64;
                    report.samples += samples as u64;
                    report.programmed += u64::from(switched);
                }
                self.shared.metrics.ran(&self.shared.boards[self.id].name, infer, programming, switched);
                let bytes: usize = served.network.outputs.iter().map(|p| p.bytes() * samples).sum();
                let batch = Batch { served, results, jobs, device: self.device.clone(), began, infer };
                match bytes > LARGE {
                    // The pool ends after the boards; should it not take this, the requests say that they were lost.
                    true => drop(self.shared.tasks.send(Task::Answer(batch))),
                    false => pool::answer(&self.shared, batch),
                }
                self.finish(done);
            }
            Err(fault) => self.no_results(fault, jobs),
        }
    }

    fn finish(&self, done: Done) {
        let mut inner = self.shared.inner();
        inner.scheduler.finish(self.id, done);
        let gone = inner.scheduler.reap();
        drop(inner);
        self.shared.gone(&gone);
    }

    fn no_results(&mut self, fault: Fault, jobs: Vec<Queued<Job>>) {
        match fault {
            Fault::Board(reason) => {
                self.shared.set_state(self.id, BoardState::Resetting, &reason);
                let mut inner = self.shared.inner();
                inner.scheduler.finish(self.id, Done::default());
                let retried = jobs.iter().filter(|q| !q.entry.retried).count();
                let model = jobs.first().map(|q| q.entry.model);
                let failed = inner.scheduler.retry(jobs);
                if let Some(model) = model {
                    self.shared.ring(&inner, model);
                }
                drop(inner);
                self.shared.metrics.retried(&self.shared.boards[self.id].name, retried);
                for queued in failed {
                    let message = format!("a board failed at this request for the second time: {reason}");
                    self.shared.answer_freed(queued, ServeError::new(Kind::Internal, message));
                }
                self.failed(&reason);
            }
            // One request of several may be the cause: each for itself.
            Fault::Request(_) if jobs.len() > 1 => {
                let mut rest = jobs.into_iter();
                while let Some(queued) = rest.next() {
                    let mut one = vec![queued];
                    let began = Instant::now();
                    let served = one[0].job.served.clone();
                    match self.infer(&one, &served) {
                        Ok(results) => {
                            let (device, infer) = (self.device.clone(), began.elapsed());
                            pool::answer(&self.shared, Batch { served, results, jobs: one, device, began, infer });
                        }
                        Err(Fault::Request(error)) => self.refuse(one, &error),
                        Err(fault) => {
                            one.extend(rest);
                            return self.no_results(fault, one);
                        }
                    }
                }
                self.finish(Done::default());
            }
            Fault::Request(error) => {
                self.refuse(jobs, &error);
                self.finish(Done::default());
            }
        }
    }

    fn refuse(&self, jobs: Vec<Queued<Job>>, error: &ServeError) {
        for queued in jobs {
            self.shared.answer(queued, Err(error.clone()), Times::default());
        }
    }

    /// Runs the samples of all requests as one batch.
    fn infer(&mut self, jobs: &[Queued<Job>], served: &Served) -> Result<HybridOutputs, Fault> {
        let Some(open) = &mut self.open else { return Err(Fault::Board("the board is not open".to_owned())) };
        open.holds(served.id)?;
        if served.stateful {
            open.session.reset();
        }
        if let [Queued { job: Job { input: Input::Floats(array), .. }, .. }] = jobs {
            return open.session.infer(Samples::Float(array.view()), Detail::Outputs).map_err(|e| fault(&e));
        }
        let arrays: Vec<_> = jobs.iter().filter_map(|q| q.job.input.floats()).collect();
        if !arrays.is_empty() {
            let batch = concatenate(Axis(0), &arrays);
            let batch = batch.map_err(|e| Fault::Request(ServeError::new(Kind::Internal, e.to_string())))?;
            return open.session.infer(Samples::Float(batch.view()), Detail::Outputs).map_err(|e| fault(&e));
        }
        let samples: Vec<&[u8]> = jobs.iter().flat_map(|q| q.job.input.samples()).collect();
        open.session.infer(Samples::Slices(&samples), Detail::Outputs).map_err(|e| fault(&e))
    }

    /// Models must show again what they give on this board. What the device counted begins anew too.
    pub(super) fn untested(&mut self) {
        self.count();
        (self.moved, self.reset) = (0, 0);
        self.served.values_mut().for_each(|installed| installed.tested = false);
    }

    /// Carries what the device counted into the reports.
    pub(super) fn count(&mut self) {
        let Some(open) = &self.open else { return };
        let statistics = open.session.device().statistics();
        let moved = statistics.bytes_in + statistics.bytes_out;
        let (bytes, resets) = (moved.saturating_sub(self.moved), statistics.resets.saturating_sub(self.reset));
        (self.moved, self.reset) = (moved, statistics.resets);
        let info = &self.shared.boards[self.id];
        let mut report = lock(&info.report);
        report.dma_bytes += bytes;
        report.resets += resets;
        self.shared.metrics.device(&info.name, bytes, resets);
    }
}

/// Time that programming took in a call.
fn programming(results: &HybridOutputs) -> Duration {
    let sequences = results.parts.iter().filter_map(|part| match part {
        PartResults::Board { outputs, .. } => Some(&outputs.statistics.sequences),
        PartResults::Host { .. } => None,
    });
    sequences.flatten().map(|s| s.programming).sum()
}

/// Whose fault an error is.
fn fault(error: &HybridError) -> Fault {
    let text = chain(error);
    let kind = match error {
        HybridError::Board { source, .. } => match **source {
            SessionError::Input { .. } | SessionError::Edge { .. } | SessionError::Shape { .. } => Kind::Invalid,
            SessionError::Map { .. } | SessionError::Prepare { .. } | SessionError::Run { .. } => Kind::Internal,
            // What was asked of the board was wrong, not the board.
            SessionError::Device { source: ref device, .. }
                if matches!(device.kind(), ErrorKind::Usage | ErrorKind::Program) =>
            {
                Kind::Internal
            }
            _ => return Fault::Board(text),
        },
        HybridError::Raw { .. } | HybridError::Shape { .. } => Kind::Invalid,
        _ => Kind::Internal,
    };
    Fault::Request(ServeError::new(kind, text))
}
