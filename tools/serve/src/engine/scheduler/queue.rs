//! What waits for one model: classes by priority, in each of them clients in turn.
//!
//! Deficit round robin, counted in samples: a client whose turn it is gets [`QUANTUM`] samples of credit and sends while
//! its credit lasts, so many small requests and few large ones of another client get the same share of the boards.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::{JobId, Queued};

/// Samples of credit a turn brings.
const QUANTUM: usize = 8;

pub struct Queue<J> {
    classes: BTreeMap<u32, Class<J>>,
    /// When each came.
    ages: BTreeSet<(Instant, JobId)>,
    /// Where each is.
    places: HashMap<JobId, (u32, Arc<str>)>,
    samples: usize,
}

impl<J> Default for Queue<J> {
    fn default() -> Self {
        Self { classes: BTreeMap::new(), ages: BTreeSet::new(), places: HashMap::new(), samples: 0 }
    }
}

struct Class<J> {
    clients: HashMap<Arc<str>, Client<J>>,
    /// Clients with requests, the next in front.
    turns: VecDeque<Arc<str>>,
    samples: usize,
}

struct Client<J> {
    jobs: VecDeque<Queued<J>>,
    credit: usize,
    samples: usize,
}

impl<J> Queue<J> {
    pub fn requests(&self) -> usize {
        self.places.len()
    }

    pub fn samples(&self) -> usize {
        self.samples
    }

    /// When the oldest came.
    pub fn oldest(&self) -> Option<Instant> {
        self.ages.first().map(|(since, _)| *since)
    }

    /// The most urgent class.
    pub fn class(&self) -> Option<u32> {
        self.classes.first_key_value().map(|(class, _)| *class)
    }

    /// Samples that go before whatever a client of this class sends now: those of more urgent classes, and its own.
    pub fn ahead(&self, class: u32, client: &str) -> usize {
        let urgent: usize = self.classes.range(..class).map(|(_, c)| c.samples).sum();
        let own = self.classes.get(&class).and_then(|c| c.clients.get(client));
        urgent + own.map_or(0, |c| c.samples)
    }

    pub fn push_back(&mut self, queued: Queued<J>) {
        self.client(&queued).jobs.push_back(queued);
    }

    pub fn push_front(&mut self, queued: Queued<J>) {
        let (class, name) = (queued.entry.class, queued.entry.client.clone());
        let samples = queued.entry.samples;
        let client = self.client(&queued);
        client.jobs.push_front(queued);
        // It had its credit before.
        client.credit += samples;
        if let Some(class) = self.classes.get_mut(&class) {
            class.turns.retain(|n| *n != name);
            class.turns.push_front(name);
        }
    }

    /// The place of a request that comes, counted already.
    fn client(&mut self, queued: &Queued<J>) -> &mut Client<J> {
        let entry = &queued.entry;
        self.ages.insert((entry.since, entry.id));
        self.places.insert(entry.id, (entry.class, entry.client.clone()));
        self.samples += entry.samples;
        let class = self.classes.entry(entry.class);
        let class = class.or_insert_with(|| Class { clients: HashMap::new(), turns: VecDeque::new(), samples: 0 });
        class.samples += entry.samples;
        let client = class.clients.entry(entry.client.clone()).or_insert_with(|| {
            class.turns.push_back(entry.client.clone());
            Client { jobs: VecDeque::new(), credit: 0, samples: 0 }
        });
        client.samples += entry.samples;
        client
    }

    /// The next request, if it brings at most `room` samples.
    pub fn pop(&mut self, room: usize) -> Option<Queued<J>> {
        let mut entry = self.classes.first_entry()?;
        let class = entry.get_mut();
        let queued = class.pop(room)?;
        if class.turns.is_empty() {
            entry.remove();
        }
        self.gone(&queued);
        Some(queued)
    }

    /// Takes one out, wherever it is.
    pub fn remove(&mut self, id: JobId) -> Option<Queued<J>> {
        let (class, name) = self.places.get(&id)?.clone();
        let of = self.classes.get_mut(&class)?;
        let client = of.clients.get_mut(&name)?;
        let at = client.jobs.iter().position(|q| q.entry.id == id)?;
        let queued = client.jobs.remove(at)?;
        client.samples -= queued.entry.samples;
        of.samples -= queued.entry.samples;
        if client.jobs.is_empty() {
            of.clients.remove(&name);
            of.turns.retain(|n| *n != name);
        }
        if of.turns.is_empty() {
            self.classes.remove(&class);
        }
        self.gone(&queued);
        Some(queued)
    }

    /// Takes all out.
    pub fn take_all(&mut self) -> Vec<Queued<J>> {
        let all = std::mem::take(self);
        all.classes.into_values().flat_map(|c| c.clients.into_values()).flat_map(|c| c.jobs).collect()
    }

    fn gone(&mut self, queued: &Queued<J>) {
        let entry = &queued.entry;
        self.places.remove(&entry.id);
        self.ages.remove(&(entry.since, entry.id));
        self.samples -= entry.samples;
    }
}

impl<J> Class<J> {
    fn pop(&mut self, room: usize) -> Option<Queued<J>> {
        loop {
            let name = self.turns.front()?.clone();
            let client = self.clients.get_mut(&name)?;
            let samples = client.jobs.front()?.entry.samples;
            if client.credit < samples {
                // One turn, then the next client: ends, since credit only grows.
                client.credit += QUANTUM;
                self.turns.rotate_left(1);
                continue;
            }
            if samples > room {
                return None;
            }
            client.credit -= samples;
            client.samples -= samples;
            self.samples -= samples;
            let queued = client.jobs.pop_front()?;
            if client.jobs.is_empty() {
                // Credit is not saved up by those who send nothing.
                self.clients.remove(&name);
                self.turns.pop_front();
            }
            return Some(queued);
        }
    }
}
