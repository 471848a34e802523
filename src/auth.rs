//! `crossdock auth`: which credential a repository gets, where it comes from, and what it may do there.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use clap::Args;
use crossdock_registry::{AccessReport, Permission, Reference, SourceOutcome};
use serde_json::{Value, json};

use crate::args::{ConfArgs, RegistryArgs};
use crate::destination::transport_of;
use crate::exit::UsageError;
use crate::registries;
use crate::session::{print, print_json};
use crate::signals::block_on;

/// What `auth` takes.
#[derive(Debug, Args)]
#[command(after_help = "Exits with 6 where what was asked for is refused. No secret is ever printed.")]
pub(crate) struct AuthArgs {
    /// Ask for pulling alone, as for a base image
    #[arg(long)]
    pull: bool,

    /// Write one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    registry: RegistryArgs,

    /// Repository to ask for; a push is tried by an upload that is begun and cancelled, and what that does not tell is
    /// listed
    #[arg(value_name = "HOST/REPOSITORY")]
    repository: String,
}

/// Runs the command.
///
/// # Errors
/// Where the registry cannot be asked, or refuses.
pub(crate) fn run(args: &AuthArgs, conf: &ConfArgs) -> Result<()> {
    let conf = registries::conf(conf).map_err(UsageError)?;
    let name = args.repository.strip_prefix("docker://").unwrap_or(&args.repository);
    if let Some((transport, _)) = transport_of(name) {
        return Err(UsageError(anyhow!(
            "{}: credentials are for registries, and not for {transport}: places; name a repository, HOST[:PORT]/REPOSITORY",
            args.repository
        ))
        .into());
    }
    let reference: Reference =
        name.parse().map_err(|error: crossdock_registry::Error| UsageError(error.into()))?;
    let registry =
        registries::registry(&args.registry, conf, Some(reference.registry()), Arc::default(), None)
            .map_err(UsageError)?;
    let report = block_on(async { Ok(registry.explain(&reference, !args.pull).await?) })?;
    if args.json {
        print_json(&in_json(&reference, &report))?;
    } else {
        print(&in_words(&reference, &report))?;
    }
    let asked = [Some(report.pull), report.push];
    for permission in asked.into_iter().flatten() {
        if let Permission::Refused(error) | Permission::Unknown(error) = permission {
            return Err(error.into());
        }
    }
    Ok(())
}

fn in_words(reference: &Reference, report: &AccessReport) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<11} {value}");
    };
    line("repository", &format!("{}/{}", reference.registry(), reference.repository()));
    line("endpoint", &report.endpoint);
    line("asks for", &report.challenge);
    for (at, source) in report.sources.iter().enumerate() {
        let outcome = match &source.outcome {
            SourceOutcome::Absent => "absent".to_owned(),
            SourceOutcome::NoMatch => "no match".to_owned(),
            SourceOutcome::Matched { key } => format!("matched by {key}"),
            SourceOutcome::Unreadable { reason } => format!("unreadable: {reason}"),
            _ => "unknown".to_owned(),
        };
        line(if at == 0 { "looked at" } else { "" }, &format!("{}: {outcome}", source.place));
    }
    line("credential", &report.credential);
    line("user", report.user.as_deref().unwrap_or("none"));
    line("pull", &permission_in_words(&report.pull));
    if let Some(push) = &report.push {
        line("push", &permission_in_words(push));
    }
    for (at, unknown) in report.unknown.iter().enumerate() {
        line(if at == 0 { "not known" } else { "" }, unknown);
    }
    text
}

fn permission_in_words(permission: &Permission) -> String {
    match permission {
        Permission::Allowed(how) => format!("allowed: {how}"),
        Permission::Refused(error) => format!("refused: {error}"),
        Permission::Unknown(error) => format!("unknown: {error}"),
    }
}

fn in_json(reference: &Reference, report: &AccessReport) -> Value {
    let sources: Vec<_> = report
        .sources
        .iter()
        .map(|source| match &source.outcome {
            SourceOutcome::Absent => json!({"place": source.place, "outcome": "absent"}),
            SourceOutcome::NoMatch => json!({"place": source.place, "outcome": "no match"}),
            SourceOutcome::Matched { key } => {
                json!({"place": source.place, "outcome": "matched", "key": key})
            }
            SourceOutcome::Unreadable { reason } => {
                json!({"place": source.place, "outcome": "unreadable", "reason": reason})
            }
            _ => json!({"place": source.place, "outcome": "unknown"}),
        })
        .collect();
    json!({
        "registry": reference.registry(),
        "repository": reference.repository(),
        "endpoint": report.endpoint,
        "challenge": report.challenge,
        "sources": sources,
        "credential": report.credential,
        "user": report.user,
        "pull": permission_in_json(&report.pull),
        "push": report.push.as_ref().map(permission_in_json),
        "unknown": report.unknown,
    })
}

fn permission_in_json(permission: &Permission) -> Value {
    match permission {
        Permission::Allowed(how) => json!({"allowed": true, "reason": how}),
        Permission::Refused(error) => json!({"allowed": false, "reason": error.to_string()}),
        Permission::Unknown(error) => json!({"allowed": null, "reason": error.to_string()}),
    }
}
