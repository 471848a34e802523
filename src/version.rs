//! `crossdock version`: as buildah's, without what a Go program has.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crossdock_storage::Platform;

use crate::images::in_json;
use crate::session::{print, print_laid_out};

/// The OCI image specification that images are built by.
const IMAGE_SPEC: &str = "1.1.1";

/// The OCI runtime specification of [`BUILDAH`]; nothing is run here.
const RUNTIME_SPEC: &str = "1.3.0";

/// The buildah whose place is taken: scripts ask for its version and decide by it which flags there are. It is the one
/// whose manual pages the table of flags has.
const BUILDAH: &str = "1.45.0";

/// What `buildah --version` says after the name: the version is its third word.
pub(crate) const AS_BUILDAH: &str = concat!(
    "version 1.45.0 (image-spec 1.1.1, runtime-spec 1.3.0, crossdock ",
    env!("CARGO_PKG_VERSION"),
    ")"
);

/// What `version` takes.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Whether buildah's version is asked for.
    #[arg(skip)]
    pub(crate) as_buildah: bool,
}

/// Runs the command.
///
/// # Errors
/// Where standard output cannot be written to.
pub(crate) fn run(args: &VersionArgs) -> Result<()> {
    let (own, platform) = (env!("CARGO_PKG_VERSION"), Platform::host().to_string());
    let version = if args.as_buildah { BUILDAH } else { own };
    if args.json {
        let mut shown = json!({
            "version": version,
            "imageSpec": IMAGE_SPEC,
            "osArch": platform,
            "buildPlatform": platform,
        });
        if args.as_buildah {
            shown["runtimeSpec"] = RUNTIME_SPEC.into();
            shown["crossdock"] = own.into();
        }
        return print_laid_out(&in_json(&shown));
    }
    let mut lines = vec![("Version", version), ("Image Spec", IMAGE_SPEC)];
    if args.as_buildah {
        lines.extend([("Runtime Spec", RUNTIME_SPEC), ("Crossdock", own)]);
    }
    lines.extend([("OS/Arch", &*platform), ("BuildPlatform", &*platform)]);
    print(
        &lines.iter().map(|(name, value)| format!("{:<17}{value}\n", format!("{name}:"))).collect::<String>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_buildah_has_its_version_where_scripts_look() {
        assert_eq!(AS_BUILDAH.split(' ').nth(1), Some(BUILDAH));
        assert!(AS_BUILDAH.contains(&format!("image-spec {IMAGE_SPEC}, runtime-spec {RUNTIME_SPEC},")));
    }
}
