//! What the data plane holds: one cell per handle, written by its owner alone.
//!
//! A write is a relaxed load and a relaxed store, never a locked addition. That is right because a handle
//! is not `Sync` and not `Clone`: nobody else writes its cell. Readers may see a value a moment old.

use std::cell::Cell as NotSync;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::histogram::Recorder;

type OneWriter = PhantomData<NotSync<()>>;

/// A count that only grows. What it counted stays in the registry when the handle is dropped.
#[derive(Debug)]
pub struct Counter {
    cell: Arc<AtomicU64>,
    one_writer: OneWriter,
}

impl Counter {
    pub(crate) fn new(cell: Arc<AtomicU64>) -> Counter {
        Counter { cell, one_writer: PhantomData }
    }

    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    #[inline]
    pub fn add(&self, count: u64) {
        self.cell.store(self.cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// What this handle (not the whole path) has counted.
    pub fn value(&self) -> u64 {
        self.cell.load(Ordering::Relaxed)
    }
}

/// A counter for places that are not hot and have several writers (servers on a shared runtime). The default
/// belongs to no registry.
#[derive(Debug, Clone, Default)]
pub struct SharedCounter {
    cell: Arc<AtomicU64>,
}

impl SharedCounter {
    pub(crate) fn new(cell: Arc<AtomicU64>) -> SharedCounter {
        SharedCounter { cell }
    }

    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        self.cell.fetch_add(count, Ordering::Relaxed);
    }

    /// What this handle and its clones (not the whole path) have counted.
    pub fn value(&self) -> u64 {
        self.cell.load(Ordering::Relaxed)
    }
}

/// A level. Gauges of one path are summed; a dropped gauge no longer counts.
#[derive(Debug)]
pub struct Gauge {
    bits: Arc<AtomicU64>,
    one_writer: OneWriter,
}

impl Gauge {
    pub(crate) fn new(bits: Arc<AtomicU64>) -> Gauge {
        Gauge { bits, one_writer: PhantomData }
    }

    #[inline]
    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Ordering::Relaxed);
    }

    #[inline]
    pub fn add(&self, change: f64) {
        self.set(self.value() + change);
    }

    #[inline]
    pub fn inc(&self) {
        self.add(1.0);
    }

    #[inline]
    pub fn dec(&self) {
        self.add(-1.0);
    }

    pub fn value(&self) -> f64 {
        f64::from_bits(self.bits.load(Ordering::Relaxed))
    }
}

/// A histogram of whole numbers (milliseconds, bytes, counts).
#[derive(Debug)]
pub struct Stat {
    recorder: Arc<Recorder>,
    one_writer: OneWriter,
}

impl Stat {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Stat {
        Stat { recorder, one_writer: PhantomData }
    }

    #[inline]
    pub fn record(&self, value: u64) {
        self.recorder.record(value);
    }
}
