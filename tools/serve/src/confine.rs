//! What the process may still open after its start: Landlock, where the kernel has it.
//!
//! Nothing that a client sends names a file. Should that ever turn out wrong, or a parser be made to run what it read, the
//! kernel allows to read the repository, the files of secrets and what describes boards, to drive boards' nodes, and
//! nothing else: no file can be made, changed or started. systemd's units say the same once more; this also holds in a
//! container and when started by hand.

use std::fmt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, make_bitflags, path_beneath_rules,
};

/// What the kernel made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// All of it holds.
    Full,
    /// An older kernel: reading and writing are held, truncating or device calls are not.
    Partial,
    /// The kernel has no Landlock, or it is switched off.
    None,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Confinement::Full => "files outside of repository, secrets and boards are out of reach (Landlock)",
            Confinement::Partial => {
                "files outside of repository, secrets and boards are out of reach (Landlock of an older kernel)"
            }
            Confinement::None => "this kernel has no Landlock: only its owner's rights confine this process",
        })
    }
}

/// Where boards are described, and what this process may know of itself.
const DESCRIPTIONS: [&str; 2] = ["/sys", "/proc"];
/// Boards' nodes, and the one file everything may be written to.
const NODES: [&str; 3] = ["/dev/vfio", "/dev/iommu", "/dev/null"];

/// Confines this thread and all that it starts from now on: reads below `folders` (and beside them nothing), boards' nodes, and
/// `nodes` of the vendor's module. To be called before there are other threads. Folders that do not exist are not made readable.
///
/// # Errors
///
/// The kernel has Landlock and refused the rules.
pub fn confine(folders: &[PathBuf], nodes: &[PathBuf]) -> Result<Confinement, RulesetError> {
    let abi = ABI::V5;
    let read: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let drive: BitFlags<AccessFs> = read | make_bitflags!(AccessFs::{WriteFile | IoctlDev});
    let readable = folders.iter().map(PathBuf::as_path).chain(DESCRIPTIONS.iter().map(Path::new));
    let drivable = nodes.iter().map(PathBuf::as_path).chain(NODES.iter().map(Path::new));
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(drivable, drive))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Confinement::Full,
        RulesetStatus::PartiallyEnforced => Confinement::Partial,
        RulesetStatus::NotEnforced => Confinement::None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;

    use super::*;

    /// In a thread of its own: what it loses, the others keep.
    #[test]
    fn only_what_is_named_can_be_opened() {
        let repository = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        for folder in [&repository, &elsewhere] {
            fs::write(folder.path().join("model.akm"), b"x").unwrap();
        }
        let (inside, outside) = (repository.path().to_owned(), elsewhere.path().to_owned());
        let confined = std::thread::spawn(move || {
            let confinement = confine(&[inside.clone(), "/does/not/exist".into()], &[]).unwrap();
            if confinement == Confinement::None {
                println!("SKIP: {confinement}");
                return;
            }
            let refused = |e: std::io::Error| assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
            assert_eq!(fs::read(inside.join("model.akm")).unwrap(), b"x");
            assert_eq!(fs::read_dir(&inside).unwrap().count(), 1);
            assert!(fs::read_dir("/sys/bus").is_ok());
            fs::write("/dev/null", b"x").unwrap();
            // Reading elsewhere, also by a way that leads out of the repository.
            refused(fs::read(outside.join("model.akm")).unwrap_err());
            refused(fs::read(inside.join("..").join(outside.file_name().unwrap()).join("model.akm")).unwrap_err());
            refused(fs::read_to_string("/etc/hostname").map(|_| ()).unwrap_err());
            // Changing anything, anywhere.
            refused(fs::write(inside.join("model.akm"), b"y").unwrap_err());
            refused(fs::write(inside.join("new"), b"y").unwrap_err());
            refused(fs::remove_file(inside.join("model.akm")).unwrap_err());
            refused(fs::create_dir(inside.join("d")).unwrap_err());
            refused(std::process::Command::new("/bin/true").status().map(|_| ()).unwrap_err());
            // What it starts is confined as well.
            std::thread::spawn(move || refused(fs::read(outside.join("model.akm")).unwrap_err())).join().unwrap();
        });
        confined.join().unwrap();
        assert_eq!(fs::read(elsewhere.path().join("model.akm")).unwrap(), b"x", "the other threads read as before");
    }
}
