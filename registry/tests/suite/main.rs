//! The protocol against a real registry, with a proxy between that breaks what it is told to.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

#[path = "../common/docker_registry.rs"]
mod docker_registry;
#[path = "../common/fault_proxy.rs"]
mod fault_proxy;
mod harness;
#[path = "../common/quirks.rs"]
mod quirks;

mod auth;
mod body_limits;
mod faults;
mod https;
mod limits;
mod mirrors;
mod openshift;
mod proxies;
mod pull;
mod push;
mod resume;
mod secrets;
mod tls;
mod tls_anchors;
mod tls_authority;
mod uploads;
mod verify;
