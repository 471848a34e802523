//! The command line of `verify`.

use clap::{Args, ValueEnum};

use super::registry::RegistryArgs;
use super::values::number;
use super::work::ProgressStyle;

pub(super) const VERIFY_EXAMPLES: &str = "\
Examples:
  Is all of it there?
      crossdock verify registry.example.com/models/llama:1

  Is it what was built from `COPY model /models`? A sample of each file, then every byte:
      crossdock verify --against model:/models registry.example.com/models/llama:1
      crossdock verify --against model:/models --deep registry.example.com/models/llama:1

Exit codes:
  0  the image is as it should be
  1  something is missing or other than its digest or the file here says; the report names it
  2  the command line cannot be understood
  4  a file to compare with cannot be read
  5  the registry or the network failed, or there is no such image
  6  the registry refused the credentials, or asked for some";

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Name of the image, HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]; a name of this machine stands for the registry's name
    /// that the image has beside
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,

    /// Look at the images of all platforms
    #[arg(long, conflicts_with = "platform")]
    pub(crate) all: bool,

    /// Platform whose image is looked at, as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,

    /// Read the blobs too: full reads every byte and hashes it again; sample reads the headers of the layers and ranges
    /// of the files in them, to compare with --against [default with --against: sample]
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "full")]
    pub(crate) deep: Option<Deep>,

    /// Compare the files in the image with this file or directory, which stands at PATH in the image: after
    /// `COPY model /models`, --against model:/models. May be given several times
    #[arg(long, value_name = "DIR[:PATH]")]
    pub(crate) against: Vec<String>,

    /// Ranges of 256 KiB of each file that a sample compares; files no larger than all of them are compared whole
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = number::<u32>(1..=65_536))]
    pub(crate) samples: u32,

    /// Take the ranges that a run with this seed took; the report names it [default: another each time]
    #[arg(long, value_name = "N", value_parser = number::<u64>(0..=u64::MAX))]
    pub(crate) seed: Option<u64>,

    /// Write the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Blobs that are looked at at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = number::<u16>(1..=64))]
    pub(crate) jobs: u16,

    /// How progress is shown on standard error; auto is tty on a terminal, else plain. json writes one JSON object
    /// a line to standard output
    #[arg(long, value_name = "STYLE", default_value = "auto")]
    pub(crate) progress: ProgressStyle,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// How closely blobs are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Deep {
    /// Every byte, hashed again
    Full,
    /// Headers, and ranges of files
    Sample,
}
