//! How this command speaks to registries: its options and its environment, put together once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use crossdock_registry::{
    CredentialEnv, CredentialOptions, ProxyOptions, Registry, RegistryOptions, RetryPolicy, Secret,
    ServiceAccountOptions, TrustOptions,
};
use crossdock_storage::Counters;

use crate::args::RegistryArgs;

/// Where containers/image and docker look for a registry's certificates.
const CERTS_D: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// The way to all registries; `destination` is the host that `--creds` is for, where the build pushes;
/// `root` is where it is noted how far uploads are.
///
/// # Errors
/// Where `--creds` is not `USER:PASSWORD`.
pub(crate) fn registry(
    args: &RegistryArgs,
    destination: Option<&str>,
    counters: Arc<Counters>,
    root: Option<&Path>,
) -> Result<Registry> {
    let explicit = match args.creds.as_deref().map(|creds| creds.split_once(':')) {
        None => None,
        Some(Some((user, password))) if !user.is_empty() => Some((user.to_owned(), Secret::new(password))),
        Some(_) => bail!("--creds: write USER:PASSWORD"),
    };
    let uid = nix::unistd::getuid().as_raw();
    Ok(Registry::new(RegistryOptions {
        tls_verify: args.tls_verify,
        cert_dir: args.cert_dir.clone(),
        trust: TrustOptions {
            ssl_cert_file: path("SSL_CERT_FILE"),
            ssl_cert_dirs: path("SSL_CERT_DIR")
                .map_or_else(Vec::new, |dirs| std::env::split_paths(&dirs).collect()),
            certs_d: CERTS_D.iter().map(PathBuf::from).collect(),
        },
        credentials: CredentialOptions {
            explicit,
            explicit_registry: destination.map(str::to_owned),
            authfile: args.authfile.clone(),
            env: CredentialEnv::from_lookup(|name| std::env::var_os(name), uid),
            service_account: ServiceAccountOptions {
                dir: args.sa_dir.clone(),
                registries: args.sa_registries.clone(),
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

fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn variable(name: &str, other: &str) -> Option<String> {
    [name, other].iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}
