//! One line of a terminal: what fits into its width, the most important first.

use console::{measure_text_width, pad_str, truncate_str};
use crossdock_storage::{Phase, escape_line};
use indicatif::HumanBytes;

use super::totals::{Layer, Sum, in_words, percent};
use super::verb;

/// Columns that a title has at least, and at most.
const TITLE: (usize, usize) = (12, 48);

/// Columns of a bar, and the width from which on there is one.
const BAR: (usize, usize) = (24, 90);

/// Columns of `1023.99 MiB of 1023.99 MiB`.
const BYTES: usize = 26;

/// From this width on there are bytes beside the percents.
const WITH_BYTES: usize = 66;

/// A layer that is worked on.
pub(super) fn of_layer(layer: &Layer, width: usize, colored: bool) -> String {
    let phase = layer.phase;
    if phase == Some(Phase::Committing) {
        let waiting = if width >= WITH_BYTES { "waiting for the registry to take it" } else { "committing" };
        return titled(&layer.title, width, waiting);
    }
    let mut right = format!("{:>3} %", percent(layer.position, layer.bytes));
    if width >= BAR.1 {
        right = format!("{} {right}", bar(layer.position, layer.bytes, colored));
    }
    if width >= WITH_BYTES {
        let bytes = format!("{} of {}", HumanBytes(layer.position), HumanBytes(layer.bytes));
        right = format!("{right}  {bytes:>BYTES$}");
    }
    let verb = phase.map_or("working", verb);
    // As long as the longest of the usual ones, for the columns not to jump.
    titled(&layer.title, width, &format!("{right}  {verb:<9}"))
}

/// A layer that is where it belongs.
pub(super) fn of_finished(title: &str, size: u64, outcome: &str, width: usize) -> String {
    let size = HumanBytes(size).to_string();
    titled(title, width, &format!("{size:>11}  {outcome}"))
}

/// All layers together; `unseen` are worked on and have no line.
pub(super) fn of_total(sum: &Sum, unseen: usize, width: usize, colored: bool) -> String {
    let mut parts = vec![
        format!("total {:>3} %", sum.percent()),
        format!("{} of {}", HumanBytes(sum.done), HumanBytes(sum.bytes)),
    ];
    if let (Some(rate), Some(left)) = (sum.rate, sum.left) {
        parts.push(format!("{} left", in_words(left)));
        parts.push(format!("{}/s", HumanBytes(rate)));
    }
    parts.push(format!("{} of {} layers", sum.finished, sum.layers));
    if unseen > 0 {
        parts.insert(1, format!("{unseen} more"));
    }
    let mut line = String::new();
    for part in parts {
        let apart = if line.is_empty() { "" } else { "  " };
        if measure_text_width(&line) + apart.len() + measure_text_width(&part) <= width {
            line.push_str(apart);
            line.push_str(&part);
        }
    }
    if measure_text_width(&line) + 2 + BAR.0 <= width && width >= BAR.1 {
        line = format!("{line}  {}", bar(sum.done, sum.bytes, colored));
    }
    line
}

/// A title in the columns that are left beside what stands right of it.
fn titled(title: &str, width: usize, right: &str) -> String {
    let room = width.saturating_sub(measure_text_width(right) + 2).clamp(TITLE.0, TITLE.1);
    let line = format!("{}  {right}", pad_str(&shortened(title, room), room, console::Alignment::Left, None));
    truncate_str(&line, width, "…").into_owned()
}

/// The end of a path says more than its beginning.
fn shortened(title: &str, room: usize) -> String {
    // A title is a user's text, and moves no cursor.
    let title = escape_line(title);
    if measure_text_width(&title) <= room {
        return title.into_owned();
    }
    let starts = title.char_indices().map(|(at, _)| at);
    let fits = |at: &usize| measure_text_width(&title[*at..]) < room;
    starts.filter(|at| *at > 0).find(fits).map_or_else(String::new, |at| format!("…{}", &title[at..]))
}

fn bar(done: u64, bytes: u64, colored: bool) -> String {
    let full = usize::try_from(percent(done, bytes)).unwrap_or(100) * BAR.0 / 100;
    let head = if full < BAR.0 { "╸" } else { "" };
    let text = format!("{}{head}", "━".repeat(full));
    let empty = " ".repeat(BAR.0.saturating_sub(measure_text_width(&text)));
    if colored { format!("\x1b[36m{text}\x1b[0m{empty}") } else { format!("{text}{empty}") }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crossdock_storage::LayerEvent;

    use super::*;
    use crate::progress::totals::Totals;

    const WIDTHS: [usize; 6] = [38, 60, 78, 118, 198, 20];

    fn under_way(title: &str, phase: Phase) -> Totals {
        let mut totals = Totals::default();
        totals.announce(0, title, 700 << 30);
        totals.event(0, &LayerEvent::Phase(phase), Instant::now());
        totals.event(0, &LayerEvent::Position(1), Instant::now());
        totals.event(0, &LayerEvent::Position(1023 << 20), Instant::now());
        totals
    }

    #[test]
    fn a_line_is_never_wider_than_its_terminal() {
        let titles = [
            "a",
            "COPY models/very/long/path/to/model-00001-of-00191.safetensors /models",
            "模型".repeat(40).as_str(),
        ]
        .map(str::to_owned);
        for width in WIDTHS {
            for title in &titles {
                for phase in [Phase::Transferring, Phase::Committing] {
                    let totals = under_way(title, phase);
                    for colored in [true, false] {
                        let line = of_layer(totals.layer(0).unwrap(), width, colored);
                        assert!(measure_text_width(&line) <= width, "{width}: {line:?}");
                        assert_eq!(
                            line.contains('\x1b'),
                            colored && width >= BAR.1 && phase != Phase::Committing
                        );
                    }
                }
                let line =
                    of_finished(title, 5 << 30, "mounted from team/models/llama-3.1-405b-instruct", width);
                assert!(measure_text_width(&line) <= width, "{width}: {line:?}");
            }
            let sum = Sum {
                bytes: 1023 << 40,
                done: 1023 << 30,
                layers: 1000,
                finished: 999,
                rate: Some(1023 << 20),
                left: Some(Duration::from_secs(86_399)),
            };
            let line = of_total(&sum, 100, width, true);
            assert!(
                measure_text_width(&line) <= width && line.starts_with("total   0 %"),
                "{width}: {line:?}"
            );
        }
    }

    #[test]
    fn a_narrow_terminal_has_title_and_percents_and_a_wide_one_all() {
        let totals = under_way("model-00001.safetensors", Phase::Sending);
        let line = |width| of_layer(totals.layer(0).unwrap(), width, false);
        assert!(line(38).contains("  0 %  sending") && line(38).contains("safetensors"), "{:?}", line(38));
        assert!(
            line(118).contains("1023.00 MiB of 700.00 GiB") && line(118).contains('╸'),
            "{:?}",
            line(118)
        );
    }

    #[test]
    fn the_end_of_a_title_stays() {
        assert_eq!(shortened("models/model-00001.safetensors", 12), "…safetensors");
        assert_eq!(shortened("model", 12), "model");
        assert_eq!(shortened("a\nb\x1b[2J", 16), "a\\nb\\u{1b}[2J");
        assert_eq!(measure_text_width(&shortened("模型模型模型模型", 7)), 7);
    }
}
