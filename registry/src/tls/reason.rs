//! Why a TLS connection is not trusted, in words: the property that is at fault, and the way out.

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{CertificateError, Error, PeerIncompatible};

use super::verifier::{CA_AS_SERVER, Fault};
use super::x509::written;

/// What to do where the server's own certificate is trusted, or its authority's.
const TRUST_IT: &str = "put the authority's certificate or the server's own as NAME.crt into --cert-dir or \
                        /etc/containers/certs.d/HOST[:PORT]";

/// What is wrong with a connection, and the way out.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(certificate) => of_certificate(certificate),
        Error::AlertReceived(alert) => format!(
            "it broke off the TLS handshake ({}); does it want a client certificate (--cert-dir)?",
            words(&format!("{alert:?}"))
        ),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "it speaks no TLS that is still safe: let it offer TLS 1.2 or 1.3".to_owned(),
        Error::PeerIncompatible(why) => format!("TLS cannot be agreed upon: {}", words(&format!("{why:?}"))),
        Error::PeerMisbehaved(why) => {
            format!("TLS failed, for the server breaks its rules: {}", words(&format!("{why:?}")))
        }
        other => format!("TLS failed: {other}"),
    }
}

/// The name of a variant in Rust as words.
fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 8);
    let mut before = ' ';
    for c in name.chars() {
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            words.push(' ');
        }
        before = c;
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// A name in a certificate, which webpki writes as `DnsName("host")` or `IpAddress(127.0.0.1)`.
fn plain_name(name: &str) -> &str {
    match name.split_once('(') {
        Some(("DnsName" | "IpAddress", rest)) => rest.trim_end_matches(')').trim_matches('"'),
        _ => name,
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        // A bad signature is that of an authority that was made anew under its old name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("its certificate is signed by an unknown authority; {TRUST_IT}")
        }
        CertificateError::NotValidForName => {
            "its certificate is for another name; use the name it is for".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "its certificate has no name in its subjectAltName, and the common name of its subject does not count; make it \
             anew with one (openssl req -addext subjectAltName=DNS:HOST)"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().map(|name| plain_name(name)).collect();
            format!("its certificate is for another name ({}); use the name it is for", names.join(", "))
        }
        CertificateError::Expired => {
            "its certificate, or one between it and the authority, has expired (or this machine's clock is wrong); renew it"
                .to_owned()
        }
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "its certificate, or one between it and the authority, has expired: it was valid until {} (or this machine's \
             clock is wrong); renew it",
            date(*not_after)
        ),
        CertificateError::NotValidYet => {
            "its certificate is not valid yet (or this machine's clock is wrong)".to_owned()
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "its certificate is not valid yet: it is valid from {} on (or this machine's clock is wrong)",
            date(*not_before)
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for servers: its extendedKeyUsage lacks serverAuth; make it anew with that, or without \
             the extension"
                .to_owned()
        }
        CertificateError::UnhandledCriticalExtension => {
            "its certificate has a critical extension that nobody here knows; make it anew without that extension, or not \
             critical"
                .to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id, ..
        } => format!(
            "its certificate, or one between it and the authority, is signed in a way that is not taken ({}); SHA-1 and RSA \
             keys of less than 2048 bits are not: sign it anew with SHA-256",
            algorithm(signature_algorithm_id)
        ),
        CertificateError::BadEncoding => {
            "its certificate cannot be read: it is not DER as X.509 has it; make it anew".to_owned()
        }
        CertificateError::Revoked => "its certificate was revoked by its authority".to_owned(),
        CertificateError::Other(other) if other.0.is::<Fault>() => other.to_string(),
        CertificateError::Other(other) => match other.to_string().as_str() {
            CA_AS_SERVER => format!(
                "its certificate is that of an authority (basicConstraints CA:TRUE) and is not itself trusted; {TRUST_IT} (an \
                 authority of this kind counts for a server only if it is that very certificate), or make it anew with CA:FALSE"
            ),
            "UnsupportedCertVersion" => {
                "its certificate is of an X.509 version before 3, which has no subjectAltName; make it anew with extensions"
                    .to_owned()
            }
            "NameConstraintViolation" => {
                "its certificate is for a name that its authority may not sign (nameConstraints)".to_owned()
            }
            "PathLenConstraintViolated" | "EndEntityUsedAsCa" => {
                "its certificate is signed by one that may not sign it (basicConstraints)".to_owned()
            }
            other => format!("its certificate is not valid: {other}"),
        },
        other => format!("its certificate is not valid: {other}"),
    }
}

fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| format!("second {} of the epoch", time.as_secs()), |time| time.to_string())
}

/// The name of a signature's algorithm: its OID, as DER has it, with a name where it is one of the known old ones.
fn algorithm(id: &[u8]) -> String {
    // RFC 8017, appendix C, and RFC 3279, section 2.2.3; each without what is common to all.
    const OLD: [(&[u8], &str); 4] = [
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], "SHA-1 with RSA"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], "SHA-1 with ECDSA"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], "MD5 with RSA"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x03], "SHA-1 with DSA"),
    ];
    match OLD.iter().find(|(known, _)| id.windows(known.len()).any(|part| part == *known)) {
        Some((_, name)) => (*name).to_owned(),
        None => written(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for (name, shown) in [
            ("DnsName(\"a.example\")", "a.example"),
            ("IpAddress(127.0.0.1)", "127.0.0.1"),
            ("IpAddress(::1)", "::1"),
            ("Unsupported(129)", "Unsupported(129)"),
        ] {
            assert_eq!(plain_name(name), shown);
        }
        for (name, shown) in [
            ("CertificateRequired", "certificate required"),
            ("UnknownCA", "unknown ca"),
            ("Tls12NotOffered", "tls12 not offered"),
            ("Unknown(200)", "unknown(200)"),
        ] {
            assert_eq!(words(name), shown);
        }
    }
}
