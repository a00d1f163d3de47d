//! What the samples really are, and what the classes are called.

use std::path::Path;

use crate::arrays::{Archive, Array, read_file, shape_text};
use crate::exit::{Exit, Failure};

/// One class index per sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(pub Vec<usize>);

impl Labels {
    /// From an array of integers, (N,) or (N, 1).
    pub fn from_array(array: Array, what: &str) -> Result<Self, Failure> {
        let shape = array.shape().to_vec();
        let help = "labels are one class number per sample: uint8, int8, int32 or int64, shape (N,)";
        if !matches!(shape[..], [_] | [_, 1]) {
            let message = format!("{what} have shape {}, not (N,)", shape_text(&shape));
            return Err(Failure::new(Exit::Data, message, help));
        }
        let values: Vec<i64> = match &array {
            Array::U8(a) => a.iter().map(|&v| v.into()).collect(),
            Array::I8(a) => a.iter().map(|&v| v.into()).collect(),
            Array::I32(a) => a.iter().map(|&v| v.into()).collect(),
            Array::I64(a) => a.iter().copied().collect(),
            Array::F32(_) | Array::F64(_) => {
                return Err(Failure::new(Exit::Data, format!("{what} are {}", array.dtype()), help));
            }
        };
        Self::from_values(&values, what)
    }

    fn from_values(values: &[i64], what: &str) -> Result<Self, Failure> {
        let labels = values.iter().enumerate().map(|(i, &v)| {
            usize::try_from(v).map_err(|_| {
                Failure::new(Exit::Data, format!("{what}: {v} at {i} is not a class number"), "classes count from 0")
            })
        });
        Ok(Self(labels.collect::<Result<_, _>>()?))
    }

    /// Refuses labels that do not go with the samples and outputs.
    pub fn check(&self, samples: usize, classes: usize, what: &str) -> Result<(), Failure> {
        if self.0.len() != samples {
            let message = format!("{what}: {} labels for {samples} samples", self.0.len());
            return Err(Failure::new(Exit::Data, message, "give one label per sample"));
        }
        match self.0.iter().enumerate().find(|(_, l)| **l >= classes) {
            None => Ok(()),
            Some((i, label)) => Err(Failure::new(
                Exit::Data,
                format!("{what}: label {label} of sample {i}, the model has {classes} classes"),
                "classes count from 0; check that labels and model belong together",
            )),
        }
    }
}

/// Reads labels: `.npy`, `.npz` (array `labels` or the only one), or text with one number a line.
pub fn read_labels(path: &Path) -> Result<Labels, Failure> {
    let what = format!("labels of {}", path.display());
    match path.extension().and_then(|e| e.to_str()) {
        Some("npy") => Labels::from_array(read_file(path)?, &what),
        Some("npz") => {
            let mut archive = Archive::open(path)?;
            let name = match archive.names() {
                [only] => only.clone(),
                _ => "labels".to_string(),
            };
            let names = archive.names().to_vec();
            let array = archive.get(&name)?.ok_or_else(|| {
                let message = format!("{} has no array `labels`, but {names:?}", path.display());
                Failure::new(Exit::Data, message, "numpy.savez(file, labels=y)")
            })?;
            Labels::from_array(array, &what)
        }
        _ => {
            let mut values = Vec::new();
            for (number, line) in lines(path)?.iter().enumerate().filter(|(_, l)| !l.is_empty()) {
                values.push(line.parse().map_err(|_| {
                    let message = format!("{}:{}: {line:?} is not a class number", path.display(), number + 1);
                    Failure::new(Exit::Data, message, "text labels have one number a line")
                })?);
            }
            Labels::from_values(&values, &what)
        }
    }
}

/// Reads class names, one a line.
pub fn read_names(path: &Path) -> Result<Vec<String>, Failure> {
    let mut names = lines(path)?;
    while names.last().is_some_and(String::is_empty) {
        names.pop();
    }
    Ok(names)
}

fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::input(path, &e))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::new(Exit::Data, format!("{} is not text", path.display()), "give UTF-8 text, .npy or .npz")
    })?;
    Ok(text.lines().map(|l| l.trim().to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn text_and_arrays_say_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels.txt");
        std::fs::write(&path, "7\n2\n\n1\n").unwrap();
        let want = Labels(vec![7, 2, 1]);
        assert_eq!(read_labels(&path).unwrap(), want);
        for array in [
            Array::U8(array![7u8, 2, 1].into_dyn()),
            Array::I64(array![[7i64], [2], [1]].into_dyn()),
            Array::I32(array![7, 2, 1].into_dyn()),
        ] {
            assert_eq!(Labels::from_array(array, "labels").unwrap(), want);
        }
    }

    #[test]
    fn wrong_labels_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels.txt");
        std::fs::write(&path, "7\ncat\n").unwrap();
        assert!(read_labels(&path).unwrap_err().message.contains("labels.txt:2: \"cat\""));
        std::fs::write(&path, "7\n-1\n").unwrap();
        assert!(read_labels(&path).unwrap_err().message.contains("-1 at 1"));
        let two_dimensional = Array::U8(ndarray::ArrayD::zeros(vec![2, 2]));
        assert!(Labels::from_array(two_dimensional, "labels").is_err());
        assert!(Labels::from_array(Array::F32(array![1f32].into_dyn()), "labels").is_err());
        let labels = Labels(vec![1, 12]);
        assert!(labels.check(3, 20, "l").unwrap_err().message.contains("2 labels for 3 samples"));
        assert!(labels.check(2, 10, "l").unwrap_err().message.contains("label 12 of sample 1, the model has 10"));
        labels.check(2, 13, "l").unwrap();
    }
}
