//! The locked-memory limit: VFIO pins every mapped page and answers a bare ENOMEM when the limit is reached.

use nix::sys::resource::{Resource, getrlimit};

/// How much memory this process may lock, and how much it has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    /// RLIMIT_MEMLOCK in bytes, `u64::MAX` for no limit.
    pub limit: u64,
    /// Bytes locked now.
    pub locked: u64,
    /// The process has CAP_IPC_LOCK, which the kernel exempts from the limit.
    pub exempt: bool,
}

/// Bit of CAP_IPC_LOCK in a capability mask (capability.h).
const CAP_IPC_LOCK: u64 = 1 << 14;

impl Locked {
    /// Reads the limit and `/proc/self/status`. Where either cannot be read the kernel has the last word.
    pub fn now() -> Self {
        let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(u64::MAX, |(soft, _)| soft);
        Self::parse(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), limit)
    }

    fn parse(status: &str, limit: u64) -> Self {
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let locked = field("VmLck:").and_then(|v| v.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024;
        let capabilities = field("CapEff:").and_then(|v| u64::from_str_radix(v, 16).ok()).unwrap_or(0);
        Self { limit, locked, exempt: capabilities & CAP_IPC_LOCK != 0 }
    }

    /// True when `bytes` more may be pinned.
    pub fn allows(&self, bytes: u64) -> bool {
        self.exempt || self.limit == u64::MAX || self.locked.saturating_add(bytes) <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_limit_use_and_capability() {
        let user = "Name:\tx\nVmLck:\t    4096 kB\nCapEff:\t0000000000000000\n";
        let root = "Name:\tx\nVmLck:\t       0 kB\nCapEff:\t000001ffffffffff\n";
        let cases = [
            (user, 8 << 20, 4 << 20, true),
            (user, 8 << 20, (4 << 20) + 1, false),
            (user, u64::MAX, 1 << 40, true),
            (user, 0, 1, false),
            (root, 0, 1 << 40, true),
            ("", 4096, 4096, true),
            ("", 4096, 4097, false),
        ];
        for (status, limit, bytes, allowed) in cases {
            assert_eq!(Locked::parse(status, limit).allows(bytes), allowed, "{limit} {bytes} {status:?}");
        }
        assert_eq!(Locked::parse(user, 1).locked, 4 << 20);
    }
}
