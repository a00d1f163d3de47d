//! The conformance data: cases of networks with reference results (tests/data/conformance, file names as there).
//!
//! Everything here panics with the name of the file: it is for tests.

use std::{fs::File, path::PathBuf};

use ndarray::{ArrayD, Axis, OwnedRepr};
use ndarray_npy::{NpzReader, ReadNpzError, ReadableElement};
use serde_json::Value;

/// Folder of the cases: that of the repository, or the one that `AKIDA_CONFORMANCE` names, for those too large for it.
pub fn root() -> PathBuf {
    std::env::var_os("AKIDA_CONFORMANCE")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/data/conformance")), PathBuf::from)
}

/// One case.
pub struct Case {
    /// Name of the case.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// `case.json`.
    pub json: Value,
}

impl Case {
    /// A case; None when this copy of the data does not have it.
    pub fn find(name: &str) -> Option<Self> {
        let folder = root().join(name);
        let file = folder.join("case.json");
        let text = std::fs::read_to_string(&file).ok()?;
        let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Some(Self { name: name.to_owned(), folder, json })
    }

    /// A file of the case.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// An `.npz` file of the case; None when it is not there.
    pub fn npz(&self, file: &str) -> Option<Npz> {
        let path = self.path(file);
        path.exists().then(|| Npz::open(&path))
    }

    /// The float inputs as the graph takes them, from `x` or from `x_u8` by the formula of the case.
    pub fn inputs(&self) -> ArrayD<f32> {
        self.floats("inputs.npz", "x", "x_u8")
    }

    /// The calibration samples.
    pub fn calibration(&self) -> ArrayD<f32> {
        self.floats("calib.npz", "samples", "samples_u8")
    }

    fn floats(&self, file: &str, key: &str, bytes: &str) -> ArrayD<f32> {
        let mut npz = self.npz(file).unwrap_or_else(|| panic!("{}: {file} is missing", self.name));
        if npz.has(key) {
            return npz.floats(key);
        }
        let (mean, deviation) = self.formula();
        // f32 throughout, in this order; then the channel axis.
        let floats = npz.integers(bytes).mapv(|v| (v as f32 / 255.0 - mean) / deviation);
        floats.insert_axis(Axis(1))
    }

    /// `x = (float32(u8) / 255 - mean) / deviation, shape ...`
    fn formula(&self) -> (f32, f32) {
        let text = self.json["u8_to_float"].as_str().unwrap_or_default();
        let numbers = || {
            let (mean, rest) = text.strip_prefix("x = (float32(u8) / 255 - ")?.split_once(") / ")?;
            let (deviation, _) = rest.split_once(',')?;
            Some((mean.parse().ok()?, deviation.parse().ok()?))
        };
        numbers().unwrap_or_else(|| panic!("{}: u8_to_float is {text:?}", self.name))
    }

    /// A list of strings in `case.json`.
    pub fn strings(&self, key: &str) -> Vec<String> {
        let list = self.json[key].as_array().unwrap_or_else(|| panic!("{}: no list {key}", self.name));
        list.iter().map(|value| value.as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// An archive of arrays.
pub struct Npz {
    path: PathBuf,
    reader: NpzReader<File>,
}

impl Npz {
    /// Opens an archive.
    pub fn open(path: &std::path::Path) -> Self {
        let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let reader = NpzReader::new(file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path: path.to_owned(), reader }
    }

    /// Whether there is an array of this name.
    pub fn has(&mut self, key: &str) -> bool {
        self.reader.names().is_ok_and(|names| names.iter().any(|name| name == key))
    }

    /// An array of any integer type.
    pub fn integers(&mut self, key: &str) -> ArrayD<i64> {
        None.or_else(|| Some(self.read::<i8>(key)?.mapv(i64::from)))
            .or_else(|| Some(self.read::<u8>(key)?.mapv(i64::from)))
            .or_else(|| Some(self.read::<i32>(key)?.mapv(i64::from)))
            .or_else(|| self.read::<i64>(key))
            .unwrap_or_else(|| panic!("{}: {key} holds no integers", self.path.display()))
    }

    /// An array of floats, or of bytes as floats.
    pub fn floats(&mut self, key: &str) -> ArrayD<f32> {
        self.read::<f32>(key)
            .or_else(|| Some(self.read::<u8>(key)?.mapv(f32::from)))
            .unwrap_or_else(|| panic!("{}: {key} holds no floats", self.path.display()))
    }

    /// None when the elements are of another type.
    fn read<T: ReadableElement>(&mut self, key: &str) -> Option<ArrayD<T>> {
        match self.reader.by_name::<OwnedRepr<T>, _>(key) {
            Ok(array) => Some(array),
            Err(ReadNpzError::Npy(ndarray_npy::ReadNpyError::WrongDescriptor(_))) => None,
            Err(error) => panic!("{}: {key}: {error}", self.path.display()),
        }
    }
}
