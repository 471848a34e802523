//! The command line as it is typed. `options` makes of it what is to be done.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use crossdock_builder::containerfile::parse_duration;

use crate::auth::AuthArgs;
use crate::buildah::CalledAs;
use crate::generate::{CompletionArgs, ManArgs};
use crate::images::ImagesArgs;
use crate::info::InfoArgs;
use crate::inspect::InspectArgs;
use crate::login::{LoginArgs, LogoutArgs};
use crate::manifest::ManifestArgs;
use crate::overrides::Overrides;
use crate::prune::PruneArgs;
use crate::pull::PullArgs;
use crate::send::SendArgs;
use crate::tag::{RmiArgs, TagArgs};
use crate::transfer::{Upload, parse_chunk_size};
use crate::version::VersionArgs;

/// The last second that RFC 3339 and the image's config can say, with the offset of any time zone: 9999-12-30T22:00:00Z.
pub(crate) const LATEST_TIME: u64 = 253_402_207_200;

/// Builds container images that carry huge files, and sends them to a registry without copying a byte.
#[derive(Debug, Parser)]
#[command(name = "crossdock", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Directory of what crossdock remembers between runs: images and layer digests, never the bytes of a
    /// layer
    /// [default: $XDG_DATA_HOME/crossdock, else ~/.local/share/crossdock; called as buildah, the directory crossdock in
    /// buildah's store]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// How much to log to standard error: error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn", ignore_case = true)]
    pub(crate) log_level: LogLevel,

    #[command(flatten)]
    pub(crate) conf: ConfArgs,

    #[command(subcommand)]
    pub(crate) command: Command,

    /// By which name the program was called.
    #[arg(skip)]
    pub(crate) called: CalledAs,

    /// Whether `--root` was typed, and is not the config file's.
    #[arg(skip)]
    pub(crate) root_typed: bool,
}

/// Where containers-registries.conf(5) is.
#[derive(Debug, Args)]
pub(crate) struct ConfArgs {
    /// File with mirrors, short names, blocked and insecure registries, as containers-registries.conf(5) has it
    /// [default: $CONTAINERS_REGISTRIES_CONF, else ~/.config/containers/registries.conf, else
    /// /etc/containers/registries.conf]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) registries_conf: Option<PathBuf>,

    /// Drop-in files in the place of those in /etc/containers/registries.conf.d; hidden, as buildah has it
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub(crate) registries_conf_dir: Option<PathBuf>,

    /// Aliases in the place of those that podman keeps in its cache; hidden, as buildah has it
    #[arg(long, global = true, value_name = "FILE", hide = true)]
    pub(crate) short_name_alias_conf: Option<PathBuf>,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed for a reason that none of the others names
  2  the command line cannot be understood, or names what registries.conf forbids
  3  the Containerfile, the context or an image cannot be used, or not at the destination, or --strict had warnings;
     no file was read
  4  a source file cannot be read, or changed while it was read; no tag moved
  5  the registry or the network failed, after all retries; no tag moved
  6  the registry refused the credentials, or asked for some; no tag moved
  130, 143  interrupted by SIGINT, SIGTERM; no tag moved, unless the message says so";

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogLevel {
    #[value(alias = "fatal", alias = "panic")]
    Error,
    #[value(alias = "warning")]
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Containerfile and send it where it belongs
    #[command(visible_alias = "bud", alias = "build-using-dockerfile", after_help = BUILD_EXAMPLES, after_long_help = BUILD_EXAMPLES_LONG)]
    Build(Box<BuildArgs>),

    /// Send an image that was built or pulled here where it belongs, from the files it is made of
    #[command(after_help = PUSH_EXAMPLES)]
    Push(Box<PushArgs>),

    /// Remember an image of a registry or a layout: its manifest and config, while its layers stay where they are
    Pull(Box<PullArgs>),

    /// List the images that were built or pulled here
    Images(ImagesArgs),

    /// Show the configuration of an image
    Inspect(InspectArgs),

    /// Give an image more names
    Tag(TagArgs),

    /// Forget images, or names of them
    Rmi(RmiArgs),

    /// Remove what is remembered and was not needed for long
    Prune(PruneArgs),

    /// Show this machine, and what is remembered on it
    Info(InfoArgs),

    /// Show the version
    Version(VersionArgs),
    /// Make lists of images, one for each platform, and send them where they belong
    Manifest(Box<ManifestArgs>),

    /// Keep a user name and password for a registry, after the registry took them
    Login(Box<LoginArgs>),

    /// Forget the user name and password of a registry
    Logout(LogoutArgs),

    /// Explain which credential a repository gets, where it comes from, and what it may do there
    Auth(Box<AuthArgs>),

    /// Look whether an image on a registry is there, whole and unchanged
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Box<VerifyArgs>),

    /// Print a script that completes crossdock's options in a shell
    Completion(CompletionArgs),

    /// Write man pages of all commands
    Man(ManArgs),
}

const BUILD_EXAMPLES: &str = "\
Examples:
  crossdock build --push -t registry.example.com/models/llama:1 .
  crossdock build -o oci:./layout:v1 ./model

See `crossdock build --help` for what each option does, and the exit codes in `crossdock --help`.";

const BUILD_EXAMPLES_LONG: &str = "\
Examples:
  Build from ./Containerfile and push; the files of the context are read once and sent from where they lie:
      crossdock build --push -t registry.example.com/models/llama:1 .

  In a pod on OpenShift, to the internal registry with the pod's own ServiceAccount:
      crossdock build --push -t image-registry.openshift-image-registry.svc:5000/NAMESPACE/llama:1 .

  Into an OCI layout on disk, no registry at all:
      crossdock build -o oci:./layout:v1 ./model

  For two kinds of machine, the model read, hashed and sent once:
      crossdock build --push --platform linux/amd64,linux/arm64 -t registry.example.com/models/llama:1 .

  A Containerfile for a model car is as short as this:
      FROM registry.access.redhat.com/ubi9/ubi-micro
      COPY model /models
      USER 1001";

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Containerfile to build from; `-` reads it from standard input
    /// [default: Containerfile, else Dockerfile, in the context]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Name of the image, [HOST[:PORT]/]REPOSITORY[:TAG]; may be given several times. The image is remembered under it,
    /// for push and the other commands
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(crate) tags: Vec<String>,

    /// Push the image to every name given with --tag
    #[arg(long)]
    pub(crate) push: bool,

    /// Do not trust the layer digests that earlier builds remembered: read and hash every file again
    #[arg(long)]
    pub(crate) no_memo: bool,

    /// Trust remembered digests of files whose inode, size and modification time are the same, though their change time
    /// moved (chown, chmod, ln). Without it such files are read and hashed again, and not sent again. Who writes to a
    /// file and sets its modification time back is not noticed then
    #[arg(long)]
    pub(crate) trust_mtime: bool,

    /// Do not find out first whether the destination takes a push and layers so large
    #[arg(long)]
    pub(crate) no_preflight: bool,

    /// Write the image to disk: oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:NAME[:TAG]] or dir:DIR. FILE may be
    /// /dev/stdout or a FIFO; `-` is a docker-archive on standard output, for `| docker load`. Docker's
    /// type=oci|docker[,dest=FILE], type=image[,push=true] and type=registry are taken too. May be given several times
    #[arg(short, long = "output", value_name = "DESTINATION")]
    pub(crate) outputs: Vec<String>,

    /// Write the digest of the manifest to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,

    /// Write the image ID (the digest of the config) to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,

    /// Write the image ID without its `sha256:` to this file
    #[arg(long, alias = "raw-iidfile", value_name = "FILE")]
    pub(crate) iidfile_raw: Option<PathBuf>,

    /// Value of an ARG; without a value, that of the environment variable of this name
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,

    /// What a name stands for in FROM and COPY --from: a directory, a tar archive, or an image as docker://NAME or oci:DIR
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub(crate) build_contexts: Vec<String>,

    /// Label of the image's config, after the Containerfile's own
    #[arg(long = "label", value_name = "KEY[=VALUE]")]
    pub(crate) labels: Vec<String>,

    /// Annotation of the image's manifest
    #[arg(long = "annotation", value_name = "KEY[=VALUE]")]
    pub(crate) annotations: Vec<String>,

    /// Say in the manifest what each layer holds of the model in /models, as olot does: for rh-model-signing, which signs files
    /// that it need not pull then, and for catalogues. Each large file is hashed twice from one reading. Without this the
    /// image's digests are as ever (docs/serving.md)
    #[arg(long)]
    pub(crate) modelcar: bool,

    /// Model card, as README.md: added as /models/NAME in a layer of its own that catalogues of models find by its
    /// annotation; with --modelcar, which it brings along
    #[arg(long, value_name = "FILE")]
    pub(crate) modelcard: Option<PathBuf>,

    /// Platform to build for, as linux/arm64; several give a list of images with its name from --manifest or --tag
    /// [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT],...", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,

    /// Build for all platforms that the base images are there for
    #[arg(long, conflicts_with = "platforms")]
    pub(crate) all_platforms: bool,

    /// List that the image is added to; it is made where there is none. An image of the same platform that was in it
    /// goes out
    #[arg(long, value_name = "LIST")]
    pub(crate) manifest: Option<String>,

    /// Show what the build would do, and what of it would be read and sent. No file is read and nothing is written
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) dry_run: bool,

    /// Copy what symlinks in copied directories point to, in the place of the links: what lies in the context or in a
    /// directory of --build-context, and of a snapshot in the cache of Hugging Face the blobs of its repository. A link
    /// that leads elsewhere stays a link, with a warning
    #[arg(long)]
    pub(crate) follow_links: bool,

    /// Take warnings about the Containerfile and about what the image would hold for errors: all of them are printed, and
    /// the build ends with exit code 3 before a layer is sent
    #[arg(long)]
    pub(crate) strict: bool,

    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,

    /// Set all times in the image to this, in seconds since the epoch: the same input then gives the same digest.
    /// Files in layers have the time 0 unless this or --keep-mtime is given; `created` is the real time
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", value_parser = clap::value_parser!(u64).range(..=LATEST_TIME))]
    pub(crate) timestamp: Option<u64>,

    /// Set the times of the image and its history to this, and not those of the files in layers: instead of --timestamp
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=LATEST_TIME))]
    pub(crate) source_date_epoch: Option<u64>,

    /// Files in layers have the time of --source-date-epoch too
    #[arg(long)]
    pub(crate) rewrite_timestamp: bool,

    /// Let files, directories and links keep their modification times, in whole seconds, as .pyc files and Last-Modified
    /// need them: with --rewrite-timestamp none later than --source-date-epoch. A model that was downloaded again is
    /// another layer then
    #[arg(long)]
    pub(crate) keep_mtime: bool,

    /// Media types of the manifest: oci or docker [default: $BUILDAH_FORMAT, else oci]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,

    /// Use this ignore file instead of .containerignore or .dockerignore
    #[arg(long, value_name = "FILE")]
    pub(crate) ignorefile: Option<PathBuf>,

    /// One layer for all that the build adds, instead of one for each COPY and for each large file
    #[arg(long)]
    pub(crate) squash: bool,

    /// Files of this size or more get a layer of their own (bytes, or with a suffix: 64MiB, 1G)
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub(crate) layer_file_size: String,

    /// How new layers are stored: none, zstd or gzip. Weights do not compress
    #[arg(long, value_name = "FORMAT", default_value = "none")]
    pub(crate) compression_format: String,

    /// Level of the compression: 1 to 22 for zstd (default 3), 0 to 9 for gzip (default 6)
    #[arg(long, value_name = "LEVEL", requires = "compression_format")]
    pub(crate) compression_level: Option<u8>,

    #[command(flatten)]
    pub(crate) work: WorkArgs,

    /// Print nothing but the digest; without --push and --output, nothing but the image ID. Warnings are printed to
    /// standard error all the same
    #[arg(short, long, conflicts_with = "progress")]
    pub(crate) quiet: bool,

    /// Directory that the sources of COPY and ADD are relative to; or a tar archive with all of it, compressed or not, in a
    /// file or, as `-`, on standard input, where a Containerfile alone is taken too
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub(crate) context: PathBuf,

    // The headings of their help hold for all that follows.
    #[command(flatten)]
    pub(crate) overrides: Overrides,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

const PUSH_EXAMPLES: &str = "\
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

/// How files are read and sent, and what is shown of it.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Layers that are read, hashed and sent at the same time; 0 for the default
    #[arg(long, value_name = "N", default_value_t = DEFAULT_JOBS, value_parser = clap::value_parser!(u16).range(0..=64))]
    jobs: u16,

    /// How files are read: auto maps them on local file systems and reads them on network ones
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub(crate) io: String,

    /// How progress is shown on standard error; auto is tty on a terminal, else plain. json writes one JSON object
    /// a line to standard output
    #[arg(long, value_name = "STYLE", default_value = "auto")]
    pub(crate) progress: ProgressStyle,
}

const DEFAULT_JOBS: u16 = 4;

impl WorkArgs {
    /// Layers at the same time, at least one.
    pub(crate) fn jobs(&self) -> usize {
        usize::from(if self.jobs == 0 { DEFAULT_JOBS } else { self.jobs })
    }
}

const VERIFY_EXAMPLES: &str = "\
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
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) samples: u32,

    /// Take the ranges that a run with this seed took; the report names it [default: another each time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Write the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Blobs that are looked at at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
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
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = parse_bool,
        action = clap::ArgAction::Set
    )]
    pub(crate) tls_verify: Option<bool>,

    /// Directory of certificates for the registry: *.crt to trust, *.cert and *.key to show
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,

    /// How often a failed transfer is tried again
    #[arg(long, value_name = "N", default_value_t = 3)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressStyle {
    /// tty on a terminal, else plain
    Auto,
    /// A bar for each layer
    Tty,
    /// A line for each layer every few seconds
    Plain,
    /// JSON lines
    Json,
    /// Nothing
    #[value(alias = "quiet")]
    None,
}

/// The words that Go's flag package takes, which buildah's users are used to.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}
