//! Work that is for no board: inputs that take long to make, answers that take long to write. Few threads, one queue,
//! which is bounded by the requests that are taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use akida_runtime::hybrid::HybridOutputs;
use crossbeam_channel::Receiver;

use super::inputs::Plan;
use super::model::Served;
use super::outputs::{self, Wanted};
use super::scheduler::{Entry, JobId, Lost, Queued};
use super::shared::{Job, Reply, Shared, lock};
use super::stats::Times;
use crate::error::{Kind, ServeError};
use crate::request::InferResponse;

/// A piece of work.
pub enum Task {
    /// Make the input of a request that was taken, and queue it.
    Prepare(Box<Taken>),
    /// Answer the requests of a batch.
    Answer(Batch),
    /// End one thread.
    Stop,
}

/// A request that was taken and not prepared.
pub struct Taken {
    /// Its number.
    pub id: JobId,
    /// The version that runs it.
    pub served: Arc<Served>,
    /// What is to be made of its tensor.
    pub plan: Plan,
    /// What is asked for.
    pub wanted: Vec<Wanted>,
    /// Who waits for it.
    pub reply: Reply,
    /// The client's name for it.
    pub name: String,
    /// The trace it belongs to.
    pub trace: Option<String>,
    /// When it came.
    pub received: Instant,
}

/// A batch that a board has computed.
pub struct Batch {
    /// The model.
    pub served: Arc<Served>,
    /// Its results.
    pub results: HybridOutputs,
    /// Its requests, in order.
    pub jobs: Vec<Queued<Job>>,
    /// Which board made it.
    pub device: String,
    /// When the board began.
    pub began: Instant,
    /// How long it took.
    pub infer: Duration,
}

/// A thread of the pool.
pub fn run(shared: &Shared, tasks: &Receiver<Task>) {
    while let Ok(task) = tasks.recv() {
        match task {
            Task::Prepare(taken) => prepare(shared, *taken),
            Task::Answer(batch) => answer(shared, batch),
            Task::Stop => break,
        }
    }
}

/// Makes the input of a request and queues it.
pub fn prepare(shared: &Shared, taken: Taken) {
    let Taken { id, served, plan, wanted, reply, name, trace, received } = taken;
    let start = Instant::now();
    let input = match plan.prepare(&served) {
        Ok(input) => input,
        Err(error) => {
            shared.inner().scheduler.abandon(id);
            let total = received.elapsed();
            lock(&served.stats).fail(total);
            let result = Err(error);
            shared.metrics.request(&served, &result, total, Duration::ZERO);
            reply.send(result);
            shared.settled.notify_all();
            return;
        }
    };
    // What the client sent is not needed any more.
    drop(plan);
    let preparing = start.elapsed();
    let model = served.id;
    let job = Job { served, input, wanted, reply, id: name, trace, received, preparing };
    let mut inner = shared.inner();
    match inner.scheduler.enqueue(id, job) {
        Ok(()) => {
            shared.ring(&inner, model);
            shared.mind(&inner);
        }
        Err((lost, job)) => {
            drop(inner);
            let error = match lost {
                Lost::Cancelled => ServeError::new(Kind::Cancelled, "the client withdrew the request"),
                Lost::NoBoard => {
                    ServeError::new(Kind::Unavailable, format!("no board of model {} is healthy", job.served.name))
                }
            };
            let total = job.received.elapsed();
            match lost {
                Lost::Cancelled => lock(&job.served.stats).cancel(total),
                Lost::NoBoard => lock(&job.served.stats).fail(total),
            }
            let result = Err(error);
            shared.metrics.request(&job.served, &result, total, Duration::ZERO);
            job.reply.send(result);
            shared.settled.notify_all();
        }
    }
}

/// Answers the requests of a batch.
pub fn answer(shared: &Shared, batch: Batch) {
    let Batch { served, results, jobs, device, began, infer } = batch;
    let samples: usize = jobs.iter().map(|q| q.entry.samples).sum();
    let (mut first, mut input, mut output) = (0, Duration::ZERO, Duration::ZERO);
    let mut answers = Vec::with_capacity(jobs.len());
    for queued in jobs {
        let Entry { samples, since, .. } = queued.entry;
        let start = Instant::now();
        let tensors = outputs::encode(&served, &results, &queued.job.wanted, first, samples);
        first += samples;
        let response = tensors.map(|outputs| InferResponse {
            model: served.name.to_string(),
            version: served.version,
            id: queued.job.id.clone(),
            device: device.clone(),
            outputs,
        });
        let times = Times {
            total: Duration::ZERO,
            queue: began.saturating_duration_since(since),
            input: queued.job.preparing,
            infer,
            output: start.elapsed(),
        };
        input += times.input;
        output += times.output;
        let trace = queued.job.trace.as_deref().unwrap_or("");
        log::debug!(
            request = queued.job.id.as_str(), trace = trace, board = device.as_str(), model = served.label().as_str(),
            samples = samples; "answered"
        );
        answers.push((queued, response, times));
    }
    // Who has an answer and asks for statistics finds its batch in them.
    lock(&served.stats).batch(samples, input, infer, output);
    shared.metrics.batch(&served, samples);
    for (queued, response, times) in answers {
        shared.answer(queued, response, times);
    }
}
