//! What is typed in a hurry: empty, misspelled, or of another kind than it should be; and output that nobody can take.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use serde_json::Value;

use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};

/// Clears a screen in two ways, and begins a line of its own.
const EVIL: &str = "a\x1b[2Jb\u{9b}2Jc\nWARN d";

/// The same as it is shown.
const SHOWN: &str = "a\\u{1b}[2Jb\\u{9b}2Jc\\nWARN d";

/// A sandbox with a file whose name is evil, in a layer of its own.
fn evil() -> Sandbox {
    let sandbox = Sandbox::small();
    sandbox.write(&format!("model/{EVIL}"), vec![1; 1000]);
    sandbox
}

#[track_caller]
fn is_escaped(text: &str) {
    assert_eq!(text.chars().find(|c| c.is_control() && *c != '\n'), None, "{text:?}");
    assert!(text.contains(SHOWN) && !text.contains("\nWARN d"), "{text}");
}

#[test]
fn control_characters_reach_no_file_pipe_or_log_of_people() {
    let sandbox = evil();
    let layers = ["--layer-file-size=500", "--no-memo"];
    for (at, place) in ["oci", "dir", "oci-archive", "docker-archive"].iter().enumerate() {
        let output = format!("{place}:out{at}-{EVIL}");
        let run = sandbox.build(&[&layers[..], &["-o", &output]].concat()).done();
        is_escaped(&run.stdout);
        is_escaped(&run.stderr);
        assert!(run.stdout.contains(&format!("image    {place}:out{at}-{SHOWN}")), "{run}");
    }
    is_escaped(&sandbox.build(&[&layers[..], &["--dry-run"]].concat()).done().stdout);
    is_escaped(&sandbox.build(&["--dry-run"]).done().stdout);
    sandbox.build(&[&layers[..], &["-t", "m:1", "--logfile", "log"]].concat()).done();
    is_escaped(&fs::read_to_string(sandbox.path("log")).unwrap());
    for (at, place) in ["oci", "dir", "docker-archive"].iter().enumerate() {
        let run = sandbox.run(&["push", "m:1", &format!("{place}:sent{at}-{EVIL}")]).done();
        is_escaped(&run.stdout);
        is_escaped(&run.stderr);
    }
    let list = ["--platform=linux/amd64,linux/arm64", "-o", "oci:two:1"];
    is_escaped(&sandbox.build(&[&layers[..], &list].concat()).done().stdout);
}

#[test]
fn a_files_name_is_no_line_of_what_verify_says() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    let name = registry.name("models/m:1");
    sandbox.pushed(&name, &[]);
    sandbox.write(&format!("model/{EVIL}"), "not in the image");
    let args = ["verify", "--tls-verify=false", "--against=context/model:/models", &name];
    is_escaped(&sandbox.run(&args).failed(1).stdout);
}

#[test]
fn json_has_its_own_escapes_and_what_programs_read_is_as_it_is() {
    let sandbox = evil();
    let layers = ["--layer-file-size=500", "--progress=json"];
    let title = |layers: &Value| {
        let titles: Vec<_> =
            layers.as_array().unwrap().iter().map(|layer| layer["title"].as_str().unwrap()).collect();
        assert!(titles.contains(&format!("/models/{EVIL}").as_str()), "{titles:?}");
    };
    let lines = |run: &Run| -> Vec<Value> {
        let bad = run.stdout.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(bad, None, "{:?}", run.stdout);
        run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let run = sandbox.build(&[&layers[..], &["-t", "m:1"]].concat()).done();
    title(&lines(&run).last().unwrap()["layers"]);
    let run = sandbox.build(&[&layers[..], &["--dry-run"]].concat()).done();
    title(&lines(&run)[0]["destinations"][0]["layers"][0]);
    let run = sandbox.run(&["push", "--progress=json", "m:1", "oci:out:m"]).done();
    title(&lines(&run).last().unwrap()["layers"]);

    let label = "x\x7fy\u{9b}2J\u{202e}z";
    sandbox.build(&["-q", "-t", "m:2", "--label", &format!("l={label}")]).done();
    let run = sandbox.run(&["inspect", "m:2"]).done();
    assert!(run.stdout.contains(r#""x\u007fy\u009b2J\u202ez""#), "{run}");
    let shown: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(shown["OCIv1"]["config"]["Labels"]["l"], label);
    let run = sandbox.run(&["inspect", "--format", "{{.OCIv1.Config.Labels.l}}", "m:2"]).done();
    assert_eq!(run.stdout, label);
}

#[test]
fn a_time_that_is_none_is_named_with_the_form_of_one() {
    let sandbox = Sandbox::small();
    let form = "write whole seconds since 1970, as `date +%s` prints them, up to 253402207200";
    for value in ["abc", "-5", "1.5", "253402207201", "2024-01-01"] {
        let of = |name: &str| format!("invalid value '{value}' for '{name}");
        for (args, name) in [
            (vec![format!("--timestamp={value}")], "--timestamp"),
            (vec![format!("--source-date-epoch={value}")], "--source-date-epoch"),
            (vec![format!("--build-arg=SOURCE_DATE_EPOCH={value}")], "--build-arg SOURCE_DATE_EPOCH"),
        ] {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            sandbox.build(&args).failed(2).says(&[&of(name), form]);
        }
        let args = ["build", "context"];
        let mut command = sandbox.command(&args);
        let output = command.env("SOURCE_DATE_EPOCH", value).output().unwrap();
        sandbox.finish(output, &args).failed(2).says(&[&of("SOURCE_DATE_EPOCH"), form]);
    }
}

#[test]
fn an_empty_name_is_a_value_that_is_missing() {
    let sandbox = Sandbox::small();
    sandbox.build(&["-q", "-t", "m:1"]).done();
    for args in [
        &["push", ""][..],
        &["push", "m:1", ""],
        &["pull", ""],
        &["inspect", ""],
        &["images", ""],
        &["rmi", ""],
        &["tag", "", "x"],
        &["tag", "m:1", ""],
        &["manifest", "create", ""],
        &["manifest", "add", "", "m:1"],
        &["login", ""],
        &["auth", ""],
        &["verify", ""],
    ] {
        sandbox.run(args).failed(2).says(&["a value is required for '", "but none was supplied"]);
    }
    sandbox.run(&["tag", "m:1", "A B"]).failed(2).says(&["\"A B\" is not the name of an image"]);
    let run = sandbox.run(&["push", "m\nError: x"]).failed(3);
    run.says(&["Error: m\\nError: x: image not known"]);
}

#[test]
fn a_word_that_is_not_utf8_is_named() {
    let sandbox = Sandbox::small();
    let word = OsStr::from_bytes(b"oci:\xff:1");
    let output = sandbox.command(&["build", "context", "-o"]).arg(word).output().unwrap();
    let run = sandbox.finish(output, &[]).failed(2);
    run.says(&[r#""oci:\xFF:1" is not UTF-8"#]);
    // Paths of files may be anything.
    let file = OsStr::from_bytes(b"id-\xff");
    let output = sandbox.command(&["build", "context", "-q", "--iidfile"]).arg(file).output().unwrap();
    sandbox.finish(output, &[]).done();
    assert!(sandbox.path("id-").parent().unwrap().join(file).metadata().unwrap().size() > 64);
}

#[test]
fn numbers_say_which_there_may_be() {
    let sandbox = Sandbox::small();
    for (args, text) in [
        (&["build", "--jobs=x"][..], "invalid value 'x' for '--jobs <N>': write a whole number from 0 to 64"),
        (&["build", "--jobs=65"], "write a whole number from 0 to 64"),
        (&["build", "--retry=-1"], "for '--retry <N>': write a whole number from 0 to"),
        (&["build", "--compression-level=x"], "write a whole number from 0 to 22"),
        (&["verify", "--samples=0", "a/b"], "write a whole number from 1 to 65536"),
        (&["verify", "--seed=x", "a/b"], "for '--seed <N>': write a whole number from 0 to"),
    ] {
        sandbox.run(args).failed(2).says(&[text]);
    }
}

#[test]
fn a_file_in_the_place_of_a_directory_is_named() {
    let sandbox = Sandbox::small();
    fs::write(sandbox.path("file"), "a file").unwrap();
    fs::create_dir(sandbox.path("empty")).unwrap();
    for (args, code, text) in [
        (
            &["build", "-o", "oci:file", "context"][..],
            3,
            "file is no directory, and the image is written into one",
        ),
        (
            &["build", "-o", "dir:file", "context"],
            3,
            "file is no directory, and the image is written into one",
        ),
        (&["pull", "oci:file"], 3, "file is no directory, and an OCI layout is one"),
        (&["pull", "oci:empty"], 3, "empty is not an OCI layout: there is no oci-layout in it"),
        (&["pull", "oci:nowhere"], 3, "there is no directory nowhere"),
        (&["build", "--sa-dir=file", "context"], 2, "--sa-dir file: it is a file, name the directory"),
        (&["man", "file"], 2, "file: it is no directory, name another"),
        (&["auth", "oci:file"], 2, "oci:file: credentials are for registries, and not for oci: places"),
    ] {
        sandbox.run(args).failed(code).says(&[text]);
    }
    assert_eq!(fs::read_to_string(sandbox.path("file")).unwrap(), "a file");
    // The name that is tried first is no user's.
    let run = sandbox.build(&["-o", "oci-archive:nowhere/x.tar"]).failed(1);
    assert!(
        !run.stderr.contains(".crossdock-") && run.stderr.contains("nowhere/x.tar: No such file"),
        "{run}"
    );
}

/// Runs a command line of a shell, where `$C` is crossdock.
fn shell(sandbox: &Sandbox, line: &str) -> Run {
    let mut command = sandbox.command_of("bash");
    command.env("C", env!("CARGO_BIN_EXE_crossdock")).args(["-o", "pipefail", "-c", line]);
    sandbox.finish(command.output().unwrap(), &[line])
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let sandbox = Sandbox::small();
    sandbox.build(&["-q", "-t", "m:1"]).done();
    for line in
        ["--help", "build --help", "--version", "images", "images -q", "info", "inspect m:1", "version"]
    {
        let run = shell(&sandbox, &format!("$C {line} > /dev/full")).failed(1);
        run.says(&["cannot write to standard output: No space left on device"]);
    }
    for line in
        ["build context", "build -q context", "build --progress json context", "build --dry-run context"]
    {
        shell(&sandbox, &format!("$C {line} > /dev/full")).failed(1);
    }
    // Whoever closed the pipe has read what they wanted.
    for line in ["--help", "build --help", "images", "info", "build context", "build --progress json context"]
    {
        shell(&sandbox, &format!("$C {line} | head -n 0")).done();
    }
}

#[test]
fn an_archive_does_not_go_to_a_standard_output_that_is_closed() {
    let sandbox = Sandbox::small();
    sandbox.build(&["-q", "-t", "m:1"]).done();
    for line in [
        "build -o - context",
        "build -o oci-archive:/dev/stdout context",
        "push m:1 docker-archive:/dev/stdout",
    ] {
        let run = shell(&sandbox, &format!("$C {line} >&-")).failed(2);
        run.says(&["standard output is closed, and the archive would go nowhere"]);
        shell(&sandbox, &format!("$C {line} > /dev/null")).done();
    }
    shell(&sandbox, "$C images >&-").done();
}
