//! Clients at work, and when each request is due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akida_tools::exit::{Exit, Failure};
use hdrhistogram::Histogram;
use tokio::sync::{Mutex, mpsc};

use super::args::{Args, Arrivals};
use super::client::{Client, Target};
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
    Paced(Arc<Mutex<mpsc::UnboundedReceiver<Instant>>>),
}

impl Due {
    async fn next(&self) -> Option<Instant> {
        match self {
            Due::Now => Some(Instant::now()),
            Due::Paced(times) => times.lock().await.recv().await,
        }
    }
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
            let (send, receive) = mpsc::unbounded_channel();
            let arrivals = args.arrivals;
            // A thread of its own: timers of the runtime count in milliseconds.
            std::thread::spawn(move || pace(&send, rate, arrivals, begin, end));
            Due::Paced(Arc::new(Mutex::new(receive)))
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

/// Tells when requests are due, from `begin` to `end`.
fn pace(send: &mpsc::UnboundedSender<Instant>, rate: f64, arrivals: Arrivals, begin: Instant, end: Instant) {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut at = 0.0;
    loop {
        let due = begin + Duration::from_secs_f64(at);
        if due >= end {
            return;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if send.send(due).is_err() {
            return;
        }
        at += match arrivals {
            Arrivals::Constant => 1.0 / rate,
            Arrivals::Poisson => {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // (0, 1], so that the logarithm is finite.
                let uniform = ((state >> 11) + 1) as f64 / (1u64 << 53) as f64;
                -uniform.ln() / rate
            }
        };
    }
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
    while let Some(due) = due.next().await {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_the_rate_that_was_asked_for() {
        for (arrivals, least, most) in [(Arrivals::Constant, 1000, 1000), (Arrivals::Poisson, 850, 1150)] {
            let (send, mut receive) = mpsc::unbounded_channel();
            // All of it lies in the past, so nobody waits.
            let end = Instant::now();
            let Some(begin) = end.checked_sub(Duration::from_secs(1)) else { return };
            pace(&send, 1000.0, arrivals, begin, end);
            drop(send);
            let mut times = Vec::new();
            while let Ok(time) = receive.try_recv() {
                times.push(time);
            }
            assert!((least..=most).contains(&times.len()), "{arrivals:?}: {}", times.len());
            assert!(times.is_sorted() && times[0] == begin);
        }
    }
}
