//! How a server's certificate is judged: by the certificates that are trusted, or not at all.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, PeerMisbehaved, RootCertStore,
    SignatureScheme,
};

use super::x509::Parts;

/// What webpki calls a server's certificate that says of itself that it is an authority's, as `openssl req -x509` makes it.
pub(crate) const CA_AS_SERVER: &str = "CaUsedAsEndEntity";

/// RSA keys of fewer bits are not taken, as with rustls' own verifier.
const LEAST_RSA_BITS: usize = 2048;

/// What is wrong with a certificate, where webpki's own word for it says too little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// A key of RSA of so many bits, of the server or of one who signed.
    ShortKey { bits: usize, of_server: bool },
    /// A critical extension of this OID, which nobody knows.
    CriticalExtension(String),
    /// The server's signature of the handshake is none of the key in its certificate.
    NotItsKey,
}

/// Judges servers.
#[derive(Debug)]
pub(super) struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None` for any certificate: `--tls-verify=false`.
    trusted: Option<Anchors>,
}

/// Trusts what the trusted certificates vouch for, and each of them itself.
#[derive(Debug)]
struct Anchors {
    chains: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// Takes what these certificates vouch for.
    pub(super) fn trusting(
        roots: RootCertStore,
        certificates: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let chains =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build()?;
        Ok(Self { provider: Arc::clone(provider), trusted: Some(Anchors { chains, certificates }) })
    }

    /// Takes any certificate.
    pub(super) fn of_anybody(provider: &Arc<CryptoProvider>) -> Self {
        Self { provider: Arc::clone(provider), trusted: None }
    }

    /// Says more of a signature of the handshake that does not hold.
    fn signed(
        result: Result<HandshakeSignatureValid, Error>,
        certificate: &CertificateDer<'_>,
    ) -> Result<HandshakeSignatureValid, Error> {
        result.map_err(|error| match error {
            Error::InvalidCertificate(_)
            | Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme) => {
                let bits = Parts::of(certificate).and_then(|parts| parts.rsa_bits());
                match bits.filter(|bits| *bits < LEAST_RSA_BITS) {
                    Some(bits) => Fault::ShortKey { bits, of_server: true }.into(),
                    None if matches!(error, Error::InvalidCertificate(CertificateError::BadSignature)) => {
                        Fault::NotItsKey.into()
                    }
                    None => error,
                }
            }
            error => error,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trusted) = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        let judged = if trusted.certificates.iter().any(|known| known.as_ref() == end_entity.as_ref()) {
            trusted.verify_itself(end_entity, server_name, now)
        } else {
            trusted.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        judged.map_err(|error| trusted.explained(error, end_entity, intermediates))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Self::signed(verify_tls12_signature(message, cert, dss, algorithms), cert)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Self::signed(verify_tls13_signature(message, cert, dss, algorithms), cert)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Anchors {
    /// Judges a certificate that is itself trusted: nobody has to vouch for it, but it must be in its time, for servers
    /// and for this name.
    fn verify_itself(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chains.verify_server_cert(certificate, &[], name, &[], now) {
            Ok(verified) => return Ok(verified),
            // webpki looks at the certificate's own properties, its time first, before it looks for who signed it.
            Err(error) if is_about_the_signer(&error) => {}
            Err(error) => return Err(error),
        }
        // Of an authority's certificate webpki does not come to look at the purpose.
        let parts = Parts::of(certificate).ok_or(CertificateError::BadEncoding)?;
        if !parts.is_for_servers() {
            return Err(CertificateError::InvalidPurpose.into());
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    /// The error with what webpki does not say.
    fn explained(
        &self,
        error: Error,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Error {
        let Error::InvalidCertificate(certificate) = &error else { return error };
        let shown: Vec<_> = std::iter::once(end_entity)
            .chain(intermediates)
            .filter_map(|certificate| Parts::of(certificate))
            .collect();
        let fault = match certificate {
            error if is_about_an_extension(error) => {
                shown.iter().find_map(Parts::unknown_critical).map(Fault::CriticalExtension)
            }
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                // Who may have signed one of those that are shown.
                let trusted = self.certificates.iter().filter_map(|trusted| Parts::of(trusted));
                let trusted = trusted.filter(|parts| shown.iter().any(|one| one.issuer == parts.subject));
                let short = |parts: &Parts<'_>| parts.rsa_bits().filter(|bits| *bits < LEAST_RSA_BITS);
                let mut signers = shown.iter().skip(1).filter_map(short).collect::<Vec<_>>();
                signers.extend(trusted.filter_map(|parts| short(&parts)));
                signers.first().map(|bits| Fault::ShortKey { bits: *bits, of_server: false })
            }
            _ => None,
        };
        fault.map_or(error, Error::from)
    }
}

/// Whether a critical extension is not known, in rustls' word or in webpki's.
fn is_about_an_extension(error: &CertificateError) -> bool {
    match error {
        CertificateError::UnhandledCriticalExtension => true,
        CertificateError::Other(other) => other.to_string() == "UnsupportedCriticalExtension",
        _ => false,
    }
}

/// Whether all that is wrong is who signed the certificate, and how.
fn is_about_the_signer(error: &Error) -> bool {
    let Error::InvalidCertificate(error) = error else { return false };
    match error {
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => true,
        CertificateError::Other(other) => other.to_string() == CA_AS_SERVER,
        _ => false,
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        CertificateError::Other(OtherError(Arc::new(fault))).into()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShortKey { bits, of_server } => {
                let whose = if *of_server {
                    "its certificate"
                } else {
                    "the certificate of an authority that signed its certificate"
                };
                write!(
                    f,
                    "{whose} has an RSA key of {bits} bits, and keys of fewer than {LEAST_RSA_BITS} bits are not taken; make a \
                     new key and certificate (openssl req -newkey rsa:{LEAST_RSA_BITS})"
                )
            }
            Self::CriticalExtension(id) => write!(
                f,
                "its certificate, or one between it and the authority, has the critical extension {id}, which is not known \
                 here; make it anew without that extension, or with the extension not critical"
            ),
            Self::NotItsKey => f.write_str(
                "it does not have the key of the certificate that it shows: its signature of the handshake is wrong; give the \
                 server the key that the certificate was made with",
            ),
        }
    }
}

impl std::error::Error for Fault {}
