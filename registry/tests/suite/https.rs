//! A registry on https that leads to plain http: what is followed, what is not, and where a credential never goes.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use crossdock_registry::{Registry, RegistryOptions};
use crossdock_storage::ImageSource as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::docker_registry::{DockerRegistry, Setup};
use crate::fault_proxy::FaultProxy;
use crate::harness::{Files, chain, options, push, reference, sink, verified, with_password};

/// A server on https that answers each request as it is told, and keeps them.
pub(crate) struct Front {
    pub(crate) addr: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
    pub(crate) files: Files,
}

impl Front {
    /// `answer` gets a request, and gives the head of the answer without what is always in it; behind an empty line, its
    /// body.
    pub(crate) fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let files = Files::new();
        fs::create_dir(files.path("certs")).unwrap();
        fs::write(files.path("certs/ca.crt"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let (config, answer) = (Arc::new(config), Arc::new(answer));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&seen);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (config, answer, kept) = (Arc::clone(&config), Arc::clone(&answer), Arc::clone(&kept));
                thread::spawn(move || {
                    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), client);
                    let mut head = String::new();
                    let mut reader = BufReader::new(&mut tls);
                    while !head.ends_with("\r\n\r\n") {
                        // A client that does not trust this server goes away.
                        if reader.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let length = head
                        .to_lowercase()
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
                    let mut body = vec![0; length.unwrap_or_default()];
                    reader.read_exact(&mut body).unwrap_or_default();
                    head.push_str(&String::from_utf8_lossy(&body));
                    let answer = answer(&head);
                    let (lines, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.trim_end(), ""));
                    let text = format!(
                        "HTTP/1.1 {lines}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    kept.lock().unwrap().push(head);
                    let _ = tls.write_all(text.as_bytes());
                    tls.conn.send_close_notify();
                    let _ = tls.flush();
                });
            }
        });
        Self { addr, seen, files }
    }

    /// Trusts this server, and knows a password.
    fn trusting(&self) -> RegistryOptions {
        let mut options = RegistryOptions { cert_dir: Some(self.files.path("certs")), ..verified() };
        options.credentials = with_password("me", "hunter2").credentials;
        options
    }

    fn saw_a_credential(&self) -> bool {
        self.seen.lock().unwrap().iter().any(|head| head.to_lowercase().contains("\r\nauthorization:"))
    }
}

/// Asks for a password, then leads everything below `/v2/` to `to`.
fn leading(to: SocketAddr) -> Front {
    Front::start(move |head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        if !head.to_lowercase().contains("\r\nauthorization:") {
            "401 Unauthorized\r\nwww-authenticate: Basic realm=x\r\n".to_owned()
        } else if path == "/v2/" {
            "200 OK\r\n".to_owned()
        } else if head.starts_with("POST") {
            format!("202 Accepted\r\nlocation: http://localhost:{}{path}x\r\n", to.port())
        } else {
            format!("307 Temporary Redirect\r\nlocation: http://{to}{path}\r\n")
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_plain_http_is_refused_unless_that_is_meant_and_gets_no_credential() {
    let registry = DockerRegistry::start();
    let files = Files::new();
    let layer = [files.layer("a", 100_000, 1)];
    push(&sink(options(), &reference(registry.addr(), "m:1")), &layer).await.unwrap();
    let plain = FaultProxy::start(registry.addr());
    let front = leading(plain.addr());
    let image = reference(front.addr, "m:1");
    let amd64 = "linux/amd64".parse().unwrap();

    let error = Registry::new(front.trusting()).source(&image).resolve(&amd64).await.unwrap_err();
    let text = chain(&error);
    assert!(text.contains("from https to http") && text.contains("--tls-verify=false"), "{text}");
    assert!(text.contains(&plain.addr().to_string()) && !text.contains("hunter2"), "{text}");
    assert!(plain.seen().is_empty(), "{:?}", plain.seen());

    let mut careless = front.trusting();
    careless.tls_verify = false;
    Registry::new(careless).source(&image).resolve(&amd64).await.unwrap();
    assert!(!plain.seen().is_empty());
    assert!(plain.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert!(front.saw_a_credential());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_not_sent_to_plain_http_on_another_host() {
    let registry = DockerRegistry::start();
    let plain = FaultProxy::start(registry.addr());
    let front = leading(plain.addr());
    let files = Files::new();
    let to = reference(front.addr, "m:1");
    let error = push(&sink(front.trusting(), &to), &[files.layer("a", 100_000, 1)]).await.unwrap_err();
    assert!(chain(&error).contains("from https to http"), "{}", chain(&error));
    assert!(plain.seen().is_empty(), "{:?}", plain.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_on_https_is_not_spoken_to_in_plain_http() {
    // One that wants a certificate of its clients breaks the handshake, and takes nothing in plain http either.
    let files = Files::new();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (files.path("server.crt"), files.path("key.pem"));
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::write(&certificate, made.cert.pem()).unwrap();
    let registry = DockerRegistry::start_with(&Setup {
        tls: Some((certificate.clone(), key)),
        client_authorities: Some(certificate),
        ..Setup::default()
    });
    let to = reference(registry.addr(), "m:1");
    let error =
        push(&sink(with_password("me", "hunter2"), &to), &[files.layer("a", 10, 1)]).await.unwrap_err();
    assert!(chain(&error).contains("client certificate"), "{}", chain(&error));
}
