//! What the repository holds, as clients and operators are told.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::loader::Loader;
use crate::service::{IndexEntry, ModelState};

impl Loader {
    /// Changes one entry of the index for as long as something takes.
    pub(super) fn show(&self, name: &str, version: u32, state: ModelState, reason: &str) {
        let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
        let entry = index.iter_mut().find(|e| e.name == name && e.version == version);
        match entry {
            // What is served meanwhile is ready still.
            Some(entry) if entry.state == ModelState::Ready => {}
            Some(entry) => (entry.state, entry.reason) = (state, reason.to_owned()),
            None => {
                let (name, reason) = (name.to_owned(), reason.to_owned());
                index.push(IndexEntry { name, version, state, reason });
            }
        }
    }

    /// What the folder holds and what is served of it.
    pub(super) fn publish_index(&self) {
        let mut all: BTreeMap<(String, u32), IndexEntry> = BTreeMap::new();
        let mut put = |name: &str, version: u32, state, reason: String| {
            let entry = IndexEntry { name: name.to_owned(), version, state, reason };
            all.insert((name.to_owned(), version), entry);
        };
        // Reasons are those of the files as they are now.
        let refused = |name: &str, version: u32| {
            let Some(Ok(found)) = self.seen.get(name) else { return None };
            let (made, reason) = self.refused.get(&(name.to_owned(), version))?;
            let same = found.versions.get(&version) == Some(&made.model) && found.files == made.files;
            same.then(|| reason.clone())
        };
        for (name, found) in &self.seen {
            let Ok(found) = found else { continue };
            for &version in found.versions.keys() {
                let reason = match refused(name, version) {
                    Some(reason) => reason,
                    None if self.unloaded.contains(name) => "unloaded".to_owned(),
                    None if !self.follows(name) => "not loaded: models are loaded when they are asked for".to_owned(),
                    None => "not among the newest versions that are served".to_owned(),
                };
                put(name, version, ModelState::Unavailable, reason);
            }
        }
        for served in self.shared.registry.read().unwrap_or_else(PoisonError::into_inner).values() {
            for (&version, served) in served {
                let reason = refused(&served.name, version);
                let reason = reason.map(|r| format!("the version before is served, since its files changed and: {r}"));
                put(&served.name, version, ModelState::Ready, reason.unwrap_or_default());
            }
        }
        *self.shared.index.write().unwrap_or_else(PoisonError::into_inner) = all.into_values().collect();
    }
}
