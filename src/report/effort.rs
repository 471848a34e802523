//! What a command took, as its report has it.

use std::time::{Duration, Instant};

use crossdock_builder::AssembledLayer;
use crossdock_storage::{Counters, Outcome};
use indicatif::HumanBytes;
use serde_json::{Map, Value, json};

use crate::usage::Usage;

/// Bytes, memory and time of a command that is done.
#[derive(Debug)]
pub(crate) struct Effort {
    /// Bytes read from the files of the context.
    read: u64,
    /// Bytes of bodies sent to registries.
    sent: u64,
    /// Bytes of blobs received from registries.
    received: u64,
    usage: Usage,
    elapsed: Duration,
}

impl Effort {
    /// What was counted since the command began, which is now.
    pub(crate) fn since(began: Instant, counters: &Counters) -> Self {
        Self {
            read: counters.read(),
            sent: counters.sent(),
            received: counters.received(),
            usage: Usage::now(),
            elapsed: began.elapsed(),
        }
    }

    /// For people; `layers` are those that were to be put somewhere.
    pub(crate) fn lines<'a>(&self, layers: impl Iterator<Item = &'a AssembledLayer> + Clone) -> Vec<String> {
        let mut lines = vec![
            format!("read     {} of the context's files", HumanBytes(self.read)),
            format!("sent     {}", HumanBytes(self.sent)),
        ];
        if self.received > 0 {
            let checked = layers.clone().any(|layer| layer.trusted.is_some());
            let what = if checked { "the base and of layers to check" } else { "the base" };
            lines.push(format!("received {} of {what}", HumanBytes(self.received)));
        }
        lines.push(match self.usage.written {
            Some(bytes) => format!("written  {} to local disk", HumanBytes(bytes)),
            None => "written  unknown: the kernel does not say".to_owned(),
        });
        if let Some(peak) = self.usage.peak_memory {
            lines.push(format!("memory   {} at most", HumanBytes(peak)));
        }
        lines.push(format!("time     {:.2} s{}", self.elapsed.as_secs_f64(), self.rate(layers)));
        lines
    }

    /// For machines: the fields of a report.
    pub(crate) fn add_to(&self, report: &mut Map<String, Value>) {
        let fields = [
            ("bytes_read", json!(self.read)),
            ("bytes_sent", json!(self.sent)),
            ("bytes_received", json!(self.received)),
            ("bytes_written", json!(self.usage.written)),
            ("peak_memory_bytes", json!(self.usage.peak_memory)),
            ("seconds", json!(self.elapsed.as_secs_f64())),
        ];
        report.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    }

    /// How fast the new layers went; nothing where none of their bytes was read or sent.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "for people"
    )]
    fn rate<'a>(&self, layers: impl Iterator<Item = &'a AssembledLayer>) -> String {
        let worked = |layer: &&AssembledLayer| {
            !layer.from_base && !matches!(layer.outcome, Outcome::Present | Outcome::Mounted { .. })
        };
        let bytes: u64 = layers.filter(worked).map(|l| l.layer.descriptor.size()).sum();
        // A layer whose digest is remembered is not read, and what a list's images share goes once.
        let bytes = bytes.min(self.read.max(self.sent));
        if bytes == 0 || self.elapsed.is_zero() {
            return String::new();
        }
        let rate = bytes as f64 / self.elapsed.as_secs_f64();
        format!(", {}/s of the image's new layers", HumanBytes(rate as u64))
    }
}
