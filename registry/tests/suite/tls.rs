//! TLS: trusted, not trusted, not spoken.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossdock_registry::{Registry, RegistryOptions};

use crate::docker_registry::{DockerRegistry, Setup};
use crate::harness::{Files, QUICK, chain, options, push, reference, sink, verified};

/// A registry with a certificate for this name, and the directory of the certificate.
fn registry_for(files: &Files, name: &str) -> (DockerRegistry, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let directory = files.path("certs");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("ca.crt"), made.cert.pem()).unwrap();
    fs::write(files.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let tls = Some((directory.join("ca.crt"), files.path("key.pem")));
    (DockerRegistry::start_with(&Setup { tls, ..Setup::default() }), directory)
}

async fn error_of(options: RegistryOptions, registry: &DockerRegistry) -> String {
    let files = Files::new();
    chain(
        &push(&sink(options, &reference(registry.addr(), "m:1")), &[files.layer("a", 10, 1)])
            .await
            .unwrap_err(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_in_the_directory_is_trusted() {
    let files = Files::new();
    let (registry, directory) = registry_for(&files, "127.0.0.1");
    let to = reference(registry.addr(), "m:1");
    let layers = [files.layer("a", 3 << 20, 1)];
    push(&sink(RegistryOptions { cert_dir: Some(directory.clone()), ..verified() }, &to), &layers)
        .await
        .unwrap();
    let mut by_host = verified();
    let certs_d = files.path("certs.d");
    fs::create_dir(&certs_d).unwrap();
    fs::rename(&directory, certs_d.join(registry.addr().to_string())).unwrap();
    by_host.trust.certs_d = vec![certs_d.clone()];
    push(&sink(by_host, &to), &layers).await.unwrap();
    let mut by_variable = verified();
    by_variable.trust.ssl_cert_dirs = vec![certs_d.join(registry.addr().to_string())];
    push(&sink(by_variable, &to), &layers).await.unwrap();
    assert!(registry.tag("m", "1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_accounts_authorities_are_trusted_for_in_cluster_hosts_alone() {
    let files = Files::new();
    let (registry, directory) = registry_for(&files, "127.0.0.1");
    fs::rename(directory.join("ca.crt"), directory.join("service-ca.crt")).unwrap();
    let mut options = verified();
    options.credentials.service_account.dir = directory;
    assert!(error_of(options.clone(), &registry).await.contains("unknown authority"));
    options.credentials.service_account.registries = vec!["127.0.0.1".to_owned()];
    let to = reference(registry.addr(), "m:1");
    push(&sink(options, &to), &[files.layer("a", 10, 1)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_is_told_with_the_way_out() {
    let files = Files::new();
    let (registry, _) = registry_for(&files, "127.0.0.1");
    let text = error_of(verified(), &registry).await;
    assert!(text.contains("unknown authority") && text.contains("--cert-dir"), "{text}");
    let to = reference(registry.addr(), "m:1");
    push(&sink(options(), &to), &[files.layer("a", 10, 1)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_told() {
    let files = Files::new();
    let (registry, directory) = registry_for(&files, "registry.example");
    let text = error_of(RegistryOptions { cert_dir: Some(directory), ..verified() }, &registry).await;
    assert!(text.contains("another name") && text.contains("registry.example"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_wants_to_be_asked_for() {
    let registry = DockerRegistry::start();
    let text = error_of(RegistryOptions { retry: QUICK, ..verified() }, &registry).await;
    assert!(text.contains("plain http") && text.contains("--tls-verify=false"), "{text}");
}

/// A door to a server that lets those who speak TLS wait: for so long, or for ever. A server that waits for a line of text
/// does so with plain http behind it, and a slow one with https.
struct Door {
    addr: SocketAddr,
    hellos: Arc<AtomicUsize>,
}

impl Door {
    fn to(server: Option<SocketAddr>, wait: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let hellos = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&hellos);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                thread::spawn(move || Self::serve(&client, server, wait, &counted));
            }
        });
        Self { addr, hellos }
    }

    fn serve(
        client: &TcpStream,
        server: Option<SocketAddr>,
        wait: Option<Duration>,
        hellos: &AtomicUsize,
    ) -> io::Result<()> {
        let mut first = [0];
        client.peek(&mut first)?;
        // The type of a record of the handshake (RFC 8446, section 5.1).
        if first[0] == 22 {
            hellos.fetch_add(1, Ordering::Relaxed);
            match wait {
                Some(wait) => thread::sleep(wait),
                None => return io::copy(&mut &*client, &mut io::sink()).map(|_| ()),
            }
        }
        let Some(server) = server else { return io::copy(&mut &*client, &mut io::sink()).map(|_| ()) };
        let server = TcpStream::connect(server)?;
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = io::copy(&mut &*client, &mut &server);
                server.shutdown(std::net::Shutdown::Write)
            });
            let _ = io::copy(&mut &server, &mut &*client);
            client.shutdown(std::net::Shutdown::Both)
        })
    }
}

fn impatient() -> RegistryOptions {
    let mut options = RegistryOptions { retry: QUICK, ..options() };
    options.timeouts.hello = Duration::from_millis(200);
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_the_handshake_unanswered_is_asked_in_plain_http_and_that_is_remembered() {
    let (files, registry) = (Files::new(), DockerRegistry::start());
    let door = Door::to(Some(registry.addr()), None);
    let to = reference(door.addr, "m:1");
    let options = impatient();
    let (began, limit) = (Instant::now(), options.timeouts.connect);
    let all = Registry::new(options);
    let layers = [files.layer("a", 10, 1)];
    push(&all.sink(std::slice::from_ref(&to)).unwrap(), &layers).await.unwrap();
    push(&all.clone().sink(&[reference(door.addr, "other:1")]).unwrap(), &layers).await.unwrap();
    let report = all.explain(&to, true).await.unwrap();
    assert_eq!(report.endpoint, format!("http://{}/v2/", door.addr));
    assert_eq!(door.hellos.load(Ordering::Relaxed), 1, "asked once");
    assert!(began.elapsed() < limit, "the handshake is not waited for to its end");
    assert!(registry.tag("m", "1").is_some() && registry.tag("other", "1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_slow_with_the_handshake_is_spoken_to_in_https() {
    let files = Files::new();
    let (registry, _) = registry_for(&files, "127.0.0.1");
    let options = impatient();
    let door = Door::to(Some(registry.addr()), Some(4 * options.timeouts.hello));
    let to = reference(door.addr, "m:1");
    let all = Registry::new(options);
    push(&all.sink(std::slice::from_ref(&to)).unwrap(), &[files.layer("a", 10, 1)]).await.unwrap();
    assert_eq!(all.explain(&to, false).await.unwrap().endpoint, format!("https://{}/v2/", door.addr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_nothing_is_an_error_that_names_it() {
    let door = Door::to(None, None);
    let mut options = impatient();
    options.timeouts.connect = Duration::from_secs(1);
    options.retry.retries = 0;
    let (began, stall) = (Instant::now(), options.timeouts.stall);
    let files = Files::new();
    let error = push(&sink(options, &reference(door.addr, "m:1")), &[files.layer("a", 10, 1)]).await;
    let text = chain(&error.unwrap_err());
    assert!(text.contains(&door.addr.to_string()), "{text}");
    assert!(began.elapsed() < stall, "{text}");
}

/// Without leave to do so nothing is said in plain http.
#[tokio::test(flavor = "multi_thread")]
async fn a_verified_registry_is_never_asked_in_plain_http() {
    let (files, registry) = (Files::new(), DockerRegistry::start());
    let door = Door::to(Some(registry.addr()), None);
    let mut options = RegistryOptions { tls_verify: true, ..impatient() };
    options.timeouts.connect = Duration::from_secs(1);
    options.retry.retries = 0;
    push(&sink(options, &reference(door.addr, "m:1")), &[files.layer("a", 10, 1)]).await.unwrap_err();
    assert_eq!(registry.tag("m", "1"), None);
}
