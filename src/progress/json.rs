//! JSON lines on standard output: one object for each event. Their fields are documented in docs/progress.md.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossdock_storage::{LayerEvent, Progress};
use serde_json::{Value, json};

use super::phase_name;
use crate::session::print;

/// Positions of one layer come no closer than this.
const INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct JsonLines {
    told: Mutex<BTreeMap<usize, Instant>>,
}

impl JsonLines {
    pub(crate) fn new() -> Self {
        Self { told: Mutex::default() }
    }
}

/// Writes one object as a line.
pub(crate) fn line(value: &Value) {
    // Who does not read on is not waited for; the build goes on.
    let _ = print(&format!("{value}\n"));
}

impl Progress for JsonLines {
    fn announce(&self, index: usize, title: &str, bytes: u64) {
        line(&json!({"event": "layer", "layer": index, "title": title, "bytes": bytes}));
    }

    fn event(&self, index: usize, event: LayerEvent) {
        let value = match event {
            LayerEvent::Phase(phase) => json!({"event": "phase", "layer": index, "phase": phase_name(phase)}),
            LayerEvent::Position(bytes) => {
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                if told.get(&index).is_some_and(|last| last.elapsed() < INTERVAL) {
                    return;
                }
                told.insert(index, Instant::now());
                json!({"event": "position", "layer": index, "bytes": bytes})
            }
            LayerEvent::Retry { attempt, reason, wait_ms } => {
                json!({"event": "retry", "layer": index, "attempt": attempt, "reason": reason, "wait_ms": wait_ms})
            }
            LayerEvent::Finished { outcome, digest, size } => json!({
                "event": "finished",
                "layer": index,
                "outcome": outcome.to_string(),
                "digest": digest.to_string(),
                "size": size,
            }),
            _ => return,
        };
        line(&value);
    }
}
