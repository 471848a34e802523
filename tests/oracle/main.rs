//! Containerfiles built by buildah and by crossdock, and what differs between the images: buildah is the oracle.
//!
//! Each row of a topic is a small context and a Containerfile. Both programs build it; the config and the tree of the
//! flattened layers are read by `support::image`, which shares no code with either, and compared. What is meant to
//! differ stands in `deviations`, row by row, with the reason; a row that no longer differs as it says there fails as
//! well. buildah keeps owners in its store, so whoever is not root has nothing to compare with.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "the environment of tests is their own matter")]

#[path = "../../registry/tests/common/docker_registry.rs"]
mod docker_registry;
#[path = "../../registry/tests/common/fault_proxy.rs"]
mod fault_proxy;
#[path = "../integration/support/mod.rs"]
#[allow(dead_code, reason = "shared with the integration tests, which use more of it")]
mod support;

mod context;
mod deviations;
mod harness;
mod seen;

mod archives;
mod bases;
mod commands;
mod config;
mod contexts;
mod copying;
mod failures;
mod files;
mod flags;
mod ignoring;
mod lines;
mod links;
mod stages;
mod variables;

use std::collections::BTreeSet;

use deviations::DEVIATIONS;
use harness::{Oracle, Row};

/// A name and its rows.
type Topic = (&'static str, fn() -> Vec<Row>);

const TOPICS: &[Topic] = &[
    ("archives", archives::rows),
    ("bases", bases::rows),
    ("commands", commands::rows),
    ("config", config::rows),
    ("contexts", contexts::rows),
    ("copying", copying::rows),
    ("failures", failures::rows),
    ("files", files::rows),
    ("flags", flags::rows),
    ("ignoring", ignoring::rows),
    ("lines", lines::rows),
    ("links", links::rows),
    ("stages", stages::rows),
    ("variables", variables::rows),
];

/// Builds all rows of a topic, and fails with all that differ.
#[expect(clippy::print_stderr, reason = "nobody shall believe that it was compared")]
fn check(topic: &str) {
    if !support::image::is_root() {
        eprintln!("not compared: buildah's store keeps the owners of files for root alone");
        return;
    }
    let (_, rows) = TOPICS.iter().find(|(name, _)| *name == topic).unwrap();
    let oracle = Oracle::new();
    let failed: Vec<String> = rows().iter().filter_map(|row| oracle.compare(row).err()).collect();
    assert!(failed.is_empty(), "{} rows are not as they should be\n\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn every_row_has_a_name_of_its_own_and_every_deviation_a_row() {
    let names: Vec<&str> = TOPICS.iter().flat_map(|(_, rows)| rows()).map(|row| row.name).collect();
    let set: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(set.len(), names.len(), "names are given twice");
    assert!(names.len() >= 120, "{} rows", names.len());
    let mut listed = BTreeSet::new();
    for deviation in DEVIATIONS {
        assert!(set.contains(deviation.row), "there is no row {:?}", deviation.row);
        assert!(listed.insert(deviation.row), "{:?} is listed twice", deviation.row);
    }
}
