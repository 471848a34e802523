//! What is said at the end: the image, its layers and what happened to each, and what it took. And how errors read.

use std::fmt::Write;
use std::time::Duration;

use crossdock_builder::{AssembledLayer, Error as BuildError};
use crossdock_storage::{Digest, Outcome};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::usage::Usage;

/// A build that is done.
#[derive(Debug)]
pub(crate) struct Report {
    /// The image's names at its destinations; none where it has no destination.
    pub(crate) names: Vec<String>,
    /// Whether it is remembered here and sent nowhere.
    pub(crate) recorded: bool,
    /// The manifest's digest.
    pub(crate) digest: Digest,
    /// The config's digest.
    pub(crate) image_id: Digest,
    /// From the bottom up.
    pub(crate) layers: Vec<AssembledLayer>,
    /// Bytes read from the files of the context.
    pub(crate) read: u64,
    /// Bytes of bodies sent to registries.
    pub(crate) sent: u64,
    /// Bytes of blobs received from registries.
    pub(crate) received: u64,
    pub(crate) usage: Usage,
    pub(crate) elapsed: Duration,
}

impl Report {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let mut line = |args: std::fmt::Arguments<'_>| {
            let _ = text.write_fmt(args);
            text.push('\n');
        };
        match self.names.as_slice() {
            [] if self.recorded => line(format_args!("image    remembered without a name")),
            [] => line(format_args!("image    not remembered, and sent nowhere")),
            names => names.iter().for_each(|name| line(format_args!("image    {name}"))),
        }
        line(format_args!("digest   {}", self.digest));
        line(format_args!("id       {}", self.image_id));
        line(format_args!("layers"));
        let width = self.layers.iter().map(|l| outcome(&l.outcome).chars().count()).max().unwrap_or(0);
        for layer in &self.layers {
            let descriptor = &layer.layer.descriptor;
            let size = HumanBytes(descriptor.size()).to_string();
            let outcome = outcome(&layer.outcome);
            line(format_args!(
                "  {}  {size:>11}  {outcome:<width$}  {}",
                short(descriptor.digest()),
                layer.title.trim()
            ));
        }
        line(format_args!("read     {} of the context's files", HumanBytes(self.read)));
        line(format_args!("sent     {}", HumanBytes(self.sent)));
        if self.received > 0 {
            line(format_args!("received {} of the base", HumanBytes(self.received)));
        }
        match self.usage.written {
            Some(bytes) => line(format_args!("written  {} to local disk", HumanBytes(bytes))),
            None => line(format_args!("written  unknown: the kernel does not say")),
        }
        if let Some(peak) = self.usage.peak_memory {
            line(format_args!("memory   {} at most", HumanBytes(peak)));
        }
        line(format_args!("time     {:.2} s{}", self.elapsed.as_secs_f64(), self.rate()));
        if self.recorded {
            // The last line by itself, as buildah has it: what a script goes on with.
            line(format_args!("{}", self.image_id.digest()));
        }
        text
    }

    /// For machines: one object, documented in docs/progress.md.
    pub(crate) fn json(&self) -> Value {
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|layer| {
                json!({
                    "title": layer.title.trim(),
                    "digest": layer.layer.descriptor.digest().to_string(),
                    "diff_id": layer.layer.diff_id.to_string(),
                    "size": layer.layer.descriptor.size(),
                    "media_type": layer.layer.descriptor.media_type().to_string(),
                    "outcome": outcome_name(&layer.outcome),
                    "from_base": layer.from_base,
                })
            })
            .collect();
        json!({
            "event": "image",
            "names": self.names,
            "recorded": self.recorded,
            "digest": self.digest.to_string(),
            "image_id": self.image_id.to_string(),
            "layers": layers,
            "bytes_read": self.read,
            "bytes_sent": self.sent,
            "bytes_received": self.received,
            "bytes_written": self.usage.written,
            "peak_memory_bytes": self.usage.peak_memory,
            "seconds": self.elapsed.as_secs_f64(),
        })
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "for people"
    )]
    fn rate(&self) -> String {
        let worked = |layer: &&AssembledLayer| {
            !layer.from_base && !matches!(layer.outcome, Outcome::Present | Outcome::Mounted { .. })
        };
        let bytes: u64 = self.layers.iter().filter(worked).map(|l| l.layer.descriptor.size()).sum();
        if bytes == 0 || self.elapsed.is_zero() {
            return String::new();
        }
        format!(
            ", {}/s of the image's new layers",
            HumanBytes((bytes as f64 / self.elapsed.as_secs_f64()) as u64)
        )
    }
}

fn outcome(outcome: &Outcome) -> String {
    outcome.to_string()
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Sent => "sent",
        Outcome::Mounted { .. } => "mounted",
        Outcome::Present => "present",
        Outcome::Written => "written",
        Outcome::Digested => "digested",
        _ => "unknown",
    }
}

fn short(digest: &Digest) -> String {
    digest.digest().chars().take(12).collect()
}

/// An error as it is shown: one line with its causes, and the line of the Containerfile where it has one.
pub(crate) fn error(error: &anyhow::Error) -> String {
    let mut text = "Error: ".to_owned();
    let mut said = String::new();
    for cause in error.chain() {
        let part = cause.to_string();
        // Causes that an error has in its own text already are not said twice.
        if said.contains(&part) {
            continue;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(&part);
    }
    text.push_str(&said);
    if let Some(diagnostic) = error.chain().find_map(|cause| cause.downcast_ref::<BuildError>()?.diagnostic())
    {
        // Its first line is said already.
        for line in diagnostic.render().lines().skip(1) {
            text.push('\n');
            text.push_str(line);
        }
    }
    text
}
