//! The thread that brings versions into service and out of it.
//!
//! A version is read, checked, mapped for its boards and held against its known answers on each of them before the first
//! request reaches it; then it takes the place of the one before in one step. What fails on the way leaves everything as it
//! was, and the reason in the index.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::model::{ModelOptions, Served};
use super::repository::{self, Contents, Fingerprint, Found};
use super::scheduler::{BoardId, ModelId, ModelSpec};
use super::shared::{Order, Shared, lock};
use crate::error::{Kind, ServeError};
use crate::service::ModelState;

/// What the loader is told.
pub enum Command {
    /// Load or reload a model.
    Load(String, Sender<Result<(), ServeError>>),
    /// Take a model out of service. Answered with the versions that were.
    Unload(String, Sender<Result<Vec<ModelId>, ServeError>>),
    /// Look at the folder now.
    Rescan,
    /// A board was opened that was not there before.
    Opened(BoardId),
    /// End.
    Stop,
}

/// What is known of the repository.
pub struct Loader {
    pub(super) shared: Arc<Shared>,
    pub(super) next: ModelId,
    /// Models whose changes count: all of them, or in explicit mode those that were asked for.
    wanted: HashSet<String>,
    /// Models that were unloaded by hand and stay so until they are loaded by hand.
    pub(super) unloaded: HashSet<String>,
    /// What the folder held when it was last looked at.
    pub(super) seen: Contents,
    /// What the versions in service were made of.
    made_of: HashMap<(String, u32), Made>,
    /// What could not be loaded, so that it is not tried again until it changes.
    pub(super) refused: HashMap<(String, u32), (Made, String)>,
}

/// A version's file and the files beside its folder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Made {
    pub model: Fingerprint,
    pub files: BTreeMap<String, Fingerprint>,
}

/// How an attempt to load ended, when it did not succeed.
pub(super) enum Refused {
    /// It will not work until something changes.
    Wrong(String),
    /// The file is being written.
    Changing,
}

impl Loader {
    /// Nothing is looked at yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        let wanted = shared.settings.repository.load.iter().cloned().collect();
        Self {
            shared,
            next: 1,
            wanted,
            unloaded: HashSet::new(),
            seen: Contents::new(),
            made_of: HashMap::new(),
            refused: HashMap::new(),
        }
    }

    /// Loads what is there, then follows the folder and commands until told to stop.
    pub fn run(mut self, commands: &Receiver<Command>, first: &Sender<()>) {
        self.look(true);
        self.shared.loaded.store(true, Ordering::SeqCst);
        // The start waits for this; when it has given up, the next command is to stop.
        let _ = first.send(());
        let poll = self.shared.settings.repository.poll.max(Duration::from_millis(10));
        loop {
            match commands.recv_timeout(poll) {
                Err(RecvTimeoutError::Timeout) => {
                    if !self.shared.settings.repository.explicit {
                        self.look(false);
                    }
                }
                Ok(Command::Rescan) => self.look(true),
                Ok(Command::Load(name, reply)) => {
                    let result = self.load(&name);
                    // Whoever asked may have gone away.
                    let _ = reply.send(result);
                }
                Ok(Command::Unload(name, reply)) => {
                    let result = self.unload(&name);
                    let _ = reply.send(result);
                }
                Ok(Command::Opened(board)) => self.opened(board),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    /// Looks at the folder and follows what changed. Files must look the same twice before they are read, unless `at_once`.
    pub(super) fn look(&mut self, at_once: bool) {
        let root = self.shared.settings.repository.path.clone();
        let found = match repository::scan(&root) {
            Ok(found) => found,
            Err(error) => {
                // A folder that is away for a while takes no model out of service.
                self.shared.error("repository", &format!("{}: {error}", root.display()), "");
                return;
            }
        };
        let before = std::mem::replace(&mut self.seen, found);
        let mut names: BTreeSet<String> = before.keys().chain(self.seen.keys()).cloned().collect();
        names.extend(self.made_of.keys().map(|(name, _)| name.clone()));
        for name in names {
            let settled = at_once || before.get(&name) == self.seen.get(&name);
            if settled && self.follows(&name) {
                self.reconcile(&name);
            }
        }
        self.publish_index();
    }

    pub(super) fn follows(&self, name: &str) -> bool {
        let explicit = self.shared.settings.repository.explicit;
        !self.unloaded.contains(name) && (!explicit || self.wanted.contains(name))
    }

    fn load(&mut self, name: &str) -> Result<(), ServeError> {
        let root = self.shared.settings.repository.path.clone();
        let found = repository::scan(&root)
            .map_err(|e| ServeError::new(Kind::Unavailable, format!("the repository cannot be read: {e}")))?;
        if !found.contains_key(name) {
            return Err(ServeError::new(Kind::NotFound, format!("there is no model {name:?} in the repository")));
        }
        self.seen = found;
        self.unloaded.remove(name);
        self.wanted.insert(name.to_owned());
        // Asked for by hand: what was refused before is tried again.
        self.refused.retain(|(n, _), _| n != name);
        let problem = self.reconcile(name);
        self.publish_index();
        match problem {
            Some(reason) => Err(ServeError::new(Kind::Invalid, format!("model {name:?} was not loaded: {reason}"))),
            None => Ok(()),
        }
    }

    fn unload(&mut self, name: &str) -> Result<Vec<ModelId>, ServeError> {
        let served = self.served(name);
        if served.is_empty() && !self.seen.contains_key(name) {
            return Err(ServeError::new(Kind::NotFound, format!("there is no model {name:?} in the repository")));
        }
        self.unloaded.insert(name.to_owned());
        self.wanted.remove(name);
        let ids = served.values().map(|s| s.id).collect();
        for served in served.values() {
            self.retire(served);
        }
        self.publish_index();
        Ok(ids)
    }

    /// Versions of a model in service.
    fn served(&self, name: &str) -> BTreeMap<u32, Arc<Served>> {
        let registry = self.shared.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.get(name).cloned().unwrap_or_default()
    }

    /// Brings what is served of a model to what its folder says. The first problem, if there was one.
    fn reconcile(&mut self, name: &str) -> Option<String> {
        let served = self.served(name);
        let found = match self.seen.get(name) {
            Some(Ok(found)) => found.clone(),
            Some(Err(reason)) => {
                // What is served stays.
                self.shared.error(name, reason, "");
                return Some(reason.clone());
            }
            None => Found::default(),
        };
        let root = self.shared.settings.repository.path.clone();
        let options = match repository::options(&root, name, self.shared.settings.defaults) {
            Ok(options) => options,
            Err(reason) => {
                for (&version, fingerprint) in &found.versions {
                    let made = Made { model: fingerprint.clone(), files: found.files.clone() };
                    let known = self.refused.get(&(name.to_owned(), version)).is_some_and(|(m, _)| *m == made);
                    if !known {
                        self.shared.error(name, &reason, "");
                    }
                    self.refused.insert((name.to_owned(), version), (made, reason.clone()));
                }
                return Some(reason);
            }
        };
        let (mut ready, mut problem) = (Vec::new(), None);
        // The newest that can be served, as many as are asked for; older ones stand in for those that cannot.
        for (&version, fingerprint) in found.versions.iter().rev() {
            if ready.len() == options.versions {
                break;
            }
            let made = Made { model: fingerprint.clone(), files: found.files.clone() };
            match self.ensure(name, version, made, &options) {
                Ok(()) => ready.push(version),
                Err(reason) => {
                    // The one before is served still.
                    if served.contains_key(&version) {
                        ready.push(version);
                    }
                    problem.get_or_insert(reason);
                }
            }
        }
        for (version, old) in &served {
            // The last version goes only when its folder is gone.
            if !ready.contains(version) && (!ready.is_empty() || !found.versions.contains_key(version)) {
                self.retire(old);
            }
        }
        self.refused.retain(|(n, version), _| n != name || found.versions.contains_key(version));
        problem
    }

    /// Serves a version as its files are now.
    fn ensure(&mut self, name: &str, version: u32, made: Made, options: &ModelOptions) -> Result<(), String> {
        let key = (name.to_owned(), version);
        if self.made_of.get(&key) == Some(&made) {
            self.refused.remove(&key);
            return Ok(());
        }
        if let Some((before, reason)) = self.refused.get(&key)
            && *before == made
        {
            return Err(reason.clone());
        }
        let start = Instant::now();
        self.show(name, version, ModelState::Loading, "");
        let loaded = catch_unwind(AssertUnwindSafe(|| self.bring_in(name, version, &made, options)));
        let loaded = loaded.unwrap_or_else(|_| {
            Err(Refused::Wrong("loading failed: this is a mistake in this software, please report it".to_owned()))
        });
        match loaded {
            Ok(served) => {
                log::info!(
                    model = served.label().as_str(), boards = lock(&served.boards).len(),
                    milliseconds = start.elapsed().as_millis() as u64; "in service"
                );
                self.shared.metrics.loaded(name, version, true);
                self.made_of.insert(key.clone(), made);
                self.refused.remove(&key);
                self.publish(served);
                Ok(())
            }
            Err(Refused::Changing) => {
                log::info!(model = name, version; "the file is being written; looked at again later");
                // So that it is not taken for settled at the next look.
                if let Some(Ok(found)) = self.seen.get_mut(name) {
                    found.versions.remove(&version);
                }
                Err("the file is being written".to_owned())
            }
            Err(Refused::Wrong(reason)) => {
                self.shared.metrics.loaded(name, version, false);
                self.shared.error(&format!("{name}/{version}"), &format!("not loaded: {reason}"), "");
                self.refused.insert(key, (made, reason.clone()));
                Err(reason)
            }
        }
    }

    /// From now on requests go to this version. The one it replaces finishes what it has.
    fn publish(&mut self, served: Arc<Served>) {
        let boards = lock(&served.boards).clone();
        let spec = ModelSpec {
            max_batch: served.options.max_batch,
            delay: served.options.delay,
            alone: served.stateful,
            boards,
        };
        self.shared.inner().scheduler.open(served.id, spec);
        let old = {
            let mut registry = self.shared.registry.write().unwrap_or_else(PoisonError::into_inner);
            registry.entry(served.name.clone()).or_default().insert(served.version, served)
        };
        if let Some(old) = old {
            self.close(&old);
        }
    }

    /// Takes a version out of service.
    fn retire(&mut self, served: &Arc<Served>) {
        log::info!(model = served.label().as_str(); "goes out of service");
        {
            let mut registry = self.shared.registry.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(versions) = registry.get_mut(&served.name) {
                versions.remove(&served.version);
                if versions.is_empty() {
                    registry.remove(&served.name);
                }
            }
        }
        self.made_of.remove(&(served.name.to_string(), served.version));
        self.shared.metrics.no_waiting(served);
        self.close(served);
    }

    fn close(&self, served: &Served) {
        let mut inner = self.shared.inner();
        inner.scheduler.close(served.id);
        let gone = inner.scheduler.reap();
        self.shared.ring(&inner, served.id);
        drop(inner);
        self.shared.gone(&gone);
    }
}

impl Shared {
    /// Models that have nothing left to do leave their boards.
    pub fn gone(&self, models: &[ModelId]) {
        if models.is_empty() {
            return;
        }
        for board in 0..self.boards.len() {
            for &model in models {
                self.order(board, Order::Drop(model));
            }
        }
        self.settled.notify_all();
    }
}
