//! Credentials: where they come from, where they go, and that they are never shown.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::fault_proxy::{Fault, FaultProxy};
use crate::support::base::Base;
use crate::support::registry::{PASSWORD, Registry};
use crate::support::sandbox::{Run, Sandbox};
use crate::support::write_large;

const USER: &str = "model-pusher";

fn write_auth(path: &Path, host: &str, user: &str, password: &str) {
    let auth = STANDARD.encode(format!("{user}:{password}"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
}

/// Neither the password nor a form of it may be in what is shown.
fn check_secret(run: &Run, user: &str, password: &str) {
    let basic = STANDARD.encode(format!("{user}:{password}"));
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.contains(password), "{run}");
        assert!(!text.contains(basic.trim_end_matches('=')), "{run}");
    }
}

/// Bytes of upload bodies that came by.
fn uploaded(proxy: &FaultProxy) -> u64 {
    proxy.seen().iter().filter(|seen| seen.path.contains("/blobs/uploads/")).map(|seen| seen.body).sum()
}

/// How many requests came with a credential.
fn with_credential(proxy: &FaultProxy) -> usize {
    proxy.seen().iter().filter(|seen| seen.header("authorization").is_some()).count()
}

/// Builds and pushes.
fn push(sandbox: &Sandbox, name: &str, more: &[&str]) -> Run {
    let run = sandbox.build(&[&["--push", "--tls-verify=false", "-t", name], more].concat());
    check_secret(&run, USER, PASSWORD);
    run
}

#[test]
fn a_credential_of_any_place_opens_the_registry_and_is_never_shown() {
    let registry = Registry::locked(&[USER]);
    let host = registry.addr().to_string();
    let name = registry.name("team/model:1");
    let creds = format!("{USER}:{PASSWORD}");
    let trace = |sandbox: &Sandbox, args: &[&str], env: &[(&str, PathBuf)]| {
        let common = ["--log-level", "trace", "build", "--push", "--tls-verify=false", "-t", &name];
        let args = [&common[..], args, &["context"]].concat();
        let output = sandbox.command(&args).envs(env.iter().cloned()).output().unwrap();
        let run = sandbox.finish(output, &args).done();
        check_secret(&run, USER, PASSWORD);
        assert!(run.stderr.contains("TRACE") || run.stderr.contains("DEBUG"), "{run}");
    };
    trace(&Sandbox::small(), &["--creds", &creds], &[]);
    trace(&Sandbox::small(), &[&format!("--creds={creds}")], &[]);

    let sandbox = Sandbox::small();
    write_auth(&sandbox.path("auth.json"), &host, USER, PASSWORD);
    trace(&sandbox, &["--authfile", "auth.json"], &[]);
    trace(&sandbox, &[], &[("REGISTRY_AUTH_FILE", sandbox.path("auth.json"))]);
    write_auth(&sandbox.path("docker/config.json"), &host, USER, PASSWORD);
    trace(&sandbox, &[], &[("DOCKER_CONFIG", sandbox.path("docker"))]);
    for place in ["run/containers/auth.json", "home/.config/containers/auth.json", "home/.docker/config.json"]
    {
        let sandbox = Sandbox::small();
        write_auth(&sandbox.path(place), &format!("{host}/team"), USER, PASSWORD);
        trace(&sandbox, &[], &[]);
    }
}

#[test]
fn a_wrong_credential_is_an_error_that_says_what_was_tried_before_a_file_is_read() {
    let registry = Registry::locked(&[USER]);
    let proxy = registry.proxy();
    let name = format!("{}/model:1", proxy.addr());
    let sandbox = Sandbox::small();
    write_large(&sandbox.file("model/weights"), 4 << 20, 1);
    let wrong = "not-the-Zq-password";
    let shown = |run: Run, what: &str| {
        check_secret(&run, USER, wrong);
        run.failed(6).says(&["refused", what])
    };
    shown(
        push(&sandbox, &name, &["--creds", &format!("{USER}:{wrong}")]),
        "tried the credentials of --creds",
    );
    write_auth(&sandbox.path("auth.json"), &proxy.addr().to_string(), USER, wrong);
    shown(push(&sandbox, &name, &["--authfile", "auth.json"]), "auth.json");
    shown(push(&sandbox, &name, &[]), "tried no credentials, none being found in");
    assert_eq!(uploaded(&proxy), 0, "no layer byte");
    assert_eq!(registry.tag("model", "1"), None);
}

#[test]
fn no_command_shows_a_credential_whatever_the_registry_gives_back() {
    let registry = Registry::locked(&[USER]);
    let echoing = registry.proxy().with_gate(|seen| {
        let authorization = seen.header("authorization")?;
        let echo = format!("{authorization} {USER}:{PASSWORD} {PASSWORD}");
        let headers = ["www-authenticate", "location", "warning"].map(|name| (name.to_owned(), echo.clone()));
        let status = if seen.method == "POST" { 403 } else { 400 };
        Some(Fault::Answer { status, headers: headers.to_vec(), body: echo })
    });
    let creds = format!("{USER}:{PASSWORD}");
    for (host, well) in [(registry.addr(), true), (echoing.addr(), false)] {
        let sandbox = Sandbox::small();
        let name = format!("{host}/team/model:1");
        let host = host.to_string();
        let common = ["--tls-verify=false", "--retry=1", "--retry-delay=1ms"];
        let with_creds = [&common[..], &["--creds", &creds]].concat();
        let build = |style: &'static str| {
            [&["build", "--push", "-t", &name, "--progress", style], &with_creds[..], &["context"]].concat()
        };
        let login = [&["login", "-v", "-u", USER], &common[..]].concat();
        let commands = [
            build("json"),
            build("plain"),
            [&["verify", "--json", &name], &with_creds[..]].concat(),
            [&["verify", "--progress=json", "--deep", &name], &with_creds[..]].concat(),
            [&["auth", "--json", &name], &with_creds[..]].concat(),
            [&["auth", &name], &with_creds[..]].concat(),
            [&login[..], &["-p", PASSWORD, &host]].concat(),
            [&login[..], &["--password-stdin", &host]].concat(),
        ];
        for command in commands {
            let args = [&["--log-level", "trace"], &command[..]].concat();
            let run = sandbox.run_with_input(&args, &format!("{PASSWORD}\n"));
            assert_eq!(run.status.success(), well, "{run}");
            assert!(run.stderr.contains("DEBUG"), "{run}");
            // What came back is told, without what it must not tell.
            let told = run.stderr.contains("***") || run.stdout.contains("***");
            assert_eq!(told, !well, "{run}");
            let run = Run { args: Vec::new(), ..run };
            check_secret(&run, USER, PASSWORD);
        }
    }
}

#[test]
fn credentials_that_cannot_be_read_are_named() {
    let sandbox = Sandbox::small();
    let registry = Registry::locked(&[USER]);
    let name = registry.name("model:1");
    push(&sandbox, &name, &["--authfile", "missing.json"])
        .failed(6)
        .says(&["cannot read the credentials in missing.json"]);
    fs::write(sandbox.path("broken.json"), "{\"auths\": [").unwrap();
    push(&sandbox, &name, &["--authfile", "broken.json"]).failed(6).says(&["broken.json"]);
    push(&sandbox, &name, &["--creds", "nobody"]).failed(2).says(&["--creds: write USER:PASSWORD"]);
}

#[test]
fn a_private_base_needs_a_credential_of_its_own() {
    let private = Registry::locked(&[USER]);
    let open = Registry::start();
    let creds = format!("{USER}:{PASSWORD}");
    Base::new().push_with(&["--dest-creds", &creds], &private.name("base:1"));
    let sandbox = Sandbox::small();
    sandbox.containerfile(&format!("FROM {}\nCOPY model /models\n", private.name("base:1")));
    // --creds are for the destination.
    let proxy = open.proxy();
    let name = format!("{}/model:1", proxy.addr());
    push(&sandbox, &name, &["--creds", &creds]).failed(6).says(&["refused the pull from base"]);
    write_auth(&sandbox.path("auth.json"), &private.addr().to_string(), USER, PASSWORD);
    push(&sandbox, &name, &["--authfile", "auth.json"]).done();
    assert_eq!(with_credential(&proxy), 0, "the base's credential stays with the base's registry");
}

#[test]
fn the_service_account_is_offered_to_the_registries_that_are_named_and_to_no_other() {
    let registry = Registry::locked(&["serviceaccount"]);
    let (named, other) = (registry.proxy(), registry.proxy());
    let sandbox = Sandbox::small();
    fs::create_dir(sandbox.path("sa")).unwrap();
    fs::write(sandbox.path("sa/token"), format!("{PASSWORD}\n")).unwrap();
    let host = named.addr().to_string();
    let account = ["--sa-dir", "sa", "--sa-registry", &host];
    let run = push(&sandbox, &format!("{}/ns/model:1", named.addr()), &account).done();
    check_secret(&run, "serviceaccount", PASSWORD);
    assert!(with_credential(&named) > 0);
    assert!(registry.tag("ns/model", "1").is_some());

    let run = push(&sandbox, &format!("{}/ns/model:2", other.addr()), &account).failed(6);
    check_secret(&run, "serviceaccount", PASSWORD);
    assert_eq!(with_credential(&other), 0);

    fs::write(sandbox.path("sa/token"), "an-expired-token").unwrap();
    let run = push(&sandbox, &format!("{}/ns/model:2", named.addr()), &account).failed(6);
    check_secret(&run, "serviceaccount", "an-expired-token");
    run.says(&["tried the ServiceAccount's token", "sa/token", "system:image-builder"]);
    assert_eq!(registry.tag("ns/model", "2"), None);
}
