//! One hardware sequence over many samples, several jobs in flight: a feeder thread makes inputs, a driver thread owns
//! the device, the caller takes outputs as they come. Both channels are bounded, so nobody runs ahead by more than a few
//! samples.

use std::collections::VecDeque;
use std::time::Duration;

use akida_hal::device::{Device, JobTiming, OutputValues};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::error::SessionError;
use super::values::Values;

/// A finished job.
pub struct Done {
    /// The output.
    pub values: Values,
    /// Where its time went.
    pub timing: JobTiming,
}

/// How a run ended. What was taken before a failure is right and stays.
pub enum End {
    /// All samples.
    Complete,
    /// The device failed.
    Device(akida_hal::Error),
    /// Something else did, on the way in or out.
    Other(SessionError),
}

/// How long a single fetch waits; the device has its own deadline, after which it says so.
const FETCH: Duration = Duration::from_secs(1);

/// Runs samples `from..to`: `make` gives each input, `take` gets each output, in order.
pub fn run(
    device: &mut Device,
    jobs: usize,
    samples: std::ops::Range<usize>,
    make: impl Fn(usize) -> Result<Vec<u8>, SessionError> + Sync,
    mut take: impl FnMut(usize, Done) -> Result<(), SessionError>,
) -> End {
    let board = device.identity().to_string();
    let (feed, fed) = bounded::<Vec<u8>>(jobs.max(1));
    let (give, given) = bounded::<Done>(jobs.max(1) * 2);
    let first = samples.start;
    let (driven, fed_all, taken) = std::thread::scope(|scope| {
        let make = &make;
        let feeder = scope.spawn(move || {
            for sample in samples {
                // A closed channel means that the driver has failed and says why.
                if feed.send(make(sample)?).is_err() {
                    break;
                }
            }
            Ok(())
        });
        let driver = scope.spawn(move || drive(device, jobs, &fed, &give));
        let mut taken = Ok(());
        for (i, done) in given.iter().enumerate() {
            taken = take(first + i, done);
            if taken.is_err() {
                break;
            }
        }
        drop(given);
        (driver.join(), feeder.join(), taken)
    });
    let panicked = |thread| End::Other(SessionError::Panicked { board: board.clone(), thread });
    match (driven, fed_all, taken) {
        (Err(_), _, _) => panicked("driver"),
        (_, Err(_), _) => panicked("feeder"),
        (_, _, Err(error)) | (_, Ok(Err(error)), _) => End::Other(error),
        (Ok(Err(error)), _, _) => End::Device(error),
        (Ok(Ok(())), Ok(Ok(())), Ok(())) => End::Complete,
    }
}

/// Keeps the device busy until there is no input left and every job is fetched. When nobody takes outputs any more, the
/// jobs in flight are fetched and dropped, so that the next run starts clean.
fn drive(device: &mut Device, jobs: usize, fed: &Receiver<Vec<u8>>, give: &Sender<Done>) -> akida_hal::Result<()> {
    let mut held: VecDeque<Vec<u8>> = VecDeque::new();
    let (mut open, mut wanted) = (true, true);
    loop {
        while wanted && device.pending() < jobs {
            let next = match held.pop_front() {
                Some(input) => Some(input),
                None if !open => None,
                None if device.pending() == 0 => fed.recv().ok(),
                None => match fed.try_recv() {
                    Ok(input) => Some(input),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => None,
                },
            };
            let Some(input) = next else {
                open = false;
                break;
            };
            if device.enqueue(&input)?.is_none() {
                held.push_front(input);
                break;
            }
        }
        if device.pending() == 0 {
            if !wanted || (!open && held.is_empty()) {
                return Ok(());
            }
            continue;
        }
        let mut values = OutputValues::U8(Vec::new());
        if let Some((_, timing)) = device.fetch_into(FETCH, &mut values)?
            && wanted
        {
            wanted = give.send(Done { values: values.into(), timing }).is_ok();
        }
    }
}
