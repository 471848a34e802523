//! TLS with an authority of the test's own: certificates out of their time, of another authority, and a client's.

use std::fs;
use std::path::PathBuf;

use crossdock_registry::RegistryOptions;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};

use crate::docker_registry::{DockerRegistry, Setup};
use crate::harness::{Files, chain, options, push, reference, sink, verified};

/// An authority, and a directory for what it signs.
struct Authority {
    files: Files,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { files: Files::new(), issuer: Issuer::new(params, key), pem }
    }

    /// Signs a certificate for 127.0.0.1: its paths and that of its key.
    fn sign(&self, name: &str, years: (i32, i32), usage: ExtendedKeyUsagePurpose) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = (self.files.path(&format!("{name}.cert")), self.files.path(&format!("{name}.key")));
        fs::write(&paths.0, certificate.pem()).unwrap();
        fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }

    fn server(&self, years: (i32, i32)) -> DockerRegistry {
        let tls = Some(self.sign("server", years, ExtendedKeyUsagePurpose::ServerAuth));
        DockerRegistry::start_with(&Setup { tls, ..Setup::default() })
    }

    /// A directory with this authority's certificate alone.
    fn directory(&self, name: &str) -> PathBuf {
        let directory = self.files.path(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("ca.crt"), &self.pem).unwrap();
        directory
    }

    fn trusting(&self) -> RegistryOptions {
        RegistryOptions { cert_dir: Some(self.directory("trust")), ..verified() }
    }
}

const GOOD: (i32, i32) = (2000, 4000);

async fn push_to(registry: &DockerRegistry, options: RegistryOptions) -> Result<(), String> {
    let files = Files::new();
    let to = reference(registry.addr(), "m:1");
    let pushed = push(&sink(options, &to), &[files.layer("a", 100_000, 1)]).await;
    pushed.map(drop).map_err(|error| chain(&error))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_counts_in_its_time_and_by_its_authority() {
    let authority = Authority::new();
    push_to(&authority.server(GOOD), authority.trusting()).await.unwrap();
    for (years, part) in [((2000, 2001), "has expired"), ((3000, 4000), "is not valid yet")] {
        let registry = authority.server(years);
        let error = push_to(&registry, authority.trusting()).await.unwrap_err();
        assert!(error.contains(part) && error.contains("clock"), "{error}");
        push_to(&registry, options()).await.unwrap();
    }
    let registry = authority.server(GOOD);
    let error = push_to(&registry, Authority::new().trusting()).await.unwrap_err();
    assert!(error.contains("unknown authority") && error.contains("--cert-dir"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_are_found_by_variable_and_directory() {
    let authority = Authority::new();
    let registry = authority.server(GOOD);
    let mut by_file = verified();
    by_file.trust.ssl_cert_file = Some(authority.directory("file").join("ca.crt"));
    push_to(&registry, by_file).await.unwrap();
    // As OpenShift Pipelines mounts them: names that are no hashes, a directory that may not be there.
    let mut by_directory = verified();
    let tekton = authority.directory("tekton-custom-certs");
    fs::rename(tekton.join("ca.crt"), tekton.join("service-ca.crt")).unwrap();
    by_directory.trust.ssl_cert_dirs = vec![PathBuf::from("/nonexistent"), tekton];
    push_to(&registry, by_directory).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_from_either_directory() {
    let authority = Authority::new();
    let tls = Some(authority.sign("server", GOOD, ExtendedKeyUsagePurpose::ServerAuth));
    let client_authorities = Some(authority.directory("clients").join("ca.crt"));
    let registry = DockerRegistry::start_with(&Setup { tls, client_authorities, ..Setup::default() });
    let error = push_to(&registry, authority.trusting()).await.unwrap_err();
    assert!(error.contains("client certificate"), "{error}");
    let (certificate, key) = authority.sign("me", GOOD, ExtendedKeyUsagePurpose::ClientAuth);
    let certs_d = authority.files.path("certs.d");
    let name = format!("certs.d/{}", registry.addr());
    let directory = authority.directory(&name);
    fs::copy(certificate, directory.join("me.cert")).unwrap();
    fs::copy(key, directory.join("me.key")).unwrap();
    push_to(&registry, RegistryOptions { cert_dir: Some(directory), ..verified() }).await.unwrap();
    let mut by_host = verified();
    by_host.trust.certs_d = vec![certs_d];
    push_to(&registry, by_host).await.unwrap();
}
