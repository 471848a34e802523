//! How far all layers together are: bytes done, the rate of late, and the time that is left.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crossdock_storage::{LayerEvent, Phase};

/// The rate is that of so long at most.
const WINDOW: Duration = Duration::from_secs(10);

/// Two samples of the rate are no closer than this.
const STEP: Duration = Duration::from_millis(200);

/// A rate that was measured for less than this is none.
const LEAST: Duration = Duration::from_millis(500);

/// The first position of a phase that lies further is where an earlier attempt or an earlier run got to.
const AHEAD: u64 = 16 << 20;

/// The layers of a command, and what was done with them.
#[derive(Debug, Default)]
pub(super) struct Totals {
    layers: BTreeMap<usize, Layer>,
    meter: Meter,
}

/// A layer, as its events have it.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) title: String,
    pub(super) bytes: u64,
    pub(super) phase: Option<Phase>,
    /// Bytes done in this phase.
    pub(super) position: u64,
    pub(super) finished: bool,
    /// Whether the phase has had a position.
    placed: bool,
    meter: Meter,
}

/// All layers together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    /// Bytes that are where they belong, or done in the present phase of their layer.
    pub(super) done: u64,
    pub(super) layers: usize,
    pub(super) finished: usize,
    /// Bytes in a second; `None` where nothing moved of late.
    pub(super) rate: Option<u64>,
    pub(super) left: Option<Duration>,
}

/// Bytes that moved, over time.
#[derive(Debug, Default)]
struct Meter {
    moved: u64,
    samples: VecDeque<(Instant, u64)>,
}

impl Totals {
    /// A layer takes the place of an earlier one with its number.
    pub(super) fn announce(&mut self, index: usize, title: &str, bytes: u64) {
        let layer = Layer {
            title: title.to_owned(),
            bytes,
            phase: None,
            position: 0,
            finished: false,
            placed: false,
            meter: Meter::default(),
        };
        self.layers.insert(index, layer);
    }

    pub(super) fn event(&mut self, index: usize, event: &LayerEvent, now: Instant) {
        let Some(layer) = self.layers.get_mut(&index) else { return };
        match event {
            LayerEvent::Phase(phase) => {
                if *phase != Phase::Committing {
                    (layer.position, layer.placed, layer.meter) = (0, false, Meter::default());
                }
                layer.phase = Some(*phase);
                layer.meter.moved(0, now);
                self.meter.moved(0, now);
            }
            LayerEvent::Position(bytes) => {
                let moved = match layer.placed {
                    // An attempt that begins anew goes back.
                    true => bytes.saturating_sub(layer.position),
                    false if *bytes > AHEAD => 0,
                    false => *bytes,
                };
                (layer.position, layer.placed) = ((*bytes).min(layer.bytes), true);
                layer.meter.moved(moved, now);
                self.meter.moved(moved, now);
            }
            LayerEvent::Retry { .. } => layer.placed = false,
            LayerEvent::Finished { .. } => layer.finished = true,
            _ => {}
        }
    }

    pub(super) fn layer(&self, index: usize) -> Option<&Layer> {
        self.layers.get(&index)
    }

    /// The number of layers.
    pub(super) fn count(&self) -> usize {
        self.layers.len()
    }

    pub(super) fn sum(&self, now: Instant) -> Sum {
        let all = || self.layers.values();
        let bytes = all().map(|layer| layer.bytes).sum::<u64>();
        let done = all().map(Layer::done).sum::<u64>();
        let rate = self.meter.rate(now).filter(|_| done < bytes);
        Sum {
            bytes,
            done,
            layers: self.layers.len(),
            finished: all().filter(|layer| layer.finished).count(),
            rate,
            left: rate.map(|rate| left(bytes - done, rate)),
        }
    }
}

impl Layer {
    fn done(&self) -> u64 {
        if self.finished { self.bytes } else { self.position }
    }

    /// Bytes in a second of late, and the time that is left in this phase.
    pub(super) fn rate(&self, now: Instant) -> Option<(u64, Duration)> {
        let rate = self.meter.rate(now)?;
        Some((rate, left(self.bytes.saturating_sub(self.position), rate)))
    }
}

impl Sum {
    pub(super) const fn is_done(&self) -> bool {
        self.finished == self.layers
    }

    /// 100 only where nothing is left: a layer whose bytes are sent may not be taken yet.
    pub(super) fn percent(&self) -> u64 {
        percent(self.done, self.bytes).min(if self.is_done() { 100 } else { 99 })
    }
}

impl Meter {
    fn moved(&mut self, bytes: u64, now: Instant) {
        self.moved += bytes;
        match self.samples.back() {
            Some((last, _)) if now.duration_since(*last) < STEP => return,
            // Before the first bytes: it is from there on that is measured.
            None => self.samples.push_back((now, self.moved - bytes)),
            Some(_) => self.samples.push_back((now, self.moved)),
        }
        // The last one before the window stays, to measure from.
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    fn rate(&self, now: Instant) -> Option<u64> {
        let before = |(at, _): &&(Instant, u64)| now.duration_since(*at) >= WINDOW;
        let (since, then) = self.samples.iter().take_while(before).last().or(self.samples.front())?;
        let time = now.duration_since(*since);
        let moved = self.moved - then;
        if time < LEAST || moved == 0 {
            return None;
        }
        u64::try_from(u128::from(moved) * 1000 / time.as_millis().max(1)).ok().filter(|rate| *rate > 0)
    }
}

/// Of a hundred; 100 only where all is done.
pub(super) fn percent(done: u64, bytes: u64) -> u64 {
    if done >= bytes {
        return 100;
    }
    u64::try_from(u128::from(done) * 100 / u128::from(bytes)).unwrap_or(100)
}

const fn left(bytes: u64, rate: u64) -> Duration {
    Duration::from_secs(bytes.div_ceil(rate))
}

/// A time for people, in at most two units.
pub(super) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) if m < 10 => format!("{m} min {s} s"),
        (0, m, _) => format!("{m} min"),
        (h, m, _) if h < 24 => format!("{h} h {m} min"),
        (h, _, _) => format!("{} d {} h", h / 24, h % 24),
    }
}

#[cfg(test)]
mod tests {
    use crossdock_storage::{Hasher, Outcome};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn finished() -> LayerEvent {
        LayerEvent::Finished { outcome: Outcome::Sent, digest: Hasher::digest(b"x"), size: 1 }
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn bytes_of_layers_under_way_and_of_finished_ones_are_done() {
        let (mut totals, now) = (Totals::default(), Instant::now());
        totals.announce(0, "a", 100);
        totals.announce(1, "b", 300);
        assert_eq!(totals.sum(now), Sum { bytes: 400, layers: 2, ..Sum::default() });
        totals.event(0, &LayerEvent::Phase(Phase::Sending), now);
        totals.event(0, &LayerEvent::Position(50), now);
        totals.event(1, &finished(), now);
        let sum = totals.sum(now);
        assert_eq!((sum.done, sum.finished, sum.percent(), sum.is_done()), (350, 1, 87, false));
        totals.event(0, &LayerEvent::Phase(Phase::Committing), now);
        assert_eq!(totals.sum(now).done, 350, "what was sent stays so while it is taken");
        totals.event(0, &LayerEvent::Position(100), now);
        assert_eq!((totals.sum(now).done, totals.sum(now).percent()), (400, 99));
        totals.event(0, &finished(), now);
        assert!(totals.sum(now).is_done());
    }

    #[test]
    fn the_rate_is_that_of_late_and_there_is_none_where_nothing_moves() {
        let (mut totals, start) = (Totals::default(), Instant::now());
        totals.announce(0, "a", 1000 * MIB);
        totals.event(0, &LayerEvent::Phase(Phase::Sending), start);
        assert_eq!(totals.sum(start + seconds(3)).rate, None);
        for second in 1..=20 {
            totals.event(0, &LayerEvent::Position(second * 10 * MIB), start + seconds(second));
        }
        let sum = totals.sum(start + seconds(20));
        assert_eq!((sum.rate, sum.left), (Some(10 * MIB), Some(seconds(80))));
        // Faster for as long as the rate looks back.
        for second in 21..=31 {
            let bytes = 200 * MIB + (second - 20) * 20 * MIB;
            totals.event(0, &LayerEvent::Position(bytes), start + seconds(second));
        }
        assert_eq!(totals.sum(start + seconds(31)).rate, Some(20 * MIB));
        // It stands still.
        assert_eq!(totals.sum(start + seconds(60)).rate, None);
        assert_eq!(totals.layer(0).unwrap().rate(start + seconds(60)), None);
    }

    #[test]
    fn what_an_earlier_run_had_sent_is_done_and_did_not_move_now() {
        let (mut totals, start) = (Totals::default(), Instant::now());
        totals.announce(0, "a", 1000 * MIB);
        totals.event(0, &LayerEvent::Phase(Phase::Sending), start);
        totals.event(0, &LayerEvent::Position(900 * MIB), start);
        totals.event(0, &LayerEvent::Position(910 * MIB), start + seconds(1));
        let sum = totals.sum(start + seconds(1));
        assert_eq!((sum.done, sum.rate), (910 * MIB, Some(10 * MIB)));
    }

    #[test]
    fn an_attempt_that_begins_anew_takes_its_bytes_back() {
        let (mut totals, start) = (Totals::default(), Instant::now());
        totals.announce(0, "a", 100 * MIB);
        totals.event(0, &LayerEvent::Phase(Phase::Sending), start);
        totals.event(0, &LayerEvent::Position(60 * MIB), start);
        totals.event(0, &LayerEvent::Retry { attempt: 2, reason: String::new(), wait_ms: 0 }, start);
        totals.event(0, &LayerEvent::Position(20 * MIB), start + seconds(1));
        assert_eq!(totals.sum(start + seconds(1)).done, 20 * MIB);
    }

    #[test]
    fn nothing_is_all_of_nothing() {
        let totals = Totals::default();
        let sum = totals.sum(Instant::now());
        assert_eq!((sum.percent(), sum.rate, sum.left), (100, None, None));
        assert_eq!((percent(999, 1000), percent(1000, 1000), percent(u64::MAX - 1, u64::MAX)), (99, 100, 99));
    }

    #[test]
    fn times_have_two_units_at_most() {
        for (time, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (660, "11 min"),
            (3 * 3600 + 300, "3 h 5 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(in_words(seconds(time)), words);
        }
    }
}
