//! Clients at work, and when each request is due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akida_tools::exit::{Exit, Failure};
use hdrhistogram::Histogram;
use tokio::sync::Mutex;

use super::args::Args;
use super::client::{Client, Target};
use super::pace::Pacer;
use super::report::Report;

/// What one client saw.
pub struct Seen {
    /// Microseconds from when a request was due.
    pub latency: Histogram<u64>,
    /// Microseconds from when it was sent.
    pub service: Histogram<u64>,
    /// Why requests failed.
    pub failures: BTreeMap<String, u64>,
}

impl Seen {
    fn new() -> Result<Self, Failure> {
        let histogram = || {
            Histogram::new_with_bounds(1, 24 * 3600 * 1_000_000, 3)
                .map_err(|e| Failure::because(Exit::Internal, "cannot count times", &e, "please report this"))
        };
        Ok(Self { latency: histogram()?, service: histogram()?, failures: BTreeMap::new() })
    }

    fn merge(&mut self, other: &Seen) {
        // Bounds are the same.
        let _ = self.latency.add(&other.latency);
        let _ = self.service.add(&other.service);
        for (why, count) in &other.failures {
            *self.failures.entry(why.clone()).or_default() += count;
        }
    }
}

/// When requests are due: at once in a closed loop, else as a pacer says.
#[derive(Clone)]
enum Due {
    Now,
    Paced(Arc<Mutex<Pacer>>),
}

impl Due {
    async fn next(&self) -> Result<Option<Instant>, Failure> {
        match self {
            Due::Now => Ok(Some(Instant::now())),
            Due::Paced(pacer) => pacer.lock().await.next().await.map_err(no_timer),
        }
    }
}

fn no_timer(error: std::io::Error) -> Failure {
    Failure::because(Exit::Os, "cannot wait for the next request", &error, "raise the limit of open files")
}

/// Runs the load.
pub async fn measure(args: &Args, target: Target) -> Result<Report, Failure> {
    let clients = connect(args, &target).await?;
    let begin = Instant::now();
    let measured = begin + Duration::from_secs_f64(args.warmup);
    let end = measured + Duration::from_secs_f64(args.seconds);
    let due = match args.rate {
        None => Due::Now,
        Some(rate) => {
            let pacer = Pacer::new(rate, args.arrivals, begin, end).map_err(no_timer)?;
            Due::Paced(Arc::new(Mutex::new(pacer)))
        }
    };
    let target = Arc::new(target);
    let mut tasks = Vec::new();
    for client in clients {
        let work = work(client, target.clone(), due.clone(), measured, end);
        tasks.push(tokio::spawn(work));
    }
    let mut all = Seen::new()?;
    for task in tasks {
        let seen = task.await;
        all.merge(
            &seen.map_err(|e| Failure::because(Exit::Internal, "a client ended early", &e, "please report this"))??,
        );
    }
    // In an open loop the last answers come after the end; they count, and so does their time.
    let elapsed = measured.elapsed().as_secs_f64().min(args.seconds + args.timeout);
    Ok(Report::new(args, &target.input, &all, if args.rate.is_none() { args.seconds } else { elapsed }))
}

/// All clients, before anything is measured.
async fn connect(args: &Args, target: &Target) -> Result<Vec<Client>, Failure> {
    let unreachable =
        |e: String| Failure::new(Exit::Unavailable, format!("cannot connect: {e}"), "check the service's limits");
    let mut channels = Vec::new();
    if target.is_grpc() {
        // Calls share connections, as those of clients do.
        for _ in 0..usize::from(args.concurrency).div_ceil(64) {
            channels.push(target.channel().await.map_err(unreachable)?);
        }
    }
    let mut clients = Vec::new();
    for number in 0..usize::from(args.concurrency) {
        let channel = channels.get(number % channels.len().max(1)).cloned();
        clients.push(Client::new(target, channel).await.map_err(unreachable)?);
    }
    Ok(clients)
}

/// One client until the end. Requests that were due before `measured` are not counted.
async fn work(
    mut client: Client,
    target: Arc<Target>,
    due: Due,
    measured: Instant,
    end: Instant,
) -> Result<Seen, Failure> {
    let mut seen = Seen::new()?;
    while let Some(due) = due.next().await? {
        if due >= end {
            break;
        }
        let sent = Instant::now();
        let outcome = client.infer(&target).await;
        let done = Instant::now();
        if outcome.is_err() {
            // A service that refuses everything is not asked as fast as it can refuse.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if due < measured {
            continue;
        }
        match outcome {
            Ok(()) => {
                seen.latency.saturating_record((done - due).as_micros() as u64);
                seen.service.saturating_record((done - sent).as_micros() as u64);
            }
            Err(why) => *seen.failures.entry(why).or_default() += 1,
        }
    }
    Ok(seen)
}
