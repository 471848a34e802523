//! Stages: what they inherit, and what is copied between them.

use crossdock_builder::{FileNode, FileTree, Node, NodeKind};
use insta::assert_snapshot;
use serde_json::json;

use crate::harness::{Setup, path};

#[test]
fn a_stage_inherits_layers_config_and_tree() {
    let setup = Setup::new();
    let image =
        setup.plan("FROM scratch AS Base\nENV A=1\nCOPY a.txt /d/\nFROM base\nCOPY b.txt /d\nENV B=$A");
    assert_snapshot!(setup.layers(&image), @r"
    COPY a.txt /d/:
      d 0755 0:0 /d
      f 0640 0:0 /d/a.txt = a.txt
    COPY b.txt /d:
      f 0644 0:0 /d/b.txt = b.txt
    ");
    assert_eq!(image.config.config.env[1..], ["A=1", "B=1"]);
    let steps: Vec<_> = image.steps.iter().map(|step| (step.layer, step.history.empty_layer)).collect();
    assert_eq!(steps, [(None, true), (Some(0), false), (Some(1), false), (None, true)]);
    assert_eq!(image.steps[1].history.created_by.as_deref(), Some("/bin/sh -c #(nop) COPY a.txt /d/"));
}

#[test]
fn triggers_are_carried_out_before_the_stage_and_once() {
    let mut tree = FileTree::empty();
    tree.insert(&path("tmp"), Node::directory(0o1777));
    let on_build = ["ARG W=2", "ENV V=$W", "COPY a.txt /tmp/x/", "CMD [\"c\"]", "COPY <<e /e\n$V\ne"];
    let setup = Setup::new()
        .base("app", json!({"config": {"OnBuild": on_build, "Cmd": ["base"]}}), tree)
        .build_arg("W", "3");
    let image =
        setup.plan("FROM app AS one\nENTRYPOINT [\"e\"]\nLABEL v=$V w=$W\nONBUILD LABEL last=1\nFROM one");
    assert_snapshot!(setup.layers(&image), @r#"
    COPY a.txt /tmp/x/:
      d 0755 0:0 /tmp/x
      f 0640 0:0 /tmp/x/a.txt = a.txt
    COPY <<e /e:
      f 0644 0:0 /e = "3\n"
    "#);
    let config = image.config.config;
    assert_eq!(
        config.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        ["last=1", "v=3", "w=3"]
    );
    assert_eq!(config.cmd, Some(vec!["c".to_owned()]));
    assert!(config.on_build.is_empty());
    assert_eq!(image.warnings, []);
}

#[test]
fn files_are_copied_out_of_a_stage_with_their_owners() {
    let setup = Setup::new().hard_link("dir/c.txt", "dir/hard");
    let image = setup.plan(
        "FROM scratch AS one\nCOPY --chown=9:8 --chmod=4755 a.txt /bin/a\nCOPY dir /dir\nCOPY dirlink/inner /x\nCOPY <<h /in\nhi\nh\n\
         FROM scratch\nARG S=one\nCOPY --from=$S /bin/a /in /o/\nCOPY --from=0 dir /dir\nCOPY --from=ONE --chown=1 /d?r/*.txt /dir/hard /g/",
    );
    assert_snapshot!(setup.layers(&image), @r#"
    COPY --from=$S /bin/a /in /o/:
      d 0755 0:0 /o
      f 4755 9:8 /o/a = a.txt
      f 0644 0:0 /o/in = "hi\n"
    COPY --from=0 dir /dir:
      d 0755 0:0 /dir
      f 0644 0:0 /dir/c.txt = dir/c.txt
      h 0644 0:0 /dir/hard -> /dir/c.txt
      l 0777 0:0 /dir/inner -> c.txt
      d 0700 0:0 /dir/sub
      f 0600 0:0 /dir/sub/d.txt = dir/sub/d.txt
    COPY --from=ONE --chown=1 /d?r/*.txt /dir/hard /g/:
      d 0755 1:1 /g
      f 0644 1:1 /g/c.txt = dir/c.txt
      f 0644 1:1 /g/hard = dir/c.txt
    "#);
}

#[test]
fn triggers_of_a_base_are_carried_out_first_and_once() {
    let on_build = [
        "COPY a.txt /on",
        "ENV A=${X:-none}",
        "ARG Y=1",
        "LABEL y=$Y",
        "WORKDIR /w",
        "COPY --from=two /f $A",
    ];
    let config = json!({"config": {"OnBuild": on_build, "Env": ["X=x"]}});
    let setup = Setup::new().base("app", config, FileTree::empty()).build_arg("Y", "9");
    // Nothing but a trigger needs the stage `two`.
    let file =
        "FROM scratch AS two\nCOPY b.txt /f\nFROM app AS a\nENV B=$A$Y\nCOPY b.txt .\nONBUILD LABEL z=$Z";
    let image = setup.plan(file);
    assert_snapshot!(setup.layers(&image), @r"
    COPY a.txt /on:
      f 0640 0:0 /on = a.txt
    WORKDIR /w:
      d 0755 0:0 /w
    COPY --from=two /f $A:
      f 0644 0:0 /w/x = b.txt
    COPY b.txt .:
      f 0644 0:0 /w/b.txt = b.txt
    ");
    let config = &image.config.config;
    assert_eq!(config.env[..1], ["X=x"]);
    assert_eq!(config.env[2..], ["A=x", "B=x9"]);
    assert_eq!(config.labels["y"], "9");
    assert_eq!(
        config.on_build,
        ["LABEL z=$Z"],
        "those of the base are gone, those of the file are for the next"
    );
    assert_eq!(image.steps[1].history.created_by.as_deref(), Some("/bin/sh -c #(nop) ENV A=${X:-none}"));
    assert_eq!(image.warnings, []);

    let next = setup.plan(&format!("{file}\nFROM a\nLABEL x=x"));
    assert_eq!(next.config.config.on_build, [""; 0]);
    assert_eq!((next.config.config.labels["z"].as_str(), next.layers.len()), ("", 4));
}

#[test]
fn files_that_are_not_known_are_not_taken_out() {
    let mut tree = FileTree::empty();
    let kind = NodeKind::File(FileNode::InBase);
    tree.insert(&path("usr/bin/tool"), Node { kind, ..Node::directory(0o755) });
    let setup = Setup::new().base("known", json!({}), tree).base("unknown", json!({}), FileTree::unknown());
    for (from, source, expected) in [
        (
            "known",
            "/usr",
            "/usr/bin/tool cannot be taken out of the layers of stage \"s\": what they hold of it is not known, or not all of it, put the file into the context in an earlier step of the pipeline and COPY it from there",
        ),
        ("known", "/etc", "COPY source \"/etc\" is not in stage \"s\""),
        (
            "unknown",
            "/etc/x",
            "/etc/x cannot be taken out of the layers of stage \"s\": what they hold of it is not known, or not all of it, put the file into the context in an earlier step of the pipeline and COPY it from there",
        ),
        (
            "unknown",
            "/m",
            "/m cannot be taken out of the layers of stage \"s\": what they hold of it is not known, or not all of it, put the file into the context in an earlier step of the pipeline and COPY it from there",
        ),
        ("known", "../x", "COPY source \"../x\" leads above the root of stage \"s\""),
    ] {
        let error = setup.file_error(&format!(
            "FROM {from} AS s\nCOPY a.txt /m/\nFROM scratch\nCOPY --from=s {source} /x"
        ));
        assert_eq!(error, format!("Containerfile:4:15: {expected}"));
    }
    setup.plan("FROM unknown AS s\nCOPY a.txt /m/\nFROM scratch\nCOPY --from=s /m/a.txt /x");
}

#[test]
fn each_base_is_asked_for_once_and_with_its_platform() {
    let setup = Setup::new().base("b:1", json!({"os": "linux", "architecture": "arm64"}), FileTree::empty());
    let image = setup.plan(
        "ARG V=1\nFROM b:$V AS x\nFROM b:1 AS y\nCOPY --from=x / /\nFROM --platform=$BUILDPLATFORM unused\nFROM y",
    );
    assert_eq!(*setup.bases.asked.lock().unwrap(), ["b:1 linux/amd64"]);
    assert_eq!(image.config.architecture, "arm64");
    assert_eq!(image.base.unwrap().reference, "b:1");
}

#[test]
fn squash_makes_one_layer_with_the_last_of_each_path() {
    let mut setup = Setup::new().hard_link("dir/c.txt", "dir/hard");
    setup.options.squash = true;
    let image = setup.plan("FROM scratch\nCOPY dir /d\nENV A=1\nCOPY a.txt /d/c.txt\nCOPY b.txt /new/\nCOPY dir/sub /d/sub/d.txt/../");
    assert_snapshot!(setup.layers(&image), @r"
    squashed layers:
      d 0755 0:0 /d
      f 0640 0:0 /d/c.txt = a.txt
      f 0644 0:0 /d/hard = dir/c.txt
      l 0777 0:0 /d/inner -> c.txt
      d 0700 0:0 /d/sub
      f 0600 0:0 /d/sub/d.txt = dir/sub/d.txt
      d 0755 0:0 /new
      f 0644 0:0 /new/b.txt = b.txt
    ");
    let made: Vec<_> = image.steps.iter().map(|step| (step.layer, step.history.empty_layer)).collect();
    assert_eq!(made, [(None, true), (None, true), (None, true), (None, true), (Some(0), false)]);
}

#[test]
fn stages_are_called_what_their_name_comes_to() {
    let setup = Setup::new().build_arg("V", "arm/v7");
    let image = setup.plan(
        "ARG V\nFROM scratch AS x-$V\nCOPY a.txt /a\nFROM scratch AS 1x\nCOPY b.txt /b\nFROM x-arm/v7 AS X-${V}-end\n\
         COPY --from=1x /b /b\nFROM x-$V-END\nCOPY --from=x-${TARGETOS:-arm/v7} /a /c",
    );
    let layers = setup.layers(&image);
    assert!(
        layers.contains("/a = a.txt") && layers.contains("/b = b.txt") && layers.contains("/c = a.txt"),
        "{layers}"
    );
    let names: Vec<_> = image.stages.iter().map(|stage| stage.name.as_deref().unwrap_or_default()).collect();
    assert_eq!(names, ["x-arm/v7", "1x", "x-arm/v7-end", ""]);
}

#[test]
fn a_stage_that_may_be_either_of_two_is_none() {
    let mut setup = Setup::new();
    // Nobody says the name.
    setup.plan("FROM scratch AS x\nFROM scratch AS X\nFROM scratch AS x\nCOPY a.txt /a");
    for (text, expected) in [
        (
            "FROM scratch AS x\nFROM scratch AS x\nFROM x",
            "Containerfile:3:6: \"x\" may mean either of the stages of lines 1 and 2, give each of them a name of its own",
        ),
        (
            "FROM scratch AS x\nFROM scratch AS X\nFROM scratch\nCOPY --from=x /a /a",
            "Containerfile:4:13: \"x\" may mean either of the stages of lines 1 and 2, give each of them a name of its own",
        ),
        (
            "FROM scratch AS 1\nFROM scratch AS x\nFROM scratch\nCOPY --from=1 /a /a",
            "Containerfile:4:13: \"1\" may mean either of the stages of lines 1 and 2, give each of them a name of its own",
        ),
        (
            "FROM scratch AS $NONE\nCOPY a.txt /a",
            "Containerfile:1:17: the name of the stage is empty once its variables are put in, give ARG a default before the first FROM, or leave AS out",
        ),
    ] {
        assert_eq!(setup.file_error(text), expected, "{text}");
    }
    setup.options.target = Some("x".to_owned());
    assert_eq!(
        setup.file_error("FROM scratch AS x\nFROM scratch AS x"),
        r#"there is no stage "x" to build, the stages of lines 1 and 2 have this name"#
    );
}

#[test]
fn a_mistyped_stage_is_told_the_stages_that_are_there() {
    let setup = Setup::new();
    let error = |text: &str| setup.file_error(text);
    assert_snapshot!(error("FROM scratch AS build\nFROM scratch AS tools\nFROM scratch\nCOPY --from=biuld /a /a"), @r"Containerfile:4:13: cannot copy from the image biuld for linux/amd64, and no stage above has this name, the stages above are build, tools: no such image");
    assert_snapshot!(error("FROM scratch\nFROM scratch\nCOPY --from=biuld /a /a"), @r"Containerfile:3:13: cannot copy from the image biuld for linux/amd64, and no stage above has this name: no such image");
}
