//! What is refused, by name and place, and before anything is fetched or read.

use crossdock_builder::{Context, IgnoreFile};

use crate::harness::Setup;

#[test]
fn instructions_that_are_not_carried_out_are_named_before_the_base_is_fetched() {
    let setup = Setup::new();
    for (instructions, expected) in [
        (
            "RUN make",
            "Containerfile:2:1: RUN is not carried out: crossdock starts no containers, do this step in an earlier task of the pipeline and COPY its result, or put it into the base image",
        ),
        (
            "ADD https://example.org/x /x",
            "Containerfile:2:5: ADD of a URL is not carried out: https://example.org/x, download it into the context in an earlier step of the pipeline and COPY it",
        ),
        (
            "ARG U=git@example.org:x\nADD $U /x",
            "Containerfile:3:5: ADD of a git repository is not carried out: git@example.org:x, download it into the context in an earlier step of the pipeline and COPY it",
        ),
        (
            "COPY http://example.org/x /x",
            "Containerfile:2:6: COPY takes no URL: http://example.org/x, download it into the context in an earlier step of the pipeline",
        ),
        (
            "ADD --keep-git-dir a /x",
            "Containerfile:2:5: ADD --keep-git-dir is not carried out: it is for git sources, which are not carried out either, clone into the context in an earlier step of the pipeline and COPY it",
        ),
    ] {
        assert_eq!(setup.file_error(&format!("FROM base\n{instructions}")), expected, "{instructions}");
    }
    assert!(setup.bases.asked.lock().unwrap().is_empty());
}

#[test]
fn stages_that_are_not_needed_may_hold_anything() {
    let setup = Setup::new();
    setup.plan("FROM nowhere AS build\nRUN make\nFROM scratch\nCOPY a.txt /a");
    assert!(setup.bases.asked.lock().unwrap().is_empty());
    setup.plan("FROM scratch AS x-arm/v7\nRUN make\nFROM scratch AS $NONE\nFROM scratch AS 2\nFROM scratch\nCOPY a.txt /a");
    setup.plan(
        "FROM\nFROM scratch AS one\nNOSUCH x\nUSER\nFROM scratch AS \"a b\"\nFROM scratch\nCOPY a.txt /a",
    );
    // Whoever needs such a stage is told of the first line that cannot be read.
    for needs in ["FROM one", "FROM scratch\nCOPY --from=one /a /b", "FROM scratch\nCOPY --from=0 /a /b"] {
        let error = setup.file_error(&format!("FROM scratch AS one\nCOPY a.txt /a\nNOSUCH x\nUSER\n{needs}"));
        assert!(error.starts_with("Containerfile:3:1: unknown instruction NOSUCH"), "{error}");
    }
    let error = setup.file_error("FROM scratch AS \"a b\"\nFROM scratch\nCOPY --from=0 /a /b");
    assert!(error.starts_with("Containerfile:1:"), "{error}");
    let mut setup = Setup::new();
    setup.options.target = Some("first".to_owned());
    setup.plan("FROM scratch AS First\nCOPY a.txt /a\nFROM first\nRUN make");
    setup.options.target = Some("0".to_owned());
    setup.plan("FROM scratch AS First\nCOPY a.txt /a\nFROM first\nRUN make");
    setup.options.target = Some("last".to_owned());
    assert_eq!(
        setup.file_error("FROM scratch AS First\nFROM first AS other"),
        r#"there is no stage "last" to build, the Containerfile has first, other"#
    );
}

#[test]
fn triggers_that_cannot_be_carried_out_are_told_by_their_text() {
    for (trigger, expected) in [
        (
            "RUN make",
            "ONBUILD of app:1:1: RUN is not carried out: crossdock starts no containers, choose a base without this trigger, or do what it does in an earlier task of the pipeline and put the result into a base image",
        ),
        (
            "COPY --from=0 /x /x",
            "ONBUILD of app:1:13: COPY --from=0 names this stage itself, copy from a stage that stands above",
        ),
        ("COPY none /x", "ONBUILD of app:1:6: COPY source \"none\" is not in the build context ./ctx"),
        ("COPPY a b", "ONBUILD of app:1:1: unknown instruction COPPY, did you mean COPY?"),
    ] {
        let setup = Setup::new().base(
            "app",
            serde_json::json!({"config": {"OnBuild": [trigger]}}),
            crossdock_builder::FileTree::empty(),
        );
        assert_eq!(setup.file_error("FROM app"), expected);
    }
    let setup = Setup::new();
    assert!(
        setup
            .file_error("FROM scratch AS a\nONBUILD RUN make\nFROM a")
            .starts_with("Containerfile:2:9: RUN is")
    );
    setup.plan("FROM scratch AS a\nONBUILD RUN make");
}

#[test]
fn a_base_that_cannot_be_had_is_told_at_from() {
    let setup = Setup::new();
    assert_eq!(
        setup.file_error("ARG TAG=1\nFROM --platform=linux/arm64 none:${TAG}\nCOPY gone /x"),
        "Containerfile:2:29: cannot use the base image none:1 for linux/arm64: no such image"
    );
    assert_eq!(
        setup.file_error("ARG BASE\nFROM $BASE"),
        "Containerfile:2:6: FROM names no image: \"BASE\" is not set, give ARG a default before the first FROM, or pass --build-arg"
    );
}

#[test]
fn a_stage_is_copied_from_only_when_it_stands_above() {
    let mut setup = Setup::new();
    setup.options.target = Some("a".to_owned());
    for (from, expected) in [
        ("b", "COPY --from=b names a later stage, copy from a stage that stands above"),
        ("1", "COPY --from=1 names a later stage, copy from a stage that stands above"),
        ("A", "COPY --from=A names this stage itself, copy from a stage that stands above"),
    ] {
        let error =
            setup.file_error(&format!("FROM scratch AS a\nCOPY --from={from} /x /x\nFROM scratch AS b"));
        assert_eq!(error, format!("Containerfile:2:13: {expected}"));
    }
}

#[test]
fn a_context_that_is_no_directory_is_told() {
    let setup = Setup::new();
    let open = |name: &str| {
        let path = setup.context().join(name);
        let text = Context::open(&path, IgnoreFile::none()).unwrap_err().to_string();
        text.replace(&setup.context().display().to_string(), "./ctx")
    };
    assert_eq!(
        open("a.txt"),
        "the build context ./ctx/a.txt is no directory and no tar archive, name the directory that holds what COPY copies"
    );
    assert_eq!(open("none"), "cannot open the build context ./ctx/none");
}

#[test]
fn secrets_of_urls_are_not_shown_with_an_error() {
    let setup = Setup::new();
    let url = "https://me:s3cret@host/x?sig=s3cret";
    for instruction in [
        format!("ADD {url} /"),
        format!("COPY {url} /"),
        format!("ADD --checksum=sha256:00 {url} /"),
        format!("RUN curl -fsSL '{url}' | tar x"),
        format!("HEALTHCHECK CMD curl \"{url}\" --bogus\nCOPY {url} nothing /x"),
        format!("FROM {url}"),
    ] {
        let error = setup.try_plan(&format!("FROM scratch\n{instruction}")).unwrap_err();
        let text = error.render();
        assert!(!text.contains("s3cret") && text.contains("https://host/x?***"), "{text}");
        let [.., line, underline] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert!(underline.trim_end().chars().count() <= line.chars().count(), "{text}");
    }
}

#[test]
fn an_error_can_be_shown_in_its_line() {
    let setup = Setup::new();
    let error = setup.try_plan("FROM scratch\nCOPY nothing /x").unwrap_err();
    let text = error.render().replace(&setup.context().display().to_string(), "./ctx");
    insta::assert_snapshot!(text, @r#"
    Containerfile:2:6: COPY source "nothing" is not in the build context ./ctx
      |
    2 | COPY nothing /x
      |      ^^^^^^^
    "#);
}
