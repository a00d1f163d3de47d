//! What every protocol does with an inference: hand it over, wait, withdraw it when the client goes away.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::{Kind, ServeError};
use crate::request::{InferRequest, InferResponse};
use crate::service::{Service, Ticket};
use crate::tensor::{invalid, short};

/// An inference that was handed over. Dropping it withdraws it.
pub struct Pending {
    ticket: Ticket,
    answer: oneshot::Receiver<Result<InferResponse, ServeError>>,
}

impl Pending {
    /// Hands a request over.
    pub fn submit(service: &dyn Service, request: InferRequest) -> Self {
        let (tell, answer) = oneshot::channel();
        let ticket = service.submit(
            request,
            Box::new(move |end| {
                // Nobody waits: the client went away.
                let _ = tell.send(end);
            }),
        );
        Self { ticket, answer }
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// The request's.
    pub async fn answer(self) -> Result<InferResponse, ServeError> {
        let Self { ticket, answer } = self;
        let end = answer.await;
        drop(ticket);
        end.unwrap_or_else(|_| Err(ServeError::new(Kind::Internal, "the scheduler gave the request up without a word")))
    }
}

/// A version in a path or a message; empty: whichever is newest.
///
/// # Errors
///
/// [`Kind::Invalid`] for what is no number above 0.
pub fn version(text: &str) -> Result<Option<u32>, ServeError> {
    match text {
        "" => Ok(None),
        _ => match text.parse() {
            Ok(version) if version > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(version)),
            _ => Err(invalid(format!("the version '{}' is no whole number above 0", short(text)))),
        },
    }
}

/// The deadline of the parameter `timeout` in microseconds; 0 is none.
pub fn deadline(timeout_us: Option<u64>) -> Option<Instant> {
    timeout_us.filter(|&t| t > 0).and_then(|t| Instant::now().checked_add(Duration::from_micros(t)))
}

/// The parameter `priority`.
///
/// # Errors
///
/// [`Kind::Invalid`] above 32 bits.
pub fn priority(value: Option<u64>) -> Result<u32, ServeError> {
    let value = value.unwrap_or(0);
    u32::try_from(value).map_err(|_| invalid(format!("priority {value}: it goes up to {}", u32::MAX)))
}

/// The earlier of two deadlines.
pub fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
