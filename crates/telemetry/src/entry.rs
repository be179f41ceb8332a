//! One series in one shard: where its numbers come from, and what dropped handles have left.
//!
//! A router has dozens for every name that it knows, so an entry is small: nearly always it has one source,
//! which stands in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::histogram::{Reading, Recorder};

/// What is read for a series.
#[derive(Clone)]
pub(crate) enum Source {
    Counter(Arc<AtomicU64>),
    /// The bits of a floating-point number.
    Gauge(Arc<AtomicU64>),
    /// Computed when it is read; there is no handle that could be dropped.
    Closure(Arc<dyn Fn() -> f64 + Send + Sync>),
    Stat(Arc<Recorder>),
}

/// What a dropped handle leaves.
enum Left {
    Nothing,
    Count(u64),
    Samples(Reading),
}

impl Source {
    /// A cell that only we still point to belongs to a dropped handle.
    fn left(&mut self) -> Option<Left> {
        match self {
            Source::Counter(cell) => Arc::get_mut(cell).map(|cell| Left::Count(*cell.get_mut())),
            Source::Gauge(bits) => Arc::get_mut(bits).map(|_| Left::Nothing),
            Source::Closure(_) => None,
            Source::Stat(recorder) => Arc::get_mut(recorder).map(|recorder| {
                let mut reading = Reading::default();
                recorder.read_into(&mut reading);
                Left::Samples(reading)
            }),
        }
    }

    fn has_handle(&self) -> bool {
        !matches!(self, Source::Closure(_))
    }

    fn level(&self) -> f64 {
        match self {
            Source::Gauge(bits) => f64::from_bits(bits.load(Ordering::Relaxed)),
            Source::Closure(read) => read(),
            Source::Counter(_) | Source::Stat(_) => 0.0,
        }
    }
}

#[derive(Default)]
pub(crate) struct Entry {
    /// What dropped counter handles had counted.
    counted: u64,
    is_counter: bool,
    is_histogram: bool,
    source: Option<Source>,
    more: Option<Box<More>>,
}

/// What few entries have.
#[derive(Default)]
struct More {
    sources: Vec<Source>,
    /// What dropped histograms had recorded.
    recorded: Reading,
    /// So many sources are looked through the next time that one is added.
    look_at: usize,
}

/// Below this nothing is gained by waiting.
const FEW: usize = 8;

impl Entry {
    pub(crate) fn add(&mut self, source: Source) {
        self.is_counter |= matches!(source, Source::Counter(_));
        self.is_histogram |= matches!(source, Source::Stat(_));
        match &mut self.source {
            None => self.source = Some(source),
            Some(_) => self.more.get_or_insert_default().sources.push(source),
        }
    }

    /// So that a name that is resolved and dropped over and over does not pile up cells. Thousands of names can
    /// share one entry: they are looked through when they have doubled, not each time.
    pub(crate) fn make_room(&mut self) {
        let Some(more) = &self.more else { return self.fold_dropped() };
        if more.sources.len() >= more.look_at {
            self.fold_dropped();
        }
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.source.iter().chain(self.more.iter().flat_map(|more| &more.sources))
    }

    pub(crate) fn is_held(&mut self) -> bool {
        self.fold_dropped();
        self.sources().any(Source::has_handle)
    }

    /// Keeps what dropped handles have counted, and forgets their cells.
    pub(crate) fn fold_dropped(&mut self) {
        if let Some(left) = self.source.as_mut().and_then(Source::left) {
            self.source = None;
            self.keep(left);
        }
        let Some(more) = &mut self.more else { return };
        let mut all = Vec::new();
        more.sources.retain_mut(|source| match source.left() {
            Some(left) => {
                all.push(left);
                false
            }
            None => true,
        });
        more.look_at = (2 * more.sources.len()).max(FEW);
        all.into_iter().for_each(|left| self.keep(left));
    }

    fn keep(&mut self, left: Left) {
        match left {
            Left::Nothing => {}
            Left::Count(count) => self.counted += count,
            Left::Samples(reading) if reading.is_empty() => {}
            Left::Samples(reading) => self.more.get_or_insert_default().recorded.add(&reading),
        }
    }

    /// Adds another shard's entry of the same path: counts are summed, pointers collected.
    pub(crate) fn absorb(&mut self, other: &Entry) {
        if let Some(counted) = other.counted() {
            self.is_counter = true;
            self.counted += counted;
        }
        for source in other.sources() {
            match source {
                // Summed above.
                Source::Counter(_) => {}
                source => self.add(source.clone()),
            }
        }
        self.is_histogram |= other.is_histogram;
        if let Some(more) = &other.more
            && !more.recorded.is_empty()
        {
            self.more.get_or_insert_default().recorded.add(&more.recorded);
        }
    }

    /// What was counted in all, if it is a counter.
    pub(crate) fn counted(&self) -> Option<u64> {
        let live = self.sources().map(|source| match source {
            Source::Counter(cell) => cell.load(Ordering::Relaxed),
            _ => 0,
        });
        self.is_counter.then(|| self.counted + live.sum::<u64>())
    }

    pub(crate) fn is_histogram(&self) -> bool {
        self.is_histogram
    }

    /// All that was ever recorded, if it is a histogram.
    pub(crate) fn reading(&self) -> Option<Reading> {
        let mut reading = self.more.as_ref().map(|more| more.recorded.clone()).unwrap_or_default();
        for source in self.sources() {
            if let Source::Stat(recorder) = source {
                recorder.read_into(&mut reading);
            }
        }
        self.is_histogram.then_some(reading)
    }

    pub(crate) fn has_gauges(&self) -> bool {
        self.sources().any(|source| matches!(source, Source::Gauge(_) | Source::Closure(_)))
    }

    pub(crate) fn level(&self) -> f64 {
        self.sources().map(Source::level).sum()
    }
}

/// How many of these there are, times a few bytes, is what a router's memory is made of.
const _: () = assert!(size_of::<Entry>() <= 48);
