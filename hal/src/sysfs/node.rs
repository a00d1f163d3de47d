//! Device nodes, who may open them and who has.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{Sysfs, read_text};

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its path on the running system.
    pub path: PathBuf,
    /// Permission bits, 0o660.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What this process may do with it.
    pub access: Access,
}

/// Whether this process may open a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading and writing.
    Granted,
    /// Not.
    Denied,
}

impl Node {
    pub(super) fn read(sysfs: &Sysfs, path: &Path) -> Option<Self> {
        let real = sysfs.path(path);
        let meta = fs::metadata(&real).ok()?;
        let granted = access(&real, AccessFlags::R_OK | AccessFlags::W_OK).is_ok();
        Some(Self {
            path: path.into(),
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            access: if granted { Access::Granted } else { Access::Denied },
        })
    }
}

/// A process that has a node open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl User {
    /// Everyone who has one of `nodes` open, as far as this user may look into /proc. This process is not counted.
    pub(super) fn of(sysfs: &Sysfs, nodes: &[&Node]) -> Vec<Self> {
        if nodes.is_empty() {
            return Vec::new();
        }
        let own = std::process::id();
        let mut users: Vec<Self> = fs::read_dir(sysfs.path("/proc"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok())
            .filter(|&pid| pid != own)
            .filter(|pid| {
                let fds = sysfs.path(format!("/proc/{pid}/fd"));
                fs::read_dir(fds)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter_map(|fd| fs::read_link(fd.path()).ok())
                    .any(|target| nodes.iter().any(|n| n.path == target))
            })
            .map(|pid| Self { pid, name: read_text(&sysfs.path(format!("/proc/{pid}/comm"))).unwrap_or_default() })
            .collect();
        users.sort_by_key(|u| u.pid);
        users
    }
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.pid)
    }
}
