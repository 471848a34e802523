//! crossdock as its users run it: the program, a real registry, and other programs that read what it built.
//!
//! Each test starts the registry it needs on a port of its own and works in a directory that goes with it. Images are
//! read back by skopeo and umoci, and checked by `support::image`, which shares no code with crossdock.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "the environment of tests is their own matter")]

#[path = "../../registry/tests/common/docker_registry.rs"]
mod docker_registry;
#[path = "../../registry/tests/common/fault_proxy.rs"]
mod fault_proxy;
#[path = "../../registry/tests/common/quirks.rs"]
mod quirks;
#[allow(dead_code, reason = "shared with tests/oracle, which uses more of it")]
mod support;

mod again;
mod bad_input;
mod bases;
mod bounds;
mod builder_image;
mod changing_files;
mod command_line;
mod contexts;
mod credentials;
mod documented;
mod drop_in;
mod dry_run;
mod habits;
mod images;
mod interrupt;
mod killed;
mod left_out;
mod local_images;
mod manifests;
mod messages;
mod metadata;
mod models;
mod models_elsewhere;
mod network;
mod odd_bases;
mod openshift;
mod outputs;
mod parts;
mod places;
mod preflight;
mod progress;
mod pulling;
mod push;
mod records;
mod registries_conf;
mod remembered;
mod reproducible;
mod reused;
mod root;
mod serving;
mod serving_fields;
mod sharing;
mod stores;
mod strict;
mod tekton;
mod tekton_fields;
mod terminal;
mod touched;
mod transports;
mod verify;
