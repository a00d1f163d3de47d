//! Writes what fuzzing starts from: `fuzz-seeds DIR` makes one folder for each target of tests/fuzz.

use std::error::Error;
use std::fs;
use std::path::Path;

use akida_converter::import::{ImportOptions, import_network};
use akida_converter::onnx::load;
use akida_runtime::model::Target;
use akida_tests::conformance::root;
use akida_tests::generate;

/// Larger files make a fuzzer slow.
const LARGEST: u64 = 48 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let to = std::env::args().nth(1).ok_or("usage: fuzz-seeds DIR")?;
    let to = Path::new(&to);
    for target in ["onnx", "import", "akm", "wire", "graph", "qdq"] {
        fs::create_dir_all(to.join(target))?;
    }
    files(&root(), &mut |path| {
        let name = path.strip_prefix(root()).unwrap_or(path).to_string_lossy().replace('/', "-");
        let folder = match path.extension().and_then(|e| e.to_str()) {
            Some("onnx") if name.ends_with("-quantized.onnx") => "import",
            Some("onnx") => "onnx",
            _ => return Ok(()),
        };
        fs::copy(path, to.join(folder).join(name)).map(|_| ())
    })?;
    for target in [Target::Akida2, Target::Akd1000, Target::Akd1500] {
        for seed in 0..60 {
            let mut file = Vec::new();
            generate::model(target, seed).write(&mut file)?;
            if file.len() as u64 <= LARGEST {
                fs::write(to.join("akm").join(format!("{target}-{seed}.akm")), file)?;
            }
        }
    }
    for case in ["partial_softmax", "partial_avgpool", "quantize_until"] {
        let graph = load(&root().join(case).join("quantized.onnx"))?;
        let mut file = Vec::new();
        import_network(&graph, ImportOptions::default())?.write(&mut file)?;
        if file.len() as u64 <= LARGEST {
            fs::write(to.join("akm").join(format!("{case}.akm")), file)?;
        }
    }
    for number in 0..64u8 {
        for target in ["graph", "qdq"] {
            fs::write(to.join(target).join(format!("{number}")), [number; 40])?;
        }
    }
    fs::write(to.join("wire").join("version"), version())?;
    Ok(())
}

/// Calls `each` with every file that is not too large.
fn files(folder: &Path, each: &mut dyn FnMut(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.metadata()? {
            meta if meta.is_dir() => files(&entry.path(), each)?,
            meta if meta.len() <= LARGEST => each(&entry.path())?,
            _ => {}
        }
    }
    Ok(())
}

/// The first messages of a vfio-user client: its version, then a question about the device.
fn version() -> Vec<u8> {
    let body = b"\x00\x00\x01\x00{\"capabilities\":{\"max_msg_fds\":8}}\0";
    let mut bytes = vec![1, 0, 1, 0];
    bytes.extend((16 + body.len() as u32).to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes.extend([2, 0, 4, 0]);
    bytes.extend(32u32.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend([16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}
