//! Time limits of connections, fair after this process stood still (stopped and continued, a virtual machine that was moved): all
//! limits are over then before anybody has looked at what clients sent meanwhile, so sockets are looked at once more first.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// Tokio's time for hyper.
#[derive(Clone, Copy, Debug)]
pub struct FairTimer;

struct Limit {
    sleep: Pin<Box<tokio::time::Sleep>>,
    /// Ends when the runtime has asked the system for what came.
    look: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Limit {
    fn boxed(sleep: tokio::time::Sleep) -> Pin<Box<dyn Sleep>> {
        Box::pin(Self { sleep: Box::pin(sleep), look: None })
    }
}

impl Timer for FairTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Limit::boxed(tokio::time::sleep(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Limit::boxed(tokio::time::sleep_until(deadline.into()))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        if let Some(mut limit) = sleep.as_mut().downcast_mut_pin::<Limit>() {
            limit.look = None;
            limit.sleep.as_mut().reset(deadline.into());
        }
    }
}

impl Sleep for Limit {}

impl Future for Limit {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.sleep.as_mut().poll(context));
        let look = self.look.get_or_insert_with(|| Box::pin(tokio::task::yield_now()));
        look.as_mut().poll(context)
    }
}
