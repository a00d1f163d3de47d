//! A connection that ends when nobody says anything first, or when nobody takes what is sent.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// What connections are made of.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What a connection of HTTP/2 begins with. HTTP/1.1 has limits of its own for what comes instead.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream with these two limits. Silence between requests and half-sent ones are the protocols' to notice.
pub struct Watched {
    stream: Box<dyn Stream>,
    /// Until it is known which protocol is spoken: by the first byte that is not HTTP/2's greeting, or by all of that.
    first: Option<Pin<Box<Sleep>>>,
    /// Bytes of the greeting that came.
    greeted: usize,
    /// While bytes wait to be taken.
    write: Option<Pin<Box<Sleep>>>,
    write_limit: Duration,
}

impl Watched {
    /// Watches a stream.
    pub fn new(stream: Box<dyn Stream>, first: Instant, write_limit: Duration) -> Self {
        Self { stream, first: Some(Box::pin(sleep_until(first))), greeted: 0, write: None, write_limit }
    }

    /// Follows an attempt to write: a timer runs from the first that must wait to the next that need not.
    fn written<T>(&mut self, context: &mut Context<'_>, outcome: Poll<Result<T>>) -> Poll<Result<T>> {
        if outcome.is_ready() {
            self.write = None;
            return outcome;
        }
        let limit = self.write_limit;
        let timer = self.write.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client takes nothing of its answer")))
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if outcome.is_ready() {
            if self.first.is_some() {
                let came = buffer.filled().get(before..).unwrap_or(&[]);
                let rest = &GREETING[self.greeted..];
                self.greeted += came.len().min(rest.len());
                if !rest.starts_with(came) || self.greeted == GREETING.len() {
                    self.first = None;
                }
            }
        } else if let Some(timer) = &mut self.first {
            ready!(timer.as_mut().poll(context));
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not say what it speaks")));
        }
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.written(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
