//! A board's health: opened and tested, reset and tested after failures, quarantined, tested again.

use std::sync::Arc;
use std::time::Instant;

use akida_converter::host::OnnxEngine;
use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::hybrid::{HybridError, HybridModel, HybridReady, HybridSession};
use akida_runtime::model::Target;
use akida_runtime::session::{SessionError, SessionOptions};
use akida_tools::ctl::known;
use akida_tools::device::{self, Road};
use akida_tools::exit::{Exit, Failure, chain};

use super::board::{KNOWN, Open, Worker};
use super::loader::Command;
use super::scheduler::BoardState;
use super::shared::{Opened, lock};

/// Resets that are tried before a board is given up.
const RESETS: usize = 2;

impl Worker {
    /// Opens the board and holds it against the known-answer network.
    pub(super) fn bring_up(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        *lock(&self.shared.boards[self.id].busy) = Some(start);
        let result = self.open();
        *lock(&self.shared.boards[self.id].busy) = None;
        match &result {
            Ok(()) => self.shared.set_state(self.id, BoardState::Healthy, ""),
            Err(failure) => {
                self.quarantine(&failure.message, !self.hopeless);
            }
        }
        self.count();
        result
    }

    fn open(&mut self) -> Result<(), Failure> {
        let settings = &self.shared.settings.boards[self.id];
        // The target matters to `auto` and `sim` only, which name no board and are refused where settings are read.
        let road = device::open(&settings.selector, Target::Akida2, &settings.simulation, |_| {})?;
        let options = DeviceOptions { timeout: settings.timeout, ..DeviceOptions::default() };
        let device = match road {
            Road::Board(board) => Device::open(board, options)?,
            Road::Node(node) => Device::over(node, options)?,
        };
        let identity = device.identity().clone();
        let network = known::network(identity.chip)
            .map_err(|e| Failure::because(Exit::Internal, "the known-answer network", &e, "please report it"))?;
        let network = Arc::new(HybridModel::of(network));
        let mesh = device.mesh().clone();
        let ready = HybridReady::prepare(
            network.clone(),
            &OnnxEngine,
            &identity.to_string(),
            &mesh,
            &SessionOptions::default(),
        )?;
        let answers = ready.answers(known::SAMPLES)?;
        let session = HybridSession::open(network, &OnnxEngine, device, &SessionOptions::default());
        // Physical boards and converted models: no test will ever change that.
        self.hopeless = session.as_ref().is_err_and(|error| {
            matches!(error, HybridError::Board { source, .. } if matches!(**source, SessionError::UnknownEncoding { .. }))
        });
        let mut session = session?;
        session.check(&answers)?;
        let chip = format!("{:?}", identity.chip).to_lowercase();
        let simulated = identity.simulated;
        let word = if simulated { ", simulated" } else { "" };
        let kind = format!("{chip}, {} NPs{word}", mesh.nps.len());
        let before =
            self.shared.boards[self.id].opened.get_or_init(|| Opened { kind: kind.clone(), chip, simulated, mesh });
        if before.kind != kind {
            // Models are mapped for the one that was there.
            let message = format!("{identity} is {kind} now, it was {}", before.kind);
            return Err(Failure::new(Exit::Config, message, "restart the service"));
        }
        self.device = self.shared.boards[self.id].device();
        self.open = Some(Open { session, answers, on: KNOWN });
        Ok(())
    }

    /// The board failed: resets and tests it, and puts it back to work or into quarantine.
    pub(super) fn failed(&mut self, reason: &str) {
        let health = self.shared.settings.health;
        let now = Instant::now();
        self.failures.push_back(now);
        while self.failures.front().is_some_and(|&at| now.duration_since(at) > health.window) {
            self.failures.pop_front();
        }
        // A batch that failed has said so already.
        if self.shared.inner().scheduler.board(self.id).0 != BoardState::Resetting {
            self.shared.set_state(self.id, BoardState::Resetting, reason);
        }
        match self.reset_and_test() {
            Err(error) => self.quarantine(&format!("{reason}; after a reset: {error}"), true),
            Ok(()) if self.failures.len() >= health.failures.max(1) => {
                let (count, window) = (self.failures.len(), health.window);
                self.quarantine(&format!("failed {count} times in {window:?}, at last: {reason}"), true);
            }
            Ok(()) => self.back(),
        }
    }

    /// When a board that has nothing to do is tested: it must not look healthy after it has gone.
    pub(super) fn probe_at(&self, state: BoardState) -> Option<Instant> {
        let after = self.shared.settings.health.retest;
        (state == BoardState::Healthy && !after.is_zero()).then(|| self.rested + after)
    }

    pub(super) fn probe(&mut self) {
        self.select(KNOWN);
        let Some(open) = &mut self.open else { return };
        if let Err(error) = open.session.check(&open.answers) {
            self.failed(&chain(&error));
        }
    }

    fn back(&mut self) {
        self.retest = None;
        self.shared.set_state(self.id, BoardState::Healthy, "");
    }

    fn reset_and_test(&mut self) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..RESETS {
            let Some(open) = &mut self.open else { return Err("the board is not open".to_owned()) };
            last = match open.session.recover() {
                Err(error) => chain(&error),
                Ok(()) => {
                    self.shared.inner().scheduler.set_state(self.id, BoardState::Testing);
                    self.select(KNOWN);
                    let Some(open) = &mut self.open else { continue };
                    match open.session.check(&open.answers) {
                        Ok(()) => return Ok(()),
                        Err(error) => chain(&error),
                    }
                }
            };
        }
        Err(last)
    }

    /// A board that went away and came back, or the process of a simulated one that was started again, needs to be opened anew.
    fn reopen(&mut self) -> Result<(), String> {
        // Models stay, mapped as they are; each is held against its known answers again before its first batch.
        self.select(KNOWN);
        self.untested();
        self.open = None;
        self.open().map_err(|failure| failure.message)
    }

    fn quarantine(&mut self, reason: &str, again: bool) {
        let first = self.shared.settings.health.retest;
        let wait = self.retest.map_or(first, |(_, wait)| (wait * 2).min(first * 16));
        self.retest = (again && !first.is_zero()).then(|| (Instant::now() + wait, wait));
        self.shared.set_state(self.id, BoardState::Quarantined, reason);
    }

    /// A quarantined board gets another chance.
    pub(super) fn test_again(&mut self) {
        self.shared.set_state(self.id, BoardState::Testing, "");
        let first = self.shared.boards[self.id].opened.get().is_none();
        let result = match self.open.is_some() {
            true => self.reset_and_test().or_else(|_| self.reopen()),
            false => self.reopen(),
        };
        match result {
            Ok(()) => {
                self.failures.clear();
                self.back();
                if first {
                    // The loader is gone: then the engine stops.
                    let _ = self.shared.loader.send(Command::Opened(self.id));
                }
            }
            Err(reason) => self.quarantine(&reason, true),
        }
    }
}
