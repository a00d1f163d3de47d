//! What a board does while faults happen: a small network, its loading and its jobs.

use std::sync::Arc;
use std::time::Duration;

use akida_hal::device::{Device, DeviceOptions, Output};
use akida_hal::mesh::Mesh;
use akida_hal::packet::Uid;
use akida_hal::program::Program;
use akida_hal::{Board, Error};
use akida_runtime::mapping::{HardwareOutput, MapOptions, map};
use akida_runtime::model::Target;
use akida_runtime::reference::{Reference, Rules};

use super::{Patient, Phase};
use crate::generate::{self, Random};

/// The result of something on a board, or inside an `Err(String)` what was plainly wrong.
type Seen<T = ()> = Result<Result<T, Error>, String>;

/// A program and what it has to answer.
pub struct Work {
    mesh: Mesh,
    program: Program,
    /// Input and output of jobs.
    samples: Vec<(Vec<u8>, Vec<i32>)>,
}

/// Jobs of one round.
const JOBS: usize = 6;

impl Work {
    /// The smallest of some random networks, as one program.
    ///
    /// # Errors
    /// When none of them fits the mesh.
    pub fn small(target: Target, mesh: &Mesh) -> Result<Self, String> {
        let mut best: Option<Self> = None;
        for seed in 0..24 {
            let model = generate::model(target, seed);
            let Ok(mapping) = map(&model, mesh, &MapOptions::default()) else { continue };
            let Some(sequence) = mapping.hardware().next() else { continue };
            let HardwareOutput::Tensor(output) = sequence.output else { continue };
            let program = sequence.program.clone();
            if program.passes.len() != 1 || best.as_ref().is_some_and(|b| words(&b.program) <= words(&program)) {
                continue;
            }
            let (mut random, mut reference) = (Random::new(seed), Reference::new(&model, Rules::Chip));
            let mut samples = Vec::new();
            for _ in 0..JOBS {
                let tensors = reference.run(&random.sample(model.tensor(0))).map_err(|e| e.to_string())?;
                let input = tensors[sequence.input].iter().map(|v| *v as u8).collect();
                samples.push((input, tensors[output].clone()));
            }
            // An answer that says nothing would hide a wrong one.
            let speaks = samples.windows(2).any(|pair| pair[0].1 != pair[1].1);
            if speaks {
                best = Some(Self { mesh: mesh.clone(), program, samples });
            }
        }
        best.ok_or_else(|| "no small network fits".into())
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Inputs and the integers they must give.
    pub fn samples(&self) -> &[(Vec<u8>, Vec<i32>)] {
        &self.samples
    }

    /// Everything from loading to the last output.
    ///
    /// # Errors
    /// A wrong number, or an output that neither comes nor fails. What the board says of itself is in the inner result.
    pub fn all(&self, device: &mut Device) -> Seen {
        if let Err(e) = device.program(&self.program) {
            return Ok(Err(e));
        }
        self.jobs(device)
    }

    fn jobs(&self, device: &mut Device) -> Seen {
        if let Err(e) = device.set_batch(4) {
            return Ok(Err(e));
        }
        let (mut started, mut fetched) = (0, 0);
        while fetched < self.samples.len() {
            if started < self.samples.len() {
                match device.enqueue(&self.samples[started].0) {
                    Ok(Some(_)) => {
                        started += 1;
                        continue;
                    }
                    Ok(None) => {}
                    Err(e) => return Ok(Err(e)),
                }
            }
            if let Err(e) = self.fetch(device, fetched)? {
                return Ok(Err(e));
            }
            fetched += 1;
        }
        Ok(Ok(()))
    }

    /// The output of job `index`, which is the oldest one.
    fn fetch(&self, device: &mut Device, index: usize) -> Seen {
        match device.fetch(Duration::from_secs(60)) {
            Ok(Some(output)) if integers(&output) == self.samples[index].1 => Ok(Ok(())),
            Ok(Some(_)) => Err(format!("a wrong number in job {index}")),
            Ok(None) => Err(format!("job {index} is neither finished nor failed")),
            Err(e) => Ok(Err(e)),
        }
    }
}

fn words(program: &Program) -> usize {
    program.passes.iter().flat_map(|p| &p.tracks).map(|t| t.words.len()).sum()
}

fn integers(output: &Output) -> Vec<i32> {
    (0..output.values.len()).filter_map(|i| output.values.get(i)).collect()
}

/// Goes to the phase, arms the plan, goes through it. The device that is left is given back.
pub fn phase(
    phase: Phase,
    patient: &dyn Patient,
    plan: &str,
    options: &DeviceOptions,
    work: &Work,
) -> Result<(Result<(), Error>, Option<Device>), String> {
    let board: Arc<dyn Board> = patient.board();
    if phase == Phase::Open {
        patient.arm(plan);
        return match Device::open(board, options.clone()) {
            Ok(device) if *device.mesh() != work.mesh => Err("the scan found another mesh".into()),
            Ok(device) => Ok((Ok(()), Some(device))),
            Err(e) => Ok((Err(e), None)),
        };
    }
    let healthy = |what: &'static str| move |e: Error| format!("{what} without a fault: {e}");
    let mut device = Device::open(board, options.clone()).map_err(healthy("opening"))?;
    if !matches!(phase, Phase::Load | Phase::Config | Phase::Loopback) {
        device.program(&work.program).map_err(healthy("loading"))?;
    }
    if matches!(phase, Phase::Fetch | Phase::Close) {
        device.enqueue(&work.samples[0].0).map_err(healthy("starting a job"))?;
    }
    patient.arm(plan);
    let result = match phase {
        Phase::Open => Ok(()),
        Phase::Load => device.program(&work.program),
        Phase::Batch => device.set_batch(4).map(|_| ()),
        Phase::Feed => device.enqueue(&work.samples[0].0).map(|_| ()),
        Phase::Run => work.jobs(&mut device)?,
        Phase::Fetch => work.fetch(&mut device, 0)?,
        Phase::Config => config(&mut device)?,
        Phase::Loopback => device.self_test(64),
        Phase::Recover => device.recover(),
        Phase::Close => {
            drop(device);
            return Ok((Ok(()), None));
        }
    };
    if result.is_err() && device.pending() != 0 {
        return Err(format!("{} jobs are still pending after an error", device.pending()));
    }
    Ok((result, Some(device)))
}

/// Words into an NP's memory, and back.
fn config(device: &mut Device) -> Seen {
    let Some((np, _)) = device.mesh().nps.first().copied() else { return Err("no NP".into()) };
    let words: Vec<u32> = (1..=96u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
    let read = match device.write_np(np, Uid::PacketSram, 0, &words) {
        Ok(()) => device.read_np(np, Uid::PacketSram, 0, words.len()),
        Err(e) => return Ok(Err(e)),
    };
    match read {
        Ok(read) if read != words => Err("NP memory reads back differently".into()),
        Ok(_) => Ok(Ok(())),
        Err(e) => Ok(Err(e)),
    }
}
