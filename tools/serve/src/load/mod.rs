//! `akida-bench`: asks a service for inferences and tells how long they took.
//!
//! In a *closed* loop each of `--concurrency` clients asks again as soon as it is answered: how much the service can do.
//! In an *open* loop (`--rate`) requests begin when they are due, whatever became of those before, and their time counts from then:
//! a service that stalls is not spared the requests that would have come meanwhile.

mod args;
mod client;
mod connect;
mod pace;
mod report;
mod workers;

use std::io::Write;

use akida_tools::exit::{Exit, Failure};

pub use args::Args;
use client::{Target, Url};

/// The command.
///
/// # Errors
///
/// A service that is not there, a model it has not, or wrong arguments. Requests that fail are counted, and end in
/// [`Exit::Unavailable`] only when none succeeded.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    args.check()?;
    let url: Url = args.url.parse().map_err(|e| {
        Failure::new(Exit::Usage, e, "http://HOST:PORT, grpc://HOST:PORT, or https:// and grpcs:// for TLS")
    })?;
    let token = args.token()?;
    // One thread asks: what is left of the machine is the service's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::because(Exit::Os, "cannot start", &e, "raise the limit of open files and threads"))?;
    let report = runtime.block_on(async {
        let target = Target::find(args, url, token).await?;
        workers::measure(args, target).await
    })?;
    let text = match args.format {
        args::Format::Text => report.text(),
        args::Format::Json => report.json()?,
    };
    out.write_all(text.as_bytes()).map_err(|e| Failure::stdout(&e))?;
    match report.nothing_succeeded() {
        true => Err(Failure::new(
            Exit::Unavailable,
            format!("no request succeeded: {}", report.first_failure()),
            "see what the service logs",
        )),
        false => Ok(Exit::Done),
    }
}
