//! Who may, and who may not; and where a credential goes.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crossdock_registry::{Registry, RegistryOptions};
use crossdock_storage::{ImageSink as _, ImageSource as _};

use crate::docker_registry::{DockerRegistry, PASSWORD, Setup, USER};
use crate::fault_proxy::{Fault, FaultProxy, Seen};
use crate::harness::{Files, chain, options, push, reference, sink, with_password};

fn locked() -> DockerRegistry {
    DockerRegistry::start_with(&Setup { password: true, ..Setup::default() })
}

fn write_authfile(path: &Path, host: &str, user: &str, password: &str) {
    let auth = STANDARD.encode(format!("{user}:{password}"));
    fs::write(path, format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
}

fn with_authfile(path: &Path) -> RegistryOptions {
    let mut options = options();
    options.credentials.authfile = Some(path.to_path_buf());
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_opens_the_registry() {
    let registry = locked();
    let files = Files::new();
    let to = reference(registry.addr(), "m:1");
    push(&sink(with_password(USER, PASSWORD), &to), &[files.layer("a", 1 << 20, 1)]).await.unwrap();
    let authfile = files.path("auth.json");
    write_authfile(&authfile, &registry.addr().to_string(), USER, PASSWORD);
    push(&sink(with_authfile(&authfile), &to), &[files.layer("b", 1 << 20, 2)]).await.unwrap();
    let source = Registry::new(with_authfile(&authfile)).source(&to);
    source.resolve(&"linux/amd64".parse().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_credential_fails_before_any_layer_byte_and_names_its_source() {
    let registry = locked();
    let proxy = FaultProxy::start(registry.addr());
    let files = Files::new();
    let to = reference(proxy.addr(), "team/m:1");
    let authfile = files.path("auth.json");
    write_authfile(&authfile, &proxy.addr().to_string(), USER, "wrong-password");
    for (options, source) in [
        (with_password(USER, "wrong-password"), "--creds".to_owned()),
        (with_authfile(&authfile), authfile.display().to_string()),
        (options(), "no credentials".to_owned()),
    ] {
        let sink = sink(options, &to);
        let error = sink.prepare(&crossdock_storage::SinkPlan::default()).await.unwrap_err();
        let text = format!("{} {error:?}", chain(&error));
        assert!(
            text.contains(&format!("registry {} refused the push to team/m: 401", proxy.addr())),
            "{text}"
        );
        assert!(text.contains(&source), "{text}");
        assert!(
            !text.contains("wrong-password") && !text.contains(&STANDARD.encode("user:wrong-password")),
            "{text}"
        );
    }
    assert_eq!(proxy.count("PATCH", ""), 0);
}

/// A token server before a registry: gives `t-PASSWORD` for any password, and lets through what carries a token that
/// is still good.
struct Doorkeeper {
    good: Arc<Mutex<Vec<String>>>,
    proxy: FaultProxy,
}

impl Doorkeeper {
    fn new(registry: &DockerRegistry, expires_in: u64) -> Self {
        let good = Arc::new(Mutex::new(Vec::<String>::new()));
        let shared = Arc::clone(&good);
        let realm = Arc::new(Mutex::new(String::new()));
        let told = Arc::clone(&realm);
        let proxy = FaultProxy::start(registry.addr()).with_gate(move |seen: &Seen| {
            let authorization = seen.header("authorization").unwrap_or_default();
            if seen.path.starts_with("/token") {
                let basic = authorization.strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
                let text = basic.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
                let Some((_, password)) = text.split_once(':') else {
                    return Some(Fault::Answer { status: 401, headers: Vec::new(), body: String::new() });
                };
                let body = format!(r#"{{"access_token":"t-{password}","expires_in":{expires_in}}}"#);
                return Some(Fault::Answer { status: 200, headers: Vec::new(), body });
            }
            let token = authorization.strip_prefix("Bearer t-").unwrap_or_default();
            if shared.lock().unwrap().iter().any(|good| good == token) {
                return None;
            }
            let challenge = format!(r#"Bearer realm="{}",service="a b""#, told.lock().unwrap());
            let headers = vec![("www-authenticate".to_owned(), challenge)];
            Some(Fault::Answer { status: 401, headers, body: String::new() })
        });
        *realm.lock().unwrap() = format!("http://{}/token", proxy.addr());
        Self { good, proxy }
    }

    fn allow_only(&self, password: &str) {
        *self.good.lock().unwrap() = vec![password.to_owned()];
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_once_for_a_scope_and_kept() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    let door = Doorkeeper::new(&registry, 3600);
    door.allow_only("one");
    let to = reference(door.proxy.addr(), "team/m:1");
    push(&sink(with_password("me", "one"), &to), &[files.layer("a", 1 << 20, 1)]).await.unwrap();
    assert!(registry.tag("team/m", "1").is_some());
    let tokens: Vec<_> =
        door.proxy.seen().into_iter().filter(|seen| seen.path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].path, "/token?service=a+b&scope=repository%3Ateam%2Fm%3Apull%2Cpush");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_mid_push_is_had_anew_from_its_file() {
    for path in ["POST", "PATCH", "PUT", "HEAD"] {
        let registry = DockerRegistry::start();
        let files = Files::new();
        let door = Doorkeeper::new(&registry, 3600);
        door.allow_only("one");
        let authfile = files.path("auth.json");
        let host = door.proxy.addr().to_string();
        write_authfile(&authfile, &host, "me", "one");
        let sink = sink(with_authfile(&authfile), &reference(door.proxy.addr(), "m:1"));
        let good = Arc::clone(&door.good);
        let changed = authfile.clone();
        // At the first such request of the push the old token is no longer good, and the file has a new one.
        let hook = crate::fault_proxy::Hook(Arc::new(move || {
            *good.lock().unwrap() = vec!["two".to_owned()];
            write_authfile(&changed, &host, "me", "two");
        }));
        // The first POST is the one of prepare; after the hook that request itself still passes.
        door.proxy.break_next(path, "", 1, Fault::Run(hook));
        let (recorder, watch) = crate::harness::Recorder::watch();
        let result = crate::harness::push_watched(&sink, &[files.layer("a", 1 << 20, 1)], &watch).await;
        assert!(result.is_ok(), "{path}: {:?}", result.map_err(|error| chain(&error)));
        assert_eq!(recorder.retries(), 0, "a new token is not a retry");
        assert_eq!(door.proxy.count("GET", "/token"), 2);
        assert!(registry.tag("m", "1").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_is_sent_again_with_a_new_token() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    let door = Doorkeeper::new(&registry, 3600);
    door.allow_only("one");
    let authfile = files.path("auth.json");
    let host = door.proxy.addr().to_string();
    write_authfile(&authfile, &host, "me", "one");
    let sink = sink(with_authfile(&authfile), &reference(door.proxy.addr(), "m:1"));
    let good = Arc::clone(&door.good);
    let changed = authfile.clone();
    // The POST of the layer's upload is the second; the PATCH that follows it is refused.
    let hook = crate::fault_proxy::Hook(Arc::new(move || {
        *good.lock().unwrap() = vec!["two".to_owned()];
        write_authfile(&changed, &host, "me", "two");
    }));
    door.proxy.break_after(1, "POST", "", 1, Fault::Run(hook));
    let (recorder, watch) = crate::harness::Recorder::watch();
    crate::harness::push_watched(&sink, &[files.layer("a", 4 << 20, 1)], &watch).await.unwrap();
    assert_eq!(recorder.retries(), 0);
    assert_eq!(door.proxy.count("PATCH", ""), 3, "the layer twice, the config once");
    assert_eq!(registry.open_uploads("m"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_stays_refused_is_an_error_and_no_circle() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    let door = Doorkeeper::new(&registry, 3600);
    let to = reference(door.proxy.addr(), "m:1");
    let error =
        push(&sink(with_password("me", "hunter2"), &to), &[files.layer("a", 10, 1)]).await.unwrap_err();
    let text = format!("{} {error:?}", chain(&error));
    assert!(text.contains("refused the push to m: 401") && !text.contains("hunter2"), "{text}");
    assert!(door.proxy.seen().len() < 12, "{:#?}", door.proxy.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_account_of_a_named_registry_is_read_at_each_authentication() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    // 0 is as good as no word: 60 s.
    let door = Doorkeeper::new(&registry, 0);
    door.allow_only("jwt");
    fs::write(files.path("token"), "jwt\n").unwrap();
    let mut options = options();
    options.credentials.service_account.dir = files.path("");
    let to = reference(door.proxy.addr(), "m:1");
    let error = push(&sink(options.clone(), &to), &[files.layer("a", 10, 1)]).await.unwrap_err();
    assert!(chain(&error).contains("no credentials"), "not in-cluster, so not offered: {error}");
    options.credentials.service_account.registries = vec![door.proxy.addr().to_string()];
    push(&sink(options, &to), &[files.layer("a", 10, 1)]).await.unwrap();
    assert!(registry.tag("m", "1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_accounts_token_does_not_leave_the_cluster() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    fs::write(files.path("token"), "jwt").unwrap();
    let outside = FaultProxy::start(registry.addr());
    let realm = format!("http://localhost:{}/token", outside.addr().port());
    let challenge = vec![("www-authenticate".to_owned(), format!(r#"Bearer realm="{realm}""#))];
    let proxy = FaultProxy::start(registry.addr()).with_gate(move |_| {
        Some(Fault::Answer { status: 401, headers: challenge.clone(), body: String::new() })
    });
    let mut options = options();
    options.credentials.service_account.dir = files.path("");
    options.credentials.service_account.registries = vec![proxy.addr().to_string()];
    let error =
        push(&sink(options, &reference(proxy.addr(), "m:1")), &[files.layer("a", 10, 1)]).await.unwrap_err();
    assert!(chain(&error).contains("not an in-cluster host"), "{error}");
    assert!(outside.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_in_trouble_is_asked_again() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    let door = Doorkeeper::new(&registry, 3600);
    door.allow_only("one");
    let fault = |status, body: &str| Fault::Answer { status, headers: Vec::new(), body: body.to_owned() };
    door.proxy.break_next("GET", "/token", 2, fault(401, r#"{"details":"the server has timed out"}"#));
    door.proxy.break_next("POST", "", 2, fault(400, ""));
    let to = reference(door.proxy.addr(), "m:1");
    push(&sink(with_password("me", "one"), &to), &[files.layer("a", 10, 1)]).await.unwrap();
    assert!(registry.tag("m", "1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_breaks_the_body_is_survived() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    let door = Doorkeeper::new(&registry, 3600);
    door.allow_only("one");
    let headers =
        vec![("www-authenticate".to_owned(), "Basic realm=openshift,error=\"access denied\"".to_owned())];
    let fault = Fault::AnswerEarly { status: 401, headers, body: String::new() };
    door.proxy.break_next("PATCH", "", 1, fault);
    let to = reference(door.proxy.addr(), "m:1");
    push(&sink(with_password("me", "one"), &to), &[files.layer("a", 16 << 20, 1)]).await.unwrap();
    assert!(registry.tag("m", "1").is_some());
    let all = door.proxy.seen();
    let after = all.iter().filter(|seen| seen.path.starts_with("/v2/m/"));
    assert!(
        after.into_iter().all(|seen| seen.header("authorization").is_some_and(|a| a.starts_with("Bearer")))
    );
}
