//! From the command line to the end of the process: start, signals, the service manager's notifications, drain.

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akida_tools::device::Selector;
use akida_tools::exit::{Exit, Failure};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, select, unbounded};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::{Address, Args, Config};
use crate::confine::confine;
use crate::engine::settings::BoardSettings;
use crate::engine::{Engine, Progress};
use crate::net::{Listener, Server, Serves, Socket};

/// How often progress is looked at where no watchdog asks more often.
const ROUND: Duration = Duration::from_secs(2);
/// How long answers may take to be sent when everything has ended.
const SENDING: Duration = Duration::from_secs(5);

/// The command.
///
/// # Errors
/// What keeps the service from starting, or what it could not finish.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let config = Config::read(args)?;
    if args.print_config {
        let text = config.effective.print().map_err(|e| Failure::new(Exit::Internal, e, "please report this"))?;
        out.write_all(text.as_bytes()).map_err(|e| Failure::stdout(&e))?;
    }
    if args.check_config || args.print_config {
        return Ok(Exit::Done);
    }
    serve(&config)
}

fn serve(config: &Config) -> Result<Exit, Failure> {
    let listeners = listeners(config)?;
    // Sockets are open and there are no other threads yet: what is confined now holds for all that come.
    confine_process(config)?;
    // Before anything that takes long, so that a signal during the start ends it as it should.
    let signals = signals()?;
    let addresses: Vec<String> = listeners.iter().map(|l| format!("{:?} {}", l.serves, l.socket.name())).collect();
    notify(&[NotifyState::Status("testing boards and loading models")]);
    let Some(engine) = start(config, &signals)? else { return Ok(Exit::Done) };
    let server = Server::start(engine.clone(), listeners, config.net.clone())
        .map_err(|e| Failure::new(Exit::Config, e, "docs/service.md says what listeners take"))?;
    log::info!("serving on {}", addresses.join(", "));
    let mut status = String::new();
    // Boards have passed the known-answer test, or are quarantined; models are loaded, or the index says why not.
    notify(&[NotifyState::Ready]);
    let round = sd_notify::watchdog_enabled().map_or(ROUND, |time| (time / 3).min(ROUND));
    loop {
        tell(&engine, &mut status);
        match signals.recv_timeout(round) {
            Ok(SIGHUP) => reload(&engine, &server),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    end(config, &engine, server, &mut status)
}

/// Boards and models, unless a signal asks for the end first: then nothing was accepted yet, so that nothing is waited for. The
/// kernel resets boards that this process had open.
fn start(config: &Config, signals: &Receiver<i32>) -> Result<Option<Arc<Engine>>, Failure> {
    let (tell, started) = bounded(1);
    let settings = config.engine.clone();
    let work = move || {
        // Nobody waits when the process ends.
        let _ = tell.send(Engine::start(settings));
    };
    std::thread::Builder::new()
        .name("start".to_owned())
        .spawn(work)
        .map_err(|e| Failure::because(Exit::Os, "a thread cannot be started", &e, "raise the limit of threads"))?;
    loop {
        select! {
            recv(started) -> engine => {
                let lost = |_| Failure::new(Exit::Internal, "the start failed by a panic", "please report this");
                return engine.map_err(lost)?.map(Some);
            }
            recv(signals) -> signal => match signal {
                // Everything is being read for the first time.
                Ok(SIGHUP) => {}
                _ => {
                    log::info!("told to end during the start");
                    notify(&[NotifyState::Stopping]);
                    return Ok(None);
                }
            }
        }
    }
}

/// Takes from this process what it has no use for, unless the configuration says otherwise.
fn confine_process(config: &Config) -> Result<(), Failure> {
    if !config.effective.confine {
        log::warn!("confine = false: this process may open whatever its user may");
        return Ok(());
    }
    let net = &config.net;
    let tls = net.tls.iter().flat_map(|t| [Some(&t.certificate), Some(&t.key), t.client_ca.as_ref()]).flatten();
    // Folders, not files: files are replaced by renaming.
    let secrets = tls.chain(&net.access).map(|file| match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    });
    let folders: Vec<PathBuf> = secrets.chain([config.engine.repository.path.clone()]).collect();
    let node = |board: &BoardSettings| match &board.selector {
        Selector::Node(path) => Some(path.clone()),
        _ => None,
    };
    let nodes: Vec<PathBuf> = config.engine.boards.iter().filter_map(node).collect();
    let confinement = confine(&folders, &nodes).map_err(|e| {
        let help = "confine = false in the configuration goes without";
        Failure::because(Exit::Os, "the kernel refuses Landlock's rules", &e, help)
    })?;
    log::info!("{confinement}");
    Ok(())
}

/// Finishes what was taken.
fn end(config: &Config, engine: &Arc<Engine>, server: Server, status: &mut String) -> Result<Exit, Failure> {
    log::info!("draining, for at most {:?}", config.drain);
    notify(&[NotifyState::Stopping]);
    // Connections that come now wait in the sockets that a service manager holds, for the process after this one.
    server.stop();
    let deadline = Instant::now() + config.drain;
    let left = loop {
        let now = Instant::now();
        let left = engine.drain(deadline.min(now + Duration::from_secs(1)));
        if left == 0 || now >= deadline {
            break left;
        }
        tell(engine, status);
    };
    let cut = server.drain(SENDING);
    if cut > 0 {
        log::warn!("{cut} connections were cut that took longer than {SENDING:?} to end");
    }
    if left > 0 {
        // A board that is stuck must not hold the process: its thread is not waited for.
        std::mem::forget(engine.clone());
        let message = format!("{left} requests were not finished in {:?}", config.drain);
        return Err(Failure::new(Exit::Retry, message, "give drain more time in the configuration"));
    }
    engine.stop();
    log::info!("ended");
    Ok(Exit::Done)
}

/// Tells the service manager how things are. The watchdog is fed only while there is progress.
fn tell(engine: &Engine, before: &mut String) {
    let progress = engine.progress();
    if progress.sane {
        notify(&[NotifyState::Watchdog]);
    } else {
        let Progress { longest, pulse, .. } = progress;
        log::error!("no progress: a board works at one thing for {longest:?}, deadlines were minded {pulse:?} ago");
    }
    let status = engine.summary();
    if status != *before {
        notify(&[NotifyState::Status(&status)]);
        *before = status;
    }
}

/// Certificates and callers are read anew, the repository is looked at, quarantined boards are tested.
fn reload(engine: &Engine, server: &Server) {
    match server.reload() {
        Ok(()) => log::info!("certificates and callers were read again"),
        Err(error) => log::error!("nothing was reloaded: {error}"),
    }
    engine.rescan();
    engine.retest();
}

/// What a service manager is told; without one nothing happens.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("the service manager cannot be told: {error}");
    }
}

/// Signals as they come. A second one that asks for the end is obeyed at once.
fn signals() -> Result<Receiver<i32>, Failure> {
    let os = |e: std::io::Error| Failure::because(Exit::Os, "signals cannot be waited for", &e, "check system limits");
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(os)?;
    let (sender, receiver) = unbounded();
    let work = move || {
        let mut ending = false;
        for signal in signals.forever() {
            if signal != SIGHUP && ending {
                log::error!("told to end again: requests that are under way are lost");
                std::process::exit(i32::from(Exit::Retry.code()));
            }
            ending |= signal != SIGHUP;
            if sender.send(signal).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(work).map_err(os)?;
    Ok(receiver)
}

/// Sockets that the service manager hands over, by name, and for kinds it hands none those of the configuration.
fn listeners(config: &Config) -> Result<Vec<Listener>, Failure> {
    let mut listeners = handed_over()?;
    let has = |listeners: &[Listener], kinds: &[Serves]| listeners.iter().any(|l| kinds.contains(&l.serves));
    let (http, grpc) = (has(&listeners, &[Serves::Http]), has(&listeners, &[Serves::Grpc]));
    let status = has(&listeners, &[Serves::Status]);
    let mut wanted: Vec<(&Address, Serves)> = Vec::new();
    if !http {
        let serves = |address| if !grpc && config.grpc.contains(address) { Serves::Both } else { Serves::Http };
        wanted.extend(config.http.iter().map(|address| (address, serves(address))));
    }
    if !grpc {
        let alone = config.grpc.iter().filter(|address| http || !config.http.contains(address));
        wanted.extend(alone.map(|address| (address, Serves::Grpc)));
    }
    if !status {
        wanted.extend(config.metrics.iter().map(|address| (address, Serves::Status)));
    }
    for (address, serves) in wanted {
        let socket = match address {
            Address::Tcp(tcp) => Socket::tcp(*tcp),
            Address::Unix(path) => Socket::unix(path),
        };
        let socket = socket.map_err(|e| {
            let exit = match e.kind() {
                std::io::ErrorKind::PermissionDenied => Exit::Permission,
                std::io::ErrorKind::AddrInUse => Exit::Retry,
                _ => Exit::Os,
            };
            Failure::because(
                exit,
                format_args!("cannot listen on {address}"),
                &e,
                "choose another address, or see who has it",
            )
        })?;
        listeners.push(Listener { socket, serves });
    }
    if listeners.is_empty() {
        return Err(Failure::new(Exit::Usage, "there is no address to listen on", "give --http 127.0.0.1:8000"));
    }
    Ok(listeners)
}

/// Sockets of a service manager (`LISTEN_FDS`). Their names say what is spoken: `http`, `grpc`, `metrics`, `both`, `unix`.
fn handed_over() -> Result<Vec<Listener>, Failure> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut fds = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..fds.len() {
        let name = names.get(index).copied().unwrap_or("");
        let serves = match name {
            "http" => Serves::Http,
            "grpc" => Serves::Grpc,
            "metrics" | "status" => Serves::Status,
            "both" | "unix" => Serves::Both,
            other => {
                let message = format!("the service manager handed over a socket called {other:?}");
                let help = "FileDescriptorName= must be http, grpc, both, unix or metrics";
                return Err(Failure::new(Exit::Config, message, help));
            }
        };
        let wrong = |e: &dyn std::error::Error| {
            Failure::because(
                Exit::Config,
                format_args!("socket {name:?} of the service manager"),
                e,
                "ListenStream= only",
            )
        };
        let tcp: Result<Option<TcpListener>, _> = fds.take_tcp_listener(index);
        let socket = match tcp {
            Ok(Some(tcp)) => Socket::Tcp(tcp),
            _ => match fds.take_unix_listener(index).map_err(|e| wrong(&e))? {
                Some(unix) => Socket::Unix(unix),
                None => continue,
            },
        };
        listeners.push(Listener { socket, serves });
    }
    Ok(listeners)
}
