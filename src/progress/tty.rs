//! Bars on a terminal: one for each layer that is worked on, a line for each that is done.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use crossdock_storage::{LayerEvent, Phase, Progress};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use super::verb;

/// Characters of a title at most; the end of a path says more than its beginning.
const TITLE: usize = 36;

/// The screen of the bars, for log lines to be put above them. A process has one terminal.
static SCREEN: OnceLock<MultiProgress> = OnceLock::new();

#[derive(Debug)]
pub(crate) struct Bars {
    screen: MultiProgress,
    layers: Mutex<BTreeMap<usize, Layer>>,
}

#[derive(Debug)]
struct Layer {
    title: String,
    bytes: u64,
    bar: Option<ProgressBar>,
}

impl Drop for Layer {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Layer {
    /// Takes its bar off the screen.
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            if let Some(screen) = SCREEN.get() {
                screen.remove(&bar);
            }
        }
    }
}

impl Bars {
    pub(crate) fn new() -> Self {
        Self { screen: SCREEN.get_or_init(MultiProgress::new).clone(), layers: Mutex::default() }
    }

    fn begin(&self, layer: &mut Layer, phase: Phase) {
        let bar = layer.bar.get_or_insert_with(|| {
            let bar = self.screen.add(ProgressBar::new(layer.bytes));
            bar.set_prefix(shortened(&layer.title));
            bar
        });
        bar.set_style(style(phase));
        bar.set_message(verb(phase));
        if phase == Phase::Committing {
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
        } else {
            bar.set_position(0);
            bar.reset_eta();
        }
    }
}

impl Progress for Bars {
    fn announce(&self, index: usize, title: &str, bytes: u64) {
        let layer = Layer { title: title.to_owned(), bytes, bar: None };
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).insert(index, layer);
    }

    fn event(&self, index: usize, event: LayerEvent) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(layer) = layers.get_mut(&index) else { return };
        match event {
            LayerEvent::Phase(phase) => self.begin(layer, phase),
            LayerEvent::Position(bytes) => {
                if let Some(bar) = &layer.bar {
                    bar.set_position(bytes);
                }
            }
            LayerEvent::Retry { attempt, reason, wait_ms } => {
                let wait = wait_ms.div_ceil(1000);
                // A display that cannot be written to is no reason to fail.
                let _ = self
                    .screen
                    .println(format!("  {}: {reason}; attempt {attempt} in {wait} s", layer.title));
            }
            LayerEvent::Finished { outcome, size, .. } => {
                layer.clear();
                let _ = self.screen.println(format!(
                    "  {:<TITLE$} {:>12}  {outcome}",
                    shortened(&layer.title),
                    HumanBytes(size).to_string()
                ));
            }
            _ => {}
        }
    }
}

/// Collects a log line, and writes it to standard error without tearing the bars.
#[derive(Debug, Default)]
pub(super) struct AboveBars(Vec<u8>);

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.0);
        let write = || io::stderr().lock().write_all(&line);
        match SCREEN.get() {
            Some(screen) => screen.suspend(write),
            None => write(),
        }
    }
}

impl Drop for AboveBars {
    fn drop(&mut self) {
        // A log that cannot be written to is no reason to fail.
        let _ = self.flush();
    }
}

fn style(phase: Phase) -> ProgressStyle {
    let template = match phase {
        Phase::Committing => "  {prefix:36} {spinner} waiting for the registry to take the layer, {elapsed}",
        _ => {
            "  {prefix:36} {bar:24.cyan} {bytes:>11} / {total_bytes:<11} {binary_bytes_per_sec:>12}  {eta:>4} left, {msg}"
        }
    };
    // The templates are constants; the default style is as good a bar if one were wrong.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ")
}

fn shortened(title: &str) -> String {
    let count = title.chars().count();
    if count <= TITLE {
        return title.to_owned();
    }
    let tail: String = title.chars().skip(count - TITLE + 1).collect();
    format!("…{tail}")
}
