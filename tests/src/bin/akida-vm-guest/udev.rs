//! What udev makes of our rules, and what users may do then.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use akida_hal::regs::pci;
use akida_hal::sysfs::{PciBoard, Sysfs};
use akida_hal::vfio::{self, VfioBoard};
use akida_hal::{Board, Error};

/// A user and a group without other rights; init has made them.
const USER: u32 = 1000;
const GROUP: u32 = 970;
/// A user, and group, with no rights at all.
const STRANGER: u32 = 1001;
/// The rule that is not installed by default.
const BIND_RULE: &str = "/udev/71-akida-bind.rules";

/// udev has given the node to the group by our rule: a user with no other right opens the board, a stranger does not.
pub fn as_user(sysfs: &Sysfs, address: &str) -> Result<String, String> {
    settled()?;
    let board = sysfs.board(address).map_err(|e| e.to_string())?;
    let node = board.node.as_ref().ok_or("no node")?;
    let run = |user: u32, group: u32| -> Result<String, String> {
        use std::os::unix::process::CommandExt;
        let this = std::env::current_exe().map_err(|e| e.to_string())?;
        let output =
            Command::new(this).args(["user", address]).uid(user).gid(group).output().map_err(|e| e.to_string())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    granted(&node.path)?;
    match run(STRANGER, STRANGER)? {
        said if said.starts_with("Permission") => {}
        said => return Err(format!("a stranger: {said}")),
    }
    match run(USER, GROUP)?.as_str() {
        "opened" => {}
        said => return Err(said.to_string()),
    }
    if !(cfg!(feature = "iommufd") && sysfs.has_iommufd()) {
        return Ok(format!("opens {} by its group, a stranger does not", node.path.display()));
    }
    if !of_silicon(&board) {
        return Ok(format!("opens {} by its group; its own node is no rule's matter", node.path.display()));
    }
    // And by its own node, once the administrator has opened /dev/iommu too.
    let cdev = board.cdev.as_ref().ok_or("no node of its own")?;
    granted(&cdev.path)?;
    use std::os::unix::fs::{PermissionsExt, chown};
    chown("/dev/iommu", None, Some(GROUP)).map_err(|e| e.to_string())?;
    fs::set_permissions("/dev/iommu", fs::Permissions::from_mode(0o660)).map_err(|e| e.to_string())?;
    match run(USER, GROUP)?.as_str() {
        "opened" => Ok(format!("opens {} and {} by its group", node.path.display(), cdev.path.display())),
        said => Err(said.to_string()),
    }
}

/// The rules name boards by their PCI id where they can; that of an Akida 2.0 function is of this project's making.
pub fn of_silicon(board: &PciBoard) -> bool {
    matches!(board.device, pci::DEVICE_AKD1000 | pci::DEVICE_AKD1500)
}

/// udev has nothing left to do.
fn settled() -> Result<(), String> {
    let ended = Command::new("/bin/udevadm").args(["settle", "--timeout=60"]).status().map_err(|e| e.to_string())?;
    if ended.success() { Ok(()) } else { Err("udev does not settle".into()) }
}

/// The node is the group's, and nobody else's.
fn granted(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
    match (meta.uid(), meta.gid(), meta.mode() & 0o777) {
        (0, GROUP, 0o660) => Ok(()),
        (user, group, mode) => Err(format!("{}: owner {user}, group {group}, mode {mode:o}", path.display())),
    }
}

/// udev's own opinion of our rules, where the group they name exists.
pub fn rules_verified() -> Result<String, String> {
    let rules = ["/usr/lib/udev/rules.d/70-akida.rules", BIND_RULE];
    let output = Command::new("/bin/udevadm").arg("verify").args(rules).output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// The rule that is opt-in: once it is installed, a board that appears goes to vfio-pci, and its node to the group.
pub fn bound_by_udev(sysfs: &Sysfs, address: &str) -> Result<String, String> {
    let installed = Path::new("/run/udev/rules.d/71-akida-bind.rules");
    let failed = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    fs::create_dir_all("/run/udev/rules.d")
        .and_then(|()| fs::copy(BIND_RULE, installed))
        .map_err(failed("the rule"))?;
    let run = || -> Result<String, String> {
        udevadm(&["control", "--reload"])?;
        // As after a hot plug: the function leaves and is found again.
        fs::write(format!("/sys/bus/pci/devices/{address}/remove"), "1").map_err(failed("remove"))?;
        fs::write("/sys/bus/pci/rescan", "1").map_err(failed("rescan"))?;
        settled()?;
        let board = sysfs.board(address).map_err(|e| e.to_string())?;
        if board.driver.as_deref() != Some("vfio-pci") {
            return Err(format!("the driver is {:?}", board.driver));
        }
        let node = board.node.ok_or("no node")?;
        granted(&node.path)?;
        Ok(format!("a board that appears is bound, {} is the group's", node.path.display()))
    };
    let result = run();
    fs::remove_file(installed).map_err(failed("the rule"))?;
    udevadm(&["control", "--reload"])?;
    result
}

fn udevadm(arguments: &[&str]) -> Result<(), String> {
    let status = Command::new("/bin/udevadm").args(arguments).status().map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("udevadm {arguments:?}: {status}")) }
}

/// Opens the board and says how that went.
pub fn user(address: &str) -> ExitCode {
    match VfioBoard::open(address) {
        Ok(board) => match board.allocate(64 << 10) {
            Ok(_) => println!("opened"),
            Err(e) => println!("no memory: {e}; {}", e.advice()),
        },
        Err(Error::Vfio(e @ vfio::Error::Permission { .. })) => println!("Permission: {e}"),
        Err(e) => println!("{e:?}"),
    }
    ExitCode::SUCCESS
}
