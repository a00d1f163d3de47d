//! `akida-serve`: boards as a service, Open Inference Protocol v2 over HTTP and gRPC.
//!
//! Data goes one way: a listener (`http`, `grpc`) turns a request into an [`request::InferRequest`], the scheduler
//! (`engine`) queues, batches and runs it on a board, and the listener turns the [`request::InferResponse`] back.
//! Neither side knows the other's types: [`request`] and [`error`] are all they share.

pub mod error;
pub mod request;
pub mod service;
