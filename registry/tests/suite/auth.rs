//! Who may, and who may not; and where a credential goes.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crossdock_registry::{Reference, Registry, RegistryOptions};
use crossdock_storage::{Error, ImageSink as _, ImageSource as _};

use crate::docker_registry::{DockerRegistry, PASSWORD, Setup, USER};
use crate::fault_proxy::{Fault, FaultProxy, Hook, Seen};
use crate::harness::{Files, Recorder, chain, options, push, push_watched, reference, sink, with_password};

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
/// is still good: at first that for the password `one`.
struct Doorkeeper {
    registry: DockerRegistry,
    files: Files,
    good: Arc<Mutex<Vec<String>>>,
    proxy: FaultProxy,
    to: Reference,
}

impl Doorkeeper {
    fn new(expires_in: u64) -> Self {
        let registry = DockerRegistry::start();
        let good = Arc::new(Mutex::new(vec!["one".to_owned()]));
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
                let body = format!(
                    r#"{{"token":null,"access_token":"t-{password}","expires_in":{expires_in},"issued_at":null}}"#
                );
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
        let to = reference(proxy.addr(), "team/m:1");
        Self { registry, files: Files::new(), good, proxy, to }
    }

    fn allow_only(&self, password: &str) {
        *self.good.lock().unwrap() = vec![password.to_owned()];
    }

    /// Options with a file of credentials, and what makes its password no longer good and writes the next one.
    fn renewing(&self) -> (RegistryOptions, Fault) {
        let authfile = self.files.path("auth.json");
        let host = self.proxy.addr().to_string();
        write_authfile(&authfile, &host, "me", "one");
        let options = with_authfile(&authfile);
        let good = Arc::clone(&self.good);
        let renew = move || {
            *good.lock().unwrap() = vec!["two".to_owned()];
            write_authfile(&authfile, &host, "me", "two");
        };
        (options, Fault::Run(Hook(Arc::new(renew))))
    }

    /// Pushes a layer of so many bytes.
    async fn push(&self, options: RegistryOptions, len: usize) -> Result<Arc<Recorder>, Error> {
        let (recorder, watch) = Recorder::watch();
        let layer = [self.files.layer("a", len, 1)];
        push_watched(&sink(options, &self.to), &layer, &watch).await?;
        assert!(self.registry.tag("team/m", "1").is_some());
        Ok(recorder)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_once_for_a_scope_and_kept() {
    let door = Doorkeeper::new(3600);
    door.push(with_password("me", "one"), 1 << 20).await.unwrap();
    let tokens: Vec<_> =
        door.proxy.seen().into_iter().filter(|seen| seen.path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].path, "/token?service=a+b&scope=repository%3Ateam%2Fm%3Apull%2Cpush");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_mid_push_is_had_anew_from_its_file() {
    for method in ["POST", "PATCH", "PUT", "HEAD"] {
        let door = Doorkeeper::new(3600);
        let (options, renew) = door.renewing();
        // At the first such request of the push the old token is no longer good; that request itself still passes.
        door.proxy.break_next(method, "", 1, renew);
        let pushed = door.push(options, 1 << 20).await;
        let recorder = pushed.unwrap_or_else(|error| panic!("{method}: {}", chain(&error)));
        assert_eq!(recorder.retries(), 0, "a new token is not a retry");
        assert_eq!(door.proxy.count("GET", "/token"), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_is_sent_again_with_a_new_token() {
    let door = Doorkeeper::new(3600);
    let (options, renew) = door.renewing();
    // The POST of the layer's upload is the second; the PATCH that follows it is refused.
    door.proxy.break_after(1, "POST", "", 1, renew);
    let recorder = door.push(options, 4 << 20).await.unwrap();
    assert_eq!(recorder.retries(), 0);
    assert_eq!(door.proxy.count("PATCH", ""), 3, "the layer twice, the config once");
    assert_eq!(door.registry.open_uploads("team/m"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_stays_refused_is_an_error_and_no_circle() {
    let door = Doorkeeper::new(3600);
    let error = door.push(with_password("me", "hunter2"), 10).await.unwrap_err();
    let text = format!("{} {error:?}", chain(&error));
    assert!(text.contains("refused the push to team/m: 401") && !text.contains("hunter2"), "{text}");
    assert!(door.proxy.seen().len() < 12, "{:#?}", door.proxy.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_account_of_a_named_registry_is_read_at_each_authentication() {
    // 0 is as good as no word: 60 s.
    let door = Doorkeeper::new(0);
    door.allow_only("jwt");
    fs::write(door.files.path("token"), "jwt\n").unwrap();
    let mut options = options();
    options.credentials.service_account.dir = door.files.path("");
    let error = door.push(options.clone(), 10).await.unwrap_err();
    assert!(chain(&error).contains("no credentials"), "not in-cluster, so not offered: {error}");
    options.credentials.service_account.registries = vec![door.proxy.addr().to_string()];
    door.push(options, 10).await.unwrap();
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
    let door = Doorkeeper::new(3600);
    let fault = |status, body: &str| Fault::Answer { status, headers: Vec::new(), body: body.to_owned() };
    door.proxy.break_next("GET", "/token", 2, fault(401, r#"{"details":"the server has timed out"}"#));
    door.proxy.break_next("POST", "", 2, fault(400, ""));
    door.push(with_password("me", "one"), 10).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_in_docker_hubs_words_is_not_tried_again() {
    let mut asked = Vec::new();
    for body in ["", r#"{"details":"incorrect username or password"}"#] {
        let door = Doorkeeper::new(3600);
        let fault = Fault::Answer { status: 401, headers: Vec::new(), body: body.to_owned() };
        door.proxy.break_next("GET", "/token", 9, fault);
        let error = chain(&door.push(with_password("me", "two"), 10).await.unwrap_err());
        assert!(error.contains("401") && error.contains("user name and password"), "{error}");
        asked.push(door.proxy.seen().iter().filter(|seen| seen.path.starts_with("/token")).count());
    }
    assert_eq!(asked[0], asked[1], "as often as of a refusal without words");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_breaks_the_body_is_survived() {
    let door = Doorkeeper::new(3600);
    let headers =
        vec![("www-authenticate".to_owned(), "Basic realm=openshift,error=\"access denied\"".to_owned())];
    let fault = Fault::AnswerEarly { status: 401, headers, body: String::new() };
    door.proxy.break_next("PATCH", "", 1, fault);
    door.push(with_password("me", "one"), 16 << 20).await.unwrap();
    let all = door.proxy.seen();
    let after = all.iter().filter(|seen| seen.path.starts_with("/v2/team/m/"));
    assert!(
        after.into_iter().all(|seen| seen.header("authorization").is_some_and(|a| a.starts_with("Bearer")))
    );
}
