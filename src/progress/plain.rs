//! Lines in a log: when a layer begins or ends, and about those under way at a steady interval.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossdock_storage::{LayerEvent, Phase, Progress};
use indicatif::{HumanBytes, HumanDuration};

use super::verb;

#[derive(Debug)]
pub(crate) struct Lines {
    interval: Duration,
    layers: Mutex<BTreeMap<usize, Layer>>,
}

#[derive(Debug)]
struct Layer {
    title: String,
    bytes: u64,
    phase: Option<Phase>,
    began: Instant,
    told: Instant,
}

impl Lines {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, layers: Mutex::default() }
    }
}

impl Progress for Lines {
    fn announce(&self, index: usize, title: &str, bytes: u64) {
        let now = Instant::now();
        let layer = Layer { title: title.to_owned(), bytes, phase: None, began: now, told: now };
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).insert(index, layer);
    }

    fn event(&self, index: usize, event: LayerEvent) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let total = layers.len();
        let Some(layer) = layers.get_mut(&index) else { return };
        let line = match event {
            LayerEvent::Phase(phase) => {
                let now = Instant::now();
                (layer.phase, layer.told) = (Some(phase), now);
                if phase == Phase::Committing {
                    return;
                }
                layer.began = now;
                format!("{} ({})", verb(phase), HumanBytes(layer.bytes))
            }
            LayerEvent::Position(bytes) => {
                if layer.told.elapsed() < self.interval {
                    return;
                }
                layer.told = Instant::now();
                position(layer, bytes)
            }
            LayerEvent::Retry { attempt, reason, wait_ms } => {
                format!("{reason}; attempt {attempt} in {} s", wait_ms.div_ceil(1000))
            }
            LayerEvent::Finished { outcome, digest, size } => {
                format!(
                    "{outcome}, {}, {digest}, {:.1} s",
                    HumanBytes(size),
                    layer.began.elapsed().as_secs_f64()
                )
            }
            _ => return,
        };
        let line = format!("[{}/{total}] {}: {line}\n", index + 1, layer.title);
        // A log that cannot be written to is no reason to fail.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "for people"
)]
fn position(layer: &Layer, bytes: u64) -> String {
    let rate = bytes as f64 / layer.began.elapsed().as_secs_f64().max(0.001);
    let left = Duration::from_secs_f64((layer.bytes.saturating_sub(bytes)) as f64 / rate.max(1.0));
    format!(
        "{} {} of {} ({} %), {}/s, {} left",
        layer.phase.map_or("working", verb),
        HumanBytes(bytes),
        HumanBytes(layer.bytes),
        bytes * 100 / layer.bytes.max(1),
        HumanBytes(rate as u64),
        HumanDuration(left)
    )
}
