//! Planning: what a Containerfile and a context become.

mod config;
mod copying;
mod harness;
mod refusals;
mod scale;
mod stages;
