//! The engine on simulated boards: real models, real faults, no network.

mod answers;
mod faults;
mod reload;
mod requests;
mod support;
