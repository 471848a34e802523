//! What reaches a terminal: no control characters of other people's texts, and no secret that somebody typed.

use std::fs;

use crate::fault_proxy::{Fault, FaultProxy};
use crate::support::registry::Registry;
use crate::support::sandbox::{Run, Sandbox};

/// Clears the screen, and sets the terminal's title.
const EVIL: &str = "\x1b[2J\x1b]0;owned\x07";

#[track_caller]
fn is_harmless(run: &Run) {
    let text = format!("{}{}", run.stdout, run.stderr);
    let bad = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(bad, None, "{:?}", run.stderr);
}

#[test]
fn control_characters_of_names_and_answers_are_written_as_escapes() {
    let sandbox = Sandbox::small();
    for containerfile in [
        format!("FROM {EVIL}\n"),
        format!("FROM scratch\nCOPY {EVIL} /x\n"),
        format!("FROM scratch\n{EVIL} x\n"),
        format!("FROM scratch AS a\nCOPY --from={EVIL} /x /y\n"),
    ] {
        sandbox.containerfile(&containerfile);
        let run = sandbox.build(&["-o", "oci:out:m"]);
        assert_ne!(run.status.code(), Some(0), "{run}");
        is_harmless(&run);
    }
    sandbox.containerfile("FROM scratch\nCOPY . /\n");
    for args in [
        &["-t", EVIL, "-o", "oci:out:m"][..],
        &["--platform", EVIL],
        &["--upload", EVIL],
        &["--output", EVIL],
        &["--file", EVIL],
        &["--no-such-flag\x1b[2J"],
        &["--authfile", EVIL, "--push", "-t", "127.0.0.1:9/x:1"],
    ] {
        let run = sandbox.build(args);
        assert_ne!(run.status.code(), Some(0), "{run}");
        is_harmless(&run);
    }
    // Names of files, in the lines of the layers.
    fs::write(sandbox.context().join(format!("weights-{}", EVIL.replace('/', "-"))), vec![1; 1000]).unwrap();
    let out = sandbox.build(&["-o", "oci:out:m", "--layer-file-size", "500"]).done();
    let of_stderr = out.stderr.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(of_stderr, None, "{:?}", out.stderr);
    assert!(out.stderr.contains("\\u{1b}[2J"), "{out}");
    is_harmless(&out);
    // What is for machines is not touched.
    let run = sandbox.build(&["-o", "oci:other:m", "--layer-file-size", "500", "--progress", "json"]).done();
    let told: Vec<serde_json::Value> =
        run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let titles = told.last().unwrap()["layers"].to_string();
    assert!(titles.contains("\\u001b[2J"), "{titles}");
}

#[test]
fn what_a_registry_says_moves_no_cursor() {
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    for (status, body) in [
        (403, format!("<html><body>no {EVIL}</body></html>")),
        (418, EVIL.to_owned()),
        (403, format!(r#"{{"errors":[{{"code":"A\u001b[2J","message":"{}"}}]}}"#, "\\u009b2J")),
    ] {
        let proxy = FaultProxy::start(registry.addr());
        proxy.break_next("POST", "/v2/", 9, Fault::Answer { status, headers: Vec::new(), body });
        let name = format!("{}/m:1", proxy.addr());
        let run = sandbox.build(&["--push", "--tls-verify=false", "-t", &name]);
        assert_ne!(run.status.code(), Some(0), "{run}");
        is_harmless(&run);
    }
}

#[test]
fn a_secret_that_was_typed_is_not_printed() {
    const SECRET: &str = "Hunter2-Zq9";
    let sandbox = Sandbox::small();
    let registry = Registry::start();
    let in_name = format!("user:{SECRET}@{}/x:1", registry.addr());
    let creds = format!("me:{SECRET}");
    let build_arg = format!("API_TOKEN={SECRET}");
    let url = format!("https://user:{SECRET}@host.example/x.tar");
    for args in [
        &["build", "--push", "-t", &in_name, "context"][..],
        &["build", &format!("--tag={in_name}"), "context"],
        &["build", "--push", "-t", &format!("docker://{in_name}"), "context"],
        &["build", "--output", &format!("docker://{in_name}"), "context"],
        &["build", &url],
        &["push", "no-such-image", &in_name],
        &["inspect", &in_name],
        &["pull", &in_name],
        &["pull", &format!("docker://{in_name}")],
        &["verify", &in_name],
        &["auth", &in_name],
        &["login", &in_name],
        &["login", &format!("https://{in_name}")],
        &["manifest", "push", "--all", "list", &format!("docker://{in_name}")],
        &["images", &format!("--creds={creds}")],
        &["images", "--creds", &creds],
        &[
            "build",
            "--creds",
            &creds,
            "--authfile",
            &format!("/nowhere/{SECRET}"),
            "--push",
            "-t",
            "127.0.0.1:9/x",
            "context",
        ],
        &["build", "--build-arg", &build_arg, "--build-arg", &format!("B={SECRET}"), "-f", SECRET, "context"],
    ] {
        for level in ["info", "trace"] {
            let args = [&["--log-level", level], args].concat();
            let run = sandbox.run(&args);
            assert_ne!(run.status.code(), Some(0), "{run}");
            assert!(!run.stderr.contains(SECRET) && !run.stdout.contains(SECRET), "{run}");
        }
    }
    for containerfile in [
        format!("FROM {in_name}\n"),
        format!("FROM scratch\nCOPY --from={in_name} /x /y\n"),
        format!("FROM scratch\nADD {url} /x\n"),
        "ARG API_TOKEN\nFROM $API_TOKEN/%\n".to_owned(),
    ] {
        sandbox.containerfile(&containerfile);
        let run = sandbox.build(&["--build-arg", &build_arg, "-o", "oci:out:m"]);
        assert_ne!(run.status.code(), Some(0), "{run}");
        assert!(!run.stderr.contains(SECRET), "{run}");
    }
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    const VARIABLES: [&str; 23] = [
        "SOURCE_DATE_EPOCH",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "no_proxy",
        "NO_PROXY",
        "REGISTRY_AUTH_FILE",
        "DOCKER_CONFIG",
        "CONTAINERS_REGISTRIES_CONF",
        "REGISTRIES_CONFIG_PATH",
        "CONTAINERS_STORAGE_CONF",
        "CROSSDOCK_CONFIG",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_CACHE_HOME",
        "XDG_RUNTIME_DIR",
        "TMPDIR",
        "BUILDAH_FORMAT",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "KUBERNETES_SERVICE_HOST",
        "NO_COLOR",
    ];
    let registry = Registry::start();
    let sandbox = Sandbox::small();
    let name = registry.name("m:1");
    let args = ["--tls-verify=false", "--push", "-t", &name, "context"];
    let args = [&["build"][..], &args].concat();
    let mut all = sandbox.command(&args);
    all.envs(VARIABLES.map(|name| (name, "")));
    sandbox.finish(all.output().unwrap(), &args).done();
    for name in VARIABLES {
        let mut one = sandbox.command(&args);
        sandbox.finish(one.env(name, "").output().unwrap(), &args).done();
    }
    // One that is wrong is named.
    let mut wrong = sandbox.command(&args);
    let run = sandbox.finish(wrong.env("SOURCE_DATE_EPOCH", "soon").output().unwrap(), &args).failed(2);
    run.says(&["SOURCE_DATE_EPOCH", "'soon'", "--timestamp"]);
    for (name, parts) in [
        ("REGISTRY_AUTH_FILE", ["/nowhere/x", "credentials"]),
        ("CROSSDOCK_CONFIG", ["CROSSDOCK_CONFIG", "/nowhere/x"]),
        ("CONTAINERS_REGISTRIES_CONF", ["/nowhere/x", "no such file"]),
        ("BUILDAH_FORMAT", ["BUILDAH_FORMAT", "/nowhere/x"]),
    ] {
        let mut wrong = sandbox.command(&args);
        let run = sandbox.finish(wrong.env(name, "/nowhere/x").output().unwrap(), &args);
        assert_ne!(run.status.code(), Some(0), "{name}: {run}");
        run.says(&parts);
    }
}
