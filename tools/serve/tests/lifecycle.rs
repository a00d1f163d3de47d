//! The process: configuration, start, what a service manager is told, signals, end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use akida_converter::import::{ImportOptions, import_network};
use akida_converter::onnx;
use tempfile::TempDir;

/// Nothing takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(300);

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_akida-serve"));
    for variable in ["RUST_LOG", "AKIDA_SERVE_CONFIG", "NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS"] {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn ends(arguments: &[&str], code: i32, parts: &[&str]) -> Output {
    let output = program(arguments).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{arguments:?} lacks {part:?}: {said}");
    }
    output
}

fn repository() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("models/digits/1/model.akm");
    std::fs::create_dir_all(file.parent().expect("one")).expect("a folder");
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/conformance/mnist_cnn/quantized.onnx");
    let graph = onnx::load(&case).expect("a graph");
    import_network(&graph, ImportOptions::default()).expect("a network").save(&file).expect("a file");
    folder
}

#[test]
fn what_keeps_it_from_starting_is_said_with_an_exit_code() {
    let folder = repository();
    let models = folder.path().join("models");
    let models = models.to_str().expect("UTF-8");
    let file = folder.path().join("serve.toml");
    let path = file.to_str().expect("UTF-8").to_owned();
    let write = |text: &str| std::fs::write(&file, text).expect("a file");
    let at = ["--http", "127.0.0.1:0"];
    let all = |more: &[&'static str]| [&["--repository", models][..], &at, more].concat();
    ends(&["--nonsense"], 64, &["--nonsense"]);
    ends(&all(&[]), 64, &["no board", "help: "]);
    ends(&all(&["--device", "auto"]), 78, &["auto", "choice"]);
    ends(&["--repository", "/nowhere", "--device", "sim:akida2", "--http", "127.0.0.1:0"], 66, &["/nowhere"]);
    ends(&["--config", "/nowhere.toml"], 66, &["/nowhere.toml"]);
    write("repository = 7\n");
    ends(&["--config", &path], 78, &["serve.toml", "line 1, column 14", "help: "]);
    write(&format!(
        "repository = {models:?}\ndevice = [\"sim:akida2\"]\nhttp = [\"127.0.0.1:0\"]\n[limits]\nbody_bytes = 0\n"
    ));
    ends(&["--config", &path, "--check-config"], 78, &["limits.body_bytes is 0"]);
    let lost = format!("repository = {models:?}\nhttp = [\"127.0.0.1:0\"]\n[[board]]\ndevice = \"sim:akida2\"\n");
    write(&format!("{lost}faults = \"lose-device@1:forever\"\n"));
    ends(&["--config", &path], 69, &["sim:akida2"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    ends(&["--repository", models, "--device", "sim:akida2", "--http", &address], 75, &[&address]);
    // What is checked and printed starts nothing, and is what would hold.
    write(&lost);
    ends(&["--config", &path, "--check-config"], 0, &[]);
    let printed = ends(&["--config", &path, "--print-config", "--grpc", "127.0.0.1:9"], 0, &[]).stdout;
    std::fs::write(&file, &printed).expect("a file");
    let again = ends(&["--config", &path, "--print-config"], 0, &[]).stdout;
    assert_eq!(String::from_utf8_lossy(&printed), String::from_utf8_lossy(&again));
    assert!(String::from_utf8_lossy(&printed).contains("grpc = [\"127.0.0.1:9\"]"));
}

/// A service that runs, with a service manager that listens.
struct Running {
    child: Child,
    /// What a service manager is told; taken as it comes, since few notifications fit into a socket.
    told: Receiver<String>,
    log: BufReader<std::process::ChildStderr>,
    address: String,
    _folder: TempDir,
}

impl Running {
    fn start(more: &[&str]) -> Self {
        let folder = repository();
        let socket = folder.path().join("notify");
        let manager = UnixDatagram::bind(&socket).expect("a socket");
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len) = manager.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..len]).trim_end().to_owned();
                if tell.send(text).is_err() {
                    break;
                }
            }
        });
        let models = folder.path().join("models");
        let base = ["--repository", models.to_str().expect("UTF-8"), "--device", "sim:akida2", "--http", "127.0.0.1:0"];
        let mut command = program(&[&base[..], more].concat());
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "300000").stdout(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut this = Self { child, told, log, address: String::new(), _folder: folder };
        this.address = this.says("serving on").rsplit(' ').next().expect("an address").to_owned();
        this
    }

    /// Reads the log up to a line with this.
    #[track_caller]
    fn says(&mut self, what: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).expect("a line") > 0, "the log ends without {what:?}:\n{all}");
            all.push_str(&line);
            if line.contains(what) {
                return line.trim_end().to_owned();
            }
        }
    }

    /// Reads notifications up to one with this.
    #[track_caller]
    fn notified(&self, what: &str) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        loop {
            all.push(self.told.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{e}: no {what} after {all:?}")));
            if all.last().is_some_and(|n| n.contains(what)) {
                return all;
            }
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn code(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("text");
        (self.child.wait().expect("it ends").code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Of a test that failed; one that ended is waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_service_manager_is_told_and_sigterm_ends_it_well() {
    let mut service = Running::start(&[]);
    let before = service.notified("READY=1");
    assert!(before[0].starts_with("STATUS=testing"), "{before:?}");
    assert!(service.get("/v2/health/ready").starts_with("HTTP/1.1 200"));
    assert!(service.get("/v2/models/digits").contains("\"name\":\"digits\""));
    let status = service.notified("STATUS=");
    assert!(status.last().is_some_and(|s| s.contains("serving 1 models on 1 of 1 boards")), "{status:?}");
    // Again and again while there is progress.
    service.notified("WATCHDOG=1");
    service.notified("WATCHDOG=1");
    service.signal("HUP");
    service.says("were read again");
    assert!(service.get("/v2/health/live").starts_with("HTTP/1.1 200"), "a reload ends nothing");
    service.signal("TERM");
    service.notified("STOPPING=1");
    let (code, log) = service.code();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("ended"), "{log}");
}

/// The board is a socket that takes the connection and says nothing, so that the start waits for it.
#[test]
fn sigterm_ends_a_start_that_waits_for_a_board() {
    let folder = repository();
    let (models, socket) = (folder.path().join("models"), folder.path().join("board.sock"));
    let silent = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let device = format!("vfio-user:{}", socket.display());
    let models = models.to_str().expect("UTF-8");
    let child = program(&["--repository", models, "--device", &device, "--http", "127.0.0.1:0"]).spawn();
    let child = child.expect("it starts");
    let _held = silent.accept().expect("the board is being opened");
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    let output = child.wait_with_output().expect("it ends");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains("told to end during the start"), "{log}");
}

#[test]
fn logs_can_be_json() {
    let mut service = Running::start(&["--log-format", "json", "--metrics", "127.0.0.1:0"]);
    service.signal("INT");
    let line = service.says("draining");
    let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value["level"], "info");
    assert_eq!(service.code().0, Some(0));
}
