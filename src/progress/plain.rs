//! Lines in a log: when a layer begins or ends, and about those under way and all together at a steady interval.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossdock_storage::{LayerEvent, Phase, Progress, escape_line};
use indicatif::HumanBytes;

use super::totals::{Layer, Sum, Totals, in_words, percent};
use super::verb;
use crate::message;

#[derive(Debug)]
pub(crate) struct Lines {
    interval: Duration,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    totals: Totals,
    /// When each layer's work began, and when something was last said of it.
    times: BTreeMap<usize, (Instant, Instant)>,
    told: Instant,
}

impl Lines {
    pub(crate) fn new(interval: Duration) -> Self {
        let log = Log { totals: Totals::default(), times: BTreeMap::new(), told: Instant::now() };
        Self { interval, log: Mutex::new(log) }
    }
}

impl Log {
    /// What there is to say of an event of a layer.
    fn of_layer(
        &mut self,
        index: usize,
        event: LayerEvent,
        now: Instant,
        interval: Duration,
    ) -> Option<String> {
        let layer = self.totals.layer(index)?;
        let (began, told) = self.times.entry(index).or_insert((now, now));
        let line = match event {
            LayerEvent::Phase(Phase::Committing) => {
                *told = now;
                return None;
            }
            LayerEvent::Phase(phase) => {
                (*began, *told) = (now, now);
                format!("{} ({})", verb(phase), HumanBytes(layer.bytes))
            }
            LayerEvent::Position(_) if now.duration_since(*told) < interval => return None,
            LayerEvent::Position(_) => {
                *told = now;
                position(layer, now)
            }
            LayerEvent::Retry { attempt, reason, wait_ms } => {
                format!("{reason}; attempt {attempt} in {} s", wait_ms.div_ceil(1000))
            }
            LayerEvent::Finished { outcome, digest, size } => {
                let seconds = now.duration_since(*began).as_secs_f64();
                format!("{outcome}, {}, {digest}, {seconds:.1} s", HumanBytes(size))
            }
            _ => return None,
        };
        Some(format!("[{}/{}] {}: {line}\n", index + 1, self.totals.count(), escape_line(&layer.title)))
    }
}

impl Progress for Lines {
    fn announce(&self, index: usize, title: &str, bytes: u64) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.totals.announce(index, title, bytes);
        log.times.remove(&index);
    }

    fn event(&self, index: usize, event: LayerEvent) {
        let now = Instant::now();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.totals.event(index, &event, now);
        let mut text = log.of_layer(index, event, now, self.interval).unwrap_or_default();
        if now.duration_since(log.told) >= self.interval {
            log.told = now;
            text.push_str(&total(&log.totals.sum(now)));
        }
        // A log that cannot be written to is no reason to fail.
        let _ = message::to_stderr(&text);
    }
}

fn position(layer: &Layer, now: Instant) -> String {
    let (done, bytes) = (layer.position, layer.bytes);
    let mut text = format!(
        "{} {} of {} ({} %)",
        layer.phase.map_or("working", verb),
        HumanBytes(done),
        HumanBytes(bytes),
        percent(done, bytes)
    );
    if let Some((rate, left)) = layer.rate(now) {
        // Writing to a String does not fail.
        let _ = write!(text, ", {}/s, {} left", HumanBytes(rate), in_words(left));
    }
    text
}

fn total(sum: &Sum) -> String {
    let mut text =
        format!("[total] {} of {} ({} %)", HumanBytes(sum.done), HumanBytes(sum.bytes), sum.percent());
    if let (Some(rate), Some(left)) = (sum.rate, sum.left) {
        let _ = write!(text, ", {}/s, {} left", HumanBytes(rate), in_words(left));
    }
    let _ = writeln!(text, ", {} of {} layers done", sum.finished, sum.layers);
    text
}
