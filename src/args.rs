//! The command line as it is typed. `options` makes of it what is to be done.

mod build;
mod push;
mod registry;
mod values;
mod verify;
mod work;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::auth::AuthArgs;
use crate::buildah::CalledAs;
use crate::generate::{CompletionArgs, ManArgs};
use crate::images::ImagesArgs;
use crate::info::InfoArgs;
use crate::inspect::InspectArgs;
use crate::login::{LoginArgs, LogoutArgs};
use crate::manifest::ManifestArgs;
use crate::prune::PruneArgs;
use crate::pull::PullArgs;
use crate::tag::{RmiArgs, TagArgs};
use crate::version::VersionArgs;

pub(crate) use build::BuildArgs;
use build::{BUILD_EXAMPLES, BUILD_EXAMPLES_LONG};
use push::PUSH_EXAMPLES;
pub(crate) use push::PushArgs;
pub(crate) use registry::RegistryArgs;
pub(crate) use values::{BoolArg, number, parse_bool, parse_seconds};
use verify::VERIFY_EXAMPLES;
pub(crate) use verify::{Deep, VerifyArgs};
pub(crate) use work::{ProgressStyle, WorkArgs};

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
  3  the Containerfile, the context, its model or an image cannot be used, or not at the destination, or --strict had
     warnings; no layer was read
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
