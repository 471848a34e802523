//! `crossdock info`: this machine and what is remembered on it, in buildah's form.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow};
use clap::Args;
use crossdock_storage::Platform;
use serde_json::{Value as Json, json};

use crate::exit::UsageError;
use crate::images::in_json;
use crate::local::LocalImages;
use crate::session::{print_data, print_laid_out, root_directory};
use crate::template::{Template, Value};

/// What `info` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crossdock info
  crossdock info --format '{{.store.GraphRoot}}'")]
pub(crate) struct InfoArgs {
    /// Show the program's versions too
    #[arg(short, long)]
    debug: bool,

    /// Print what a Go template makes of it
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Where the root directory cannot be read, or the template is not understood.
pub(crate) fn run(args: &InfoArgs, root: Option<&Path>) -> Result<()> {
    let usage = |error| UsageError(anyhow!("--format: {error}"));
    let template = args.format.as_deref().map(Template::parse).transpose().map_err(usage)?;
    let root = root_directory(root);
    let mut info = json!({"host": host(), "store": store(root.as_deref())?});
    if args.debug {
        info["debug"] =
            json!({"crossdock version": env!("CARGO_PKG_VERSION"), "OS/Arch": Platform::host().to_string()});
    }
    match template {
        Some(template) => print_data(&(template.render(&Value::from(&info)).map_err(usage)? + "\n")),
        None => print_laid_out(&in_json(&info)),
    }
}

/// What the kernel says of the machine; what it does not say is empty.
fn host() -> Json {
    let memory = pairs("/proc/meminfo", ':');
    let bytes = |name: &str| {
        let kilobytes = memory.get(name).and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    };
    let release = pairs("/etc/os-release", '=');
    let of = |name: &str| release.get(name).map(|text| text.trim_matches('"').to_owned()).unwrap_or_default();
    let kernel = |name: &str| {
        std::fs::read_to_string(format!("/proc/sys/kernel/{name}"))
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    let platform = Platform::host();
    json!({
        "Distribution": {"distribution": of("ID"), "version": of("VERSION_ID")},
        "MemFree": bytes("MemFree"),
        "MemTotal": bytes("MemTotal"),
        "SwapFree": bytes("SwapFree"),
        "SwapTotal": bytes("SwapTotal"),
        "arch": platform.architecture,
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "hostname": kernel("hostname"),
        "kernel": kernel("osrelease"),
        "os": platform.os,
        "rootless": !nix::unistd::getuid().is_root(),
        "variant": platform.variant.unwrap_or_default(),
    })
}

/// The lines of a file at their first `separator`.
fn pairs(path: &str, separator: char) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(separator));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

fn store(root: Option<&Path>) -> Result<Json> {
    let Some(root) = root else {
        return Ok(json!({"GraphDriverName": "records", "GraphRoot": "", "ImageStore": {"number": 0}}));
    };
    let local = LocalImages::new(Some(root))?;
    let records = local.store().list()?;
    let (bytes, parts) = local.disk_used()?;
    Ok(json!({
        "ContainerStore": {"number": 0},
        "DiskUsed": {"bytes": bytes, "parts": parts},
        "GraphDriverName": "records",
        "GraphOptions": [],
        "GraphRoot": root,
        "GraphStatus": {"Damaged records": records.damaged.len().to_string()},
        "ImageStore": {"number": records.images.len(), "names": records.names.len()},
    }))
}
