//! Which credential wins: a table of files, variables, keys, helpers, Tekton's secrets and the ServiceAccount.
//!
//! A row has files as the [fixture](super::fixture) writes them, what is asked for, and the user name and the source that are
//! expected.

use super::super::Credentials;
use super::fixture::{CONFIG, CREDS, DOCKER, LEGACY, MOCK, RUNTIME, SECRET, set_up, shown, write_helper};

type Row = (&'static [(&'static str, &'static str)], &'static str, &'static str);

const INTERNAL: &str = "image-registry.openshift-image-registry.svc:5000/ns/m";

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
