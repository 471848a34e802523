//! `crossdock version`: as buildah's, without what a Go program has.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crossdock_storage::Platform;

use crate::images::in_json;
use crate::session::print;

/// The OCI image specification that images are built by.
const IMAGE_SPEC: &str = "1.1.0";

/// What `version` takes.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Where standard output cannot be written to.
pub(crate) fn run(args: &VersionArgs) -> Result<()> {
    let (version, platform) = (env!("CARGO_PKG_VERSION"), Platform::host());
    print(&if args.json {
        in_json(&json!({
            "version": version,
            "imageSpec": IMAGE_SPEC,
            "osArch": platform.to_string(),
            "buildPlatform": platform.to_string(),
        }))
    } else {
        format!(
            "Version:         {version}\nImage Spec:      {IMAGE_SPEC}\nOS/Arch:         {platform}\nBuildPlatform:   {platform}\n"
        )
    })
}
