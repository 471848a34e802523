//! Instructions that only change the config, and variables.

use crossdock_builder::FileTree;
use crossdock_storage::ImageConfig;
use insta::assert_snapshot;
use serde_json::json;

use crate::harness::Setup;

fn config(setup: &Setup, instructions: &str) -> ImageConfig {
    setup.plan(&format!("FROM scratch\n{instructions}")).config
}

#[test]
fn the_config_of_all_instructions() {
    let mut setup = Setup::new();
    setup.options.labels = vec![("a".to_owned(), "cli".to_owned())];
    setup.options.env = vec![("E".to_owned(), "cli".to_owned())];
    setup.options.unset_env = vec!["GONE".to_owned()];
    setup.options.created = Some("2001-01-01T00:00:00Z".to_owned());
    let config = config(
        &setup,
        "MAINTAINER me <me@example.org>\nENV A=1 GONE=1 E=2\nEXPOSE 80 90-91/udp\nVOLUME /v \"/w\"\n\
         HEALTHCHECK --interval=1h30m --timeout=500ms --retries=3 CMD [\"ok\"]\nLABEL a=b \"c d\"=\"e f\"\n\
         SHELL [\"/bin/bash\", \"-c\"]\nCMD run it\nSTOPSIGNAL SIGTERM\nONBUILD COPY . /x\nUSER 7:8\nWORKDIR /w\nWORKDIR x/../y",
    );
    assert_snapshot!(serde_json::to_string_pretty(&config).unwrap(), @r#"
    {
      "created": "2001-01-01T00:00:00Z",
      "author": "me <me@example.org>",
      "architecture": "amd64",
      "os": "linux",
      "config": {
        "User": "7:8",
        "ExposedPorts": {
          "80/tcp": {},
          "90/udp": {},
          "91/udp": {}
        },
        "Env": [
          "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
          "A=1",
          "E=cli"
        ],
        "Cmd": [
          "/bin/bash",
          "-c",
          "run it"
        ],
        "Volumes": {
          "/v": {},
          "/w": {}
        },
        "WorkingDir": "/w/y",
        "Labels": {
          "a": "cli",
          "c d": "e f"
        },
        "StopSignal": "SIGTERM",
        "Healthcheck": {
          "Test": [
            "CMD",
            "ok"
          ],
          "Interval": 5400000000000,
          "Timeout": 500000000,
          "Retries": 3
        },
        "Shell": [
          "/bin/bash",
          "-c"
        ],
        "OnBuild": [
          "COPY . /x"
        ]
      },
      "rootfs": {
        "type": "layers",
        "diff_ids": []
      }
    }
    "#);
}

#[test]
fn an_entrypoint_drops_the_command_of_the_base_alone() {
    let base = json!({"config": {"Cmd": ["base"], "Entrypoint": ["old"]}});
    let setup = Setup::new().base("b", base, FileTree::empty());
    for (instructions, entrypoint, cmd) in [
        ("", Some(vec!["old"]), Some(vec!["base"])),
        ("ENTRYPOINT [\"new\"]", Some(vec!["new"]), None),
        ("CMD [\"c\"]\nENTRYPOINT [\"new\"]", Some(vec!["new"]), Some(vec!["c"])),
        ("ENTRYPOINT []", None, None),
        ("CMD []", Some(vec!["old"]), None),
        ("ENTRYPOINT new one", Some(vec!["/bin/sh", "-c", "new one"]), None),
        ("CMD [\"c\"]\nFROM a\nENTRYPOINT [\"new\"]", Some(vec!["new"]), None),
    ] {
        let config = setup.plan(&format!("FROM b AS a\n{instructions}")).config.config;
        let owned = |words: Option<Vec<&str>>| {
            words.map(|words| words.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!((config.entrypoint, config.cmd), (owned(entrypoint), owned(cmd)), "{instructions}");
    }
}

#[test]
fn arguments_are_seen_where_they_are_declared() {
    let setup = Setup::new().build_arg("GIVEN", "cli").build_arg("GLOBAL", "cli");
    let image = setup.plan(
        "ARG GLOBAL=file\nARG OTHER=${GLOBAL}-x\nARG GIVEN\nFROM scratch\n\
         LABEL 1=\"$GLOBAL|$OTHER|$TARGETARCH\"\nARG OTHER\nARG TARGETARCH\nARG GLOBAL GIVEN=default\nARG LOCAL=${GIVEN}\n\
         LABEL 2=\"$GLOBAL|$OTHER|$TARGETARCH|$GIVEN|$LOCAL\"\nENV LOCAL=env\nARG LOCAL=arg\nLABEL 3=$LOCAL\n\
         ENV X=1\nENV X=2 Y=$X\nLABEL 4=$Y",
    );
    let labels: Vec<_> = image.config.config.labels.values().map(String::as_str).collect();
    assert_eq!(labels, ["||", "cli|cli-x|amd64|cli|cli", "env", "1"]);
    assert_snapshot!(setup.warnings(&image), @r"
    Containerfile:5:11: the variable GLOBAL is not set, declare it with ARG or ENV above, or write ${NAME:-}
    Containerfile:5:19: the variable OTHER is not set, declare it with ARG or ENV above, or write ${NAME:-}
    Containerfile:5:26: the variable TARGETARCH is not set, declare it with ARG or ENV above, or write ${NAME:-}
    ");
}

#[test]
fn the_names_of_arguments_are_expanded_and_their_values_are_those_before_the_instruction() {
    let base = json!({"config": {"Env": ["NAMED=FROM_BASE"]}});
    let setup = Setup::new().base("b", base, FileTree::empty());
    let setup = setup.build_arg("GIVEN", "cli").build_arg("FROM_BASE", "cli").build_arg("D", "cli");
    let image = setup.plan(
        "ARG D=1 E=${D}x\nARG F=$E\nFROM b\nARG E F\nARG k=N g=GIVEN\nARG ${k}=v $g=default\nARG ${NAMED}\n\
         ARG \"Q=a b\" x${k}=$k\nARG D=2 H=${D}x\n\
         LABEL 1=\"$E|$F|$N|$GIVEN|$FROM_BASE|$Q|$xN\" 2=\"$D|$H\"",
    );
    let labels: Vec<_> = image.config.config.labels.values().map(String::as_str).collect();
    assert_eq!(labels, ["x|x|v|cli|cli|a b|N", "cli|x"]);
    assert_snapshot!(setup.warnings(&image), @r"
    Containerfile:1:13: the variable D is not set, declare it with ARG or ENV above, or write ${NAME:-}
    Containerfile:9:13: the variable D is not set, declare it with ARG or ENV above, or write ${NAME:-}
    ");
}

#[test]
fn an_argument_named_by_the_base_does_not_hide_those_beside_it() {
    let setup = Setup::new().base("b", json!({"config": {"Env": ["NAMED=N"]}}), FileTree::empty());
    let image = setup.plan(
        "FROM scratch AS one\nCOPY a.txt /a\nFROM b\nARG $NAMED=v S=one\nCOPY --from=$S /a /b\nLABEL 1=$N",
    );
    assert_eq!(image.config.config.labels["1"], "v");
    assert!(setup.layers(&image).contains("/b = a.txt"));
}

#[test]
fn arguments_are_those_of_the_stages_below_too() {
    let setup = Setup::new().build_arg("GIVEN", "cli");
    let image = setup.plan(
        "FROM scratch AS one\nARG A=1 GIVEN\nFROM one AS two\nARG B=${A}2\nFROM scratch AS other\nARG C=3\n\
         FROM two\nLABEL 1=\"$A|$B|$GIVEN\" 2=\"${C:-unset}\"",
    );
    let labels: Vec<_> = image.config.config.labels.values().map(String::as_str).collect();
    assert_eq!(labels, ["1|12|cli", "unset"]);
    assert_snapshot!(setup.warnings(&image), @"");
}

#[test]
fn nothing_but_from_scratch_has_a_line_in_the_history() {
    let image = Setup::new().plan("FROM scratch");
    let lines: Vec<_> = image.steps.iter().map(|step| (&step.history.created_by, step.layer)).collect();
    assert_eq!(lines, [(&Some("/bin/sh".to_owned()), None)]);
    assert!(image.steps[0].history.empty_layer);
    let image = Setup::new().plan("FROM scratch\nLABEL a=1\nCOPY a.txt /a");
    assert_eq!(image.steps.iter().map(|step| step.layer).collect::<Vec<_>>(), [None, Some(0)]);
}

#[test]
fn a_build_argument_that_nothing_takes_is_warned_of() {
    let setup =
        Setup::new().build_arg("HF_TOKEN", "secret").build_arg("https_proxy", "p").build_arg("USED", "u");
    let image = setup.plan("FROM scratch AS x\nARG HF_TOKEN\nFROM scratch\nARG USED");
    assert_snapshot!(setup.warnings(&image), @"--build-arg HF_TOKEN is not used: no ARG declares it");
}

#[test]
fn the_base_environment_is_in_scope() {
    let base = json!({"config": {"Env": ["HOME=/h", "PATH=/p"], "WorkingDir": "/w"}, "os": "linux", "architecture": "s390x"});
    let setup = Setup::new().base("b", base, FileTree::empty());
    let image = setup.plan("FROM b\nENV D=$HOME/d PATH=$PATH:/q\nCOPY a.txt $D/\nCOPY a.txt r");
    assert_eq!(image.config.config.env, ["HOME=/h", "PATH=/p:/q", "D=/h/d"]);
    assert_snapshot!(setup.layers(&image), @r"
    ENV D=$HOME/d PATH=$PATH:/q:
      d 0755 0:0 /w
    COPY a.txt $D/:
      d 0755 0:0 /h
      d 0755 0:0 /h/d
      f 0640 0:0 /h/d/a.txt = a.txt
    COPY a.txt r:
      f 0640 0:0 /w/r = a.txt
    ");
}

#[test]
fn values_that_cannot_be_are_told() {
    let setup = Setup::new();
    for (instruction, expected) in [
        (
            "EXPOSE http",
            "Containerfile:2:8: EXPOSE http: \"http\" is not a port, write a port or a range from 1 to 65535, with /tcp, /udp or /sctp behind it or nothing",
        ),
        (
            "STOPSIGNAL SIGNONE",
            "Containerfile:2:12: STOPSIGNAL \"SIGNONE\" is no signal, write a name such as SIGTERM or a number from 1 to 64",
        ),
        ("USER $NONE", "Containerfile:2:6: USER needs a user"),
        ("WORKDIR $NONE", "Containerfile:2:9: WORKDIR needs a path"),
        ("VOLUME $NONE", "Containerfile:2:8: VOLUME needs a path"),
        ("EXPOSE $NONE $OTHER", "Containerfile:2:8: EXPOSE has no port once its variables are put in"),
        (
            "ARG $NONE=v",
            "Containerfile:2:5: the name is empty once its variables are put in, set the variables, or write the name",
        ),
        ("ENV $NONE=v", "Containerfile:2:5: the name is empty once its variables are put in"),
        ("LABEL \"$NONE\"=v", "Containerfile:2:7: the name is empty once its variables are put in"),
        (
            "COPY --from=$NONE /x /x",
            "Containerfile:2:13: COPY --from= names no stage above, name a stage, an image or a --build-context",
        ),
    ] {
        assert_eq!(setup.error(instruction), expected);
    }
}
