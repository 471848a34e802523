//! The command line of `push`.

use clap::Args;

use crate::send::SendArgs;

pub(super) const PUSH_EXAMPLES: &str = "\
Examples:
  crossdock build -t quay.io/models/llama:1 . && crossdock push quay.io/models/llama:1
  crossdock push llama docker://registry.example.com/models/llama:1
  crossdock push llama oci-archive:llama.tar:1
  crossdock push llama docker-archive:/dev/stdout | docker load

The files are read where they were when the image was built, and only those of layers that the destination lacks. One
that has changed since is an error that names it; a chown, a chmod or another link is no change.";

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Name, ID or digest of an image that was built or pulled here
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,

    /// Where it goes: [docker://]HOST[:PORT]/REPOSITORY[:TAG], oci:DIR[:REF], oci-archive:FILE[:REF],
    /// docker-archive:FILE[:NAME[:TAG]] or dir:DIR [default: the registry that IMAGE names]
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: Option<String>,

    /// Of a list of images, send all of them and the list, and not the one for this machine
    #[arg(long)]
    pub(crate) all: bool,

    /// As --compression-format none
    #[arg(short = 'D', long, conflicts_with = "compression_format")]
    pub(crate) disable_compression: bool,

    #[command(flatten)]
    pub(crate) send: SendArgs,
}
