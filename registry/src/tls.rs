//! TLS: whom to trust, and who to be.
//!
//! The system's authorities are read from the files where distributions keep them, and from what SSL_CERT_FILE and
//! SSL_CERT_DIR name (passed in, not read here). OpenShift Pipelines mounts its authorities under names that are not
//! OpenSSL's hashes, which rustls-native-certs would skip: so all files of such a directory are read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, Result};

/// Where the distributions keep the system's authorities; the first that is there counts.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];

/// Whom to trust besides what the distribution keeps.
#[derive(Debug, Clone, Default)]
pub struct TrustOptions {
    /// `SSL_CERT_FILE`: taken instead of the distribution's bundle.
    pub ssl_cert_file: Option<PathBuf>,
    /// `SSL_CERT_DIR`, split at its colons: all certificates in all files of these directories are trusted in addition.
    pub ssl_cert_dirs: Vec<PathBuf>,
    /// Directories with a directory for each registry, `HOST[:PORT]`, that is like `cert_dir`; the first that has one
    /// counts. Without any effect where `cert_dir` is given.
    pub certs_d: Vec<PathBuf>,
}

/// The TLS of the connections to one host.
#[derive(Debug)]
pub(crate) struct TlsPlan<'a> {
    /// Whether certificates are verified at all.
    pub(crate) verify: bool,
    /// What everybody is trusted by.
    pub(crate) system: &'a RootCertStore,
    /// `*.crt` authorities and `X.cert` with `X.key` to be (containers-certs.d(5)).
    pub(crate) cert_dir: Option<&'a Path>,
    /// Further authorities, where their files are there.
    pub(crate) authorities: &'a [PathBuf],
    /// Whether the client certificates of `cert_dir` are offered.
    pub(crate) identity: bool,
}

impl TrustOptions {
    /// The authorities for all hosts.
    pub(crate) fn system_roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let bundle = match &self.ssl_cert_file {
            Some(path) => Some(path.clone()),
            None => SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file()),
        };
        for path in
            bundle.into_iter().chain(self.ssl_cert_dirs.iter().flat_map(|directory| files_of(directory)))
        {
            // As every TLS library does: what is no certificate among the system's is left out.
            if let Ok(certificates) = CertificateDer::pem_file_iter(&path) {
                roots.add_parsable_certificates(certificates.filter_map(std::result::Result::ok));
            } else {
                tracing::debug!(path = %path.display(), "certificates cannot be read");
            }
        }
        roots
    }

    /// The directory of certificates that is for one registry.
    pub(crate) fn directory_of(&self, registry: &str) -> Option<PathBuf> {
        self.certs_d.iter().map(|directory| directory.join(registry)).find(|directory| directory.is_dir())
    }
}

impl TlsPlan<'_> {
    pub(crate) fn client_config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Setup { host: "registries".to_owned(), source: error.into() })?;
        let mut identity = None;
        let mut roots = self.system.clone();
        for path in self.authorities {
            // Those of the ServiceAccount: no cluster has all of them.
            if path.is_file() {
                add_authorities(&mut roots, path)?;
            }
        }
        if let Some(directory) = self.cert_dir {
            if !directory.is_dir() {
                return Err(unusable(directory, "there is no such directory of certificates"));
            }
            for path in files_of(directory) {
                match path.extension().and_then(|e| e.to_str()) {
                    Some("crt") => add_authorities(&mut roots, &path)?,
                    Some("cert") if self.identity && identity.is_none() => {
                        identity = Some(read_identity(&path)?);
                    }
                    Some("key") if !path.with_extension("cert").is_file() => {
                        return Err(unusable(
                            &path,
                            "there is a key and no certificate: NAME.cert is missing beside it",
                        ));
                    }
                    _ => {}
                }
            }
        }
        let builder = if self.verify {
            builder.with_root_certificates(roots)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        };
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((path, chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
                unusable(&path, &format!("certificate and key do not fit together: {error}"))
            })?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<()> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(path, &format!("no certificates in PEM form: {error}")))?;
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err(unusable(path, "there is no usable certificate in it"));
    }
    Ok(())
}

type Identity = (PathBuf, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read_identity(path: &Path) -> Result<Identity> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(path, &format!("no client certificate in PEM form: {error}")))?;
    let key_path = path.with_extension("key");
    let key = PrivateKeyDer::from_pem_file(&key_path).map_err(|error| {
        unusable(&key_path, &format!("no key for the client certificate beside it: {error}"))
    })?;
    Ok((path.to_path_buf(), chain, key))
}

/// The files of a directory, by name; Kubernetes mounts them as symlinks.
fn files_of(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .map(|entries| {
            entries.filter_map(|entry| entry.ok().map(|e| e.path())).filter(|path| path.is_file()).collect()
        })
        .unwrap_or_default();
    files.sort();
    files
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::Certificate { path: path.to_path_buf(), reason: reason.to_owned() }
}

/// Takes any certificate: `--tls-verify=false`.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan<'a>(system: &'a RootCertStore, cert_dir: &'a Path) -> TlsPlan<'a> {
        TlsPlan { verify: true, system, cert_dir: Some(cert_dir), authorities: &[], identity: true }
    }

    #[test]
    fn a_directory_of_certificates_is_read_as_containers_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let system = RootCertStore::empty();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(dir.path().join("ca.crt"), made.cert.pem()).unwrap();
        fs::write(dir.path().join("client.cert"), made.cert.pem()).unwrap();
        let error = plan(&system, dir.path()).client_config().unwrap_err().to_string();
        assert!(error.contains("client.key"), "{error}");
        fs::write(dir.path().join("client.key"), made.signing_key.serialize_pem()).unwrap();
        assert!(plan(&system, dir.path()).client_config().unwrap().client_auth_cert_resolver.has_certs());
        fs::write(dir.path().join("bad.crt"), "nothing").unwrap();
        let error = plan(&system, dir.path()).client_config().unwrap_err().to_string();
        assert!(error.contains("bad.crt"), "{error}");
    }

    #[test]
    fn ssl_cert_dir_needs_no_hashed_names() {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(dir.path().join("service-ca.crt"), made.cert.pem()).unwrap();
        fs::write(dir.path().join("README"), "not a certificate").unwrap();
        let nothing = dir.path().join("README");
        let trust = TrustOptions {
            ssl_cert_file: Some(nothing),
            ssl_cert_dirs: vec![dir.path().to_path_buf()],
            certs_d: Vec::new(),
        };
        assert_eq!(trust.system_roots().len(), 1);
    }
}
