//! The flags of all commands that speak to a registry.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use crossdock_builder::containerfile::parse_duration;

use super::values::{BoolArg as _, number};
use crate::transfer::{Upload, parse_chunk_size};

/// How registries are spoken to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registry")]
pub(crate) struct RegistryArgs {
    /// User name and password for the registry
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(crate) creds: Option<String>,

    /// File of registry credentials [default: the files that podman and docker write, in podman's order]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,

    /// Require https with a verified certificate; --tls-verify=false allows any certificate, and plain http
    /// [default: true, but for what registries.conf calls insecure]
    #[arg(long, bool_value())]
    pub(crate) tls_verify: Option<bool>,

    /// Directory of certificates for the registry: *.crt to trust, *.cert and *.key to show
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,

    /// How often a failed transfer is tried again
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = number::<u32>(0..=u32::MAX))]
    pub(crate) retry: u32,

    /// How long to wait before each retry, as 2s or 1m30s [default: up to 1 s, doubled for each retry up to 30 s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) retry_delay: Option<Duration>,

    /// How blobs are sent to the registry
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Upload::Auto)]
    pub(crate) upload: Upload,

    /// Bytes of a chunk with --upload chunked
    #[arg(long, value_name = "SIZE", default_value = "100MiB", value_parser = parse_chunk_size)]
    pub(crate) chunk_size: u64,

    /// Where the pod's ServiceAccount is mounted; its token is offered to in-cluster registries (*.svc) when there
    /// is no other credential
    #[arg(long, value_name = "DIR", default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    pub(crate) sa_dir: PathBuf,

    /// Offer the ServiceAccount's token to this registry too; may be given several times
    #[arg(long = "sa-registry", value_name = "HOST[:PORT]")]
    pub(crate) sa_registries: Vec<String>,
}
