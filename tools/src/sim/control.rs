//! Faults at run time: a socket beside the boards' own, one line asked, one line answered.
//!
//! A request is the number of a board (from 0), a blank, and a fault plan, which may be empty; or `?` instead of a plan to ask
//! only. The answer is JSON: `{"armed":"...","fired":[...]}` or `{"error":"...","fired":[]}`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
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
/// Who connects and says nothing is let go after this.
const PATIENCE: Duration = Duration::from_secs(5);

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

    /// Answers one after the other, until [`stop`](Self::stop).
    pub fn serve(&self, boards: &[Server]) {
        for stream in self.listener.incoming() {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            if let Err(e) = stream.and_then(|stream| answer(&stream, boards)) {
                log::warn!("{}: {e}", self.path.display());
            }
        }
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

fn answer(mut stream: &UnixStream, boards: &[Server]) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut line)?;
    let answer = act(line.trim(), boards).unwrap_or_else(|error| Answer { error: Some(error), ..Answer::default() });
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    stream.write_all(text.as_bytes())
}

fn act(line: &str, boards: &[Server]) -> Result<Answer, String> {
    let (number, plan) = line.split_once(' ').unwrap_or((line, ""));
    let number: usize = number.parse().map_err(|_| format!("{number:?} is no number of a board"))?;
    let board = boards.get(number).ok_or_else(|| format!("there is no board {number}: {} are served", boards.len()))?;
    let armed = match plan.trim() {
        "?" => None,
        plan => {
            let plan: FaultPlan = plan.parse().map_err(|e: FaultSyntax| e.to_string())?;
            board.arm(&plan);
            Some(plan.to_string())
        }
    };
    let fired = board.faults_fired().iter().map(|f| format!("{} at {}", f.fault, f.occurrence)).collect();
    Ok(Answer { error: None, armed, fired })
}

/// Asks a server.
pub fn ask(path: &Path, board: usize, plan: &str) -> Result<Answer, Failure> {
    let talk = || -> io::Result<Answer> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{board} {plan}")?;
        let mut text = String::new();
        stream.take(ANSWER_MAX).read_to_string(&mut text)?;
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
