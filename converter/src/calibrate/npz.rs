//! Ranges in files.

use std::fs::File;
use std::path::{Path, PathBuf};

use ndarray::{Array1, ArrayD, IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, NpzWriter};

use super::{Range, Ranges};

/// Bytes of arrays a file of ranges may hold when unpacked.
const MAX_BYTES: u64 = 256 << 20;

/// A file of ranges that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct RangesFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads ranges from an npz file: arrays `min/TENSOR` and `max/TENSOR` (float32, one value or one per channel).
///
/// Files of QuantizeML's conformance data are read too: arrays `min0`, `max0`, ... whose tensors are named, in order,
/// by the list `calibration_ranges` of the `case.json` in the same folder.
pub fn load_ranges(path: &Path) -> Result<Ranges, RangesFileError> {
    let fail = |reason: String| RangesFileError { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    check_size(path)?;
    let mut npz = NpzReader::new(file).map_err(|e| fail(e.to_string()))?;
    let names = npz.names().map_err(|e| fail(e.to_string()))?;
    let names: Vec<String> =
        names.into_iter().map(|n| n.strip_suffix(".npy").map(str::to_owned).unwrap_or(n)).collect();
    let listed = if names.iter().any(|name| name == "min0") { listed_names(path)? } else { Vec::new() };
    let mut ranges = Ranges::new();
    for name in names.iter().filter(|name| name.starts_with("min")) {
        let rest = &name["min".len()..];
        let tensor = match rest.strip_prefix('/') {
            Some(tensor) => tensor.to_owned(),
            None => {
                let index = rest.parse::<usize>().ok().filter(|&i| i < listed.len());
                listed[index.ok_or_else(|| fail(format!("array '{name}' belongs to no tensor")))?].clone()
            }
        };
        let mut read = |name: &str| -> Result<Vec<f32>, RangesFileError> {
            let array: Result<ndarray::ArrayBase<OwnedRepr<f32>, IxDyn>, _> = npz.by_name(name);
            let array: ArrayD<f32> = array.map_err(|e| fail(format!("array '{name}': {e}")))?;
            Ok(array.iter().copied().collect())
        };
        let range = Range { min: read(name)?, max: read(&format!("max{rest}"))? };
        if range.min.len() != range.max.len() || range.min.is_empty() {
            let found = format!("{} minima and {} maxima", range.min.len(), range.max.len());
            return Err(fail(format!("tensor '{tensor}' has {found}")));
        }
        ranges.insert(tensor, range);
    }
    if ranges.is_empty() {
        return Err(fail("it holds no arrays named 'min/TENSOR' and 'max/TENSOR'".into()));
    }
    Ok(ranges)
}

/// Writes ranges in the form [`load_ranges`] reads, whole or not at all.
pub fn save_ranges(ranges: &Ranges, path: &Path) -> Result<(), RangesFileError> {
    let fail = |reason: String| RangesFileError { path: path.to_owned(), reason };
    let mut npz = NpzWriter::new_compressed(std::io::Cursor::new(Vec::new()));
    for (name, range) in ranges.iter() {
        for (kind, values) in [("min", &range.min), ("max", &range.max)] {
            let array = Array1::from(values.clone());
            npz.add_array(format!("{kind}/{name}"), &array).map_err(|e| fail(e.to_string()))?;
        }
    }
    let bytes = npz.finish().map_err(|e| fail(e.to_string()))?.into_inner();
    crate::onnx::write_whole(path, &bytes).map_err(|e| fail(e.to_string()))
}

/// The names a conformance case gives the arrays of its ranges.
fn listed_names(path: &Path) -> Result<Vec<String>, RangesFileError> {
    let case = path.with_file_name("case.json");
    let fail = |reason: String| RangesFileError { path: case.clone(), reason };
    let text = std::fs::read_to_string(&case).map_err(|e| fail(format!("{e}; it names the tensors of the ranges")))?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?;
    let names = json["calibration_ranges"].as_array().ok_or_else(|| fail("no list 'calibration_ranges'".into()))?;
    Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

/// Sizes are believed only after the archive's directory was added up: a small file must not unpack into memory
/// without end.
fn check_size(path: &Path) -> Result<(), RangesFileError> {
    let fail = |reason: String| RangesFileError { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| fail(e.to_string()))?;
    let mut total = 0u64;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|e| fail(e.to_string()))?;
        total = total.saturating_add(entry.size());
    }
    if total > MAX_BYTES {
        return Err(fail(format!("its arrays take {total} bytes, the limit is {MAX_BYTES}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_survive_a_file() {
        let path = std::env::temp_dir().join(format!("akida-ranges-{}.npz", std::process::id()));
        let mut ranges = Ranges::new();
        ranges.insert("/0/Conv_output_0", Range { min: vec![-1.5, 0.0], max: vec![2.0, 3.25] });
        ranges.insert("outputs", Range { min: vec![-7.0], max: vec![0.1] });
        save_ranges(&ranges, &path).unwrap();
        assert_eq!(load_ranges(&path).unwrap(), ranges);
        std::fs::write(&path, b"PK nonsense").unwrap();
        assert!(load_ranges(&path).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(load_ranges(&path).unwrap_err().to_string().contains("akida-ranges"));
    }
}
