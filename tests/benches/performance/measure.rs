//! Peers measured in the same run, in turns, so that what else the machine does hits all of them alike.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// One of the peers: what it is called and what it does once.
pub type Peer<'a> = (&'a str, &'a mut dyn FnMut());

/// How long a thing takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Time {
    /// Median over the rounds, in seconds.
    pub median: f64,
    /// Half the distance of the quartiles, as a part of the median.
    pub spread: f64,
    /// Whether other processes took the processor away in most rounds, so that none could be left out for it.
    pub disturbed: bool,
}

/// Rounds and the least length of one measurement.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: usize,
    pub least: Duration,
}

impl Effort {
    /// For what takes microseconds: short enough that other processes seldom get a turn in between.
    pub const SHORT: Self = Self { rounds: 101, least: Duration::from_millis(2) };
    /// For what takes milliseconds and more.
    pub const LONG: Self = Self { rounds: 31, least: Duration::from_millis(4) };
}

/// The times of peers, in their order. Each round measures every peer once, as many runs as fill the least length; the
/// first of a round is another one each time. A measurement during which this process was thrown off the processor says
/// how busy the machine is, not how long the work takes: it is left out, and rounds are added for it.
pub fn in_turns(effort: Effort, peers: &mut [Peer<'_>]) -> Vec<Time> {
    let runs: Vec<u32> = peers.iter_mut().map(|(_, work)| runs_that_fill(effort.least, work)).collect();
    let mut all = vec![Vec::with_capacity(effort.rounds); peers.len()];
    let mut alone = all.clone();
    for round in 0..effort.rounds * MOST {
        if round >= effort.rounds && alone.iter().all(|times| times.len() >= effort.rounds / 2) {
            break;
        }
        for turn in 0..peers.len() {
            let peer = (round + turn) % peers.len();
            let (thrown_off, start) = (times_thrown_off(), Instant::now());
            for _ in 0..runs[peer] {
                (peers[peer].1)();
            }
            let time = start.elapsed().as_secs_f64() / f64::from(runs[peer]);
            all[peer].push(time);
            if times_thrown_off() == thrown_off {
                alone[peer].push(time);
            }
        }
    }
    let choose = |(all, alone): (Vec<f64>, Vec<f64>)| {
        let disturbed = alone.len() < FEWEST;
        Time { disturbed, ..summary(if disturbed { all } else { alone }) }
    };
    all.into_iter().zip(alone).map(choose).collect()
}

/// At most so many times the rounds asked for.
const MOST: usize = 4;
/// With fewer measurements than this the disturbed ones count too.
const FEWEST: usize = 5;

/// How often a thread of this process had to leave a processor it wanted to keep; 0 where the system does not tell.
fn times_thrown_off() -> i64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.involuntary_context_switches())
}

/// One run warms up; then as many as took the least length, doubling.
fn runs_that_fill(least: Duration, work: &mut dyn FnMut()) -> u32 {
    work();
    let mut runs = 1;
    loop {
        let start = Instant::now();
        (0..runs).for_each(|_| work());
        if start.elapsed() >= least {
            return runs;
        }
        runs *= 2;
    }
}

/// Median and spread.
fn summary(mut values: Vec<f64>) -> Time {
    values.sort_by(f64::total_cmp);
    let at = |part: usize| values[(values.len() - 1) * part / 4];
    Time { median: at(2), spread: (at(3) - at(1)) / 2.0 / at(2), disturbed: false }
}

/// Times of the steps of a sequence, taken each time it runs.
#[derive(Debug, Default)]
pub struct Steps {
    names: Vec<&'static str>,
    seconds: Vec<Vec<f64>>,
}

impl Steps {
    /// Does a step.
    pub fn step<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.note(name, start.elapsed());
        result
    }

    /// Notes a time measured elsewhere.
    pub fn note(&mut self, name: &'static str, time: Duration) {
        let index = self.names.iter().position(|n| *n == name).unwrap_or_else(|| {
            self.names.push(name);
            self.seconds.push(Vec::new());
            self.names.len() - 1
        });
        self.seconds[index].push(time.as_secs_f64());
    }

    /// Median and spread of each step, in the order of the first run.
    pub fn summary(self) -> Vec<(&'static str, Time)> {
        self.names.into_iter().zip(self.seconds.into_iter().map(summary)).collect()
    }
}
