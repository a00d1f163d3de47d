//! Ranges that were observed before: by what was run, not by the names of files.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ndarray::ArrayViewD;
use sha2::{Digest, Sha256};

use super::{CalibrateError, Ranges, load_ranges, observe, save_ranges};
use crate::onnx::Graph;

/// Counts up when ranges come out otherwise: another float runtime, another way to observe.
const GENERATION: &str = "akida ranges 1, rten 0.27";
/// Files a cache holds. The one written first goes when there are more.
const FILES: usize = 64;

/// A folder of observed ranges. What is in it is a convenience: without a folder one can write to, or with a file that
/// cannot be read, ranges are observed as if there were no cache.
#[derive(Clone, Debug)]
pub struct RangeCache {
    folder: PathBuf,
}

impl RangeCache {
    /// A cache in `folder`, which is made when the first ranges are kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Ranges as [`observe`] gives them, and the file they were taken from when they were known.
    ///
    /// # Errors
    /// Those of [`observe`].
    pub fn observe(
        &self,
        graph: &Graph,
        samples: ArrayViewD<f32>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(Ranges, Option<PathBuf>), CalibrateError> {
        let file = self.file(graph, &samples)?;
        match load_ranges(&file) {
            Ok(ranges) => return Ok((ranges, Some(file))),
            Err(error) if file.exists() => log::warn!("observing again: {error}"),
            Err(_) => {}
        }
        let ranges = observe(graph, samples, progress)?;
        if let Err(error) = self.keep(&ranges, &file) {
            log::warn!("ranges are not kept for the next time: {error}");
        }
        Ok((ranges, None))
    }

    /// The file for a prepared graph and samples: named after all that the ranges depend on.
    fn file(&self, graph: &Graph, samples: &ArrayViewD<f32>) -> Result<PathBuf, CalibrateError> {
        let mut hash = Sha256::new();
        hash.update(GENERATION);
        hash.update(graph.to_bytes()?);
        for dim in samples.shape() {
            hash.update((*dim as u64).to_le_bytes());
        }
        let mut block = Vec::with_capacity(1 << 16);
        for value in samples {
            block.extend(value.to_le_bytes());
            if block.len() == block.capacity() {
                hash.update(&block);
                block.clear();
            }
        }
        hash.update(&block);
        let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.folder.join(name).with_extension("npz"))
    }

    fn keep(&self, ranges: &Ranges, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
        std::fs::create_dir_all(&self.folder)?;
        save_ranges(ranges, file)?;
        let mut files: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(&self.folder)?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let ours = entry.path().extension().is_some_and(|extension| extension == "npz");
                ours.then(|| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))?
            })
            .collect();
        files.sort();
        for (_, old) in files.iter().take(files.len().saturating_sub(FILES)).filter(|(_, old)| old != file) {
            std::fs::remove_file(old)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{DType, Dim, Node, Value, ValueType};
    use ndarray::ArrayD;

    fn graph(op: &str) -> Graph {
        let value =
            |name: &str| Value { name: name.into(), ty: ValueType::new(DType::F32, [Dim::Fixed(1), Dim::Fixed(2)]) };
        let mut graph = Graph { name: "g".into(), ir_version: 8, ..Graph::default() };
        graph.opsets.insert(String::new(), 17);
        graph.inputs.push(value("x"));
        graph.nodes.push(Node::new(op, &["x"], "y"));
        graph.outputs.push(value("y"));
        graph
    }

    #[test]
    fn the_same_run_is_done_once_and_another_one_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let cache = RangeCache::new(folder.path().join("new/ranges"));
        let mut samples = ArrayD::from_elem(vec![3, 2], 0.5f32);
        let observed = |graph: &Graph, samples: &ArrayD<f32>| {
            let mut runs = 0;
            let found = cache.observe(graph, samples.view(), &mut |_, _| runs += 1).unwrap();
            (found.0, found.1.is_some(), runs > 0)
        };
        let first = observed(&graph("Relu"), &samples);
        assert!(!first.1 && first.2);
        let second = observed(&graph("Relu"), &samples);
        assert_eq!((second.1, second.2), (true, false));
        assert_eq!(first.0, second.0);
        assert!(!observed(&graph("Neg"), &samples).1);
        samples[[2, 1]] = 0.75;
        let other = observed(&graph("Relu"), &samples);
        assert!(!other.1 && other.0 != first.0);

        // A damaged file is a reason to look again.
        let file = cache.file(&graph("Relu"), &samples.view()).unwrap();
        std::fs::write(&file, "PK damaged").unwrap();
        assert_eq!(observed(&graph("Relu"), &samples), (other.0.clone(), false, true));
        assert_eq!(observed(&graph("Relu"), &samples), (other.0, true, false));
    }

    #[test]
    fn a_cache_does_not_grow_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let cache = RangeCache::new(folder.path());
        std::fs::write(folder.path().join("of-someone-else.txt"), "").unwrap();
        for number in 0..FILES + 5 {
            let samples = ArrayD::from_elem(vec![1, 2], number as f32);
            cache.observe(&graph("Relu"), samples.view(), &mut |_, _| {}).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), FILES + 1);
    }

    #[test]
    fn a_folder_one_cannot_write_to_costs_time_only() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let cache = RangeCache::new(folder.path().join("file"));
        let samples = ArrayD::from_elem(vec![1, 2], 1.0f32);
        for _ in 0..2 {
            assert!(cache.observe(&graph("Relu"), samples.view(), &mut |_, _| {}).unwrap().1.is_none());
        }
    }
}
