//! TLS: trusted, not trusted, not spoken.

use std::fs;
use std::path::PathBuf;

use crossdock_registry::RegistryOptions;

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
