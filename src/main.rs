//! crossdock: a daemonless builder for container images that carry huge files.
//!
//! This package is the command line: arguments, progress, reports and exit codes. What it does is in the crates
//! `builder` (Containerfile to image), `registry` (the OCI distribution protocol) and `storage` (virtual layers).

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "what is said of an argument is its help text, and no Markdown"
)]

mod args;
mod auth;
mod bases;
mod build;
mod buildah;
mod context;
mod destination;
mod dry_run;
mod environment;
mod exit;
mod generate;
mod images;
mod info;
mod inspect;
mod local;
mod login;
mod manifest;
mod message;
mod model;
mod options;
mod overrides;
mod part;
mod progress;
mod prune;
mod pull;
mod push;
mod registries;
mod report;
mod reuse;
mod root;
mod send;
mod session;
mod settings;
mod signals;
mod size;
mod table;
mod tag;
mod template;
mod transfer;
mod usage;
mod verify;
mod version;

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{Cli, Command, LogLevel};
use crate::buildah::CalledAs;

fn main() -> ExitCode {
    signals::run(command)
}

/// The command that was asked for; gives its exit code.
fn command() -> u8 {
    let args: Vec<_> = std::env::args_os().collect();
    let called = args.first().map_or(CalledAs::Crossdock, |program| CalledAs::of(program));
    message::hide_typed(&args);
    let result = buildah::command_line(called, &args).and_then(|(cli, ignored, warning)| {
        start_logging(cli.log_level);
        warning.iter().for_each(|warning| tracing::warn!("{warning}"));
        if !ignored.is_empty() {
            let flags = Vec::from_iter(ignored).join(", ");
            tracing::debug!("without effect here (see docs/drop-in.md): {flags}");
        }
        run(&cli)
    });
    let result = result.or_else(exit::help);
    let code = match result.map_err(signals::outcome) {
        Ok(()) => exit::SUCCESS,
        Err((error, code)) => {
            // Where an image is absent, the exit code is the whole answer.
            if !error.is::<exit::Absent>() {
                exit::show(&error);
            }
            code
        }
    };
    called.exit_code(code)
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let root = root::of(cli).map_err(exit::UsageError)?;
    let root = root.as_deref();
    match &cli.command {
        Command::Build(args) => build::run(args, root, root::kept_out(cli, root).as_deref(), &cli.conf),
        Command::Push(args) => push::run(args, root, &cli.conf),
        Command::Manifest(args) => manifest::run(args, root, &cli.conf),
        Command::Pull(args) => pull::run(args, root, &cli.conf),
        Command::Images(args) => images::run(args, root),
        Command::Inspect(args) => inspect::run(args, root),
        Command::Tag(args) => tag::run(args, root),
        Command::Rmi(args) => tag::run_rmi(args, root),
        Command::Prune(args) => prune::run(args, root),
        Command::Info(args) => info::run(args, root),
        Command::Version(args) => version::run(args),
        Command::Login(args) => login::run(args, &cli.conf),
        Command::Logout(args) => login::run_logout(args, &cli.conf),
        Command::Auth(args) => auth::run(args, &cli.conf),
        Command::Verify(args) => verify::run(args, root, &cli.conf),
        Command::Completion(args) => generate::completion(args),
        Command::Man(args) => generate::man(args),
    }
}

/// Our own crates at the level asked for; what others log below a warning may hold what must not be logged.
fn start_logging(level: LogLevel) {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let filter = EnvFilter::new(format!(
        "warn,crossdock={level},crossdock_builder={level},crossdock_registry={level},crossdock_storage={level}"
    ));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(progress::log_writer)
        .with_ansi(std::io::stderr().is_terminal() && environment::var_os("NO_COLOR").is_none())
        .with_target(false)
        .without_time()
        .finish()
        .init();
}
