//! The messages and services of tools/serve/proto, made by `tools/serve/proto/generate`; not edited by hand.

#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
#[rustfmt::skip]
pub mod inference;

#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
#[rustfmt::skip]
pub mod health;
