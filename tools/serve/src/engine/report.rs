//! What listeners ask of an engine, and what it tells of itself.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crossbeam_channel::bounded;

use super::loader::Command;
use super::model::Served;
use super::scheduler::{BoardState, ModelId};
use super::shared::lock;
use super::{Engine, ROUND};
use crate::error::{Kind, ServeError};
use crate::request::InferRequest;
use crate::service::{
    BoardStatus, Done, IndexEntry, ModelInfo, ModelState, ModelStatistics, ModelStatus, Service, Status, Ticket,
};

impl Service for Engine {
    fn live(&self) -> bool {
        self.progress().sane
    }

    fn ready(&self) -> bool {
        let inner = self.shared.inner();
        let boards = 0..self.shared.boards.len();
        let healthy = boards.into_iter().any(|b| inner.scheduler.board(b).0 == BoardState::Healthy);
        healthy && !inner.scheduler.draining() && self.shared.loaded.load(Ordering::SeqCst)
    }

    fn submit(&self, request: InferRequest, done: Done) -> Ticket {
        self.try_submit(request, done)
    }

    fn models(&self) -> Vec<IndexEntry> {
        self.shared.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn model(&self, name: &str, version: Option<u32>) -> Result<ModelInfo, ServeError> {
        let index = self.models();
        let versions: Vec<u32> = index.iter().filter(|e| e.name == name).map(|e| e.version).collect();
        match self.shared.find(name, version) {
            Some(served) => Ok(served.info(versions, &self.devices(&served))),
            None => Err(self.shared.missing(name, version)),
        }
    }

    fn load(&self, name: &str) -> Result<(), ServeError> {
        let (reply, answer) = bounded(1);
        self.command(Command::Load(name.to_owned(), reply), &answer)?
    }

    fn unload(&self, name: &str) -> Result<(), ServeError> {
        let (reply, answer) = bounded(1);
        let ids: Vec<ModelId> = self.command(Command::Unload(name.to_owned(), reply), &answer)??;
        let mut inner = self.shared.inner();
        while ids.iter().any(|&id| inner.scheduler.knows(id)) && !inner.stop {
            let waited = self.shared.settled.wait_timeout(inner, ROUND);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    fn statistics(&self, name: Option<&str>, version: Option<u32>) -> Result<Vec<ModelStatistics>, ServeError> {
        let registry = self.shared.registry.read().unwrap_or_else(PoisonError::into_inner);
        let all: BTreeMap<(&str, u32), &Arc<Served>> = registry
            .iter()
            .filter(|(n, _)| name.is_none_or(|name| name == &***n))
            .flat_map(|(n, versions)| versions.iter().map(move |(v, s)| ((&**n, *v), s)))
            .filter(|((_, v), _)| version.is_none_or(|version| version == *v))
            .collect();
        let reports: Vec<_> = all.iter().map(|((n, v), s)| lock(&s.stats).report(n, *v)).collect();
        drop(all);
        drop(registry);
        match (reports.is_empty(), name) {
            (true, Some(name)) => Err(self.shared.missing(name, version)),
            _ => Ok(reports),
        }
    }

    fn metrics(&self, text: &mut String) {
        let shared = &self.shared;
        {
            let inner = shared.inner();
            let held = inner.scheduler.held();
            shared.metrics.held(held.requests, held.bytes);
            for (id, board) in shared.boards.iter().enumerate() {
                shared.metrics.healthy(&board.name, inner.scheduler.board(id).0 == BoardState::Healthy);
            }
            let registry = shared.registry.read().unwrap_or_else(PoisonError::into_inner);
            for served in registry.values().flat_map(BTreeMap::values) {
                shared.metrics.waiting(served, inner.scheduler.waiting(served.id).1);
            }
        }
        shared.metrics.render(text);
    }

    fn status(&self) -> Status {
        let progress = self.progress();
        let ready = self.ready();
        let draining = self.shared.inner().scheduler.draining();
        let state = match (draining, progress.sane, progress.healthy, self.shared.loaded.load(Ordering::SeqCst)) {
            (true, ..) => "draining".to_owned(),
            (_, false, ..) => "stuck".to_owned(),
            (_, _, _, false) => "starting".to_owned(),
            (_, _, 0, _) => "no board is healthy".to_owned(),
            _ => "serving".to_owned(),
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.shared.started.elapsed().as_secs_f64(),
            live: progress.sane,
            ready,
            state,
            boards: (0..self.shared.boards.len()).map(|id| self.board_status(id)).collect(),
            models: self.models().iter().map(|entry| self.model_status(entry)).collect(),
            errors: lock(&self.shared.errors).iter().rev().cloned().collect(),
        }
    }
}

impl Engine {
    /// Orders something of the loader and waits for its answer.
    fn command<T>(&self, command: Command, answer: &crossbeam_channel::Receiver<T>) -> Result<T, ServeError> {
        let gone = || ServeError::new(Kind::Unavailable, "the service ends");
        self.shared.loader.send(command).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())
    }

    fn board_status(&self, id: usize) -> BoardStatus {
        let info = &self.shared.boards[id];
        let (state, on) = self.shared.inner().scheduler.board(id);
        let report = lock(&info.report).clone();
        let running = lock(&info.busy).map(|since| since.elapsed()).unwrap_or_default();
        let opened = info.opened.get();
        let registry = self.shared.registry.read().unwrap_or_else(PoisonError::into_inner);
        let model = registry.values().flat_map(BTreeMap::values).find(|s| Some(s.id) == on);
        BoardStatus {
            name: info.name.clone(),
            kind: opened.map_or(String::new(), |o| o.chip.clone()),
            simulated: opened.is_some_and(|o| o.simulated),
            state: state.as_str().to_owned(),
            reason: report.reason,
            model: model.map_or(String::new(), |s| s.label()),
            requests: report.requests,
            samples: report.samples,
            busy_seconds: (report.busy + running).as_secs_f64(),
            programmed: report.programmed,
            resets: report.resets,
            dma_bytes: report.dma_bytes,
            temperature_celsius: None,
            power_watts: None,
        }
    }

    fn model_status(&self, entry: &IndexEntry) -> ModelStatus {
        let limit = self.shared.settings.limits.requests as u64;
        let mut status = ModelStatus {
            name: entry.name.clone(),
            version: entry.version,
            state: entry.state.as_str().to_owned(),
            reason: entry.reason.clone(),
            queue_limit: limit,
            ..ModelStatus::default()
        };
        let served = self.shared.find(&entry.name, Some(entry.version)).filter(|_| entry.state == ModelState::Ready);
        let Some(served) = served else { return status };
        status.boards = lock(&served.boards).iter().map(|&b| self.shared.boards[b].name.clone()).collect();
        status.queued = self.shared.inner().scheduler.waiting(served.id).0 as u64;
        let stats = lock(&served.stats);
        status.requests = stats.all.success.count;
        status.failures = stats.all.fail.count - stats.refused;
        status.refused = stats.refused;
        status.samples = stats.all.inference_count;
        status.executions = stats.all.execution_count;
        status.queue_seconds = stats.all.queue.ns as f64 / 1e9;
        status.total_seconds = stats.all.success.ns as f64 / 1e9;
        status
    }

    fn devices(&self, served: &Served) -> Vec<String> {
        lock(&served.boards).iter().map(|&b| self.shared.boards[b].device()).collect()
    }
}
