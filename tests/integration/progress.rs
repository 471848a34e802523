//! What is shown while it goes on.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::base::Base;
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::{make_old, write_large};

#[test]
fn plain_progress_is_lines_on_standard_error_and_the_report_on_standard_output() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    let name = registry.name("model:1");
    let run = sandbox.build(&["--progress=plain", "--push", "-t", &name, "--tls-verify=false"]).done();
    assert!(run.stderr.lines().any(|line| line.starts_with("[1/1] COPY model /models: sending (")), "{run}");
    assert!(run.stderr.lines().any(|line| line.starts_with("[1/1] COPY model /models: sent, ")), "{run}");
    assert!(!run.stderr.contains('\u{1b}'), "no escape sequences: {run}");
    for part in [
        format!("image    {name}"),
        "digest   sha256:".to_owned(),
        "\nsent ".to_owned(),
        "\nmemory ".to_owned(),
    ] {
        assert!(run.stdout.contains(&part), "{part:?} is missing\n{run}");
    }
}

#[test]
fn progress_can_be_silent() {
    let sandbox = Sandbox::small();
    let run = sandbox.build(&["--progress=none"]).done();
    assert_eq!(run.stderr, "");
}

#[test]
fn json_progress_is_one_object_a_line_with_the_fields_that_are_promised() {
    let registry = Registry::start();
    Base::new().push(&registry.name("base:1"));
    let sandbox = Sandbox::small();
    sandbox.containerfile(&format!("FROM {}\nCOPY model /models\n", registry.name("base:1")));
    let built = sandbox.pushed(&registry.name("model:1"), &[]);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let mut kinds = BTreeSet::new();
    for event in &built.events {
        let kind = event["event"].as_str().unwrap();
        let expected: &[&str] = match kind {
            "layer" => &["event", "layer", "title", "bytes"],
            "phase" => &["event", "layer", "phase"],
            "position" => &["event", "layer", "bytes"],
            "finished" => &["event", "layer", "outcome", "digest", "size"],
            "total" => &["event", "bytes", "done", "layers", "finished", "bytes_per_second", "seconds_left"],
            other => panic!("{other}"),
        };
        assert_eq!(keys(event), expected.iter().map(|&key| key.to_owned()).collect(), "{event}");
        assert!(kind == "total" || event["layer"].as_u64().unwrap() < 3);
        kinds.insert(kind);
    }
    assert!(kinds.is_superset(&["layer", "phase", "finished"].into()), "{kinds:?}");
    let total = built.events.iter().rfind(|event| event["event"] == "total").unwrap();
    let bytes: u64 =
        built.image["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum();
    assert_eq!((&total["done"], &total["bytes"]), (&json!(bytes), &json!(bytes)), "{total}");
    assert_eq!((&total["finished"], &total["layers"]), (&json!(3), &json!(3)), "{total}");
    assert_eq!((&total["bytes_per_second"], &total["seconds_left"]), (&Value::Null, &Value::Null), "{total}");
    let image: Vec<_> = keys(&built.image).into_iter().collect();
    assert_eq!(
        image,
        [
            "bytes_read",
            "bytes_received",
            "bytes_sent",
            "bytes_trusted",
            "bytes_written",
            "digest",
            "event",
            "image_id",
            "layers",
            "layers_trusted",
            "model",
            "names",
            "peak_memory_bytes",
            "recorded",
            "seconds",
        ]
    );
    let layer: Vec<_> = keys(&built.image["layers"][0]).into_iter().collect();
    assert_eq!(
        layer,
        ["diff_id", "digest", "from_base", "media_type", "outcome", "size", "title", "trusted"]
    );
    assert_eq!(built.image["layers"][0]["from_base"], true);
    assert_eq!(built.image["layers"][2]["from_base"], false);
}

/// What is read and what is sent make a rate; what is remembered and what is there already make none.
#[test]
fn a_rate_is_told_where_bytes_moved_and_nowhere_else() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    write_large(&sandbox.file("model/weights"), 8 << 20, 1);
    let rate = |run: &Run| run.stdout.lines().find(|line| line.starts_with("time ")).unwrap().contains("/s");
    let build =
        |args: &[&str]| sandbox.build(&[&["--progress=plain", "--tls-verify=false"], args].concat()).done();
    for name in ["model/weights", "model/config.json"] {
        make_old(&sandbox.file(name));
    }
    // A file that has just been written is not remembered.
    thread::sleep(Duration::from_millis(2_100));
    let run = build(&[]);
    assert!(rate(&run), "{run}");
    let run = build(&[]);
    assert!(run.stdout.contains("read     0 B") && !rate(&run), "{run}");
    let name = registry.name("model:1");
    let run = build(&["--push", "-t", &name]);
    assert!(rate(&run), "{run}");
    let run = build(&["--push", "-t", &name]);
    assert!(run.stdout.contains("already there") && !rate(&run), "{run}");
}

#[test]
fn help_lists_the_exit_codes() {
    let sandbox = Sandbox::new();
    let help = sandbox.run(&["--help"]).done().stdout;
    for code in ["0", "1", "2", "3", "4", "5", "6"] {
        assert!(help.lines().any(|line| line.starts_with(&format!("  {code}  "))), "{code}\n{help}");
    }
    assert!(help.contains("130, 143"), "{help}");
}

#[test]
fn a_closed_standard_output_is_no_failure() {
    let sandbox = Sandbox::small();
    for style in ["json", "plain"] {
        let binary = env!("CARGO_BIN_EXE_crossdock");
        let script = format!("{binary} build --progress={style} context | true; echo ${{PIPESTATUS[0]}}");
        let output = sandbox.command_of("bash").args(["-c", &script]).output().unwrap();
        let run = sandbox.finish(output, &[]);
        assert_eq!(run.stdout, "0\n", "{run}");
    }
}
