//! No secret is ever shown: known ones go through every way in and every way to fail, and are then looked for in all
//! that was said, logged at the finest level included.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex, Once};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use crossdock_registry::{Reference, Registry, RegistryOptions, Secret};
use crossdock_storage::{ImageSink as _, ImageSource as _, SinkPlan};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::docker_registry::{DockerRegistry, PASSWORD, Setup, USER};
use crate::fault_proxy::{Fault, FaultProxy, Hook, Seen};
use crate::harness::{
    Files, Recorder, chain, options, push, push_watched, reference, sink, verified, with_password,
};

const CREDS: &str = "creds-Pa55word?>~";
const IN_FILE: &str = "authfile-Pa55word?>~";
const IDENTITY: &str = "identity-Pa55word?>~";
const SERVICE_ACCOUNT: &str = "sa-header.sa-payload-Pa55word.sa-signature";
const PROXY: &str = "proxy-Pa55word";
const TOKEN: &str = "token-of-the-server-Pa55word";
const SIGNED: &str = "signature-of-the-storage-Pa55word";
const STATE: &str = "state-of-the-upload-Pa55word";
const KEY: &str = "S2V5LVBhNTV3b3JkLUtleS1QYTU1d29yZC1LZXktUGE1NXdvcmQ";
const SECRETS: [&str; 9] = [CREDS, IN_FILE, IDENTITY, SERVICE_ACCOUNT, PROXY, TOKEN, SIGNED, STATE, KEY];

/// All that was said.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

thread_local! {
    /// Who hears what is logged on this thread.
    static HEARS: RefCell<Option<Said>> = const { RefCell::new(None) };
}

/// Until this is dropped, what is logged on this thread is heard.
struct Listening;

impl Drop for Listening {
    fn drop(&mut self) {
        HEARS.with_borrow_mut(|hears| *hears = None);
    }
}

struct Ear;

impl Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        HEARS.with_borrow(|hears| {
            if let Some(said) = hears {
                said.0.lock().unwrap().extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Said {
    /// Listens to this thread, at the finest level to our own crates and to others as the program does. There is one
    /// subscriber for all tests: with one each, tracing may take a place in the code for one that nobody listens to.
    fn listen(&self) -> Listening {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt()
                .with_env_filter(EnvFilter::new("warn,crossdock_registry=trace,crossdock_storage=trace"))
                .with_writer(|| Ear)
                .with_ansi(false)
                .finish()
                .init();
        });
        HEARS.with_borrow_mut(|hears| *hears = Some(self.clone()));
        Listening
    }

    fn text(&self, text: &str) {
        let mut all = self.0.lock().unwrap();
        all.extend_from_slice(text.as_bytes());
        all.push(b'\n');
    }

    fn error(&self, error: &(dyn std::error::Error + 'static)) {
        let mut next = Some(error);
        self.text(&chain(error));
        while let Some(error) = next {
            self.text(&format!("{error}\n{error:?}\n{error:#?}"));
            next = error.source();
        }
    }

    /// All of a push of one layer, and of a pull, under these options: what they say, well or ill.
    async fn push_and_pull(&self, options: RegistryOptions, to: &Reference) -> bool {
        self.text(&format!("{options:?}"));
        let registry = Registry::new(options);
        let sink = registry.sink(std::slice::from_ref(to)).unwrap();
        let source = registry.source(to);
        let files = Files::new();
        let (recorder, watch) = Recorder::watch();
        let pushed = push_watched(&sink, &[files.layer("a", 100_000, 7)], &watch).await;
        if let Err(error) = &pushed {
            self.error(error);
        }
        if let Err(error) = source.resolve(&"linux/amd64".parse().unwrap()).await {
            self.error(&error);
        }
        self.text(&format!("{registry:?} {sink:?} {source:?} {recorder:?} {watch:?} {pushed:?}"));
        pushed.is_ok()
    }

    /// Whether something was said, and no secret.
    fn check(&self) {
        let said = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        assert!(said.contains("answered") && said.contains("refused"), "it listens to nothing: {said}");
        for secret in SECRETS {
            let mut forms = vec![secret.to_owned()];
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                forms.push(engine.encode(secret));
                for user in ["me", USER, "serviceaccount", "<token>"] {
                    // The end of base64 depends on what follows, so only what does not is looked for.
                    let whole = engine.encode(format!("{user}:{secret}"));
                    forms.push(whole[..whole.len() - 2].to_owned());
                }
            }
            let escaped: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            forms.push(escaped);
            for form in forms {
                if let Some(at) = said.find(&form) {
                    let from = said[..at].rfind('\n').map_or(0, |at| at + 1);
                    let line: String = said[from..].chars().take(600).collect();
                    panic!("{secret} was said: {line}");
                }
            }
        }
    }
}

fn plain(status: u16, body: &str) -> Fault {
    Fault::Answer { status, headers: Vec::new(), body: body.to_owned() }
}

fn with_header(status: u16, name: &str, value: &str) -> Fault {
    Fault::Answer { status, headers: vec![(name.to_owned(), value.to_owned())], body: String::new() }
}

/// A door before a registry whose token server answers `answer`, and which lets in who has [`TOKEN`].
fn door(registry: &DockerRegistry, answer: Fault) -> FaultProxy {
    let realm = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&realm);
    let proxy = FaultProxy::start(registry.addr()).with_gate(move |seen: &Seen| {
        if seen.path.starts_with("/token") {
            return Some(answer.clone());
        }
        match seen.header("authorization") {
            Some(authorization) if authorization == format!("Bearer {TOKEN}") => None,
            _ => Some(with_header(
                401,
                "www-authenticate",
                &format!("Bearer realm=\"{}\"", told.lock().unwrap()),
            )),
        }
    });
    *realm.lock().unwrap() = format!("http://{}/token", proxy.addr());
    proxy
}

#[tokio::test]
async fn credentials_are_never_shown() {
    let said = Said::default();
    let guard = said.listen();
    let locked = DockerRegistry::start_with(&Setup { password: true, ..Setup::default() });
    let files = Files::new();
    let to = reference(locked.addr(), "team/m:1");
    let host = locked.addr().to_string();

    assert!(said.push_and_pull(with_password(USER, PASSWORD), &to).await);
    assert!(!said.push_and_pull(with_password("me", CREDS), &to).await);
    assert!(!said.push_and_pull(with_password("me", &format!("{CREDS}\nx")), &to).await);

    // Files that are right, wrong, and no files of credentials at all.
    let auth = STANDARD.encode(format!("me:{IN_FILE}"));
    for text in [
        format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#),
        format!(r#"{{"auths":{{"{host}":{{"username":"me","password":"{IN_FILE}"}}}}}}"#),
        format!(r#"{{"auths":{{"{host}":{{"auth":"{}"}}}}}}"#, STANDARD.encode(IN_FILE)),
        format!(r#"{{"auths":{{"{host}":{{"auth":"{IN_FILE}"}}}}}}"#),
        format!(r#"{{"auths":{{"{host}":{{"auth":["{IN_FILE}"]}}}}}}"#),
        format!(r#"{{"auths":"{IN_FILE}"}}"#),
        format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}","identitytoken":"{IDENTITY}"}}}}}}"#),
        format!(r#"{{"auths":{{"{host}":{{"registrytoken":"{IDENTITY}"}}}}}}"#),
        format!(r#"{{"{host}":{{"auth":"{auth}","email":"x"}}}}"#),
        format!(r#""{IN_FILE}""#),
        IN_FILE.to_owned(),
        format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"#),
    ] {
        let authfile = files.path("auth.json");
        fs::write(&authfile, text).unwrap();
        let mut options = options();
        options.credentials.authfile = Some(authfile);
        assert!(!said.push_and_pull(options, &to).await);
    }

    // The ServiceAccount's token: refused, and with a line break in it.
    for text in [SERVICE_ACCOUNT.to_owned(), format!("{SERVICE_ACCOUNT}\n{SERVICE_ACCOUNT}")] {
        fs::write(files.path("token"), text).unwrap();
        let mut options = options();
        options.credentials.service_account.dir = files.path("");
        options.credentials.service_account.registries = vec![host.clone()];
        assert!(!said.push_and_pull(options, &to).await);
    }
    drop(guard);
    said.check();
}

#[tokio::test]
async fn tokens_are_never_shown() {
    let said = Said::default();
    let guard = said.listen();
    let registry = DockerRegistry::start();
    for (answer, good) in [
        (plain(200, &format!(r#"{{"token":"{TOKEN}","expires_in":300}}"#)), true),
        (plain(200, &format!(r#"{{"token":"{TOKEN}x"}}"#)), false),
        (plain(200, &format!(r#"{{"token":["{TOKEN}"]}}"#)), false),
        (plain(200, &format!(r#"{{"token":"{TOKEN}\n"}}"#)), false),
        (plain(200, &format!(r#"{{"token":"","refresh_token":"{TOKEN}"}}"#)), false),
        (plain(200, &format!("{{\"token\":\"{TOKEN}")), false),
        (plain(200, TOKEN), false),
        (plain(401, ""), false),
        (plain(503, ""), false),
        (with_header(302, "location", &format!("http://me:{TOKEN}@127.0.0.1:9/?t={TOKEN}")), false),
        (Fault::AnswerEarly { status: 500, headers: Vec::new(), body: String::new() }, false),
    ] {
        let proxy = door(&registry, answer.clone());
        let pushed = said.push_and_pull(with_password("me", CREDS), &reference(proxy.addr(), "m:1")).await;
        assert_eq!(pushed, good, "{answer:?}");
    }
    drop(guard);
    said.check();
}

#[tokio::test]
async fn signed_urls_and_upload_states_are_never_shown() {
    let said = Said::default();
    let guard = said.listen();
    let registry = DockerRegistry::start();
    let files = Files::new();
    push(&sink(options(), &reference(registry.addr(), "m:1")), &[files.layer("a", 1000, 1)]).await.unwrap();
    for location in [
        format!("http://me:{CREDS}@127.0.0.1:9/blob?X-Amz-Signature={SIGNED}"),
        format!("/v2/m/elsewhere?X-Amz-Signature={SIGNED}#{SIGNED}"),
        format!("http://[bad/?X-Amz-Signature={SIGNED}"),
        format!("http://me:{CREDS}@host:99999/?X-Amz-Signature={SIGNED}"),
        format!("ftp://me:{CREDS}@127.0.0.1/?X-Amz-Signature={SIGNED}"),
        format!("data:{SIGNED}"),
    ] {
        for (method, path) in [("GET", "/manifests/"), ("GET", "/blobs/"), ("HEAD", "/blobs/")] {
            let proxy = FaultProxy::start(registry.addr());
            proxy.break_next(method, path, usize::MAX, with_header(307, "location", &location));
            said.push_and_pull(options(), &reference(proxy.addr(), "m:1")).await;
        }
    }
    for location in [
        format!("/v2/m/blobs/uploads/nowhere?_state={STATE}"),
        format!("http://me:{CREDS}@127.0.0.1:9/v2/?_state={STATE}"),
        format!("http://[bad/?_state={STATE}"),
        format!("ftp://127.0.0.1/?_state={STATE}"),
    ] {
        let proxy = FaultProxy::start(registry.addr());
        proxy.break_next("POST", "", usize::MAX, with_header(202, "location", &location));
        assert!(!said.push_and_pull(options(), &reference(proxy.addr(), "n:1")).await);
        assert!(
            !said.push_and_pull(with_password("me", CREDS), &reference(proxy.addr(), "n:1")).await,
            "{location}"
        );
    }
    // Broken in the middle, with a state in its URL.
    for fault in [Fault::BreakBody(1000), Fault::LoseAnswer, plain(503, ""), plain(500, "<html>")] {
        for method in ["POST", "PATCH", "PUT"] {
            let proxy = FaultProxy::start(registry.addr());
            proxy.break_next(method, "", usize::MAX, fault.clone());
            said.push_and_pull(with_password("me", CREDS), &reference(proxy.addr(), "m:2")).await;
        }
    }
    drop(guard);
    let text = String::from_utf8_lossy(&said.0.lock().unwrap()).into_owned();
    assert!(!text.contains("_state="), "{text}");
    said.text("refused");
    said.check();
}

#[tokio::test]
async fn proxies_and_keys_are_never_shown() {
    let said = Said::default();
    let guard = said.listen();
    let registry = DockerRegistry::start();
    let through = FaultProxy::start(registry.addr());
    let refusing = FaultProxy::start(registry.addr()).with_gate(|_| Some(plain(407, "")));
    let files = Files::new();
    for (proxy, good) in [
        (format!("http://me:{PROXY}@{}", through.addr()), true),
        (format!("http://me:{PROXY}@{}", refusing.addr()), false),
        (format!("http://me:{PROXY}@127.0.0.1:9"), false),
        (format!("http://me:{PROXY}@[bad"), false),
        (format!("http://me:{PROXY}@host:99999"), false),
        (format!("me:{PROXY}"), false),
        (format!("socks9://me:{PROXY}@127.0.0.1"), false),
    ] {
        let mut options = options();
        options.proxy.http = Some(Secret::new(proxy.clone()));
        options.proxy.https = Some(Secret::new(proxy));
        options.retry.retries = 1;
        // This machine is never reached through a proxy.
        let pushed = said.push_and_pull(options, &"registry.test:5000/m:1".parse().unwrap()).await;
        assert!(pushed || !good);
    }
    assert!(through.seen().iter().any(|seen| seen.header("proxy-authorization").is_some()));

    // A key that is no key, and one that does not fit.
    let made = rcgen::generate_simple_self_signed(vec!["me".to_owned()]).unwrap();
    fs::create_dir(files.path("certs")).unwrap();
    fs::write(files.path("certs/me.cert"), made.cert.pem()).unwrap();
    for key in [
        format!("-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n"),
        format!("-----BEGIN PRIVATE KEY-----\n{KEY}!\n"),
        format!("-----BEGIN CERTIFICATE-----\n{KEY}\n-----END CERTIFICATE-----\n"),
        KEY.to_owned(),
    ] {
        fs::write(files.path("certs/me.key"), key).unwrap();
        let options = RegistryOptions { cert_dir: Some(files.path("certs")), ..options() };
        assert!(!said.push_and_pull(options, &reference(registry.addr(), "m:1")).await);
    }
    drop(guard);
    said.text("refused");
    said.check();
}

/// What came with a request, as a server may give it back: the header, and what is in it.
fn echo_of(seen: &Seen) -> Option<String> {
    let authorization = seen.header("authorization")?;
    let (_, text) = authorization.split_once(' ')?;
    let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.unwrap_or_else(|| text.to_owned());
    let password = decoded.split_once(':').map_or(decoded.as_str(), |(_, password)| password);
    Some(format!("{authorization} {decoded} {password}"))
}

#[tokio::test]
async fn what_a_server_gives_back_of_a_credential_is_not_shown() {
    let said = Said::default();
    let guard = said.listen();
    let registry = DockerRegistry::start();
    let answers: Vec<fn(&str) -> Fault> = vec![
        |echo| plain(400, &format!("bad request with {echo}")),
        |echo| {
            plain(
                403,
                &serde_json::json!({"errors": [{"code": echo, "message": echo, "detail": echo}]}).to_string(),
            )
        },
        |echo| plain(404, &format!("{} {echo}", "x".repeat(480))),
        |echo| plain(500, echo),
        |echo| {
            with_header(
                401,
                "www-authenticate",
                &format!("Bearer realm=\"{}\",service=\"{echo}\"", echo.replace('"', "")),
            )
        },
        |echo| with_header(401, "www-authenticate", &format!("Bearer realm=\"http://127.0.0.1:9/{echo}\"")),
        |echo| with_header(307, "location", &format!("http://127.0.0.1:9/{}", echo.replace(' ', "/"))),
        |echo| with_header(307, "location", &format!("/v2/{}", echo.replace(' ', "/"))),
        |echo| with_header(202, "location", &format!("http://127.0.0.1:9/{}", echo.replace(' ', "/"))),
        |echo| with_header(202, "location", &format!("ftp://127.0.0.1:9/{echo}")),
        |echo| with_header(429, "warning", &format!("299 - \"{echo}\"")),
        |echo| with_header(200, "docker-content-digest", echo),
        |echo| with_header(201, "docker-content-digest", echo),
        |echo| with_header(200, "content-type", echo),
    ];
    for answer in answers {
        // Once with a password for each request, once with one for the token server and its token for the rest.
        let basic = FaultProxy::start(registry.addr()).with_gate(move |seen| {
            let challenge = || with_header(401, "www-authenticate", "Basic realm=test");
            Some(echo_of(seen).map_or_else(challenge, |echo| answer(&echo)))
        });
        assert!(!said.push_and_pull(with_password("me", CREDS), &reference(basic.addr(), "m:1")).await);
        let own = Arc::new(Mutex::new(String::new()));
        let realm = Arc::clone(&own);
        let bearer = FaultProxy::start(registry.addr()).with_gate(move |seen| {
            if seen.path.starts_with("/token") {
                return Some(plain(200, &format!(r#"{{"token":"{TOKEN}"}}"#)));
            }
            let challenge = || with_header(401, "www-authenticate", &realm.lock().unwrap());
            Some(echo_of(seen).map_or_else(challenge, |echo| answer(&echo)))
        });
        *own.lock().unwrap() = format!("Bearer realm=\"http://{}/token\"", bearer.addr());
        assert!(!said.push_and_pull(with_password("me", CREDS), &reference(bearer.addr(), "m:1")).await);
        // The token server itself.
        let realm = Arc::clone(&own);
        let server = FaultProxy::start(registry.addr()).with_gate(move |seen| {
            if seen.path.starts_with("/token") {
                return echo_of(seen).map(|echo| answer(&echo));
            }
            Some(with_header(401, "www-authenticate", &realm.lock().unwrap()))
        });
        *own.lock().unwrap() = format!("Bearer realm=\"http://{}/token\"", server.addr());
        assert!(!said.push_and_pull(with_password("me", CREDS), &reference(server.addr(), "m:1")).await);
    }
    drop(guard);
    said.text("refused");
    said.check();
    assert!(String::from_utf8_lossy(&said.0.lock().unwrap()).contains("bad request with Basic ***"));
}

#[tokio::test]
async fn a_clients_key_is_not_shown_whatever_becomes_of_the_handshake() {
    let said = Said::default();
    let guard = said.listen();
    let files = Files::new();
    let made = || rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (server, client) = (made(), made());
    let write = |name: &str, text: String| {
        fs::create_dir_all(files.path("certs")).unwrap();
        fs::write(files.path(name), text).unwrap();
        files.path(name)
    };
    let tls =
        (write("certs/ca.crt", server.cert.pem()), write("server.key", server.signing_key.serialize_pem()));
    let pem = client.signing_key.serialize_pem();
    write("certs/me.cert", client.cert.pem());
    write("certs/me.key", pem.clone());
    let trusted = write("clients.pem", client.cert.pem());
    for (authorities, key, good) in [
        (trusted.clone(), pem.clone(), true),
        // The registry does not know who signed it.
        (tls.0.clone(), pem.clone(), false),
        // The key of another certificate.
        (trusted, made().signing_key.serialize_pem(), false),
    ] {
        write("certs/me.key", key.clone());
        let registry = DockerRegistry::start_with(&Setup {
            tls: Some(tls.clone()),
            client_authorities: Some(authorities),
            ..Setup::default()
        });
        let options = RegistryOptions { cert_dir: Some(files.path("certs")), ..verified() };
        let pushed = said.push_and_pull(options, &reference(registry.addr(), "m:1")).await;
        assert_eq!(pushed, good);
        let text = String::from_utf8_lossy(&said.0.lock().unwrap()).into_owned();
        for line in key.lines().filter(|line| !line.starts_with('-')) {
            assert!(!text.contains(line), "{text}");
        }
    }
    drop(guard);
    said.text("refused");
    said.check();
}

#[tokio::test]
async fn a_token_that_is_replaced_in_mid_push_is_never_shown() {
    let said = Said::default();
    let guard = said.listen();
    let registry = DockerRegistry::start();
    let files = Files::new();
    let good = Arc::new(Mutex::new(SERVICE_ACCOUNT.to_owned()));
    let gate = Arc::clone(&good);
    let proxy = FaultProxy::start(registry.addr()).with_gate(move |seen| {
        let good = STANDARD.encode(format!("serviceaccount:{}", gate.lock().unwrap()));
        (seen.header("authorization") != Some(&format!("Basic {good}")))
            .then(|| with_header(401, "www-authenticate", "Basic realm=openshift,error=\"access denied\""))
    });
    fs::write(files.path("token"), SERVICE_ACCOUNT).unwrap();
    let mut options = options();
    options.credentials.service_account.dir = files.path("");
    options.credentials.service_account.registries = vec![proxy.addr().to_string()];
    let path = files.path("token");
    let hook = Hook(Arc::new(move || {
        fs::write(&path, IDENTITY).unwrap();
        *good.lock().unwrap() = IDENTITY.to_owned();
    }));
    proxy.break_after(1, "POST", "", 1, Fault::Run(hook));
    let sink = sink(options, &reference(proxy.addr(), "m:1"));
    sink.prepare(&SinkPlan::default()).await.unwrap();
    push(&sink, &[files.layer("a", 1000, 1)]).await.unwrap();
    drop(guard);
    said.text("refused");
    said.check();
}
