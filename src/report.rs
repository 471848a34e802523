//! What is said at the end: the image, its layers and what happened to each, and what it took. And how errors read.

use std::fmt::Write;

use crossdock_builder::{AssembledLayer, Error as BuildError};
use crossdock_storage::{Digest, Outcome, escape_line};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::model::Models;

mod effort;
mod list;

use crate::reuse::{add_trusted, trusted_line};

pub(crate) use effort::Effort;
pub(crate) use list::{ListReport, ListedReport};

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
    /// What was seen of its models, where it was built.
    pub(crate) models: Option<Models>,
    pub(crate) effort: Effort,
}

/// What a command that puts images somewhere says at its end.
pub(crate) trait Told {
    /// The digest that the tag names.
    fn digest(&self) -> &Digest;
    /// For people.
    fn text(&self) -> String;
    /// For machines: one object, documented in docs/progress.md.
    fn json(&self) -> Value;
}

impl Told for Report {
    fn digest(&self) -> &Digest {
        &self.digest
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let mut line = |args: std::fmt::Arguments<'_>| {
            let _ = text.write_fmt(args);
            text.push('\n');
        };
        match self.names.as_slice() {
            [] if self.recorded => line(format_args!("image    remembered without a name")),
            [] => line(format_args!("image    not remembered, and sent nowhere")),
            names => names.iter().for_each(|name| line(format_args!("image    {}", escape_line(name)))),
        }
        line(format_args!("digest   {}", self.digest));
        line(format_args!("id       {}", self.image_id));
        line(format_args!("layers"));
        layer_lines(&self.layers, "  ").iter().for_each(|text| line(format_args!("{text}")));
        self.models.iter().flat_map(Models::lines).for_each(|text| line(format_args!("{text}")));
        trusted_line(self.layers.iter()).iter().for_each(|text| line(format_args!("{text}")));
        self.effort.lines(self.layers.iter()).iter().for_each(|text| line(format_args!("{text}")));
        if self.recorded {
            // The last line by itself, as buildah has it: what a script goes on with.
            line(format_args!("{}", self.image_id.digest()));
        }
        text
    }

    fn json(&self) -> Value {
        let mut report = json!({
            "event": "image",
            "names": self.names,
            "recorded": self.recorded,
            "digest": self.digest.to_string(),
            "image_id": self.image_id.to_string(),
            "layers": layers_json(&self.layers),
        });
        if let Some(models) = &self.models {
            report["model"] = models.json();
        }
        report.as_object_mut().into_iter().for_each(|report| {
            self.effort.add_to(report);
            add_trusted(report, self.layers.iter());
        });
        report
    }
}

/// A line for each layer.
pub(crate) fn layer_lines(layers: &[AssembledLayer], indent: &str) -> Vec<String> {
    let width = layers.iter().map(|l| outcome(&l.outcome).chars().count()).max().unwrap_or(0);
    let line = |layer: &AssembledLayer| {
        let descriptor = &layer.layer.descriptor;
        let size = HumanBytes(descriptor.size()).to_string();
        let outcome = outcome(&layer.outcome);
        let title = escape_line(layer.title.trim());
        format!("{indent}{}  {size:>11}  {outcome:<width$}  {title}", short(descriptor.digest()))
    };
    layers.iter().map(line).collect()
}

pub(crate) fn layers_json(layers: &[AssembledLayer]) -> Vec<Value> {
    let layer = |layer: &AssembledLayer| {
        json!({
            "title": layer.title.trim(),
            "digest": layer.layer.descriptor.digest().to_string(),
            "diff_id": layer.layer.diff_id.to_string(),
            "size": layer.layer.descriptor.size(),
            "media_type": layer.layer.descriptor.media_type().to_string(),
            "outcome": outcome_name(&layer.outcome),
            "from_base": layer.from_base,
            "trusted": layer.trusted.as_ref().map(|trusted| trusted.from.name()),
        })
    };
    layers.iter().map(layer).collect()
}

fn outcome(outcome: &Outcome) -> String {
    outcome.to_string()
}

pub(crate) fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Sent => "sent",
        Outcome::Mounted { .. } => "mounted",
        Outcome::Present => "present",
        Outcome::Written => "written",
        Outcome::Foreign => "foreign",
        Outcome::Digested => "digested",
        _ => "unknown",
    }
}

pub(crate) fn short(digest: &Digest) -> String {
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
