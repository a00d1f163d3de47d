//! The PCIe link of a board.

use std::path::Path;

use super::read_text;

/// Speed and width, as the kernel words them (`5.0 GT/s PCIe`); empty where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Now.
    pub speed: String,
    /// Lanes now.
    pub width: u32,
    /// What the function could do.
    pub max_speed: String,
    /// Lanes it could use.
    pub max_width: u32,
}

impl Link {
    pub(super) fn read(folder: &Path) -> Self {
        let text = |name: &str| read_text(&folder.join(name)).unwrap_or_default();
        let width = |name: &str| text(name).parse().unwrap_or(0);
        Self {
            speed: text("current_link_speed"),
            width: width("current_link_width"),
            max_speed: text("max_link_speed"),
            max_width: width("max_link_width"),
        }
    }

    /// The kernel reports no width for a link that is down, and for a function without a link.
    pub fn is_up(&self) -> bool {
        self.width > 0
    }

    /// Slower or narrower than the function could be.
    pub fn is_reduced(&self) -> bool {
        self.is_up() && (self.width < self.max_width || self.gigatransfers() < gigatransfers(&self.max_speed))
    }

    fn gigatransfers(&self) -> f64 {
        gigatransfers(&self.speed)
    }
}

fn gigatransfers(speed: &str) -> f64 {
    speed.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

/// Active-state power management of the link; `None` where the kernel has no switch (no link, or ASPM not built in).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aspm {
    /// L0s enabled.
    pub l0s: Option<bool>,
    /// L1 enabled.
    pub l1: Option<bool>,
}

impl Aspm {
    /// The switches of the kernel below a function's folder.
    pub(super) const SWITCHES: [&str; 2] = ["link/l0s_aspm", "link/l1_aspm"];

    pub(super) fn read(folder: &Path) -> Self {
        let [l0s, l1] = Self::SWITCHES.map(|name| read_text(&folder.join(name)).map(|t| t != "0"));
        Self { l0s, l1 }
    }

    /// Either state is enabled.
    pub fn is_on(&self) -> bool {
        self.l0s == Some(true) || self.l1 == Some(true)
    }
}
