//! What the repository's folder holds: `NAME/VERSION/model.akm`, and beside the versions `model.toml`.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use akida_runtime::hybrid::HybridModel;
use akida_runtime::model::Blob;
use akida_tools::exit::chain;

use super::model::{ModelDefaults, ModelOptions};

/// The file of a version.
pub const MODEL: &str = "model.akm";
/// The file that says how a model is served.
pub const OPTIONS: &str = "model.toml";
/// Largest `model.toml`.
const MAX_OPTIONS: u64 = 1 << 20;

/// By which a changed file is told from an unchanged one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    len: u64,
    modified: Option<SystemTime>,
    inode: (u64, u64),
}

impl Fingerprint {
    fn of(meta: &Metadata) -> Self {
        Self { len: meta.len(), modified: meta.modified().ok(), inode: (meta.dev(), meta.ino()) }
    }
}

/// A model's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Versions that have a model file.
    pub versions: BTreeMap<u32, Fingerprint>,
    /// The files beside them, by name.
    pub files: BTreeMap<String, Fingerprint>,
}

/// Everything in the repository by name.
pub type Contents = BTreeMap<String, Result<Found, String>>;

/// Looks at the repository's folder. A model whose folder cannot be read is there, with the reason.
///
/// # Errors
/// When the repository's folder cannot be read.
pub fn scan(root: &Path) -> io::Result<Contents> {
    let mut all = Contents::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            log::warn!("{}: ignored, its name is not UTF-8", entry.path().display());
            continue;
        };
        if name.starts_with('.') || !entry.path().is_dir() {
            continue;
        }
        if !valid_name(&name) {
            log::warn!("{name:?} is ignored: names of models are 1 to 128 letters, digits, '.', '_' and '-'");
            continue;
        }
        all.insert(name, model(&entry).map_err(|e| format!("{}: {e}", entry.path().display())));
    }
    Ok(all)
}

/// Whether a folder's name can be a model's: it travels in URLs, metrics and logs.
pub fn valid_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

fn model(folder: &DirEntry) -> io::Result<Found> {
    let mut found = Found::default();
    for entry in fs::read_dir(folder.path())? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        // Links are followed: the folder is the operator's, and some put models there by links that are swapped.
        let Ok(meta) = fs::metadata(entry.path()) else { continue };
        if meta.is_file() && !name.starts_with('.') {
            found.files.insert(name, Fingerprint::of(&meta));
        } else if meta.is_dir()
            && let Some(version) = version(&name)
            && let Ok(meta) = fs::metadata(entry.path().join(MODEL))
            && meta.is_file()
        {
            found.versions.insert(version, Fingerprint::of(&meta));
        }
    }
    Ok(found)
}

/// A version's folder: a number from 1 on, without zeros in front.
fn version(name: &str) -> Option<u32> {
    let version: u32 = name.parse().ok()?;
    (version > 0 && version.to_string() == name).then_some(version)
}

/// A version read from its file.
#[derive(Debug)]
pub enum Read1 {
    /// The whole network, checked.
    Whole(Box<HybridModel>),
    /// The file changed while it was read: try again later.
    Changing,
}

/// Reads a version into memory: a file that is replaced in place later does not change what is served.
///
/// # Errors
/// Says file and reason.
pub fn read(root: &Path, name: &str, version: u32, expected: &Fingerprint, max: u64) -> Result<Read1, String> {
    let path: PathBuf = root.join(name).join(version.to_string()).join(MODEL);
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let mut file = fs::File::open(&path).map_err(|e| wrong(&e))?;
    let before = Fingerprint::of(&file.metadata().map_err(|e| wrong(&e))?);
    if before.len > max {
        return Err(wrong(&format_args!("has {} bytes; {max} are allowed (repository.max_model_bytes)", before.len)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.len).unwrap_or(0));
    (&mut file).take(max + 1).read_to_end(&mut bytes).map_err(|e| wrong(&e))?;
    let after = Fingerprint::of(&file.metadata().map_err(|e| wrong(&e))?);
    if before != *expected || after != before || bytes.len() as u64 != before.len {
        return Ok(Read1::Changing);
    }
    let model = HybridModel::read(Blob::new(bytes)).map_err(|e| wrong(&chain(&e)))?;
    Ok(Read1::Whole(Box::new(model)))
}

/// How a model is to be served.
///
/// # Errors
/// Says file, line and reason.
pub fn options(root: &Path, name: &str, defaults: ModelDefaults) -> Result<ModelOptions, String> {
    let path = root.join(name).join(OPTIONS);
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(ModelOptions::plain(defaults)),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    let mut text = String::new();
    file.take(MAX_OPTIONS + 1).read_to_string(&mut text).map_err(|e| format!("{}: {e}", path.display()))?;
    if text.len() as u64 > MAX_OPTIONS {
        return Err(format!("{} has more than {MAX_OPTIONS} bytes", path.display()));
    }
    ModelOptions::read(&path, &text, defaults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions() {
        for (name, valid) in [
            ("mnist", true),
            ("mnist-1.2_x", true),
            ("", false),
            (".git", false),
            ("..", false),
            ("a/b", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(valid_name(name), valid, "{name:?}");
        }
        for (name, number) in [("1", Some(1)), ("42", Some(42)), ("0", None), ("01", None), ("+1", None), ("1.0", None)]
        {
            assert_eq!(version(name), number, "{name:?}");
        }
    }

    #[test]
    fn what_is_no_model_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["a/1", "a/2", "a/new", ".hidden/1", "b", "c d/1"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for file in ["a/1/model.akm", "a/model.toml", "a/new/model.akm", ".hidden/1/model.akm", "README"] {
            fs::write(root.path().join(file), "x").unwrap();
        }
        let found = scan(root.path()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b"]);
        let a = found["a"].as_ref().unwrap();
        assert_eq!(a.versions.keys().collect::<Vec<_>>(), [&1]);
        assert_eq!(a.files.keys().collect::<Vec<_>>(), [OPTIONS]);
        assert_eq!(found["b"], Ok(Found::default()));
        assert!(scan(&root.path().join("nothing")).is_err());
    }
}
