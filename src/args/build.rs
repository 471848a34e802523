//! The command line of `build`.

use std::path::PathBuf;

use clap::Args;

use super::registry::RegistryArgs;
use super::values::{number, parse_seconds};
use super::work::WorkArgs;
use crate::model::ModelCheck;
use crate::overrides::Overrides;
use crate::reuse::ReuseArgs;

pub(super) const BUILD_EXAMPLES: &str = "\
Examples:
  crossdock build --push -t registry.example.com/models/llama:1 .
  crossdock build -o oci:./layout:v1 ./model

See `crossdock build --help` for what each option does, and the exit codes in `crossdock --help`.";

pub(super) const BUILD_EXAMPLES_LONG: &str = "\
Examples:
  Build from ./Containerfile and push; the files of the context are read once and sent from where they lie:
      crossdock build --push -t registry.example.com/models/llama:1 .

  In a pod on OpenShift, to the internal registry with the pod's own ServiceAccount:
      crossdock build --push -t image-registry.openshift-image-registry.svc:5000/NAMESPACE/llama:1 .

  Into an OCI layout on disk, no registry at all:
      crossdock build -o oci:./layout:v1 ./model

  For two kinds of machine, the model read, hashed and sent once:
      crossdock build --push --platform linux/amd64,linux/arm64 -t registry.example.com/models/llama:1 .

  On two machines that see the same files and the same --root, then on one of them; parts may run at the same time:
      crossdock build --push --part 1/2 -t registry.example.com/models/llama:1 .
      crossdock build --push --part 2/2 -t registry.example.com/models/llama:1 .
      crossdock build --push -t registry.example.com/models/llama:1 .

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

    /// Send only part I of N of the image's layers, as 2/4, and no manifest: for several machines that share the work. The
    /// layers are split by bytes, the same on every machine. When all parts are sent, the same command without --part
    /// finds them at the registry and makes the image, in seconds. It knows them by what the parts remembered in a --root
    /// that all of them share, or by --part-file
    #[arg(long, value_name = "I/N")]
    pub(crate) part: Option<String>,

    /// Directory for what each part sent, as part-I-of-N.json, where parts and the build after them have no --root in
    /// common. That build takes it too, and warns of parts that are missing
    #[arg(long, value_name = "DIR")]
    pub(crate) part_file: Option<PathBuf>,

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

    /// What becomes of what is wrong with weights: off, warn, or error. Their headers are looked at before anything is sent,
    /// at most 1 MiB of a file [default: error, which refuses a model that cannot be loaded and warns of the rest; called as
    /// buildah, warn]
    #[arg(long, value_name = "WHAT", hide_possible_values = true)]
    pub(crate) model_check: Option<ModelCheck>,

    /// Copy what a download has left in a directory, too: .cache/huggingface, *.incomplete and *.part. It is left out
    /// otherwise where a COPY or ADD names what is above it, with a warning; called as buildah, nothing is left out
    #[arg(long)]
    pub(crate) keep_download_cache: bool,

    /// Whether the image shall be the one that buildah makes.
    #[arg(skip)]
    pub(crate) as_buildah: bool,

    /// Take warnings for errors: those about the Containerfile, the contexts, the bases, what the image would hold, and what
    /// its destination may not take. All of them are printed, and the build ends with exit code 3 before a layer is sent.
    /// Warnings about this machine and the connection stay as they are
    #[arg(long)]
    pub(crate) strict: bool,

    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,

    /// Set all times in the image to this, in seconds since the epoch: the same input then gives the same digest.
    /// Files in layers have the time 0 unless this or --keep-mtime is given; `created` is the real time
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", value_parser = parse_seconds)]
    pub(crate) timestamp: Option<u64>,

    /// Set the times of the image and its history to this, and not those of the files in layers: instead of --timestamp
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
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
    #[arg(long, value_name = "LEVEL", value_parser = number::<u8>(0..=22), requires = "compression_format")]
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
    pub(crate) reuse: ReuseArgs,

    #[command(flatten)]
    pub(crate) overrides: Overrides,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}
