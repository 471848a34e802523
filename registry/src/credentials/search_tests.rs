//! Behaviours of the search for credentials that are no row of its table.

mod fixture;
mod table;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use fixture::{CREDS, DOCKER, LEGACY, RUNTIME, SECRET, set_up, shown, write_helper};

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
