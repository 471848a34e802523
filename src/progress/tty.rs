//! Lines on a terminal: one for each layer that is worked on and one for all together, which change in their places, and
//! above them one for each layer that is done.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use console::Term;
use crossdock_storage::{LayerEvent, Phase, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::line;
use super::totals::Totals;
use crate::{environment, message};

/// A line changes no more often than this.
const INTERVAL: Duration = Duration::from_millis(100);

/// Columns that stand before a line's text: two blanks, or what turns while the registry is waited for.
const INDENT: usize = 2;

/// Lines of the terminal that layers do not take: what was said before, the total, and the cursor's.
const OTHER_LINES: usize = 4;

/// The screen of the lines, for log lines to be put above them. A process has one terminal.
static SCREEN: OnceLock<MultiProgress> = OnceLock::new();

/// Whether standard error can show lines that change in their places.
pub(super) fn is_possible() -> bool {
    let term = environment::var_os("TERM").unwrap_or_default();
    io::stderr().is_terminal() && !term.is_empty() && term != "dumb"
}

#[derive(Debug)]
pub(crate) struct Bars {
    /// Whether a line is left of a layer that is done.
    tells_finished: bool,
    /// <https://no-color.org>
    colored: bool,
    screen: MultiProgress,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    totals: Totals,
    /// The layers that are worked on, in their order, with their lines where there is room for one.
    active: BTreeMap<usize, Option<Line>>,
    total: Option<Line>,
}

#[derive(Debug)]
struct Line {
    bar: ProgressBar,
    drawn: Option<Instant>,
}

impl Line {
    fn clear(&self) {
        self.bar.finish_and_clear();
        if let Some(screen) = SCREEN.get() {
            screen.remove(&self.bar);
        }
    }
}

impl Bars {
    /// `tells_finished` says whether a line stays of a layer that is done.
    pub(crate) fn new(tells_finished: bool) -> Self {
        Self {
            tells_finished,
            colored: environment::var_os("NO_COLOR").is_none(),
            screen: SCREEN.get_or_init(MultiProgress::new).clone(),
            shown: Mutex::default(),
        }
    }

    /// Draws the line of a layer, and that of all, where it is time to; `at_once` where something else than bytes
    /// changed.
    fn draw(&self, shown: &mut Shown, index: usize, at_once: bool) {
        let (lines, columns) = Term::stderr().size();
        let width = usize::from(columns).saturating_sub(INDENT);
        let now = Instant::now();
        let sum = shown.totals.sum(now);
        if sum.is_done() {
            // Nothing is left on the screen while the manifest goes up, nor when the report is written.
            shown.total.take().iter().for_each(Line::clear);
            return;
        }
        let Shown { totals, active, total } = shown;
        let total = total.get_or_insert_with(|| Line { bar: self.screen.add(new_bar()), drawn: None });
        let room = usize::from(lines).saturating_sub(OTHER_LINES).max(1);
        let mut free = room.saturating_sub(active.values().flatten().count());
        for (number, line) in active.iter_mut() {
            if line.is_none() && free > 0 {
                free -= 1;
                let bar = self.screen.insert_before(&total.bar, new_bar());
                let line = line.insert(Line { bar, drawn: None });
                self.draw_layer(totals, *number, line, width, now);
            }
        }
        let is_due = |drawn: Option<Instant>| {
            at_once || drawn.is_none_or(|drawn| now.duration_since(drawn) >= INTERVAL)
        };
        if let Some(Some(line)) = active.get_mut(&index)
            && is_due(line.drawn)
        {
            self.draw_layer(totals, index, line, width, now);
        }
        if is_due(total.drawn) {
            total.drawn = Some(now);
            let unseen = active.values().filter(|line| line.is_none()).count();
            total.bar.set_message(line::of_total(&sum, unseen, width, self.colored));
        }
    }

    fn draw_layer(&self, totals: &Totals, index: usize, line: &mut Line, width: usize, now: Instant) {
        let Some(layer) = totals.layer(index) else { return };
        line.drawn = Some(now);
        if layer.phase == Some(Phase::Committing) {
            line.bar.set_style(style("{spinner} {wide_msg}"));
            line.bar.enable_steady_tick(Duration::from_millis(200));
        } else {
            line.bar.disable_steady_tick();
            line.bar.set_style(style("  {wide_msg}"));
        }
        line.bar.set_message(line::of_layer(layer, width, self.colored));
    }

    fn say(&self, text: &str) {
        // A display that cannot be written to is no reason to fail.
        let _ = self.screen.println(format!("  {}", message::clean(text)));
    }
}

impl Progress for Bars {
    fn announce(&self, index: usize, title: &str, bytes: u64) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.totals.announce(index, title, bytes);
    }

    fn event(&self, index: usize, event: LayerEvent) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.totals.event(index, &event, Instant::now());
        let Some(title) = shown.totals.layer(index).map(|layer| layer.title.clone()) else { return };
        let at_once = !matches!(event, LayerEvent::Position(_));
        match event {
            LayerEvent::Phase(_) => {
                shown.active.entry(index).or_default();
            }
            LayerEvent::Retry { attempt, reason, wait_ms } => {
                self.say(&format!("{title}: {reason}; attempt {attempt} in {} s", wait_ms.div_ceil(1000)));
            }
            LayerEvent::Finished { outcome, size, .. } => {
                if let Some(Some(line)) = shown.active.remove(&index) {
                    line.clear();
                }
                if self.tells_finished {
                    let width = usize::from(Term::stderr().size().1).saturating_sub(INDENT);
                    self.say(&line::of_finished(&title, size, &outcome.to_string(), width));
                }
            }
            _ => {}
        }
        self.draw(&mut shown, index, at_once);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        let shown = self.shown.get_mut().unwrap_or_else(PoisonError::into_inner);
        shown.active.values().flatten().chain(&shown.total).for_each(Line::clear);
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
        let line = message::clean_log(&String::from_utf8_lossy(&line));
        let write = || io::stderr().lock().write_all(line.as_bytes());
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

fn new_bar() -> ProgressBar {
    ProgressBar::new_spinner().with_style(style("  {wide_msg}"))
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; the default style is as good a line if one were wrong.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
