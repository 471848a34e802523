//! What a registry may make us read, and where it may make us send a credential: there are limits.

use std::fs;

use crossdock_registry::{Registry, RegistryOptions};
use crossdock_storage::{Hasher, ImageSource as _, Platform};

use crate::docker_registry::{DockerRegistry, Setup};
use crate::fault_proxy::{Fault, FaultProxy, Seen};
use crate::harness::{Files, chain, options, reference, verified, with_password};

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn plain(status: u16, body: impl Into<String>) -> Fault {
    Fault::Answer { status, headers: Vec::new(), body: body.into() }
}

/// A registry of whose answers none is Distribution's.
fn invented(answer: impl Fn(&Seen) -> Fault + Send + Sync + 'static) -> FaultProxy {
    // Nothing is passed on.
    FaultProxy::start(([127, 0, 0, 1], 9).into())
        .with_gate(move |seen| Some(if seen.path == "/v2/" { plain(200, "{}") } else { answer(seen) }))
}

fn manifest(config: &str, size: u64) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{size}}},"layers":[]}}"#
    )
}

async fn error_of(options: RegistryOptions, proxy: &FaultProxy) -> String {
    let source = Registry::new(options).source(&reference(proxy.addr(), "a/b:1"));
    chain(&source.resolve(&amd64()).await.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_says_it_is_huge_is_not_asked_for() {
    let digest = Hasher::digest(b"x").to_string();
    let proxy = invented(move |_| plain(200, manifest(&digest, (8 << 20) + 1)));
    let text = error_of(options(), &proxy).await;
    assert!(text.contains("the config of") && text.contains("larger than 8388608 bytes"), "{text}");
    assert_eq!(proxy.count("GET", "/blobs/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_is_huge_and_says_otherwise_is_not_read() {
    let digest = Hasher::digest(b"x").to_string();
    let proxy = invented(move |seen| {
        if seen.path.contains("/manifests/") {
            return plain(200, manifest(&digest, 100));
        }
        plain(200, " ".repeat((8 << 20) + 1))
    });
    let text = error_of(options(), &proxy).await;
    assert!(text.contains("larger than 8388608 bytes"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_token_server_has_a_limit() {
    let proxy = FaultProxy::start(([127, 0, 0, 1], 9).into());
    let realm = format!("Bearer realm=\"http://{}/token\"", proxy.addr());
    let proxy = proxy.with_gate(move |seen| {
        Some(if seen.path.starts_with("/token") {
            plain(200, format!(r#"{{"token":"{}"}}"#, "x".repeat(2 << 20)))
        } else {
            let headers = vec![("www-authenticate".to_owned(), realm.clone())];
            Fault::Answer { status: 401, headers, body: String::new() }
        })
    });
    let text = error_of(options(), &proxy).await;
    assert!(text.contains("token server") && text.contains("larger than 1048576 bytes"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_error_is_shortened() {
    let proxy = invented(|_| plain(418, "words ".repeat(4 << 20)));
    let text = error_of(options(), &proxy).await;
    assert!(text.contains("418") && text.len() < 1000, "{} bytes", text.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_indexes_without_end_is_left() {
    let proxy = FaultProxy::start(([127, 0, 0, 1], 9).into());
    // Each index leads to the next; an index cannot name itself, so there are many.
    let mut below = Hasher::digest(b"x").to_string();
    let mut indexes = Vec::new();
    for _ in 0..20 {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{below}","size":1,"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
        );
        below = Hasher::digest(text.as_bytes()).to_string();
        indexes.push((below.clone(), text));
    }
    let last = indexes.last().unwrap().1.clone();
    let proxy = proxy.with_gate(move |seen| {
        let named = indexes.iter().find(|(digest, _)| seen.path.ends_with(digest.as_str()));
        Some(match named {
            Some((_, text)) => plain(200, text.clone()),
            None if seen.path == "/v2/" => plain(200, "{}"),
            None => plain(200, last.clone()),
        })
    });
    let text = error_of(options(), &proxy).await;
    assert!(text.contains("nested deeper than 3 levels"), "{text}");
    assert!(proxy.count("GET", "/manifests/") <= 5);
}

/// A registry behind TLS that sends to a token server at this place, and the directory of its certificate.
fn with_realm(files: &Files, realm: &str) -> (DockerRegistry, RegistryOptions) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let directory = files.path("certs");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("ca.crt"), made.cert.pem()).unwrap();
    fs::write(files.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let extra = format!(
        "auth:\n  token:\n    realm: {realm}\n    service: test\n    issuer: test\n    rootcertbundle: {}\n",
        directory.join("ca.crt").display()
    );
    let tls = Some((directory.join("ca.crt"), files.path("key.pem")));
    let registry = DockerRegistry::start_with(&Setup { tls, extra, ..Setup::default() });
    let mut options = RegistryOptions { cert_dir: Some(directory), ..verified() };
    options.credentials = with_password("me", "hunter2").credentials;
    (registry, options)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_goes_to_a_token_server_over_tls_alone() {
    let eavesdropper = FaultProxy::start(([127, 0, 0, 1], 9).into());
    let files = Files::new();
    let (registry, verified) = with_realm(&files, &format!("http://{}/token", eavesdropper.addr()));
    let source = Registry::new(verified).source(&reference(registry.addr(), "a/b:1"));
    let text = chain(&source.resolve(&amd64()).await.unwrap_err());
    assert!(text.contains("over plain http") && text.contains("--tls-verify=false"), "{text}");
    assert!(!text.contains("hunter2"));
    assert!(eavesdropper.seen().is_empty(), "{:?}", eavesdropper.seen());

    // Not even --tls-verify=false sends it through the net in the open, where the registry itself speaks TLS.
    let files = Files::new();
    let (registry, mut careless) = with_realm(&files, "http://192.0.2.1/token");
    careless.tls_verify = false;
    let source = Registry::new(careless).source(&reference(registry.addr(), "a/b:1"));
    let text = chain(&source.resolve(&amd64()).await.unwrap_err());
    assert!(text.contains("over plain http"), "{text}");
}
