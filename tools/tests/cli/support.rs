//! Running the tools, and what they run on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use akida_tools::arrays::{Archive, Array, write_npz};
use ndarray::{Axis, Slice};

/// The conformance case all tests use.
pub fn case(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/conformance/mnist_cnn").join(file)
}

/// A damaged or hostile ONNX file.
pub fn malformed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/conformance/malformed")
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// Fails the test unless the command ended with this code and said this on standard error.
    #[track_caller]
    pub fn expect(self, code: i32, said: &str) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        assert!(self.err.contains(said), "stderr lacks {said:?}:\n{}", self.err);
        if code != 0 && code != 64 && code != 141 {
            let last = self.err.lines().last().unwrap_or("");
            assert!(last.starts_with("help: ") && last.len() > 10, "no help at the end of:\n{}", self.err);
        }
        self
    }

    /// Fails the test unless everything was done.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect(0, "")
    }
}

/// `akida-run` with arguments separated by blanks; `{}` stands for the next of `paths`.
pub fn akida_run(arguments: &str, paths: &[&Path]) -> Ended {
    run(command(env!("CARGO_BIN_EXE_akida-run"), arguments, paths))
}

/// `akida-convert`, in the same way.
pub fn akida_convert(arguments: &str, paths: &[&Path]) -> Ended {
    run(command(env!("CARGO_BIN_EXE_akida-convert"), arguments, paths))
}

/// `akida-ctl`, in the same way.
pub fn akida_ctl(arguments: &str, paths: &[&Path]) -> Ended {
    run(command(env!("CARGO_BIN_EXE_akida-ctl"), arguments, paths))
}

/// `akida-sim`, in the same way.
pub fn akida_sim(arguments: &str, paths: &[&Path]) -> Ended {
    run(command(env!("CARGO_BIN_EXE_akida-sim"), arguments, paths))
}

/// A command that is not started yet, without the environment that would change what it does.
pub fn command(program: &str, arguments: &str, paths: &[&Path]) -> Command {
    let mut paths = paths.iter();
    let mut command = Command::new(program);
    command
        .env_remove("RUST_LOG")
        .env_remove("AKIDA_DEVICE")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("HOME")
        .stdin(Stdio::null());
    for argument in arguments.split_whitespace() {
        match argument {
            "{}" => command.arg(paths.next().expect("a path for each {}")),
            _ => command.arg(argument),
        };
    }
    assert!(paths.next().is_none(), "more paths than {{}}");
    command
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Ended {
    let Output { status, stdout, stderr } = command.output().expect("the tool starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: status.code().expect("not killed by a signal"), out: text(stdout), err: text(stderr) }
}

/// `mnist_cnn` as a model, imported once.
pub fn model() -> &'static Path {
    static MODEL: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("mnist_cnn.akm");
        akida_convert("import {} --target akida2 -o {}", &[&case("quantized.onnx"), &path]).ok();
        (dir, path)
    });
    path
}

/// The first `count` digits with their labels, in a file.
pub fn digits(dir: &Path, count: usize) -> PathBuf {
    let mut inputs = Archive::open(&case("inputs.npz")).expect("inputs");
    let mut first = |name: &str| {
        let Some(Array::U8(a)) = inputs.get(name).expect("readable") else { panic!("{name} is uint8") };
        Array::U8(a.slice_axis(Axis(0), Slice::from(..count)).to_owned())
    };
    let (x, labels) = (first("x_u8"), first("labels"));
    let path = dir.join(format!("digits{count}.npz"));
    write_npz(&path, [("samples".to_string(), &x), ("labels".to_string(), &labels)]).expect("written");
    path
}

/// An array of an archive.
pub fn array(path: &Path, name: &str) -> Array {
    let mut archive = Archive::open(path).expect("an archive");
    archive.get(name).expect("readable").unwrap_or_else(|| panic!("{name} in {:?}", archive.names()))
}

/// Names of the files in a directory.
pub fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
