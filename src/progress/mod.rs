//! How a build's progress is shown: bars on a terminal, lines in a log, JSON for machines, or not at all.

mod json;
mod line;
mod plain;
mod totals;
mod tty;

use std::sync::Arc;
use std::time::Duration;

use crossdock_storage::{LayerEvent, NoProgress, Phase, Progress};

use crate::args::ProgressStyle;

/// How long a log is silent about a layer at most.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// The display that was asked for; where the terminal cannot show lines that change, they are written one by one.
pub(crate) fn display(style: ProgressStyle, quiet: bool) -> Arc<dyn Progress> {
    display_of(style, quiet, true)
}

/// The display of what is done before there is a plan: bases that are looked through. That their layers have arrived is
/// said when the image is put together.
pub(crate) fn display_of_bases(style: ProgressStyle, quiet: bool) -> Arc<dyn Progress> {
    display_of(style, quiet, false)
}

fn display_of(style: ProgressStyle, quiet: bool, tells_finished: bool) -> Arc<dyn Progress> {
    let display: Arc<dyn Progress> = match style {
        _ if quiet => return Arc::new(NoProgress),
        ProgressStyle::None => return Arc::new(NoProgress),
        ProgressStyle::Auto | ProgressStyle::Tty if tty::is_possible() => {
            return Arc::new(tty::Bars::new(tells_finished));
        }
        ProgressStyle::Auto | ProgressStyle::Tty | ProgressStyle::Plain => {
            Arc::new(plain::Lines::new(PLAIN_INTERVAL))
        }
        ProgressStyle::Json => Arc::new(json::JsonLines::new()),
    };
    if tells_finished { display } else { Arc::new(Unfinished(display)) }
}

#[derive(Debug)]
struct Unfinished(Arc<dyn Progress>);

impl Progress for Unfinished {
    fn announce(&self, index: usize, title: &str, bytes: u64) {
        self.0.announce(index, title, bytes);
    }

    fn event(&self, index: usize, event: LayerEvent) {
        if !matches!(event, LayerEvent::Finished { .. }) {
            self.0.event(index, event);
        }
    }
}

/// Where log lines go: standard error, above the bars where there are some.
pub(crate) fn log_writer() -> impl std::io::Write {
    tty::AboveBars::default()
}

/// What is being done, in a word.
fn verb(phase: Phase) -> &'static str {
    match phase {
        Phase::Hashing => "hashing",
        Phase::Sending => "sending",
        Phase::Transferring => "transferring",
        Phase::Writing => "writing",
        Phase::Committing => "committing",
        Phase::Indexing => "indexing",
        Phase::Verifying => "verifying",
        _ => "working",
    }
}

/// What is being done, in the machine's words.
fn phase_name(phase: Phase) -> &'static str {
    verb(phase)
}
