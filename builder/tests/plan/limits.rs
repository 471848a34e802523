//! Containerfiles and bases that mean harm: each ends with an error that says where and what, before memory or time are gone.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use crossdock_builder::{Error, FileTree, Node, NodeKind};
use serde_json::json;

use crate::harness::{Setup, path};

/// A line for each number below `count`.
fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        writeln!(text, "{}", line(number)).unwrap();
        text
    })
}

/// `A` is a value of a mebibyte.
fn mebibyte() -> String {
    format!("ENV A0=0123456789abcdef\n{}ENV A=$A16\n", lines(16, |n| format!("ENV A{}=$A{n}$A{n}", n + 1)))
}

#[test]
fn planning_ends_at_the_word_to_stop() {
    for text in ["FROM scratch\nCOPY dir /d\n", "FROM scratch\nADD a.txt /a\n", "FROM base\n"] {
        let setup = Setup::new().base("base", json!({}), FileTree::empty());
        setup.plan(text);
        setup.options.cancel.cancel();
        let stopped = setup.try_plan(text);
        assert!(matches!(stopped, Err(Error::Interrupted)), "{text}: {stopped:?}");
    }
}

#[test]
fn what_values_come_to_in_all_is_limited_wherever_they_are_used() {
    let setup = Setup::new().base("base", json!({}), FileTree::empty());
    let stage = |n: usize| n.checked_sub(1).map_or("first".to_owned(), |n| format!("s{n}"));
    let end = "come to more than 16 MiB in all, use shorter variables, or use them less often";
    for (name, text) in [
        ("variables", format!("{}{}", mebibyte(), lines(20, |n| format!("ENV B{n}=$A")))),
        ("labels", format!("{}{}", mebibyte(), lines(20, |n| format!("LABEL b{n}=$A")))),
        ("heredocs", format!("{}{}", mebibyte(), lines(20, |n| format!("COPY <<E /{n}\n$A\nE")))),
        ("nothing", format!("{}{}", mebibyte(), lines(20, |n| format!("ENV B{n}=${{A:+}}")))),
        ("stages", format!("{}{}", mebibyte(), lines(20, |n| format!("FROM {} AS s{n}", stage(n))))),
        ("authors", format!("MAINTAINER {}\n{}", "x".repeat(1 << 20), lines(20, |_| "CMD a".to_owned()))),
        ("ports", lines(30, |_| "EXPOSE 1-65535".to_owned())),
    ] {
        let error = setup.file_error(&format!("FROM base AS first\n{text}"));
        assert!(error.ends_with(end), "{name}: {error}");
    }
}

#[test]
fn a_chain_of_stages_ends_somewhere() {
    let chain =
        |count| format!("FROM scratch AS s0\n{}", lines(count, |n| format!("FROM s{n} AS s{}", n + 1)));
    let setup = Setup::new();
    setup.plan(&chain(255));
    let expected = "the target needs more than 256 stages, put some of them into a base image";
    assert!(setup.file_error(&chain(20_000)).ends_with(expected));
}

#[test]
fn patterns_of_values_take_no_quadratic_time() {
    let setup = Setup::new();
    let plan = |word: &str| setup.try_plan(&format!("FROM scratch\n{}ENV A=$A12\nENV B={word}", mebibyte()));
    for word in ["${A//0*g/x}", "${A//0?2*g?/x}", "${A/??????????g/x}", "${A%%0*g*}", "${A##*g}"] {
        assert_eq!(
            plan(word).unwrap().config.config.env.last().map(String::len),
            Some(2 + (1 << 16)),
            "{word}"
        );
    }
    let error = plan("${A#$A}").unwrap_err().to_string();
    let expected = "a pattern of 65536 bytes is too long for a value of 65536, use a shorter pattern";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn paths_are_as_long_as_linux_takes_them() {
    let setup = Setup::new();
    let long = "name/name2/name3/".repeat(241);
    setup.plan(&format!("FROM scratch\nWORKDIR /{long}"));
    let expected = "the path would have more than 4096 bytes";
    for instruction in [format!("WORKDIR /{long}d"), format!("COPY a.txt /{long}d/")] {
        assert!(setup.error(&instruction).ends_with(expected), "{instruction}");
    }
    // Each stage is put deeper than the one before.
    let deeper = lines(3, |n| format!("FROM scratch\nCOPY --from={n} / /{}", "directory/".repeat(150)));
    let error = setup.error(&format!("COPY a.txt /\n{deeper}"));
    assert!(error.contains("would have more than 4096 bytes, copy to a path that Linux takes"), "{error}");
}

#[test]
fn links_of_a_base_that_lead_deeper_and_deeper_make_no_path_without_end() {
    let mut tree = FileTree::empty();
    for number in 0..30 {
        let target = format!("link{}/{}", number + 1, "d/".repeat(1000));
        let kind = NodeKind::Symlink(Arc::new(Bytes::from(target)));
        tree.insert(&path(&format!("link{number}")), Node { kind, ..Node::directory(0o777) });
    }
    let setup = Setup::new().base("base", json!({}), tree);
    let error = setup.file_error("FROM base\nCOPY a.txt /link0/");
    assert!(error.contains("would have more than 4096 bytes"), "{error}");
}

#[test]
fn a_directory_whose_name_would_take_another_one_away_is_refused() {
    let setup = Setup::new();
    let expected = "the directory .wh.x would take another one away, as its name does in a layer, give it another \
                    name, or leave it out";
    for instruction in
        ["COPY a.txt /d/.wh.x/", "COPY a.txt /d/.wh.x/y/z", "WORKDIR /.wh.x/y", "COPY dir /.wh.x"]
    {
        let error = setup.error(instruction);
        assert!(error.ends_with(expected), "{instruction}: {error}");
    }
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    tar.append_data(&mut header, "d/.wh.x/y", std::io::empty()).unwrap();
    std::fs::write(setup.context().join("a.tar"), tar.into_inner().unwrap()).unwrap();
    assert!(setup.error("ADD a.tar /").ends_with(expected));
}
