//! crossdock: a daemonless builder for container images that carry huge files.
//!
//! This package is the command line: arguments, progress, reports and exit codes. What it does is in the crates
//! `builder` (Containerfile to image), `registry` (the OCI distribution protocol) and `storage` (virtual layers).

mod args;
mod auth;
mod bases;
mod build;
mod destination;
mod dry_run;
mod exit;
mod generate;
mod local;
mod login;
mod manifest;
mod options;
mod progress;
mod push;
mod registries;
mod report;
mod session;
mod settings;
mod size;
mod transfer;
mod usage;
mod verify;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{Cli, Command, LogLevel};
use crate::exit::UsageError;

fn main() -> ExitCode {
    let cli = match settings::with_defaults(Cli::command()) {
        Ok(commands) => Cli::from_arg_matches(&commands.get_matches()).unwrap_or_else(|error| error.exit()),
        Err(error) => return failed(&UsageError(error).into()),
    };
    start_logging(cli.log_level);
    let (root, registries_conf) = (cli.root.as_deref(), cli.registries_conf.as_deref());
    let result = match &cli.command {
        Command::Build(args) => build::run(args, root, registries_conf),
        Command::Push(args) => push::run(args, root, registries_conf),
        Command::Manifest(args) => manifest::run(args, root, registries_conf),
        Command::Login(args) => login::run(args, registries_conf),
        Command::Logout(args) => login::run_logout(args),
        Command::Auth(args) => auth::run(args, registries_conf),
        Command::Verify(args) => verify::run(args, registries_conf),
        Command::Completion(args) => generate::completion(args),
        Command::Man(args) => generate::man(args),
    };
    match result {
        Ok(()) => ExitCode::from(exit::SUCCESS),
        // Nothing to say beside the exit code.
        Err(error) if error.is::<exit::Absent>() => exit::code(&error),
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    let text = format!("{}\n", report::error(error));
    // There is nowhere left to say that standard error is closed.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    exit::code(error)
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
        .with_ansi(
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        )
        .with_target(false)
        .without_time()
        .finish()
        .init();
}
