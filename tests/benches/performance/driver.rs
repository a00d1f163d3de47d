//! The driver over the simulated board: what an inference costs around its arithmetic.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use akida_hal::device::{Device, DeviceOptions, JobTiming};
use akida_runtime::model::Model;
use akida_runtime::session::{Batch, CallStatistics, HostNetwork, Session, SessionOptions};
use akida_simulator::{Clock, Model as BoardModel, SimBoard, SimSpec};

use crate::digits;
use crate::measure::{Effort, Steps, in_turns};
use crate::table;

const COPY_IN: &str = "copy in";
const RUN: &str = "doorbell to completion";
const COPY_OUT: &str = "copy out";

/// A session on a new board; `clock` decides whether the board works in the access that starts it or in its own thread.
pub fn session(model: &Arc<Model>, clock: Clock, jobs: usize) -> Session {
    let board = Arc::new(SimBoard::open(&SimSpec::new(BoardModel::Akida2SixNodes).with_clock(clock)).expect("a board"));
    let device = Device::open(board, DeviceOptions::default()).expect("a device");
    Session::open(model.clone(), device, SessionOptions { jobs, ..SessionOptions::default() }).expect("a session")
}

/// One row: a session, the samples of a call, and where their time went.
struct Row {
    name: &'static str,
    clock: Clock,
    session: Session,
    batch: Vec<Vec<u8>>,
    steps: Steps,
}

impl Row {
    fn new(name: &'static str, model: &Arc<Model>, clock: Clock, jobs: usize, batch: &[Vec<u8>]) -> Self {
        Self { name, clock, session: session(model, clock, jobs), batch: batch.to_vec(), steps: Steps::default() }
    }

    fn call(&mut self) {
        let outputs = self.session.infer(Batch::Bytes(black_box(&self.batch))).expect("an inference");
        self.note(&outputs.statistics);
        black_box(&outputs.raw);
    }

    /// The board's time is the host's only where it has a thread of its own.
    fn note(&mut self, statistics: &CallStatistics) {
        if self.clock == Clock::Stepped {
            return;
        }
        let each = |part: fn(&JobTiming) -> Duration| {
            let sum: Duration = statistics.sequences.iter().map(|s| part(&s.jobs)).sum();
            sum / self.batch.len() as u32
        };
        let parts = [(COPY_IN, each(|j| j.copy_in)), (RUN, each(|j| j.run)), (COPY_OUT, each(|j| j.copy_out))];
        parts.into_iter().for_each(|(name, time)| self.steps.note(name, time));
    }
}

pub fn measure() {
    table::heading(
        "Driver",
        "mnist_cnn on `sim:akida2` through the driver, pixels in, integers out, per inference. Compute is the same \
         network with the same kernels without a board; the ratio is how many times longer the whole inference takes. On \
         silicon the part between doorbell and completion is the chip's. With several jobs in flight it includes waiting \
         for those before, so it is longer than the inference. `stepped` boards work inside the register access that \
         starts them, in a time of their own, and tell no parts; `threaded` boards work in a thread of theirs while the \
         driver polls.",
    );
    let (model, pixels) = (digits::model(), digits::pixels());
    let one = &pixels[..1];
    let mut rows = [
        Row::new("threaded, batch 1", &model, Clock::Threaded, 1, one),
        Row::new("threaded, batch 64, 1 job in flight", &model, Clock::Threaded, 1, &pixels),
        Row::new("threaded, batch 64, 16 jobs in flight", &model, Clock::Threaded, 16, &pixels),
        Row::new("stepped, batch 1", &model, Clock::Stepped, 1, one),
        Row::new("stepped, batch 64, 16 jobs in flight", &model, Clock::Stepped, 16, &pixels),
    ];
    let mut host = HostNetwork::prepare(&model).expect("a valid model");
    for row in &mut rows {
        let outputs = row.session.infer(Batch::Bytes(&pixels)).expect("an inference");
        for (digit, raw) in pixels.iter().zip(outputs.raw[0].outer_iter()) {
            let expected = host.run(digit).expect("a digit")[0].integers(model.tensor(model.outputs[0].tensor));
            assert!(raw.iter().eq(&expected), "{}: other integers than the kernels", row.name);
        }
    }
    let mut compute = || {
        black_box(host.run(black_box(&pixels[0])).expect("a digit"));
    };
    let [a, b, c, d, e] = &mut rows;
    let times = in_turns(
        Effort::LONG,
        &mut [
            ("compute", &mut compute),
            (a.name, &mut || a.call()),
            (b.name, &mut || b.call()),
            (c.name, &mut || c.call()),
            (d.name, &mut || d.call()),
            (e.name, &mut || e.call()),
        ],
    );
    let compute = times[0];
    let mut lines = Vec::new();
    for (row, mut time) in rows.into_iter().zip(times.into_iter().skip(1)) {
        time.median /= row.batch.len() as f64;
        let steps = row.steps.summary();
        let part = |name| {
            let found = steps.iter().find(|(n, _)| *n == name);
            found.map_or("-".into(), |(_, time)| table::seconds(time.median))
        };
        lines.push(vec![
            row.name.into(),
            table::ratio(time, compute),
            table::time(time),
            part(COPY_IN),
            part(RUN),
            part(COPY_OUT),
            table::seconds(compute.median),
        ]);
    }
    table::table(&["board", "ratio", "inference", COPY_IN, RUN, COPY_OUT, "compute"], &lines);
}
