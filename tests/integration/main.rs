//! crossdock as its users run it: the program, a real registry, and other programs that read what it built.
//!
//! Each test starts the registry it needs on a port of its own and works in a directory that goes with it. Images are
//! read back by skopeo and umoci, and checked by `support::image`, which shares no code with crossdock.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../registry/tests/common/docker_registry.rs"]
mod docker_registry;
#[path = "../../registry/tests/common/fault_proxy.rs"]
mod fault_proxy;
#[path = "../../registry/tests/common/quirks.rs"]
mod quirks;
mod support;

mod again;
mod bad_input;
mod bases;
mod bounds;
mod builder_image;
mod changing_files;
mod credentials;
mod images;
mod interrupt;
mod killed;
mod network;
mod outputs;
mod preflight;
mod progress;
mod push;
mod records;
mod registries_conf;
mod reproducible;
mod tekton;
mod verify;
