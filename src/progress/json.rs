//! JSON lines on standard output: one object for each event. Their fields are documented in docs/progress.md.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossdock_storage::{LayerEvent, Progress};
use serde_json::{Value, json};

use super::phase_name;
use super::totals::{Sum, Totals};
use crate::session::print_json;

/// Positions of one layer, and totals, come no closer than this.
const INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct JsonLines {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    totals: Totals,
    positions: BTreeMap<usize, Instant>,
    total: Option<Instant>,
}

impl JsonLines {
    pub(crate) fn new() -> Self {
        Self { told: Mutex::default() }
    }
}

/// Writes one object as a line.
pub(crate) fn line(value: &Value) {
    // Who does not read on is not waited for; the build goes on.
    let _ = print_json(value);
}

impl Progress for JsonLines {
    fn announce(&self, index: usize, title: &str, bytes: u64) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).totals.announce(index, title, bytes);
        line(&json!({"event": "layer", "layer": index, "title": title, "bytes": bytes}));
    }

    fn event(&self, index: usize, event: LayerEvent) {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.totals.event(index, &event, now);
        let value = match event {
            LayerEvent::Phase(phase) => {
                Some(json!({"event": "phase", "layer": index, "phase": phase_name(phase)}))
            }
            LayerEvent::Position(bytes) => is_due(told.positions.get(&index).copied(), now).then(|| {
                told.positions.insert(index, now);
                json!({"event": "position", "layer": index, "bytes": bytes})
            }),
            LayerEvent::Retry { attempt, reason, wait_ms } => Some(
                json!({"event": "retry", "layer": index, "attempt": attempt, "reason": reason, "wait_ms": wait_ms}),
            ),
            LayerEvent::Finished { outcome, digest, size } => Some(json!({
                "event": "finished",
                "layer": index,
                "outcome": outcome.to_string(),
                "digest": digest.to_string(),
                "size": size,
            })),
            _ => None,
        };
        if let Some(value) = value {
            line(&value);
        }
        let sum = told.totals.sum(now);
        if sum.is_done() || is_due(told.total, now) {
            told.total = Some(now);
            line(&total(&sum));
        }
    }
}

fn is_due(last: Option<Instant>, now: Instant) -> bool {
    last.is_none_or(|last| now.duration_since(last) >= INTERVAL)
}

fn total(sum: &Sum) -> Value {
    json!({
        "event": "total",
        "bytes": sum.bytes,
        "done": sum.done,
        "layers": sum.layers,
        "finished": sum.finished,
        "bytes_per_second": sum.rate,
        "seconds_left": sum.left.map(|left| left.as_secs()),
    })
}
