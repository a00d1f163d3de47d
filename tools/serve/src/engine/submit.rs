//! A request comes in: checked, taken or refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Engine;
use super::inputs::Plan;
use super::model::Served;
use super::outputs;
use super::pool::{self, Taken, Task};
use super::scheduler::Refusal;
use super::shared::{Reply, lock};
use crate::error::{Kind, ServeError};
use crate::request::{InferRequest, InferResponse};
use crate::service::{Done, Ticket};

impl Engine {
    pub(super) fn try_submit(&self, request: InferRequest, done: Done) -> Ticket {
        let received = Instant::now();
        let reply = Reply::new(done);
        let shared = &self.shared;
        let Some(served) = shared.find(&request.model, request.version) else {
            reply.send(Err(shared.missing(&request.model, request.version)));
            return Ticket::ended();
        };
        let refuse = |reply: Reply, error: ServeError, served: &Served| {
            let total = received.elapsed();
            {
                let mut stats = lock(&served.stats);
                stats.fail(total);
                stats.refused += u64::from(error.kind == Kind::Busy);
            }
            let result: Result<InferResponse, ServeError> = Err(error);
            shared.metrics.request(served, &result, total, Duration::ZERO);
            reply.send(result);
            Ticket::ended()
        };
        let plan = Plan::new(&served, &request.inputs);
        let found = plan.and_then(|plan| Ok((plan, outputs::find(&served, &request.outputs)?)));
        let (plan, wanted) = match found {
            Ok(found) => found,
            Err(error) => return refuse(reply, error, &served),
        };
        let size = (plan.samples, plan.bytes());
        let when = (request.priority, request.deadline);
        let admitted = shared.inner().scheduler.admit(received, served.id, &request.client, when, size);
        let id = match admitted {
            Ok(id) => id,
            // Replaced between the look into the registry and now.
            Err(Refusal::Closed) if shared.find(&request.model, request.version).is_some_and(|s| s.id != served.id) => {
                return self.again(request, reply);
            }
            Err(refusal) => return refuse(reply, refused(&served, &refusal), &served),
        };
        let model = served.id;
        let heavy = plan.heavy();
        let (name, trace) = (request.id, request.trace);
        let taken = Taken { id, served, plan, wanted, reply, name, trace, received };
        match heavy {
            true => {
                // The pool ends after the last request; should it not take this, the reply says that it was lost.
                drop(shared.tasks.send(Task::Prepare(Box::new(taken))));
            }
            false => pool::prepare(shared, taken),
        }
        let shared = Arc::downgrade(shared);
        Ticket::new(move || {
            let Some(shared) = shared.upgrade() else { return };
            let cancelled = shared.inner().scheduler.cancel(id, model);
            if let Some(queued) = cancelled {
                shared.answer_freed(queued, ServeError::new(Kind::Cancelled, "the client withdrew the request"));
            }
        })
    }

    fn again(&self, request: InferRequest, reply: Reply) -> Ticket {
        self.try_submit(request, Box::new(move |result| reply.send(result)))
    }
}

/// What a client is told of a refusal.
fn refused(served: &Served, refusal: &Refusal) -> ServeError {
    let name = &served.name;
    match refusal {
        Refusal::Draining => ServeError::new(Kind::Unavailable, "the service ends and takes no more requests"),
        Refusal::Closed => ServeError::new(Kind::Unavailable, format!("model {name:?} goes out of service")),
        Refusal::NoBoard => ServeError::new(Kind::Unavailable, format!("no board of model {name:?} is healthy")),
        Refusal::Deadline => ServeError::new(Kind::Deadline, "the deadline passed before the request came"),
        Refusal::TooLate(wait) => {
            let message = format!("the deadline comes first: what goes before this request takes {wait:.1?}");
            ServeError::new(Kind::Deadline, message)
        }
        Refusal::Full(full) => {
            let (what, limit, all, client) = (full.what, full.limit, full.all, full.client);
            let message = format!(
                "too much waits: {all} of {limit} {what} are held, {client} of them for this client, who may hold as much \
                 as is free without it; try again later"
            );
            let retry_after = Some(full.retry_after.unwrap_or(Duration::from_secs(1)).max(Duration::from_millis(1)));
            ServeError { retry_after, ..ServeError::new(Kind::Busy, message) }
        }
    }
}
