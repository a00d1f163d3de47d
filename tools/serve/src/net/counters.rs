//! What listeners count, for `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of all listeners.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are open.
    pub open: AtomicU64,
    /// Connections that were taken.
    pub connections: AtomicU64,
    /// Connections that were closed at once because there were too many.
    pub refused: AtomicU64,
    /// Connections that ended in an error of TLS.
    pub tls_errors: AtomicU64,
    /// Requests by protocol and status.
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
}

impl Counters {
    /// Counts an answer: `http` with its status, or `grpc` with its code.
    pub fn answered(&self, protocol: &'static str, status: u16) {
        let mut answers = self.answers.lock().unwrap_or_else(|e| e.into_inner());
        *answers.entry((protocol, status)).or_default() += 1;
    }

    /// Appends OpenMetrics, without the mark of the end.
    pub fn metrics(&self, memory: usize, text: &mut String) {
        let mut family = |name: &str, kind: &str, help: &str, value: u64| {
            // A counter's family goes without the end of its samples' name.
            let family = name.strip_suffix("_total").unwrap_or(name);
            let _ = write!(text, "# HELP {family} {help}\n# TYPE {family} {kind}\n{name} {value}\n");
        };
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        family("akida_serve_open_connections", "gauge", "Open connections.", of(&self.open));
        family("akida_serve_connections_total", "counter", "Connections that were taken.", of(&self.connections));
        let help = "Connections closed at once: limits.connections were open.";
        family("akida_serve_connections_refused_total", "counter", help, of(&self.refused));
        family("akida_serve_tls_errors_total", "counter", "Connections that failed in TLS.", of(&self.tls_errors));
        family("akida_serve_request_memory_bytes", "gauge", "Bytes held by request bodies.", memory as u64);
        let family = "akida_serve_answers";
        let _ = write!(text, "# HELP {family} Answers by protocol and status.\n# TYPE {family} counter\n");
        let answers = self.answers.lock().unwrap_or_else(|e| e.into_inner());
        for ((protocol, status), count) in answers.iter() {
            let _ = writeln!(text, "{family}_total{{protocol=\"{protocol}\",status=\"{status}\"}} {count}");
        }
    }
}
