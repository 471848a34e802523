//! What a run writes itself is no part of its context, by whatever path it is there.

use std::fs;

use crossdock_builder::BuildContext;
use insta::assert_snapshot;

use crate::harness::Setup;

/// A context with a directory `state` and a file `out.tar` that the run writes.
fn setup() -> Setup {
    let mut setup = Setup::new().file("state/images/x", "x", 0o644).file("out.tar", "old", 0o644);
    setup.own.add("the directory of --root", setup.context().join("state"));
    setup.own.add("the output of this build", setup.context().join("out.tar"));
    setup
}

#[test]
fn what_the_run_writes_is_left_out_of_what_is_copied_and_told() {
    let setup = setup();
    for copy in ["COPY . /x/", "COPY * /x/", "COPY --parents ./**/* /x/"] {
        let image = setup.plan(&format!("FROM scratch\n{copy}"));
        let layers = setup.layers(&image);
        assert!(
            layers.contains("a.txt") && !layers.contains("state") && !layers.contains("out.tar"),
            "{layers}"
        );
        let warnings = setup.warnings(&image);
        let told = r#"what this run writes is left out of the build context ./ctx: "out.tar" (the output of this build), "state" (the directory of --root), name it in .containerignore, or let it be elsewhere"#;
        assert!(warnings.lines().any(|line| line == told), "{copy}: {warnings}");
    }
    // What is ignored or excluded already is no news.
    let image = setup.plan("FROM scratch\nCOPY --exclude=state --exclude=out.tar . /x/");
    assert!(!setup.warnings(&image).contains("this run writes"));
    let setup = setup.file(".containerignore", "state\nout.*\n", 0o644);
    let image = setup.plan("FROM scratch\nCOPY . /x/");
    assert!(!setup.warnings(&image).contains("this run writes"));
}

#[test]
fn what_the_run_writes_cannot_be_named() {
    let setup = setup().link("way", "state").link("archive", "out.tar");
    for (source, at, what) in [
        ("state", "state", "the directory of --root"),
        ("state/images/x", "state", "the directory of --root"),
        ("way/images", "state", "the directory of --root"),
        ("out.tar", "out.tar", "the output of this build"),
        ("archive", "out.tar", "the output of this build"),
        ("state/*", "", ""),
        ("out.*", "out.tar", "the output of this build"),
    ] {
        let error = setup.error(&format!("COPY {source} /x/"));
        let expected = if at.is_empty() {
            format!("Containerfile:2:6: COPY source {source:?} matches nothing in the build context ./ctx")
        } else {
            format!(
                "Containerfile:2:6: COPY source {source:?} is not in the build context ./ctx: {at:?} is {what}, which is never part of an image; let this run write elsewhere to copy it"
            )
        };
        assert_eq!(error, expected);
    }
}

#[test]
fn other_names_of_a_file_that_is_written_anew_stay() {
    let setup = setup().hard_link("out.tar", "kept.tar");
    let image = setup.plan("FROM scratch\nCOPY *.tar /x/");
    assert_snapshot!(setup.layers(&image), @r"
    COPY *.tar /x/:
      d 0755 0:0 /x
      f 0644 0:0 /x/kept.tar = kept.tar
    ");
}

#[test]
fn an_output_directory_that_is_the_context_leaves_what_is_not_its_own() {
    let mut setup = Setup::new().file("model/blobs/x", "x", 0o644).file("blobs/sha256/y", "y", 0o644);
    let setup = {
        let context = setup.context();
        setup.own.add_directory_of("the output of this build", &context, &["blobs", "index.json"]);
        setup
    };
    let layers = setup.layers(&setup.plan("FROM scratch\nCOPY . /x/"));
    assert!(layers.contains("/x/model/blobs/x") && !layers.contains("/x/blobs"), "{layers}");

    let mut setup = Setup::new();
    setup.own.add("the directory of --root", setup.context());
    assert_snapshot!(setup.error("COPY a.txt /x"), @r#"Containerfile:2:6: COPY source "a.txt" is not in the build context ./ctx: "a.txt" is the directory of --root, which is never part of an image; let this run write elsewhere to copy it"#);
}

#[test]
fn further_contexts_have_nothing_of_it_either() {
    let mut setup = setup();
    let context = setup.context();
    setup.options.build_contexts.insert("more".to_owned(), BuildContext::Directory(context.clone()));
    fs::create_dir(context.join("state/inside")).unwrap();
    let image = setup.plan("FROM scratch\nCOPY --from=more . /x/");
    let layers = setup.layers(&image);
    assert!(layers.contains("a.txt") && !layers.contains("state"), "{layers}");
    assert!(setup.warnings(&image).contains(r#""state" (the directory of --root)"#));
}
