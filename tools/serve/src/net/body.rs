//! Bodies of requests, within their limits of size and time. HTTP reads a body whole; gRPC reads it message by message.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};
use tonic::Status;

use super::memory::{Claim, Memory};
use super::options::Limits;
use crate::error::{Kind, ServeError};

/// A body that was read whole.
#[derive(Debug)]
pub struct Collected {
    /// Its bytes.
    pub bytes: Bytes,
    /// Keeps the memory counted until the answer is made.
    pub claim: Claim,
}

/// Reads a body whole. `most` is the largest that is taken.
///
/// # Errors
///
/// [`Kind::TooLarge`], from the announced length before anything is read where there is one; [`Kind::Deadline`] for a
/// client that is too slow; [`Kind::Busy`] when all clients hold too much; [`Kind::Cancelled`] when it went away.
pub async fn collect<B>(
    headers: &HeaderMap,
    body: B,
    most: usize,
    limits: &Limits,
    memory: &Memory,
) -> Result<Collected, ServeError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut body = body;
    let mut claim = memory.claim();
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if let Some(length) = announced
        && length > most
    {
        return Err(too_large(length, most));
    }
    let (mut first, mut rest, mut length) = (Bytes::new(), BytesMut::new(), 0usize);
    // A client that is refused in the middle of its body mostly sees the connection break, and not why: so the rest is let pass.
    let mut refused = None;
    let end = Instant::now() + limits.body;
    loop {
        let frame = match timeout_at(end, timeout(limits.stall, body.frame())).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(_)) => return Err(too_slow("stall", limits.stall, length)),
            Err(_) => return Err(too_slow("body", limits.body, length)),
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|e| ServeError::new(Kind::Cancelled, format!("the body broke off: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > most {
            return Err(too_large(length, most));
        }
        if refused.is_some() {
            continue;
        }
        // What came, not what was announced: announcing costs a client nothing.
        if let Err(busy) = claim.grow(data.len()) {
            refused = Some(busy);
            (first, rest) = (Bytes::new(), BytesMut::new());
            claim.clear();
            continue;
        }
        // One piece, the usual case of small requests, is not copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(announced.unwrap_or(0).max(first.len() + data.len()));
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
    }
    if let Some(busy) = refused {
        return Err(busy);
    }
    let bytes = if rest.is_empty() { first } else { rest.freeze() };
    Ok(Collected { bytes, claim })
}

fn too_large(length: usize, most: usize) -> ServeError {
    let message = format!("a body of {length} bytes or more, the limit is {most}; send smaller batches");
    ServeError::new(Kind::TooLarge, message)
}

fn too_slow(limit: &str, time: Duration, length: usize) -> ServeError {
    let message = format!("the body came too slowly: limits.{limit} is {} s, {length} bytes came", time.as_secs_f64());
    ServeError::new(Kind::Deadline, message)
}

/// A body of gRPC: each message within the limits, and no half message for long.
pub struct Messages<B> {
    body: B,
    limit: usize,
    claim: Claim,
    /// Bytes of the 5-byte head of the next message that are here.
    head: [u8; 5],
    have: usize,
    /// Bytes of the present message that are to come.
    left: usize,
    /// Whether silence between messages is part of the call.
    stream: bool,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<B> Messages<B> {
    /// Watches a body. In a `stream` the client may be silent between messages; any other call ends with its first.
    pub fn new(body: B, stream: bool, limits: &Limits, memory: &Memory) -> Self {
        Self {
            body,
            limit: limits.body_bytes,
            claim: memory.claim(),
            head: [0; 5],
            have: 0,
            left: 0,
            stream,
            stall: limits.stall,
            timer: Box::pin(sleep(limits.stall)),
        }
    }

    /// Follows the messages in a piece of the body.
    fn account(&mut self, mut data: &[u8]) -> Result<(), ServeError> {
        self.claim.grow(data.len())?;
        while !data.is_empty() {
            if self.left > 0 {
                let taken = data.len().min(self.left);
                self.left -= taken;
                data = &data[taken..];
                if self.left == 0 {
                    self.claim.clear();
                }
                continue;
            }
            self.head[self.have] = data[0];
            self.have += 1;
            data = &data[1..];
            if self.have == self.head.len() {
                let [_, a, b, c, d] = self.head;
                self.have = 0;
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                if self.left > self.limit {
                    return Err(too_large(self.left, self.limit));
                }
            }
        }
        Ok(())
    }
}

impl<B> Body for Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                this.timer.as_mut().reset(Instant::now() + this.stall);
                if let Some(data) = frame.data_ref() {
                    let data = data.clone();
                    this.account(&data).map_err(|e| crate::grpc::status(&e))?;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(e))) => Poll::Ready(Some(Err(Status::cancelled(format!("the call broke off: {e}"))))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                if this.stream && this.left == 0 && this.have == 0 {
                    return Poll::Pending;
                }
                ready!(this.timer.as_mut().poll(context));
                let slow = too_slow("stall", this.stall, 0);
                Poll::Ready(Some(Err(crate::grpc::status(&slow))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
