//! Faults at run time: a socket beside the boards' own, each line asked is a line answered.
//!
//! A request is the number of a board (from 0), a blank, and a fault plan, which may be empty; or instead of a plan `?` to ask
//! only, or `!` to bring back a board that `lose-device` has taken away. With `=` before the plan the answer does not list what has happened, with `#` instead of it nothing is changed either. The
//! answer is JSON: `{"armed":"...","fired":[...],"count":N}` or `{"error":"...","fired":[],"count":0}`. A connection may ask as often as it likes: a virtual machine has one for life.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use akida_simulator::FaultPlan;
use akida_simulator::faults::FaultSyntax;
use akida_simulator::serve::Server;
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};

/// Longest request.
const LINE_MAX: u64 = 64 << 10;
/// Longest answer.
const ANSWER_MAX: u64 = 1 << 20;
/// An answer that does not come in this time does not come.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a connection that says nothing looks whether the server ends.
const TURN: Duration = Duration::from_millis(200);
/// Connections at a time.
const MANY: usize = 16;

/// What the server says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What was wrong with the request; nothing was changed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The plan that is armed now, where it was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub armed: Option<String>,
    /// Faults that happened so far: `abort-link@5 at 5`.
    pub fired: Vec<String>,
    /// How many.
    #[serde(default)]
    pub count: usize,
}

/// The listening end.
pub struct Control {
    path: PathBuf,
    listener: UnixListener,
    stop: AtomicBool,
}

impl Control {
    /// Listens. A socket of a server that is gone is replaced.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process has this socket")),
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(_) => {}
        }
        Ok(Self { path: path.into(), listener: UnixListener::bind(path)?, stop: AtomicBool::new(false) })
    }

    /// Answers, until [`stop`](Self::stop).
    pub fn serve(&self, boards: &[Server]) {
        let open = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for stream in self.listener.incoming() {
                if self.stop.load(Ordering::SeqCst) {
                    return;
                }
                let talk = |stream: &UnixStream| self.answer(stream, boards);
                let warn = |e: io::Error| log::warn!("{}: {e}", self.path.display());
                match stream {
                    // Dropped: whoever it is finds the connection closed.
                    Ok(_) if open.load(Ordering::SeqCst) >= MANY => log::warn!("more than {MANY} connections"),
                    Ok(stream) => {
                        open.fetch_add(1, Ordering::SeqCst);
                        let open = &open;
                        scope.spawn(move || {
                            talk(&stream).unwrap_or_else(warn);
                            open.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                    Err(e) => warn(e),
                }
            }
        });
    }

    /// Answers a connection line by line until it ends, or the server does.
    fn answer(&self, mut stream: &UnixStream, boards: &[Server]) -> io::Result<()> {
        stream.set_read_timeout(Some(TURN))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            let room = LINE_MAX.saturating_sub(line.len() as u64);
            match reader.by_ref().take(room).read_until(b'\n', &mut line) {
                Ok(_) if line.is_empty() => return Ok(()),
                Ok(_) => {}
                // What was read of the line stays in it.
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => continue,
                Err(e) => return Err(e),
            }
            let request = String::from_utf8_lossy(&line);
            let answer =
                act(request.trim(), boards).unwrap_or_else(|error| Answer { error: Some(error), ..Answer::default() });
            let mut text = serde_json::to_string(&answer)?;
            text.push('\n');
            stream.write_all(text.as_bytes())?;
            line.clear();
        }
        Ok(())
    }

    /// Ends [`serve`](Self::serve).
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(UnixStream::connect(&self.path));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // if it is gone already, all the better
    }
}

fn act(line: &str, boards: &[Server]) -> Result<Answer, String> {
    let (number, plan) = line.split_once(' ').unwrap_or((line, ""));
    let number: usize = number.parse().map_err(|_| format!("{number:?} is no number of a board"))?;
    let board = boards.get(number).ok_or_else(|| format!("there is no board {number}: {} are served", boards.len()))?;
    let (short, plan) = plan.trim().strip_prefix('=').map_or((false, plan.trim()), |plan| (true, plan));
    let count = |board: &Server| Answer { count: board.faults_fired().len(), ..Answer::default() };
    let armed = match plan {
        "?" => None,
        "#" => return Ok(count(board)),
        "!" => {
            board.reconnect();
            return Ok(count(board));
        }
        plan => {
            let plan: FaultPlan = plan.parse().map_err(|e: FaultSyntax| e.to_string())?;
            board.arm(&plan);
            Some(plan.to_string())
        }
    };
    if short {
        return Ok(count(board));
    }
    let fired: Vec<_> = board.faults_fired().iter().map(|f| format!("{} at {}", f.fault, f.occurrence)).collect();
    Ok(Answer { error: None, armed, count: fired.len(), fired })
}

/// Asks a server.
pub fn ask(path: &Path, board: usize, plan: &str) -> Result<Answer, Failure> {
    let talk = || -> io::Result<Answer> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{board} {plan}")?;
        let mut text = String::new();
        BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut text)?;
        Ok(serde_json::from_str(&text)?)
    };
    let answer = talk().map_err(|e| {
        let what = format!("no answer at {}", path.display());
        Failure::because(Exit::Unavailable, what, &e, "name the --control socket of a running akida-sim serve")
    })?;
    match answer.error {
        Some(error) => Err(Failure::new(Exit::Usage, error, "docs/simulator.md has the language of plans")),
        None => Ok(answer),
    }
}
