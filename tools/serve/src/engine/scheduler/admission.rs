//! Who may still send: bounds on requests and bytes, and a share for everybody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How much is held at most: taken and not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests.
    pub requests: usize,
    /// Bytes of their inputs.
    pub bytes: usize,
}

/// How much is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Requests.
    pub requests: usize,
    /// Bytes of their inputs.
    pub bytes: usize,
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The service ends.
    Draining,
    /// The model takes no requests (any more).
    Closed,
    /// All boards of the model are quarantined.
    NoBoard,
    /// The deadline has passed already.
    Deadline,
    /// What goes before it takes longer than until its deadline.
    TooLate(Duration),
    /// Too much is held.
    Full(Full),
}

/// What is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full {
    /// `requests` or `bytes`.
    pub what: &'static str,
    /// How much this client holds.
    pub client: usize,
    /// How much all of them hold.
    pub all: usize,
    /// How much may be held.
    pub limit: usize,
    /// How long what waits takes.
    pub retry_after: Option<Duration>,
}

/// A client may hold as much as is free without it ("dynamic threshold"): one alone has half of the whole, two a third
/// each, and whoever comes new always finds room.
pub struct Admission {
    limits: Limits,
    all: Held,
    clients: HashMap<Arc<str>, Held>,
}

impl Admission {
    pub fn new(limits: Limits) -> Self {
        Self { limits, all: Held::default(), clients: HashMap::new() }
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    pub fn held(&self) -> Held {
        self.all
    }

    /// Counts a request in.
    pub fn take(&mut self, client: &str, bytes: usize) -> Result<Arc<str>, Full> {
        let (name, held) = match self.clients.get_key_value(client) {
            Some((name, held)) => (name.clone(), *held),
            None => (Arc::from(client), Held::default()),
        };
        let free = |what, client: usize, all: usize, more: usize, limit: usize| {
            let after = all.saturating_add(more);
            let mine = client.saturating_add(more);
            // A first request needs room only; a client that holds some keeps as much free as it holds.
            let fits = after <= limit && (client == 0 || mine <= limit - after + more.min(limit));
            if fits { Ok(()) } else { Err(Full { what, client, all, limit, retry_after: None }) }
        };
        free("requests", held.requests, self.all.requests, 1, self.limits.requests)?;
        free("bytes", held.bytes, self.all.bytes, bytes, self.limits.bytes)?;
        self.all = Held { requests: self.all.requests + 1, bytes: self.all.bytes + bytes };
        let held = Held { requests: held.requests + 1, bytes: held.bytes + bytes };
        self.clients.insert(name.clone(), held);
        Ok(name)
    }

    /// Counts it out. Clients that hold nothing are forgotten.
    pub fn release(&mut self, client: &str, bytes: usize) {
        self.all.requests = self.all.requests.saturating_sub(1);
        self.all.bytes = self.all.bytes.saturating_sub(bytes);
        if let Some(held) = self.clients.get_mut(client) {
            held.requests = held.requests.saturating_sub(1);
            held.bytes = held.bytes.saturating_sub(bytes);
            if held.requests == 0 {
                self.clients.remove(client);
            }
        }
    }
}
