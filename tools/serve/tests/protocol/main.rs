//! The protocols over real sockets, before a scripted scheduler: what goes in, what comes out, what is refused and how.

mod client;
mod grpc;
mod http;
mod limits;
mod malformed;
mod scripted;
mod secrets;
mod wire;
