//! How this command speaks to registries: its options and its environment, put together once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use crossdock_registry::{
    ConfGiven, ConfPaths, CredentialEnv, CredentialOptions, ProxyOptions, RegistriesConf, Registry,
    RegistryOptions, RetryPolicy, Secret, ServiceAccountOptions, TrustOptions,
};
use crossdock_storage::Counters;

use crate::args::{ConfArgs, RegistryArgs};
use crate::environment;

/// Where containers/image and docker look for a registry's certificates.
const CERTS_D: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// The user's own place for them, below the home; containers/image looks there first.
const OWN_CERTS_D: &str = ".config/containers/certs.d";

/// Where OpenShift Pipelines mounts the cluster's authorities.
const TEKTON_CERTS: &str = "/tekton-custom-certs";

/// The files of containers-registries.conf(5).
///
/// # Errors
/// Where one of them cannot be used.
pub(crate) fn conf(args: &ConfArgs) -> Result<RegistriesConf> {
    let uid = nix::unistd::getuid().as_raw();
    let given = ConfGiven {
        file: args.registries_conf.clone(),
        drop_ins: args.registries_conf_dir.clone(),
        aliases: args.short_name_alias_conf.clone(),
    };
    let paths = ConfPaths::from_lookup(given, environment::var_os, uid);
    Ok(RegistriesConf::load(&paths)?)
}

/// The way to all registries; `destination` is the host that `--creds` is for, where the build pushes;
/// `root` is where it is noted how far uploads are.
///
/// # Errors
/// Where `--creds` is not `USER:PASSWORD`, or `--cert-dir` is no directory.
pub(crate) fn registry(
    args: &RegistryArgs,
    conf: RegistriesConf,
    destination: Option<&str>,
    counters: Arc<Counters>,
    root: Option<&Path>,
) -> Result<Registry> {
    let explicit = match args.creds.as_deref().map(|creds| creds.split_once(':')) {
        None => None,
        Some(Some((user, password))) if !user.is_empty() => Some((user.to_owned(), Secret::new(password))),
        Some(_) => bail!("--creds: write USER:PASSWORD"),
    };
    if let Some(directory) = args.cert_dir.as_ref().filter(|directory| !directory.is_dir()) {
        bail!("--cert-dir {}: there is no such directory", directory.display());
    }
    if args.sa_dir.is_file() {
        bail!(
            "--sa-dir {}: it is a file, name the directory of the ServiceAccount's files",
            args.sa_dir.display()
        );
    }
    let uid = nix::unistd::getuid().as_raw();
    Ok(Registry::new(RegistryOptions {
        tls_verify: args.tls_verify.unwrap_or(true),
        // What the command line says in so many words counts in both directions, as with buildah.
        conf: if args.tls_verify == Some(true) { conf.with_all_secure() } else { conf },
        cert_dir: args.cert_dir.clone(),
        trust: TrustOptions {
            ssl_cert_file: environment::path("SSL_CERT_FILE"),
            ssl_cert_dirs: environment::path("SSL_CERT_DIR")
                .iter()
                .flat_map(std::env::split_paths)
                .chain([PathBuf::from(TEKTON_CERTS)])
                .collect(),
            certs_d: environment::path("HOME")
                .map(|home| home.join(OWN_CERTS_D))
                .into_iter()
                .chain(CERTS_D.iter().map(PathBuf::from))
                .collect(),
        },
        credentials: CredentialOptions {
            explicit,
            explicit_registry: destination.map(str::to_owned),
            authfile: args.authfile.clone(),
            env: CredentialEnv::from_lookup(environment::var_os, uid),
            service_account: ServiceAccountOptions {
                dir: args.sa_dir.clone(),
                named: args.sa_dir != ServiceAccountOptions::default().dir,
                registries: args.sa_registries.clone(),
                api: api(),
            },
        },
        retry: RetryPolicy {
            retries: args.retry,
            // buildah's 0 is its back-off.
            delay: args.retry_delay.filter(|delay| !delay.is_zero()),
            ..RetryPolicy::default()
        },
        upload: args.upload.style(args.chunk_size),
        root: root.map(Path::to_path_buf),
        proxy: ProxyOptions {
            http: variable("http_proxy", "HTTP_PROXY").map(Secret::new),
            https: variable("https_proxy", "HTTPS_PROXY").map(Secret::new),
            no_proxy: variable("no_proxy", "NO_PROXY"),
        },
        counters,
        ..RegistryOptions::default()
    }))
}

/// The cluster's API, as Kubernetes names it to each container of a pod.
fn api() -> Option<String> {
    let host = variable("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_HOST")?;
    let port = variable("KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT").unwrap_or("443".to_owned());
    // An IPv6 address stands without its brackets there.
    Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

fn variable(name: &str, other: &str) -> Option<String> {
    [name, other].iter().find_map(|name| environment::var(name))
}
