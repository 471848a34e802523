//! The model check, as a command line asks for it and as a report tells of it.

use std::collections::HashSet;
use std::fmt;

use clap::ValueEnum;
use crossdock_builder::{Assembly, AssemblyLayer, Finding, LayerContent, ModelReport, Rule, Severity};
use crossdock_storage::MAX_LAYERS;
use indicatif::HumanBytes;
use serde::Serialize;
use serde_json::{Value, json};

/// What becomes of what the model check finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModelCheck {
    /// Nothing is looked at
    Off,
    /// All of it is warned of
    Warn,
    /// A model that cannot be loaded ends the build, and the rest is warned of
    Error,
}

/// What was found in all images of a build.
#[derive(Debug, Clone)]
pub(crate) struct Models {
    pub(crate) check: ModelCheck,
    findings: Vec<Finding>,
    files: usize,
    bytes_read: u64,
}

/// A model that cannot be loaded.
#[derive(Debug)]
pub(crate) struct BrokenModel(Vec<String>);

impl fmt::Display for BrokenModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0.as_slice() else { return Ok(()) };
        let more = if rest.is_empty() { "" } else { ", first of all" };
        write!(f, "the model is broken{more}: {first}")?;
        rest.iter().try_for_each(|one| write!(f, "\n  and {one}"))?;
        write!(f, "\nnothing of it was sent; --model-check=warn packs it all the same")
    }
}

impl std::error::Error for BrokenModel {}

impl Models {
    pub(crate) fn new(check: ModelCheck) -> Self {
        Self { check, findings: Vec::new(), files: 0, bytes_read: 0 }
    }

    /// Takes in what was found in an image; gives what is to be warned of.
    pub(crate) fn add(&mut self, report: ModelReport) -> Vec<String> {
        self.files = self.files.max(report.files);
        self.bytes_read += report.bytes_read;
        let known: HashSet<_> = self.findings.iter().map(ToString::to_string).collect();
        let new = report.findings.into_iter().filter(|finding| !known.contains(&finding.to_string()));
        let new: Vec<_> = new.collect();
        let is_warning = |finding: &&Finding| match finding.severity {
            Severity::Broken => self.check == ModelCheck::Warn,
            Severity::Wasteful => true,
            Severity::Note => false,
        };
        let warnings = new.iter().filter(is_warning).map(ToString::to_string).collect();
        self.findings.extend(new);
        warnings
    }

    /// Takes note of large files that share layers.
    pub(crate) fn add_layers(&mut self, image: &Assembly, layer_file_size: Option<u64>) {
        let Some(size) = layer_file_size.filter(|_| self.check != ModelCheck::Off) else { return };
        let large = |layer: &AssemblyLayer| match &layer.content {
            LayerContent::Files { layer, .. } => {
                layer.entries().unwrap_or_default().iter().filter(|entry| entry.is_large(size)).count()
            }
            LayerContent::Blob { .. } => 0,
        };
        let shared: Vec<_> = image.layers.iter().map(large).filter(|count| *count > 1).collect();
        let files: usize = shared.iter().sum();
        if files == 0 {
            return;
        }
        let message = format!(
            "{files} files of {} or more share {} layers: an image has at most {MAX_LAYERS}, with those of its base",
            HumanBytes(size),
            shared.len()
        );
        let help = "a larger --layer-file-size leaves fewer files to have layers of their own";
        let note = Finding::note(Rule::Layers, message, help);
        if !self.findings.contains(&note) {
            self.findings.push(note);
        }
    }

    /// What ends the build.
    pub(crate) fn broken(&self) -> Option<BrokenModel> {
        let is_broken = |finding: &&Finding| finding.severity == Severity::Broken;
        let broken: Vec<_> = self.findings.iter().filter(is_broken).map(ToString::to_string).collect();
        (self.check == ModelCheck::Error && !broken.is_empty()).then_some(BrokenModel(broken))
    }

    /// For people: nothing where there is no model.
    pub(crate) fn lines(&self) -> Vec<String> {
        if self.files == 0 && self.findings.is_empty() {
            return Vec::new();
        }
        let files = if self.files == 1 { "1 file".to_owned() } else { format!("{} files", self.files) };
        let mut count = [0_usize; 3];
        for finding in &self.findings {
            count[match finding.severity {
                Severity::Broken => 0,
                Severity::Wasteful => 1,
                Severity::Note => 2,
            }] += 1;
        }
        let found = match count {
            [0, 0, 0] => "nothing found".to_owned(),
            [broken, wasteful, notes] => [(broken, "broken"), (wasteful, "wasteful"), (notes, "to note")]
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{count} {what}"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let mut lines =
            vec![format!("model    {files} looked into, {} read: {found}", HumanBytes(self.bytes_read))];
        let notes = self.findings.iter().filter(|finding| finding.severity == Severity::Note);
        lines.extend(notes.map(|finding| format!("  note   {}, {}", finding.message, finding.help)));
        lines
    }

    /// For machines: documented in docs/progress.md.
    pub(crate) fn json(&self) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "rule": finding.rule,
                "severity": finding.severity,
                "paths": finding.paths.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "message": finding.message,
                "help": finding.help,
                "bytes": finding.bytes,
            })
        };
        json!({
            "check": self.check,
            "files": self.files,
            "bytes_read": self.bytes_read,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }

    /// Bytes that were read of headers.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }
}
