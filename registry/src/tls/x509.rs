//! What webpki does not tell of a certificate: read to say more in errors, and to refuse more; never to trust more.

/// The extensions that webpki knows, below 2.5.29: key usage, names, basic constraints, name constraints, distribution
/// points of revocation lists, and extended key usage.
const KNOWN: [&[u8]; 6] = [
    &[0x55, 0x1d, 15],
    &[0x55, 0x1d, 17],
    &[0x55, 0x1d, 19],
    &[0x55, 0x1d, 30],
    &[0x55, 0x1d, 31],
    &[0x55, 0x1d, 37],
];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
/// 1.3.6.1.5.5.7.3.1
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const EXTENSIONS: u8 = 0xa3;

/// Parts of a certificate, of any version (RFC 5280, section 4.1).
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// Who signed it, as DER.
    pub(super) issuer: &'a [u8],
    /// Whose it is, as DER.
    pub(super) subject: &'a [u8],
    /// The SubjectPublicKeyInfo, as DER.
    pub(super) key: &'a [u8],
    /// OID, whether it is critical, and value.
    extensions: Vec<(&'a [u8], bool, &'a [u8])>,
}

impl<'a> Parts<'a> {
    /// Reads a certificate; `None` where it is none.
    pub(super) fn of(certificate: &'a [u8]) -> Option<Self> {
        let mut outer = Der(Der(certificate).value(SEQUENCE)?);
        let mut body = Der(outer.value(SEQUENCE)?);
        if body.tag() == Some(0xa0) {
            body.next()?;
        }
        body.value(INTEGER)?;
        body.value(SEQUENCE)?;
        let issuer = body.value(SEQUENCE)?;
        body.value(SEQUENCE)?;
        let subject = body.value(SEQUENCE)?;
        let before = body.0;
        body.value(SEQUENCE)?;
        let key = &before[..before.len() - body.0.len()];
        let mut extensions = Vec::new();
        while let Some((tag, value)) = body.next() {
            if tag != EXTENSIONS {
                continue;
            }
            let mut list = Der(Der(value).value(SEQUENCE)?);
            while !list.0.is_empty() {
                let mut extension = Der(list.value(SEQUENCE)?);
                let id = extension.value(OID)?;
                let critical = extension.value(0x01).is_some_and(|flag| flag != [0]);
                extensions.push((id, critical, extension.value(OCTET_STRING)?));
            }
        }
        Some(Self { issuer, subject, key, extensions })
    }

    /// The length of its key, where that is one of RSA.
    pub(super) fn rsa_bits(&self) -> Option<usize> {
        let mut info = Der(Der(self.key).value(SEQUENCE)?);
        if Der(info.value(SEQUENCE)?).value(OID)? != RSA {
            return None;
        }
        // The first byte says how many bits of the last are not used: none.
        let (_, key) = info.value(BIT_STRING)?.split_first()?;
        let modulus = Der(Der(key).value(SEQUENCE)?).value(INTEGER)?;
        let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
        let first = modulus.get(zeros)?;
        Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
    }

    /// Whether it may be a server's: it says so, or does not say what it is for.
    pub(super) fn is_for_servers(&self) -> bool {
        let Some((.., usages)) = self.extensions.iter().find(|(id, ..)| *id == EXTENDED_KEY_USAGE) else {
            return true;
        };
        let mut list = Der(Der(usages).value(SEQUENCE).unwrap_or_default());
        std::iter::from_fn(|| list.value(OID)).any(|usage| usage == SERVER_AUTH)
    }

    /// The first critical extension that webpki does not know, as its OID is written.
    pub(super) fn unknown_critical(&self) -> Option<String> {
        let unknown = |(id, critical, _): &&(&[u8], bool, &[u8])| *critical && !KNOWN.contains(id);
        self.extensions.iter().find(unknown).map(|(id, ..)| written(id))
    }
}

/// An OID with points between its numbers.
pub(super) fn written(id: &[u8]) -> String {
    let (mut numbers, mut number) = (Vec::new(), 0_u64);
    for byte in id {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first.to_string());
                number -= first * 40;
            }
            numbers.push(number.to_string());
            number = 0;
        }
    }
    numbers.join(".")
}

/// Bytes in DER that were not read yet.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next value, if it has this tag.
    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.tag() != Some(tag) {
            return None;
        }
        self.next().map(|(_, value)| value)
    }

    /// The next value with its tag; tags of more than a byte are in no certificate.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&short, rest) = rest.split_first()?;
        let (len, rest) = if short < 0x80 {
            (usize::from(short), rest)
        } else {
            let bytes = usize::from(short & 0x7f);
            if bytes == 0 || bytes > 4 {
                return None;
            }
            let (long, rest) = rest.split_at_checked(bytes)?;
            (long.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, KeyPair};

    use super::*;

    fn made(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_tells_what_it_is_for_and_what_is_critical() {
        let plain = made(|_| {});
        let parts = Parts::of(&plain).unwrap();
        assert!(parts.is_for_servers() && parts.rsa_bits().is_none() && parts.unknown_critical().is_none());
        assert_eq!(parts.issuer, parts.subject);
        let client = made(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        assert!(!Parts::of(&client).unwrap().is_for_servers());
        let both = made(|params| {
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        });
        assert!(Parts::of(&both).unwrap().is_for_servers());
        for (critical, shown) in [(true, Some("1.3.6.1.4.1.99999.1")), (false, None)] {
            let odd = made(|params| {
                let mut odd =
                    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![0x05, 0x00]);
                odd.set_criticality(critical);
                params.custom_extensions.push(odd);
            });
            assert_eq!(Parts::of(&odd).unwrap().unknown_critical().as_deref(), shown);
        }
    }

    #[test]
    fn an_oid_is_written_with_points() {
        for (id, shown) in [
            (SERVER_AUTH, "1.3.6.1.5.5.7.3.1"),
            (RSA, "1.2.840.113549.1.1.1"),
            (&[0x88, 0x37, 3], "2.999.3"),
            (&[], ""),
        ] {
            assert_eq!(written(id), shown);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..400, to: u8) {
            let _ = Parts::of(&bytes).map(|parts| (parts.rsa_bits(), parts.unknown_critical(), parts.is_for_servers()));
            let mut real = made(|_| {});
            let at = at % real.len();
            real[at] = to;
            let _ = Parts::of(&real).map(|parts| (parts.rsa_bits(), parts.unknown_critical(), parts.is_for_servers()));
            let _ = Parts::of(&real[..at]).is_none();
        }
    }
}
