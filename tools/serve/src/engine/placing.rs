//! From a model file to boards that can run it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use akida_converter::host::OnnxEngine;
use akida_runtime::hybrid::{HybridModel, HybridReady};
use akida_runtime::session::SessionOptions;
use akida_tools::exit::chain;
use crossbeam_channel::bounded;

use super::loader::{Loader, Made, Refused};
use super::model::{ModelOptions, Served};
use super::repository::{self, Read1};
use super::scheduler::{BoardId, BoardState};
use super::shared::{Order, lock};
use super::stats::Stats;

/// How long a board may take to try a model out.
const PATIENCE: Duration = Duration::from_secs(600);

impl Loader {
    /// Reads a version and takes it to its boards.
    pub(super) fn bring_in(
        &mut self,
        name: &str,
        version: u32,
        made: &Made,
        options: &ModelOptions,
    ) -> Result<Arc<Served>, Refused> {
        let repository = &self.shared.settings.repository;
        let read = repository::read(&repository.path, name, version, &made.model, repository.max_bytes);
        let network = match read.map_err(Refused::Wrong)? {
            Read1::Whole(network) => Arc::new(*network),
            Read1::Changing => return Err(Refused::Changing),
        };
        let places = self.places(&network, options).map_err(Refused::Wrong)?;
        let Some((_, first)) = places.first() else {
            return Err(Refused::Wrong("no board was opened that could run it".to_owned()));
        };
        let samples = repository.self_test;
        let answers = match samples {
            0 => None,
            n => Some(Arc::new(first.answers(n).map_err(|e| Refused::Wrong(chain(&e)))?)),
        };
        let kind = match options.boards {
            Some(_) => String::new(),
            None => self.kind(places[0].0),
        };
        let served = Arc::new(Served {
            id: self.next,
            name: name.into(),
            version,
            network,
            options: options.clone(),
            boards: Mutex::new(Vec::new()),
            kind,
            stateful: first.stateful(),
            stats: Mutex::new(Stats::default()),
        });
        self.next += 1;
        // All boards at once.
        let mut waiting = Vec::new();
        for (board, ready) in places {
            let (reply, answer) = bounded(1);
            let (served, answers) = (served.clone(), answers.clone());
            self.shared.order(board, Order::Install { served, ready: Box::new(ready), answers, reply });
            waiting.push((board, answer));
        }
        let (mut boards, mut reasons) = (Vec::new(), Vec::new());
        for (board, answer) in waiting {
            let device = self.shared.boards[board].device();
            match answer.recv_timeout(PATIENCE) {
                Ok(Ok(())) => boards.push(board),
                Ok(Err(reason)) => reasons.push(format!("{device}: {reason}")),
                Err(_) => {
                    self.shared.order(board, Order::Drop(served.id));
                    reasons.push(format!("{device}: did not answer in {PATIENCE:?}"));
                }
            }
        }
        if boards.is_empty() {
            return Err(Refused::Wrong(reasons.join("; ")));
        }
        for reason in reasons {
            self.shared.error(&served.label(), &format!("not on this board: {reason}"), "");
        }
        *lock(&served.boards) = boards;
        Ok(served)
    }

    /// The boards for a network, and what it is on each of them.
    fn places(
        &self,
        network: &Arc<HybridModel>,
        options: &ModelOptions,
    ) -> Result<Vec<(BoardId, HybridReady)>, String> {
        let all = &self.shared.boards;
        let opened = |id: &BoardId| all[*id].opened.get().is_some();
        let mut groups: Vec<Vec<BoardId>> = Vec::new();
        if let Some(names) = &options.boards {
            let find = |name: &String| {
                let known = || all.iter().map(|b| b.name.as_str()).collect::<Vec<_>>().join(", ");
                all.iter()
                    .position(|b| b.name == *name)
                    .ok_or_else(|| format!("there is no board {name:?}; there are {}", known()))
            };
            groups.push(names.iter().map(find).collect::<Result<_, _>>()?);
        } else {
            // Boards of one kind only, the first that can: another kind is asked for by name.
            for id in (0..all.len()).filter(opened) {
                match groups.iter_mut().find(|group| self.kind(group[0]) == self.kind(id)) {
                    Some(group) => group.push(id),
                    None => groups.push(vec![id]),
                }
            }
        }
        let mut reasons = Vec::new();
        for mut group in groups {
            group.retain(opened);
            if let Some(most) = options.instances {
                group.sort_by_key(|&id| self.load_of(id));
                group.truncate(most);
            }
            let mut places = Vec::new();
            for id in group {
                match self.prepare(network, id) {
                    Ok(ready) => places.push((id, ready)),
                    Err(reason) => {
                        reasons.push(reason);
                        // Another board of the kind would say the same.
                        if options.boards.is_none() {
                            break;
                        }
                    }
                }
            }
            if !places.is_empty() {
                return Ok(places);
            }
        }
        match reasons.is_empty() {
            true => Err("no board was opened that it could be on".to_owned()),
            false => Err(reasons.join("; ")),
        }
    }

    fn prepare(&self, network: &Arc<HybridModel>, board: BoardId) -> Result<HybridReady, String> {
        let info = &self.shared.boards[board];
        let Some(opened) = info.opened.get() else { return Err(format!("{} is not opened", info.name)) };
        let options = SessionOptions::default();
        HybridReady::prepare(network.clone(), &OnnxEngine, &info.device(), &opened.mesh, &options)
            .map_err(|e| chain(&e))
    }

    fn kind(&self, board: BoardId) -> String {
        self.shared.boards[board].opened.get().map_or(String::new(), |o| o.kind.clone())
    }

    /// How many versions a board serves.
    fn load_of(&self, board: BoardId) -> usize {
        let registry = self.shared.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.values().flat_map(BTreeMap::values).filter(|s| lock(&s.boards).contains(&board)).count()
    }

    /// A board came late: models of its kind go there too.
    pub(super) fn opened(&mut self, board: BoardId) {
        let kind = self.kind(board);
        let name = self.shared.boards[board].name.clone();
        let all: Vec<Arc<Served>> = {
            let registry = self.shared.registry.read().unwrap_or_else(PoisonError::into_inner);
            registry.values().flat_map(BTreeMap::values).cloned().collect()
        };
        for served in all {
            let here = match &served.options.boards {
                Some(names) => names.contains(&name),
                None => served.kind == kind,
            };
            let full = served.options.instances.is_some_and(|most| lock(&served.boards).len() >= most);
            if !here || full || lock(&served.boards).contains(&board) {
                continue;
            }
            let placed = self.prepare(&served.network, board).and_then(|ready| {
                let samples = self.shared.settings.repository.self_test;
                let answers = (samples > 0).then(|| ready.answers(samples)).transpose();
                let answers = answers.map_err(|e| chain(&e))?.map(Arc::new);
                let (reply, answer) = bounded(1);
                let order = Order::Install { served: served.clone(), ready: Box::new(ready), answers, reply };
                self.shared.order(board, order);
                answer.recv_timeout(PATIENCE).map_err(|e| e.to_string())?
            });
            match placed {
                Ok(()) => {
                    lock(&served.boards).push(board);
                    let mut inner = self.shared.inner();
                    inner.scheduler.place(served.id, board);
                    self.shared.ring(&inner, served.id);
                }
                Err(reason) => self.shared.error(&served.label(), &format!("not on {name}: {reason}"), ""),
            }
        }
        // Models that had no board at all so far.
        if self.shared.inner().scheduler.board(board).0 == BoardState::Healthy {
            self.refused.clear();
            self.look(true);
        }
    }
}
