//! Which credential wins: a table of files, variables, keys, helpers, Tekton's secrets and the ServiceAccount.
//!
//! A row has files, what is asked for, and the user name and the source that are expected. Files are written short:
//! `KEY=USER` is an entry with a password, `KEY=!USER` one with an identity token, `KEY=` an empty one; `?KEY=NAME` is a
//! credHelper, `*=NAME` the credsStore; `^` before all is `.dockercfg`'s format; `{` begins the text of the file itself.
//! A file `PATH@N` is written at the time N. A file that is no file but `NAME=VALUE` sets a variable of the environment,
//! `--authfile` or `--creds`; `NAME=` unsets one. All paths are below a directory of the row's own.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::*;

type Row = (&'static [(&'static str, &'static str)], &'static str, &'static str);

const RUNTIME: &str = "run/containers/auth.json";
const CONFIG: &str = "home/.config/containers/auth.json";
const DOCKER: &str = "home/.docker/config.json";
const LEGACY: &str = "home/.dockercfg";
const CREDS: &str = "creds/.docker/config.json";
const SECRET: &str = "tekton/a/.dockerconfigjson";
const INTERNAL: &str = "image-registry.openshift-image-registry.svc:5000/ns/m";

/// A user's number that nobody has: whatever the tests make belongs to somebody else.
const NOBODYS: u32 = 4_294_967_294;

const ROWS: &[Row] = &[
    // Nothing anywhere.
    (&[], "quay.io/a/b", "-"),
    (&[(DOCKER, "")], "quay.io/a/b", "-"),
    (&[(DOCKER, "{}")], "quay.io/a/b", "-"),
    (&[(DOCKER, "{\"auths\":null}")], "quay.io/a/b", "-"),
    // The default files, and their order.
    (&[(RUNTIME, "quay.io=r")], "quay.io/a/b", "r run/containers/auth.json quay.io"),
    (&[(CONFIG, "quay.io=c")], "quay.io/a/b", "c home/.config/containers/auth.json quay.io"),
    (&[(DOCKER, "quay.io=d")], "quay.io/a/b", "d home/.docker/config.json quay.io"),
    (&[(LEGACY, "^quay.io=l")], "quay.io/a/b", "l home/.dockercfg quay.io"),
    (&[(RUNTIME, "quay.io=r"), (CONFIG, "quay.io=c")], "quay.io/a/b", "r run/containers/auth.json quay.io"),
    (
        &[(CONFIG, "quay.io=c"), (DOCKER, "quay.io=d")],
        "quay.io/a/b",
        "c home/.config/containers/auth.json quay.io",
    ),
    (&[(DOCKER, "quay.io=d"), (LEGACY, "^quay.io=l")], "quay.io/a/b", "d home/.docker/config.json quay.io"),
    (&[(RUNTIME, "other.io=r"), (LEGACY, "^quay.io=l")], "quay.io/a/b", "l home/.dockercfg quay.io"),
    // The first file with a match wins, though a later one matches better.
    (
        &[(RUNTIME, "quay.io=r"), (DOCKER, "quay.io/a/b=d")],
        "quay.io/a/b",
        "r run/containers/auth.json quay.io",
    ),
    (
        &[("XDG_CONFIG_HOME=xdg", ""), ("xdg/containers/auth.json", "quay.io=x")],
        "quay.io/a",
        "x xdg/containers/auth.json quay.io",
    ),
    (&[("XDG_CONFIG_HOME=xdg", ""), (CONFIG, "quay.io=c")], "quay.io/a", "-"),
    // Without a session: where buildah keeps a login, then where skopeo does.
    (
        &[
            ("XDG_RUNTIME_DIR=", ""),
            ("TMPDIR=tmp", ""),
            ("run/containers/4294967294/auth.json", "quay.io=s"),
            (CONFIG, "quay.io=c"),
        ],
        "quay.io/a",
        "s run/containers/4294967294/auth.json quay.io",
    ),
    (
        &[
            ("XDG_RUNTIME_DIR=", ""),
            ("TMPDIR=tmp", ""),
            ("home/rundir/containers/containers/auth.json", "quay.io=h"),
        ],
        "quay.io/a",
        "-",
    ),
    (
        &[
            ("XDG_RUNTIME_DIR=", ""),
            ("TMPDIR=tmp", ""),
            // Of the user who runs the tests, and so of another than the one who is asked for.
            ("tmp/containers-user-4294967294/containers/containers/auth.json", "quay.io=planted"),
            ("home/rundir/containers/containers/auth.json", "quay.io=h"),
        ],
        "quay.io/a",
        "h home/rundir/containers/containers/auth.json quay.io",
    ),
    // One file that is named.
    (&[("REGISTRY_AUTH_FILE=n", ""), ("n", "quay.io=n"), (RUNTIME, "quay.io=r")], "quay.io/a", "n n quay.io"),
    (&[("REGISTRY_AUTH_FILE=n", ""), ("n", "other.io=n"), (RUNTIME, "quay.io=r")], "quay.io/a", "-"),
    (
        &[("REGISTRY_AUTH_FILE=n", ""), (RUNTIME, "quay.io=r")],
        "quay.io/a",
        "error cannot read the credentials",
    ),
    (
        &[("DOCKER_CONFIG=d", ""), ("d/config.json", "quay.io=d"), (RUNTIME, "quay.io=r")],
        "quay.io/a",
        "d d/config.json quay.io",
    ),
    (&[("DOCKER_CONFIG=d", ""), (RUNTIME, "quay.io=r")], "quay.io/a", "error cannot read the credentials"),
    (
        &[
            ("DOCKER_CONFIG=d", ""),
            ("d/config.json", "quay.io=d"),
            ("REGISTRY_AUTH_FILE=n", ""),
            ("n", "quay.io=n"),
        ],
        "quay.io/a",
        "n n quay.io",
    ),
    (
        &[("--authfile=f", ""), ("f", "quay.io=f"), ("REGISTRY_AUTH_FILE=n", ""), ("n", "quay.io=n")],
        "quay.io/a",
        "f f quay.io",
    ),
    (&[("--authfile=f", ""), (RUNTIME, "quay.io=r")], "quay.io/a", "error cannot read the credentials"),
    (&[("--authfile=f", ""), ("f", "^quay.io=f")], "quay.io/a", "f f quay.io"),
    (&[("--creds=me", ""), ("--authfile=f", ""), ("f", "quay.io=f")], "quay.io/a", "me --creds"),
    (&[("--creds=me", ""), ("--authfile=missing", "")], "quay.io/a", "me --creds"),
    // Keys: the longest prefix, whole parts, ports.
    (
        &[(DOCKER, "quay.io=h quay.io/a=n quay.io/a/b=r")],
        "quay.io/a/b",
        "r home/.docker/config.json quay.io/a/b",
    ),
    (&[(DOCKER, "quay.io=h quay.io/a=n")], "quay.io/a/b", "n home/.docker/config.json quay.io/a"),
    (&[(DOCKER, "quay.io=h quay.io/a=n")], "quay.io/ab/c", "h home/.docker/config.json quay.io"),
    (&[(DOCKER, "quay.io/a=n")], "quay.io/b/a", "-"),
    (&[(DOCKER, "quay.io/a/b/c=n")], "quay.io/a/b", "-"),
    (&[(DOCKER, "r.example=p")], "r.example:5000/a", "-"),
    (
        &[(DOCKER, "r.example:5000=p r.example=n")],
        "r.example:5000/a",
        "p home/.docker/config.json r.example:5000",
    ),
    (&[(DOCKER, "r.example:5000=p")], "r.example/a", "-"),
    (
        &[(DOCKER, "r.example:5000/ns=p")],
        "r.example:5000/ns/x",
        "p home/.docker/config.json r.example:5000/ns",
    ),
    (&[(DOCKER, "sub.quay.io=s")], "quay.io/a", "-"),
    // Keys that are URLs; Docker Hub's names.
    (&[(DOCKER, "https://quay.io=u")], "quay.io/a", "u home/.docker/config.json https://quay.io"),
    (&[(DOCKER, "https://quay.io/v2/=u")], "quay.io/a", "u home/.docker/config.json https://quay.io/v2/"),
    (
        &[(DOCKER, "http://r.example:5000=u")],
        "r.example:5000/a",
        "u home/.docker/config.json http://r.example:5000",
    ),
    (&[(DOCKER, "https://quay.io=u quay.io=h")], "quay.io/a", "h home/.docker/config.json quay.io"),
    (
        &[(DOCKER, "https://index.docker.io/v1/=hub")],
        "docker.io/library/x",
        "hub home/.docker/config.json https://index.docker.io/v1/",
    ),
    (
        &[(DOCKER, "index.docker.io=hub")],
        "docker.io/library/x",
        "hub home/.docker/config.json index.docker.io",
    ),
    (
        &[(DOCKER, "docker.io/team=t https://index.docker.io/v1/=hub")],
        "docker.io/team/x",
        "t home/.docker/config.json docker.io/team",
    ),
    (&[(LEGACY, "^https://r.example/v1/=l")], "r.example/a", "l home/.dockercfg https://r.example/v1/"),
    (&[(LEGACY, "^r.example/v1=l")], "r.example/a", "l home/.dockercfg r.example/v1"),
    // Entries.
    (&[(DOCKER, "quay.io=")], "quay.io/a", "-"),
    (&[(RUNTIME, "quay.io="), (DOCKER, "quay.io=d")], "quay.io/a", "d home/.docker/config.json quay.io"),
    (&[(DOCKER, "quay.io/a= quay.io=h")], "quay.io/a/b", "h home/.docker/config.json quay.io"),
    (&[(DOCKER, "quay.io=<token>")], "quay.io/a", "<token> home/.docker/config.json quay.io"),
    (&[(DOCKER, "quay.io=!<token>")], "quay.io/a", "<token> identity home/.docker/config.json quay.io"),
    (&[(DOCKER, "quay.io=!me")], "quay.io/a", "me identity home/.docker/config.json quay.io"),
    (
        &[(DOCKER, "{\"auths\":{\"quay.io\":{\"username\":\"u\",\"password\":\"secret\"}}}")],
        "quay.io/a",
        "u home/.docker/config.json quay.io",
    ),
    (
        &[(DOCKER, "{\"auths\":{\"quay.io\":{\"auth\":\"bm9jb2xvbg==\"}}}")],
        "quay.io/a",
        "error not base64 of USER:PASSWORD",
    ),
    (&[(DOCKER, "{\"auths\":{\"quay.io\":{\"auth\":\"bm9jb2xvbg==\"}}}")], "other.io/a", "-"),
    (&[(RUNTIME, "{ no JSON"), (DOCKER, "quay.io=d")], "quay.io/a", "error not a file of credentials"),
    // Helpers.
    (&[(DOCKER, "?one.example=mock")], "one.example/a", "one helper:mock one.example"),
    (&[(DOCKER, "?one.example=mock one.example=d")], "one.example/a", "one helper:mock one.example"),
    (&[(DOCKER, "?one.example=mock one.example/a=d")], "one.example/a/b", "one helper:mock one.example"),
    (&[(DOCKER, "?one.example=mock")], "two.example/a", "-"),
    (&[(DOCKER, "?id.example=mock")], "id.example/a", "<token> identity helper:mock id.example"),
    (
        &[(DOCKER, "?none.example=mock"), (LEGACY, "^none.example=l")],
        "none.example/a",
        "l home/.dockercfg none.example",
    ),
    (&[(DOCKER, "?none.example=mock none.example=d")], "none.example/a", "-"),
    (&[(DOCKER, "?docker.io=mock")], "docker.io/library/x", "hub helper:mock docker.io"),
    (
        &[(DOCKER, "?https://index.docker.io/v1/=mock")],
        "docker.io/library/x",
        "hub helper:mock https://index.docker.io/v1/",
    ),
    (&[(DOCKER, "?bad.example=mock")], "bad.example/a", "error ended with exit status: 1: no such luck"),
    (&[(DOCKER, "?odd.example=mock")], "odd.example/a", "error its answer is not JSON"),
    (
        &[(DOCKER, "?one.example=absent")],
        "one.example/a",
        "error docker-credential-absent, but there is no such program",
    ),
    (&[(DOCKER, "?one.example=../../bin/sh")], "one.example/a", "error there is no such program"),
    (&[(DOCKER, "?one.example=")], "one.example/a", "-"),
    // A store for all that is not in the file.
    (&[(DOCKER, "*=mock")], "one.example/a", "one helper:mock one.example"),
    (&[(DOCKER, "*=mock one.example=")], "one.example/a", "one helper:mock one.example"),
    (&[(DOCKER, "*=mock one.example=d")], "one.example/a", "d home/.docker/config.json one.example"),
    (&[(DOCKER, "*=absent ?one.example=mock")], "one.example/a", "one helper:mock one.example"),
    (&[(DOCKER, "*=mock")], "docker.io/library/x", "hub helper:mock https://index.docker.io/v1/"),
    (&[(DOCKER, "*=mock")], "none.example/a", "-"),
    (&[(DOCKER, "*=absent")], "one.example/a", "-"),
    (&[(DOCKER, "*=absent one.example=")], "one.example/a", "error docker-credential-absent"),
    // Tekton's secrets, and the copy of them.
    (&[(SECRET, "quay.io=live")], "quay.io/a", "live tekton/a/.dockerconfigjson quay.io"),
    (&[("tekton/a/config.json", "quay.io=live")], "quay.io/a", "live tekton/a/config.json quay.io"),
    (&[("tekton/a/.dockercfg", "^quay.io=live")], "quay.io/a", "live tekton/a/.dockercfg quay.io"),
    (
        &[
            ("tekton/a/.dockerconfigjson@2000", "quay.io=live"),
            ("home/.docker/config.json@1000", "quay.io=copy"),
        ],
        "quay.io/a",
        "live tekton/a/.dockerconfigjson quay.io",
    ),
    (
        &[
            ("tekton/a/.dockerconfigjson@1000", "quay.io=live"),
            ("home/.docker/config.json@2000", "quay.io=login"),
        ],
        "quay.io/a",
        "login home/.docker/config.json quay.io",
    ),
    (
        &[
            ("tekton/a/.dockerconfigjson@1000", "quay.io=live"),
            ("home/.docker/config.json@1000", "quay.io=copy"),
        ],
        "quay.io/a",
        "live tekton/a/.dockerconfigjson quay.io",
    ),
    (
        &[
            ("tekton/a/.dockerconfigjson@1000", "quay.io=live"),
            ("home/.docker/config.json@2000", "other.io=copy"),
        ],
        "quay.io/a",
        "live tekton/a/.dockerconfigjson quay.io",
    ),
    (
        &[
            ("tekton/a/.dockerconfigjson@2000", "other.io=live"),
            ("home/.docker/config.json@1000", "quay.io=copy"),
        ],
        "quay.io/a",
        "copy home/.docker/config.json quay.io",
    ),
    (&[(SECRET, "quay.io=live"), (RUNTIME, "quay.io=r")], "quay.io/a", "r run/containers/auth.json quay.io"),
    (
        &[(SECRET, "quay.io=live"), (LEGACY, "^quay.io=l")],
        "quay.io/a",
        "live tekton/a/.dockerconfigjson quay.io",
    ),
    (
        &[(SECRET, "quay.io=h"), ("tekton/b/.dockerconfigjson", "quay.io/a=n")],
        "quay.io/a/b",
        "n tekton/b/.dockerconfigjson quay.io/a",
    ),
    (
        &[(SECRET, "quay.io=first"), ("tekton/b/.dockerconfigjson", "quay.io=second")],
        "quay.io/a/b",
        "first tekton/a/.dockerconfigjson quay.io",
    ),
    (
        &[(SECRET, "{ no JSON"), ("tekton/b/.dockerconfigjson", "quay.io=b")],
        "quay.io/a",
        "b tekton/b/.dockerconfigjson quay.io",
    ),
    (
        &[(SECRET, "quay.io=live"), (DOCKER, "{ no JSON")],
        "quay.io/a",
        "live tekton/a/.dockerconfigjson quay.io",
    ),
    (&[("tekton/a/username", "{u"), ("tekton/a/password", "{p")], "quay.io/a", "-"),
    // What Tekton makes of the secrets, where it cannot copy it to the home.
    (&[(CREDS, "https://quay.io=basic")], "quay.io/a", "basic creds/.docker/config.json https://quay.io"),
    (&[("HOME=", ""), (CREDS, "quay.io=basic")], "quay.io/a", "basic creds/.docker/config.json quay.io"),
    (
        &[
            ("home/.docker/config.json@1000", "quay.io=copy"),
            ("creds/.docker/config.json@1000", "quay.io=made"),
        ],
        "quay.io/a",
        "copy home/.docker/config.json quay.io",
    ),
    (
        &[
            ("home/.docker/config.json@1000", "quay.io=baked"),
            ("creds/.docker/config.json@2000", "quay.io=made"),
        ],
        "quay.io/a",
        "made creds/.docker/config.json quay.io",
    ),
    (
        &[
            ("home/.docker/config.json@2000", "other.io=d"),
            ("creds/.docker/config.json@1000", "quay.io=made"),
        ],
        "quay.io/a",
        "made creds/.docker/config.json quay.io",
    ),
    (
        &[
            ("tekton/a/.dockerconfigjson@2000", "quay.io=live"),
            ("creds/.docker/config.json@1000", "quay.io=made"),
        ],
        "quay.io/a",
        "live tekton/a/.dockerconfigjson quay.io",
    ),
    (
        &[(CREDS, "quay.io=made"), (LEGACY, "^quay.io=l")],
        "quay.io/a",
        "made creds/.docker/config.json quay.io",
    ),
    (&[(CREDS, "quay.io=made"), (RUNTIME, "quay.io=r")], "quay.io/a", "r run/containers/auth.json quay.io"),
    (&[(CREDS, "quay.io=made"), ("DOCKER_CONFIG=d", ""), ("d/config.json", "{}")], "quay.io/a", "-"),
    (&[(SECRET, "quay.io=live"), ("--authfile=f", ""), ("f", "other.io=f")], "quay.io/a", "-"),
    (
        &[(SECRET, "image-registry.openshift-image-registry.svc:5000=<token>"), ("sa/token", "{jwt")],
        INTERNAL,
        "<token> tekton/a/.dockerconfigjson image-registry.openshift-image-registry.svc:5000",
    ),
    // The ServiceAccount.
    (&[("sa/token", "{jwt")], INTERNAL, "serviceaccount sa/token"),
    (&[("sa/token", "{jwt")], "r.ns.svc.cluster.local/a/b", "serviceaccount sa/token"),
    (&[("sa/token", "{jwt")], "quay.io/a/b", "-"),
    (&[("sa/token", "{jwt"), ("--authfile=f", ""), ("f", "quay.io=f")], INTERNAL, "serviceaccount sa/token"),
    (
        &[("sa/token", "{jwt"), (DOCKER, "image-registry.openshift-image-registry.svc:5000/ns=d")],
        INTERNAL,
        "d home/.docker/config.json image-registry.openshift-image-registry.svc:5000/ns",
    ),
    (&[("sa/token", "{jwt"), ("--creds=me", "")], INTERNAL, "me --creds"),
    (&[], INTERNAL, "-"),
];

#[test]
fn the_expected_credential_wins() {
    let bin = tempfile::tempdir().unwrap();
    write_helper(&bin.path().join("docker-credential-mock"), MOCK);
    assert!(ROWS.len() >= 60, "{}", ROWS.len());
    let mut wrong = Vec::new();
    for (files, image, expected) in ROWS {
        let root = tempfile::tempdir().unwrap();
        let options = set_up(root.path(), files, bin.path());
        let (registry, repository) = image.split_once('/').unwrap();
        let got = match Credentials::new(options).find(registry, repository) {
            Ok(found) => shown(&found, root.path()),
            Err(error) => {
                let text = format!("{error} {error:?}");
                assert!(!text.contains("secret"), "{text}");
                format!("error {error}")
            }
        };
        let right = match expected.strip_prefix("error ") {
            Some(part) => got.starts_with("error ") && got.contains(part),
            None => got == *expected,
        };
        if !right {
            wrong.push(format!("{files:?} for {image}: expected {expected:?}, got {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_helper_that_does_not_answer_is_given_up() {
    let bin = tempfile::tempdir().unwrap();
    write_helper(&bin.path().join("docker-credential-slow"), "#!/bin/sh\nexec sleep 60\n");
    let path = std::env::join_paths([bin.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let helpers = Helpers { path: Some(path), patience: Duration::from_millis(200) };
    let start = std::time::Instant::now();
    let Err(Failure::Failed(reason)) = helpers.get("slow", "one.example") else { panic!("it answered") };
    assert!(reason.contains("too long") && start.elapsed() < Duration::from_secs(30), "{reason}");
}

#[test]
fn a_helper_keeps_and_forgets_logins() {
    let bin = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\ncase $1 in store) cat >\"$0.kept\";; \
                  erase) test -f \"$0.kept\" || { echo credentials not found in native keychain; exit 1; }; \
                  rm \"$0.kept\";; esac\n";
    write_helper(&bin.path().join("docker-credential-box"), script);
    let path = std::env::join_paths([bin.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let helpers = Helpers { path: Some(path), patience: Duration::from_secs(30) };
    helpers.store("box", "one.example", "me", &Secret::new("hidden")).unwrap();
    let kept = fs::read_to_string(bin.path().join("docker-credential-box.kept")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept, json!({"ServerURL": "one.example", "Username": "me", "Secret": "hidden"}));
    assert!(helpers.erase("box", "one.example").unwrap());
    assert!(!helpers.erase("box", "one.example").unwrap());
}

#[tokio::test]
async fn all_places_that_were_looked_at_are_named() {
    let root = tempfile::tempdir().unwrap();
    let files = [(RUNTIME, "other.io=r"), (SECRET, "quay.io=live"), (DOCKER, "{ no JSON")];
    let options = set_up(root.path(), &files, root.path());
    let (looked, found) = Credentials::new(options).explain("quay.io", "a/b").await;
    assert_eq!(shown(&found.unwrap(), root.path()), "live tekton/a/.dockerconfigjson quay.io");
    let outcomes: Vec<_> = looked
        .iter()
        .map(|source| {
            let place = Path::new(&source.place).strip_prefix(root.path()).unwrap();
            let outcome = match &source.outcome {
                SourceOutcome::Absent => "absent",
                SourceOutcome::NoMatch => "no match",
                SourceOutcome::Matched { key } => key,
                SourceOutcome::Unreadable { .. } => "unreadable",
            };
            format!("{}: {outcome}", place.display())
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            "run/containers/auth.json: no match",
            "home/.config/containers/auth.json: absent",
            "tekton/a/.dockerconfigjson: quay.io",
            "home/.docker/config.json: unreadable",
            "creds/.docker/config.json: absent",
        ]
    );
}

/// A directory stands for what cannot be read: root may read all else.
#[test]
fn a_default_place_that_cannot_be_read_counts_as_absent_and_a_named_one_is_an_error() {
    let unreadable = [RUNTIME, "home/.config/containers/auth.json", DOCKER, CREDS, LEGACY];
    let found = |more: &[(&str, &str)], change: &dyn Fn(&mut CredentialOptions)| {
        let root = tempfile::tempdir().unwrap();
        let mut options = set_up(root.path(), more, root.path());
        for name in unreadable {
            let path = root.path().join(name);
            if !path.exists() {
                fs::create_dir_all(path).unwrap();
            }
        }
        change(&mut options);
        let credentials = Credentials::new(options);
        let mut looked = Vec::new();
        let found = credentials.search("r.ns.svc", "a/b", &mut looked);
        let unreadable =
            looked.iter().filter(|at| matches!(at.outcome, SourceOutcome::Unreadable { .. })).count();
        match found {
            Ok(found) => format!("{} {unreadable}", shown(&found, root.path())),
            Err(error) => format!("error {error} {unreadable}"),
        }
    };
    let as_it_is = |_: &mut CredentialOptions| {};
    assert_eq!(found(&[], &as_it_is), "- 5");
    assert_eq!(found(&[("sa/token", "{jwt")], &as_it_is), "serviceaccount sa/token 5");
    assert_eq!(found(&[(LEGACY, "^r.ns.svc=l")], &as_it_is), "l home/.dockercfg r.ns.svc 4");
    assert_eq!(found(&[(SECRET, "r.ns.svc=live")], &as_it_is), "live tekton/a/.dockerconfigjson r.ns.svc 4");
    // The ServiceAccount's own token.
    let token = |options: &mut CredentialOptions| {
        fs::create_dir_all(options.service_account.dir.join("token")).unwrap();
    };
    assert_eq!(found(&[], &token), "- 6");
    let named = |options: &mut CredentialOptions| {
        token(options);
        options.service_account.named = true;
    };
    assert!(
        found(&[], &named).starts_with("error cannot read the credentials in "),
        "{}",
        found(&[], &named)
    );
    let missing = |options: &mut CredentialOptions| options.service_account.named = true;
    assert!(found(&[], &missing).contains("sa/token"), "{}", found(&[], &missing));
    // What somebody named.
    for variable in
        ["REGISTRY_AUTH_FILE=home/.docker/config.json", "DOCKER_CONFIG=home/.docker", "--authfile=sa"]
    {
        let token = ("sa/token", "{jwt");
        let got = found(&[(variable, ""), token], &as_it_is);
        assert!(got.starts_with("error cannot read the credentials in "), "{variable}: {got}");
    }
}

const MOCK: &str = r#"#!/bin/sh
test "$1" = get || exit 2
read -r server || true
say() { printf '{"ServerURL":"%s","Username":"%s","Secret":"secret"}\n' "$server" "$1"; }
case "$server" in
one.example) say one ;;
docker.io | https://index.docker.io/v1/) say hub ;;
id.example) say '<token>' ;;
bad.example) echo no such luck; exit 1 ;;
odd.example) echo secret ;;
*) echo credentials not found in native keychain; exit 1 ;;
esac
"#;

/// Written by another process: a file that this one has open for writing while another test forks cannot be run.
fn write_helper(path: &Path, script: &str) {
    let status = Command::new("/bin/sh")
        .args(["-c", r#"printf %s "$1" >"$2" && chmod 755 "$2""#, "sh", script])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

fn set_up(root: &Path, files: &[(&str, &str)], bin: &Path) -> CredentialOptions {
    let mut variables: HashMap<&str, OsString> = HashMap::new();
    variables.insert("HOME", root.join("home").into());
    variables.insert("XDG_RUNTIME_DIR", root.join("run").into());
    variables.insert("PATH", std::env::join_paths([bin, Path::new("/usr/bin"), Path::new("/bin")]).unwrap());
    let mut options = CredentialOptions::default();
    for (name, text) in files {
        match name.split_once('=') {
            Some(("--creds", user)) => {
                options.explicit = Some((user.to_owned(), Secret::new("secret")));
            }
            Some(("--authfile", file)) => options.authfile = Some(root.join(file)),
            Some((variable, "")) => {
                variables.remove(variable);
            }
            Some((variable, path)) => {
                variables.insert(variable, root.join(path).into());
            }
            None => {
                let (path, time) = name.split_once('@').unwrap_or((name, ""));
                write(&root.join(path), &content(text), time.parse().ok());
            }
        }
    }
    options.env = CredentialEnv::from_lookup(|name| variables.get(name).cloned(), NOBODYS);
    options.env.run_dir = Some(root.join("run"));
    options.env.tekton_secrets = Some(root.join("tekton"));
    options.env.tekton_creds = Some(root.join("creds"));
    options.service_account.dir = root.join("sa");
    options
}

fn write(path: &Path, text: &str, time: Option<u64>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    if let Some(seconds) = time {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }
}

fn content(text: &str) -> String {
    if text.starts_with('{') || text.is_empty() {
        return text.to_owned();
    }
    let (legacy, text) = text.strip_prefix('^').map_or((false, text), |text| (true, text));
    let (mut auths, mut helpers, mut store) = (Map::new(), Map::new(), None);
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap();
        if key == "*" {
            store = Some(value);
        } else if let Some(host) = key.strip_prefix('?') {
            helpers.insert(host.to_owned(), json!(value));
        } else {
            let encoded = |user: &str| STANDARD.encode(format!("{user}:secret"));
            let entry = match value.strip_prefix('!') {
                _ if value.is_empty() => json!({}),
                Some("<token>") => json!({"identitytoken": "secret"}),
                Some(user) => json!({"auth": encoded(user), "identitytoken": "secret"}),
                None => json!({"auth": encoded(value)}),
            };
            auths.insert(key.to_owned(), entry);
        }
    }
    if legacy {
        return Value::Object(auths).to_string();
    }
    let mut file = json!({"auths": auths, "credHelpers": helpers});
    if let Some(store) = store {
        file["credsStore"] = json!(store);
    }
    file.to_string()
}

fn shown(found: &Found, root: &Path) -> String {
    let below = |path: &PathBuf| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let user = match &found.credential {
        Credential::Anonymous => return "-".to_owned(),
        Credential::Basic { user, password } => {
            assert!(["secret", "{jwt"].contains(&password.expose()));
            user.clone()
        }
        Credential::Identity { user, token } => {
            assert_eq!(token.expose(), "secret");
            format!("{user} identity")
        }
    };
    let origin = match &found.origin {
        Origin::Explicit => "--creds".to_owned(),
        Origin::Authfile { path, key } => format!("{} {key}", below(path)),
        Origin::Helper { name, key, .. } => format!("helper:{name} {key}"),
        Origin::ServiceAccount { token } => below(token),
        Origin::Nowhere { .. } => "nowhere".to_owned(),
    };
    format!("{user} {origin}")
}
