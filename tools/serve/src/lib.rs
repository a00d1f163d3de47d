//! `akida-serve`: boards as a service, Open Inference Protocol v2 over HTTP and gRPC.
//!
//! Data goes one way: a listener (`net`, speaking [`rest`] or [`grpc`]) turns a request into an [`request::InferRequest`], the scheduler
//! (`engine`) queues, batches and runs it on a board, and the listener turns the [`request::InferResponse`] back.
//! Neither side knows the other's types: [`request`] and [`error`] are all they share.

#![forbid(unsafe_code)]

pub mod config;
mod confine;
pub mod engine;
pub mod error;
pub mod grpc;
mod infer;
pub mod lifecycle;
pub mod load;
pub mod logging;
pub mod manual;
pub mod net;
pub mod proto;
pub mod request;
pub mod rest;
pub mod service;
mod status;
pub mod tensor;
mod trace;
