//! Steady load: some callers on kept connections, some on new ones, until told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{Answer, Connection, Request, split};

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    pub requests: u64,
    /// Each failure with its time since the start.
    pub failures: Vec<String>,
    /// How often each answer's class (by `classify`) was seen.
    pub answers: BTreeMap<String, u64>,
    /// What each request took, its connection included; sorted.
    pub took: Vec<Duration>,
}

impl Report {
    /// All but this share of requests took no longer, `0.01` for p99.
    #[must_use]
    pub fn but(&self, share: f64) -> Duration {
        let at = (self.took.len() as f64 * (1.0 - share)) as usize;
        self.took.get(at.min(self.took.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Callers at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Report>>,
}

/// What to call, and what an answer is.
#[derive(Clone)]
pub struct Plan {
    pub url: String,
    /// Pause between two requests of one caller.
    pub pause: Duration,
    /// Callers that keep their connections, and callers that do not.
    pub keeping: usize,
    pub opening: usize,
    /// The class of a good answer; `Err` is a failure.
    pub classify: fn(&Answer) -> Result<String, String>,
}

impl Load {
    pub fn start(plan: &Plan) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let callers = (0..plan.keeping + plan.opening)
            .map(|n| {
                let (plan, stop) = (plan.clone(), stop.clone());
                std::thread::spawn(move || caller(&plan, n < plan.keeping, &stop))
            })
            .collect();
        Load { stop, callers }
    }

    pub fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Report::default();
        for caller in self.callers {
            let report = caller.join().expect("a caller does not panic");
            total.requests += report.requests;
            total.failures.extend(report.failures);
            total.took.extend(report.took);
            for (class, count) in report.answers {
                *total.answers.entry(class).or_default() += count;
            }
        }
        total.took.sort();
        total
    }
}

fn caller(plan: &Plan, keeps: bool, stop: &AtomicBool) -> Report {
    let start = Instant::now();
    let mut report = Report::default();
    let mut kept: Option<Connection> = None;
    while !stop.load(Ordering::Relaxed) {
        report.requests += 1;
        let began = Instant::now();
        let result = once(plan, keeps, &mut kept);
        report.took.push(began.elapsed());
        match result {
            Ok(class) => *report.answers.entry(class).or_default() += 1,
            Err(error) => {
                kept = None;
                report.failures.push(format!("{:.3} s: {error}", start.elapsed().as_secs_f64()));
            }
        }
        std::thread::sleep(plan.pause);
    }
    report
}

fn once(plan: &Plan, keeps: bool, kept: &mut Option<Connection>) -> Result<String, String> {
    let (authority, target) = split(&plan.url);
    let text = |error: std::io::Error| error.to_string();
    let mut connection = match kept.take().filter(|connection| connection.is_open) {
        Some(connection) => connection,
        None => Connection::open(authority).map_err(text)?,
    };
    let ending = if keeps { "keep-alive" } else { "close" };
    let headers = [("Host", authority), ("Connection", ending)];
    let answer = connection.send(&Request { method: "GET", target, headers: &headers, body: None }).map_err(text)?;
    if keeps {
        *kept = Some(connection);
    }
    (plan.classify)(&answer)
}
