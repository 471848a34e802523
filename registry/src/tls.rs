//! TLS: whom to trust, and who to be.
//!
//! The system's authorities are read from the files where distributions keep them, and from what SSL_CERT_FILE and
//! SSL_CERT_DIR name (passed in, not read here). OpenShift Pipelines mounts its authorities under names that are not
//! OpenSSL's hashes, which rustls-native-certs would skip: so all files of such a directory are read.
//!
//! A certificate that is trusted is an anchor, whatever kind it is: an authority vouches for what it signs, and a server
//! that shows the very certificate needs no other word for it (as in Go's crypto/x509, and in OpenSSL with partial chains).
//!
//! A file that somebody named must be readable. Of the places that are looked into by default, what cannot be read is
//! warned of and left out.

mod reason;
mod verifier;
mod x509;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use reason::reason;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use verifier::Verifier;
use x509::Parts;

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

/// The certificates that are trusted: each is an authority, and may be a server's own.
#[derive(Debug, Clone)]
pub(crate) struct Trusted {
    roots: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

/// The TLS of the connections to one host.
#[derive(Debug)]
pub(crate) struct TlsPlan<'a> {
    /// Whether certificates are verified at all.
    pub(crate) verify: bool,
    /// What everybody is trusted by.
    pub(crate) system: &'a Trusted,
    /// `*.crt` to trust and `X.cert` with `X.key` to be (containers-certs.d(5)).
    pub(crate) directory: Option<CertDir<'a>>,
    /// Further files of certificates.
    pub(crate) authorities: Vec<CertFile>,
    /// Whether the client certificates of `directory` are offered.
    pub(crate) identity: bool,
}

/// A directory of certificates for one registry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CertDir<'a> {
    pub(crate) path: &'a Path,
    /// Whether somebody named it: then it must be there, and all of it readable.
    pub(crate) named: bool,
}

/// A file of certificates, which need not be there.
#[derive(Debug, Clone)]
pub(crate) struct CertFile {
    pub(crate) path: PathBuf,
    /// Whether somebody named its place: then it must be readable where it is there.
    pub(crate) named: bool,
}

impl Default for Trusted {
    fn default() -> Self {
        Self { roots: RootCertStore::empty(), certificates: Vec::new() }
    }
}

impl Trusted {
    /// Adds what is a certificate; how many that were.
    fn add(&mut self, certificates: Vec<CertificateDer<'static>>) -> usize {
        let usable = self.roots.add_parsable_certificates(certificates.iter().cloned()).0;
        self.certificates.extend(certificates);
        usable
    }
}

impl TrustOptions {
    /// The certificates that are trusted for all hosts.
    ///
    /// # Errors
    /// [`Error::Certificate`] where the file of `SSL_CERT_FILE` cannot be read.
    pub(crate) fn trusted_by_all(&self) -> Result<Trusted> {
        let mut trusted = Trusted::default();
        if let Some(path) = &self.ssl_cert_file {
            let bundle = fs::read(path).map_err(|error| {
                unusable(path, &format!("SSL_CERT_FILE names this file, and it cannot be read: {error}"))
            })?;
            trusted.add(certificates_in(&bundle));
        }
        let bundle = SYSTEM_BUNDLES
            .iter()
            .map(PathBuf::from)
            .find(|path| self.ssl_cert_file.is_none() && path.is_file());
        let mut files: Vec<_> = bundle.into_iter().collect();
        for directory in &self.ssl_cert_dirs {
            match files_of(directory) {
                Ok(found) => files.extend(found.into_iter().filter_map(|path| match no_file(&path) {
                    None => Some(path),
                    Some(problem) => {
                        if has_extension(&path, &["crt", "pem", "cert"]) {
                            tracing::warn!("{} is left out: {problem}", path.display());
                        }
                        None
                    }
                })),
                Err(error) => left_out(directory, &error),
            }
        }
        for path in files {
            match fs::read(&path) {
                Ok(bytes) => drop(trusted.add(certificates_in(&bytes))),
                Err(error) => left_out(&path, &error),
            }
        }
        Ok(trusted)
    }

    /// The directory of certificates that is for one registry.
    pub(crate) fn directory_of(&self, registry: &str) -> Option<PathBuf> {
        self.certs_d.iter().map(|directory| directory.join(registry)).find(|directory| {
            match fs::metadata(directory) {
                Ok(found) => found.is_dir(),
                Err(error) => {
                    left_out(directory, &error);
                    false
                }
            }
        })
    }
}

impl TlsPlan<'_> {
    pub(crate) fn client_config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let setup = |source: Box<dyn std::error::Error + Send + Sync>| Error::Setup {
            host: "registries".to_owned(),
            source,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| setup(error.into()))?;
        let mut identity = None;
        let mut trusted = self.system.clone();
        for CertFile { path, named } in &self.authorities {
            // Those of the ServiceAccount: no cluster has all of them.
            trust_file(&mut trusted, path, *named)?;
        }
        if let Some(directory) = self.directory {
            self.take_in(directory, &mut trusted, &mut identity)?;
        }
        let builder = if !self.verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier::of_anybody(&provider)))
        } else if trusted.roots.is_empty() {
            builder.with_root_certificates(RootCertStore::empty())
        } else {
            let Trusted { roots, certificates } = trusted;
            let verifier =
                Verifier::trusting(roots, certificates, &provider).map_err(|error| setup(error.into()))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        };
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((path, chain, key)) => {
                let identity = certified(chain, key, &provider).map_err(|reason| unusable(&path, &reason))?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Reads a directory of certificates.
    fn take_in(
        &self,
        CertDir { path: directory, named }: CertDir<'_>,
        trusted: &mut Trusted,
        identity: &mut Option<Identity>,
    ) -> Result<()> {
        if named && !directory.is_dir() {
            return Err(unusable(directory, "there is no such directory of certificates"));
        }
        let files = match files_of(directory) {
            Ok(files) => files,
            Err(error) if named => return Err(unusable(directory, &format!("it cannot be read: {error}"))),
            Err(error) => {
                left_out(directory, &error);
                return Ok(());
            }
        };
        for path in files {
            if let Some(problem) = no_file(&path) {
                match has_extension(&path, &["crt", "cert", "key"]) {
                    true if named => return Err(unusable(&path, &problem)),
                    true => tracing::warn!("{} is left out: {problem}", path.display()),
                    false => {}
                }
                continue;
            }
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => trust_file(trusted, &path, named)?,
                Some("cert") if self.identity && identity.is_none() => {
                    *identity = read_identity(&path, named)?;
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
        Ok(())
    }
}

/// Trusts the certificates of a file; one that nobody named may be missing or unreadable.
fn trust_file(trusted: &mut Trusted, path: &Path, named: bool) -> Result<()> {
    let Some(bytes) = read(path, named)? else { return Ok(()) };
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(path, &format!("no certificates in PEM form: {error}")))?;
    if certificates.is_empty() {
        return Err(unusable(path, "there is no certificate in PEM form in it (BEGIN CERTIFICATE)"));
    }
    let unknown = certificates.iter().find_map(|one| Parts::of(one)?.unknown_critical());
    if trusted.add(certificates) == 0 {
        let extension = unknown.map(|id| {
            format!(
                ": its critical extension {id} is not known here; make it anew without the extension, or with the extension \
                 not critical"
            )
        });
        let reason = format!("there is no usable certificate in it{}", extension.unwrap_or_default());
        return Err(unusable(path, &reason));
    }
    Ok(())
}

/// As every TLS library does: what is no certificate among the system's is left out.
fn certificates_in(bundle: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok).collect()
}

/// A file's bytes; `None` where it is not there, or nobody named it and it cannot be read.
fn read(path: &Path, named: bool) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if named => Err(unusable(path, &format!("it cannot be read: {error}"))),
        Err(error) => {
            left_out(path, &error);
            Ok(None)
        }
    }
}

type Identity = (PathBuf, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The client's certificate with its key. It is only sent, and whatever the server takes is good: it need not be of a
/// version that servers must have.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| format!("the key beside it cannot be used: {error}"))?;
    let first = chain.first().ok_or("there is no certificate in PEM form in it (BEGIN CERTIFICATE)")?;
    let parts =
        Parts::of(first).ok_or("the certificate in it cannot be read: it is not DER as X.509 has it")?;
    if key.public_key().is_some_and(|public| public.as_ref() != parts.key) {
        return Err("certificate and key do not fit together: the key beside it is another one".to_owned());
    }
    Ok(CertifiedKey::new(chain, key))
}

/// The client's certificate and key; none, where nobody named their directory and one of them cannot be read.
fn read_identity(path: &Path, named: bool) -> Result<Option<Identity>> {
    let Some(bytes) = read(path, named)? else { return Ok(None) };
    let chain = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(path, &format!("no client certificate in PEM form: {error}")))?;
    let key_path = path.with_extension("key");
    let no_key = |reason: &dyn std::fmt::Display| {
        unusable(&key_path, &format!("no key for the client certificate beside it: {reason}"))
    };
    let bytes = match fs::read(&key_path) {
        Ok(bytes) => bytes,
        Err(error) if !named && error.kind() != io::ErrorKind::NotFound => {
            left_out(&key_path, &error);
            return Ok(None);
        }
        Err(error) => return Err(no_key(&error)),
    };
    // PKCS#8 has it in the label, and the older forms in a header.
    if ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| bytes.windows(mark.len()).any(|part| part == mark.as_bytes()))
    {
        let file = key_path.display();
        return Err(unusable(
            &key_path,
            &format!(
                "the key is encrypted, and nobody is asked for its password here; put it there decrypted, for its owner \
                 alone: `openssl pkey -in {file} -out plain.key && mv plain.key {file} && chmod 600 {file}`"
            ),
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| no_key(&error))?;
    Ok(Some((path.to_path_buf(), chain, key)))
}

/// What is in a directory, by name. A directory that is not there has nothing.
fn files_of(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// Why what is at a path is no file that could be read; `None` where it is one. Kubernetes mounts files as symlinks.
fn no_file(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => None,
        Ok(found) if found.is_dir() => Some("it is a directory, and not a file".to_owned()),
        Ok(_) => Some("it is no regular file".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some("it is a symlink that leads nowhere".to_owned())
        }
        Err(error) => Some(format!("it cannot be looked at: {error}")),
    }
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().and_then(|is| is.to_str()).is_some_and(|is| extensions.contains(&is))
}

/// Warns of a place that nobody named and that cannot be read. One that is not there is the usual case.
fn left_out(path: &Path, error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
        tracing::warn!("{} cannot be read, and its certificates are left out: {error}", path.display());
    }
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::Certificate { path: path.to_path_buf(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan<'a>(system: &'a Trusted, path: &'a Path) -> TlsPlan<'a> {
        let directory = Some(CertDir { path, named: true });
        TlsPlan { verify: true, system, directory, authorities: Vec::new(), identity: true }
    }

    #[test]
    fn a_directory_of_certificates_is_read_as_containers_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let system = Trusted::default();
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
        assert_eq!(trust.trusted_by_all().unwrap().certificates.len(), 1);
    }
}
