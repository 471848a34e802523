//! Certificates as administrators make them with openssl and put them into certs.d: what curl and skopeo take is taken, and
//! what is refused names the property at fault.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crossdock_registry::RegistryOptions;

use crate::docker_registry::{DockerRegistry, Setup};
use crate::harness::{Files, chain, push, reference, sink, verified};

const NAME: &str = "subjectAltName=IP:127.0.0.1";

/// A directory in which openssl makes keys and certificates.
struct Workshop(Files);

impl Workshop {
    fn new() -> Self {
        Self(Files::new())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn openssl(&self, args: &str) {
        let run = Command::new("openssl").args(args.split(' ')).current_dir(self.path("")).output().unwrap();
        assert!(run.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&run.stderr));
    }

    /// A certificate that signs itself, `NAME.crt` with `NAME.key`.
    fn self_signed(&self, name: &str, key: &str, more: &str) {
        self.openssl(&format!(
            "req -x509 -nodes -newkey {key} -keyout {name}.key -out {name}.crt -days 2 {more}"
        ));
    }

    /// A certificate for this machine that `issuer` signs, of what `extensions` says.
    fn signed(&self, name: &str, key: &str, issuer: &str, extensions: &str, more: &str) {
        let subject = format!("/CN={name}");
        self.openssl(&format!("req -nodes -newkey {key} -keyout {name}.key -out {name}.csr -subj {subject}"));
        fs::write(self.path("extensions"), extensions.replace(';', "\n")).unwrap();
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {issuer}.crt -CAkey {issuer}.key -CAcreateserial -days 2 -extfile extensions -out \
             {name}.crt{more}"
        ));
    }

    /// A registry that shows the certificates of these files, the first its own.
    fn registry(&self, shown: &[&str]) -> DockerRegistry {
        let own = shown[0];
        let chain: String =
            shown.iter().map(|name| fs::read_to_string(self.path(&format!("{name}.crt"))).unwrap()).collect();
        fs::write(self.path("chain.pem"), chain).unwrap();
        let tls = Some((self.path("chain.pem"), self.path(&format!("{own}.key"))));
        DockerRegistry::start_with(&Setup { tls, ..Setup::default() })
    }

    /// A directory with this certificate alone.
    fn trusting(&self, trusted: &str) -> PathBuf {
        let directory = self.path("trusted");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        fs::copy(self.path(&format!("{trusted}.crt")), directory.join("any-name.crt")).unwrap();
        directory
    }
}

/// Pushes with the certificates of a directory, once as `--cert-dir` and once as certs.d.
async fn pushed(registry: &DockerRegistry, directory: &Path) -> Result<(), String> {
    let files = Files::new();
    let to = reference(registry.addr(), "m:1");
    let layers = [files.layer("a", 100_000, 1)];
    let named = RegistryOptions { cert_dir: Some(directory.to_path_buf()), ..verified() };
    let without = |error, directory: &Path| chain(&error).replace(&*directory.to_string_lossy(), "");
    let first = push(&sink(named, &to), &layers).await.map(drop).map_err(|error| without(error, directory));
    let certs_d = files.path("certs.d");
    fs::create_dir(&certs_d).unwrap();
    let for_host = certs_d.join(registry.addr().to_string());
    std::os::unix::fs::symlink(directory, &for_host).unwrap();
    let mut found = verified();
    found.trust.certs_d = vec![files.path("none.d"), certs_d];
    let second = push(&sink(found, &to), &layers).await.map(drop).map_err(|error| without(error, &for_host));
    assert_eq!(first, second);
    first
}

/// Whether curl and skopeo take the registry for what it is.
fn others_take(registry: &DockerRegistry, directory: &Path) -> [bool; 2] {
    let url = format!("https://{}/v2/", registry.addr());
    let ca = directory.join("any-name.crt");
    let curl =
        Command::new("curl").args(["-fsS", "--noproxy", "*", "--cacert"]).arg(ca).arg(url).output().unwrap();
    let image = format!("docker://{}/m", registry.addr());
    let mut skopeo = Command::new("skopeo");
    let skopeo = skopeo.args(["list-tags", "--cert-dir"]).arg(directory).arg(image).output().unwrap();
    let said = String::from_utf8_lossy(&skopeo.stderr).into_owned();
    // Nobody has pushed to it yet: that it has no such repository is an answer too.
    let trusted = !["x509:", "tls:"].iter().any(|part| said.contains(part));
    assert!(trusted || !skopeo.status.success());
    [curl.status.success(), trusted]
}

const P256: &str = "ec -pkeyopt ec_paramgen_curve:P-256";
const P521: &str = "ec -pkeyopt ec_paramgen_curve:P-521";
const SERVER: &str = "basicConstraints=CA:FALSE;subjectAltName=IP:127.0.0.1";

#[tokio::test(flavor = "multi_thread")]
async fn what_an_administrator_put_into_certs_d_is_trusted() {
    let made = Workshop::new();
    // CA:TRUE, which is what openssl's own configuration gives.
    let whole = format!("-subj /CN=registry -addext {NAME}");
    made.self_signed("self-p256", P256, &whole);
    made.self_signed("self-rsa", "rsa:2048", &whole);
    made.self_signed("self-p521", P521, &whole);
    made.self_signed("self-p384-sha512", "ec -pkeyopt ec_paramgen_curve:P-384", &format!("{whole} -sha512"));
    let plain = format!("{whole} -addext basicConstraints=critical,CA:FALSE");
    made.self_signed("self-server", P256, &plain);
    // An authority with another in between, and servers of both.
    made.self_signed("ca", P521, "-subj /CN=authority");
    made.signed("between", P256, "ca", "basicConstraints=critical,CA:TRUE", "");
    made.signed("server", P521, "ca", SERVER, "");
    made.signed("server-sha512", P256, "ca", SERVER, " -sha512");
    made.signed("server-below", P256, "between", SERVER, "");
    for (shown, trusted) in [
        (&["self-p256"][..], "self-p256"),
        (&["self-rsa"], "self-rsa"),
        (&["self-p521"], "self-p521"),
        (&["self-p384-sha512"], "self-p384-sha512"),
        (&["self-server"], "self-server"),
        (&["server"], "ca"),
        (&["server-sha512"], "ca"),
        (&["server-below", "between"], "ca"),
        // The server's own, of an authority that nobody here knows.
        (&["server"], "server"),
        (&["server-below"], "server-below"),
        (&["server-below", "between"], "server-below"),
        // One in between.
        (&["server-below", "between"], "between"),
        (&["server-below"], "between"),
    ] {
        let registry = made.registry(shown);
        let directory = made.trusting(trusted);
        assert_eq!(others_take(&registry, &directory), [true, true], "{shown:?} with {trusted}");
        let result = pushed(&registry, &directory).await;
        assert_eq!(result, Ok(()), "{shown:?} with {trusted}");
        assert!(registry.tag("m", "1").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_may_have_a_key_of_any_curve() {
    let made = Workshop::new();
    made.self_signed("ca", P256, "-subj /CN=authority");
    made.signed("server", P256, "ca", SERVER, "");
    made.signed("me", P521, "ca", "basicConstraints=CA:FALSE;extendedKeyUsage=clientAuth", "");
    let tls = Some((made.path("server.crt"), made.path("server.key")));
    let client_authorities = Some(made.path("ca.crt"));
    let registry = DockerRegistry::start_with(&Setup { tls, client_authorities, ..Setup::default() });
    // Without extensions, openssl of many a release makes a certificate of version 1.
    made.openssl("req -nodes -newkey rsa:2048 -keyout old.key -out old.csr -subj /CN=old");
    made.openssl("x509 -req -in old.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out old.crt");
    let directory = made.trusting("ca");
    for name in ["me", "old"] {
        fs::copy(made.path(&format!("{name}.crt")), directory.join("me.cert")).unwrap();
        fs::copy(made.path(&format!("{name}.key")), directory.join("me.key")).unwrap();
        assert_eq!(pushed(&registry, &directory).await, Ok(()), "{name}");
    }
    // The key of another certificate, and keys that want a password.
    fs::copy(made.path("me.key"), directory.join("me.key")).unwrap();
    let error = pushed(&registry, &directory).await.unwrap_err();
    assert!(error.contains("do not fit together"), "{error}");
    for args in [
        "pkey -in old.key -aes256 -passout pass:secret -out closed.key",
        "rsa -in old.key -aes256 -passout pass:secret -traditional -out closed.key",
    ] {
        made.openssl(args);
        fs::copy(made.path("closed.key"), directory.join("me.key")).unwrap();
        let error = pushed(&registry, &directory).await.unwrap_err();
        assert!(
            error.contains("me.key: the key is encrypted") && error.contains("openssl pkey -in"),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_an_error_where_it_was_named_and_else_left_out() {
    let made = Workshop::new();
    made.self_signed("self", P256, &format!("-subj /CN=registry -addext {NAME}"));
    let registry = made.registry(&["self"]);
    let files = Files::new();
    let to = reference(registry.addr(), "m:1");
    let layers = [files.layer("a", 10, 1)];
    for (name, problem) in [
        ("x.crt", "x.crt: it is a directory"),
        ("loop.crt", "loop.crt: it cannot be looked at"),
        ("gone.cert", "gone.cert: it is a symlink that leads nowhere"),
    ] {
        let directory = made.trusting("self");
        let path = directory.join(name);
        match name {
            "x.crt" => fs::create_dir(&path).unwrap(),
            "loop.crt" => std::os::unix::fs::symlink("loop.crt", &path).unwrap(),
            _ => std::os::unix::fs::symlink("nowhere", &path).unwrap(),
        }
        let named = RegistryOptions { cert_dir: Some(directory.clone()), ..verified() };
        let error = chain(&push(&sink(named, &to), &layers).await.unwrap_err());
        assert!(error.contains(problem), "{error}");
        let certs_d = made.path(&format!("{name}.d"));
        fs::create_dir(&certs_d).unwrap();
        std::os::unix::fs::symlink(&directory, certs_d.join(registry.addr().to_string())).unwrap();
        let mut found = verified();
        found.trust.certs_d = vec![certs_d];
        push(&sink(found, &to), &layers).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_refused_names_the_property_at_fault() {
    let made = Workshop::new();
    let whole = format!("-subj /CN=registry -addext {NAME}");
    made.self_signed("self", P256, &whole);
    made.self_signed("stranger", P256, "-subj /CN=stranger");
    made.self_signed("other", P256, "-subj /CN=registry -addext subjectAltName=DNS:other.example");
    made.self_signed("nameless", P256, "-subj /CN=127.0.0.1");
    let client =
        format!("{whole} -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=clientAuth");
    made.self_signed("client", P256, &client);
    made.self_signed("ca", "rsa:2048", "-subj /CN=authority");
    made.signed("old", "rsa:2048", "ca", SERVER, " -sha1");
    made.signed("authoritative", P256, "ca", &format!("basicConstraints=CA:TRUE;{NAME}"), "");
    let for_clients = format!("{whole} -addext extendedKeyUsage=clientAuth");
    made.self_signed("client-authority", P256, &for_clients);
    made.signed("short", "rsa:1024", "ca", SERVER, "");
    made.self_signed("short-self", "rsa:1024", &whole);
    made.self_signed("short-ca", "rsa:1024", "-subj /CN=short-authority");
    made.signed("below-short", P256, "short-ca", SERVER, "");
    made.signed("odd", P256, "ca", &format!("{SERVER};1.2.3.4.5=critical,DER:0500"), "");
    out_of_time(&made, "expired", (2000, 2001));
    out_of_time(&made, "early", (3000, 4000));
    for (shown, trusted, parts, skopeo) in [
        ("expired", "expired", &["has expired", "until 2001-01-01", "renew it"][..], false),
        ("early", "early", &["not valid yet", "from 3000-01-01"], false),
        ("other", "other", &["for another name (other.example);"], false),
        ("client-authority", "client-authority", &["extendedKeyUsage lacks serverAuth"], false),
        ("short", "ca", &["its certificate has an RSA key of 1024 bits", "rsa:2048"], true),
        ("short-self", "short-self", &["its certificate has an RSA key of 1024 bits", "rsa:2048"], true),
        ("below-short", "short-ca", &["of an authority", "RSA key of 1024 bits"], true),
        ("odd", "ca", &["critical extension 1.2.3.4.5", "not critical"], false),
        ("nameless", "nameless", &["no name in its subjectAltName", "-addext subjectAltName"], false),
        ("client", "client", &["extendedKeyUsage lacks serverAuth"], false),
        ("old", "ca", &["SHA-1 with RSA", "sign it anew"], false),
        ("self", "stranger", &["CA:TRUE", "certs.d/HOST", "--cert-dir"], false),
        ("client", "stranger", &["extendedKeyUsage lacks serverAuth"], false),
        ("old", "stranger", &["unknown authority", "certs.d/HOST"], false),
        // What it would take is named: Go looks at CA:TRUE of signers alone.
        ("authoritative", "ca", &["CA:TRUE", "CA:FALSE", "certs.d/HOST"], true),
    ] {
        let registry = made.registry(&[shown]);
        let directory = made.trusting(trusted);
        let error = pushed(&registry, &directory).await.unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{shown} with {trusted}: {part:?} is missing: {error}");
        }
        assert_eq!(others_take(&registry, &directory)[1], skopeo, "{shown} with {trusted}");
        assert_eq!(registry.tag("m", "1"), None);
    }
    // The way out that the last one names.
    let registry = made.registry(&["authoritative"]);
    assert_eq!(pushed(&registry, &made.trusting("authoritative")).await, Ok(()));
}

/// A certificate that signs itself and is no authority's, valid in these years.
fn out_of_time(made: &Workshop, name: &str, years: (i32, i32)) {
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(made.path(&format!("{name}.crt")), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(made.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_named_and_cannot_be_used_is_an_error() {
    let made = Workshop::new();
    made.self_signed("self", P256, &format!("-subj /CN=registry -addext {NAME}"));
    let registry = made.registry(&["self"]);
    let files = Files::new();
    let to = reference(registry.addr(), "m:1");
    let layers = [files.layer("a", 10, 1)];
    let mut by_variable = verified();
    by_variable.trust.ssl_cert_file = Some(made.path("missing.pem"));
    let error = chain(&push(&sink(by_variable, &to), &layers).await.unwrap_err());
    assert!(error.contains("SSL_CERT_FILE") && error.contains("missing.pem"), "{error}");
    let missing = RegistryOptions { cert_dir: Some(made.path("missing")), ..verified() };
    let error = chain(&push(&sink(missing, &to), &layers).await.unwrap_err());
    assert!(error.contains("missing") && error.contains("no such directory"), "{error}");
    // A default place that is not there is the usual case.
    let mut by_default = verified();
    by_default.trust.certs_d = vec![made.path("missing"), made.path("self.crt")];
    let error = chain(&push(&sink(by_default, &to), &layers).await.unwrap_err());
    assert!(error.contains("CA:TRUE"), "{error}");
}
