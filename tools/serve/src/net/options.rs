//! What the listeners are told: limits, files of secrets.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything about listeners but their sockets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// What clients can take of this process.
    pub limits: Limits,
    /// TLS of the TCP listeners for HTTP and gRPC. None: plain.
    pub tls: Option<TlsFiles>,
    /// Who may do what: docs/service.md has the format. None: whoever reaches a socket.
    pub access: Option<PathBuf>,
    /// Refuses load and unload to everyone: models change through the repository's folder only.
    pub no_repository_control: bool,
}

/// Files in PEM, read at the start and again on a reload.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The server's certificate, then its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs client certificates. With it, clients need one, or a token where there is an access file.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// Limits of what one client, and all together, can take. Times are seconds in files.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request's body, packed or unpacked; of a message of gRPC.
    pub body_bytes: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Bytes of all bodies that are held at once, of all clients.
    pub memory_bytes: usize,
    /// Open connections, on all listeners.
    pub connections: usize,
    /// Requests at once on a connection of HTTP/2; also requests in flight of a stream of inferences.
    pub streams: u32,
    /// From the connection until it is known what is spoken, TLS included.
    #[serde(with = "seconds")]
    pub handshake: Duration,
    /// From the first byte of a head of HTTP/1.1 to its last, and between two requests.
    #[serde(with = "seconds")]
    pub header: Duration,
    /// Between two pieces of a body.
    #[serde(with = "seconds")]
    pub stall: Duration,
    /// From the first piece of a body to its last.
    #[serde(with = "seconds")]
    pub body: Duration,
    /// A client that takes nothing of its answer for so long is let go.
    #[serde(with = "seconds")]
    pub write: Duration,
    /// How often a quiet HTTP/2 connection is asked whether anybody is there, and how long the answer may take.
    #[serde(with = "seconds")]
    pub keepalive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            header_bytes: 32 << 10,
            memory_bytes: 512 << 20,
            connections: 4096,
            streams: 1024,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(60),
            stall: Duration::from_secs(10),
            body: Duration::from_secs(60),
            write: Duration::from_secs(30),
            keepalive: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// Refuses limits nothing could work with.
    ///
    /// # Errors
    ///
    /// Names the limit.
    pub fn check(&self) -> Result<(), String> {
        // HTTP/2 takes no smaller frame, hyper no smaller buffer than 8 KiB.
        let sizes = [
            ("body_bytes", self.body_bytes, 1, 1 << 31),
            ("header_bytes", self.header_bytes, 8 << 10, 1 << 20),
            ("memory_bytes", self.memory_bytes, self.body_bytes, usize::MAX),
            ("connections", self.connections, 1, 1 << 20),
            ("streams", self.streams as usize, 1, 1 << 20),
        ];
        for (name, value, least, most) in sizes {
            if value < least || value > most {
                return Err(format!("limits.{name} is {value}; it goes from {least} to {most}"));
            }
        }
        let times = [
            ("handshake", self.handshake),
            ("header", self.header),
            ("stall", self.stall),
            ("body", self.body),
            ("write", self.write),
            ("keepalive", self.keepalive),
        ];
        for (name, value) in times {
            if value.is_zero() {
                return Err(format!("limits.{name} is 0 seconds: nothing could be done in it"));
            }
        }
        Ok(())
    }
}

/// Durations as seconds, fractions allowed.
mod seconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(duration.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|d| d.as_secs() <= 24 * 3600)
            .ok_or_else(|| D::Error::custom(format!("{seconds} seconds: give 0 to 86400")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_from_a_file() {
        let read = |text: &str| serde_json::from_str::<Options>(text).map_err(|e| e.to_string());
        let options = read(r#"{"limits": {"stall": 0.5, "connections": 9}}"#).unwrap();
        assert_eq!((options.limits.stall, options.limits.connections), (Duration::from_millis(500), 9));
        assert_eq!(options.limits.check(), Ok(()));
        for (wrong, why) in [
            (r#"{"limits": {"stall": -1}}"#, "0 to 86400"),
            (r#"{"limits": {"stall": 1e9}}"#, "0 to 86400"),
            (r#"{"limits": {"stahl": 1}}"#, "unknown field"),
            (r#"{"tls": {"certificate": "c"}}"#, "key"),
        ] {
            assert!(read(wrong).unwrap_err().contains(why), "{wrong}");
        }
        for wrong in [r#"{"limits": {"memory_bytes": 5}}"#, r#"{"limits": {"body": 0}}"#] {
            assert!(read(wrong).unwrap().limits.check().is_err(), "{wrong}");
        }
    }
}
