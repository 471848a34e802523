//! Planning: what a Containerfile and a context become.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod archive_contexts;
mod archives;
mod config;
mod copying;
mod downloads;
mod follow;
mod harness;
mod headers;
mod limits;
mod models;
mod own;
mod parents;
mod refusals;
mod scale;
mod stages;
mod warnings;
