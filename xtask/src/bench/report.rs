//! The table: medians over the rounds, with the smallest and the largest.

use std::fmt::Write;

use super::record::{Record, Sample};
use super::scenario::Scenario;

/// A value that is measured: its key in a sample, its heading, digits behind the point, and whether
/// its range over the rounds is shown.
pub struct Column(&'static str, &'static str, usize, bool);

pub const COLUMNS: [Column; 14] = [
    Column("cpu_us", "CPU µs/request", 2, true),
    Column("user_us", "user", 2, false),
    Column("system_us", "system", 2, false),
    Column("per_second", "requests/s", 0, true),
    Column("p50_us", "p50 µs", 0, false),
    Column("p99_us", "p99 µs", 0, true),
    Column("p999_us", "p99.9 µs", 0, true),
    Column("proxy_core", "proxy busy %", 0, false),
    Column("others_on_proxy_core", "others there %", 0, false),
    Column("load_core", "load core busy %", 0, false),
    Column("start_ms", "first routed request after ms", 1, true),
    Column("connection_kib", "KiB per connection", 2, true),
    Column("resident_mib", "RSS MiB", 1, true),
    Column("errors", "errors", 0, false),
];

/// Of what stands between the floor and HAProxy, this share may be ours.
const GOAL: f64 = 0.35;

pub fn markdown(record: &Record) -> String {
    let mut out = String::new();
    about(record, &mut out);
    for scenario in Scenario::ALL {
        table(record, scenario, &mut out);
    }
    verdict(record, &mut out);
    if !record.skipped.is_empty() {
        out.push_str("\nNot measured, or not to the end:\n\n");
        for skipped in &record.skipped {
            put(&mut out, format_args!("- {}: {}\n", skipped.target, skipped.why.replace('\n', " ")));
        }
    }
    out
}

fn about(record: &Record, out: &mut String) {
    let (machine, method) = (&record.machine, &record.method);
    let changed = if machine.changed { " with changes" } else { "" };
    put(
        out,
        format_args!(
            "{}, {} cores, {:.0} MiB, {}; {}; commit {}{changed}. Medians of {} rounds of {} s (smallest–largest); \
             load average {:.1} before, {:.1} after.\n\n",
            machine.cpu,
            machine.cores,
            machine.memory_mib,
            machine.kernel,
            machine.date,
            machine.commit,
            method.rounds,
            method.seconds,
            method.load_before,
            method.load_after,
        ),
    );
    out.push_str("| target | version | started as |\n|---|---|---|\n");
    for target in &record.targets {
        put(out, format_args!("| {} | {} | `{}` |\n", target.name, target.version, target.command));
    }
}

fn table(record: &Record, scenario: Scenario, out: &mut String) {
    let samples: Vec<&Sample> = record.samples.iter().filter(|sample| sample.scenario == scenario).collect();
    let columns: Vec<&Column> =
        COLUMNS.iter().filter(|column| samples.iter().any(|sample| sample.values.contains_key(column.0))).collect();
    if columns.is_empty() {
        return;
    }
    let headings: Vec<&str> = columns.iter().map(|column| column.1).collect();
    put(
        out,
        format_args!(
            "\n### {}: {}\n\n| target | {} |\n|---{}|\n",
            scenario.name(),
            scenario.title(),
            headings.join(" | "),
            "|---".repeat(columns.len())
        ),
    );
    for target in &record.targets {
        let own: Vec<&&Sample> = samples.iter().filter(|sample| sample.target == target.name).collect();
        if own.is_empty() {
            continue;
        }
        let cells: Vec<String> = columns
            .iter()
            .map(|column| cell(column, own.iter().filter_map(|sample| sample.values.get(column.0)).copied().collect()))
            .collect();
        put(out, format_args!("| {} | {} |\n", target.name, cells.join(" | ")));
    }
}

fn cell(&Column(key, _, digits, ranged): &Column, mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else { return "–".to_owned() };
    // An error in any round is an error.
    let middle = if key == "errors" { values.iter().sum() } else { median(&values) };
    if ranged && values.len() > 1 {
        format!("{middle:.digits$} ({least:.digits$}–{most:.digits$})")
    } else {
        format!("{middle:.digits$}")
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Where we stand between the floor and the best peer.
fn verdict(record: &Record, out: &mut String) {
    let mut lines = String::new();
    for scenario in [Scenario::Get64, Scenario::Post1k, Scenario::Body64k] {
        let of = |target: &str, key: &str| -> Option<f64> {
            let samples = record.samples.iter().filter(|s| s.scenario == scenario && s.target == target);
            let mut values: Vec<f64> = samples.filter_map(|sample| sample.values.get(key)).copied().collect();
            values.sort_by(f64::total_cmp);
            (!values.is_empty()).then(|| median(&values))
        };
        let (Some(ours), Some(floor), Some(haproxy)) =
            (of("switchyard", "cpu_us"), of("floor", "cpu_us"), of("haproxy", "cpu_us"))
        else {
            continue;
        };
        let goal = floor + GOAL * (haproxy - floor);
        let met = if ours <= goal { "met" } else { "missed" };
        let user = |target| of(target, "user_us").unwrap_or(0.0);
        put(
            &mut lines,
            format_args!(
                "| {} | {floor:.2} | {ours:.2} | {haproxy:.2} | {goal:.2}, {met} | {:.2} |\n",
                scenario.name(),
                user("switchyard") / user("haproxy"),
            ),
        );
    }
    if !lines.is_empty() {
        out.push_str(
            "\n### Where we stand (CPU µs/request)\n\n\
             | scenario | floor | switchyard | haproxy | goal: floor + 0.35 × (haproxy − floor) | user time, of haproxy's |\n\
             |---|---|---|---|---|---|\n",
        );
        out.push_str(&lines);
    }
}

/// One sample, while the run goes on.
pub fn line(sample: &Sample) -> String {
    let mut out = format!("{} {}:", sample.target, sample.scenario.name());
    for Column(key, title, digits, _) in COLUMNS {
        if let Some(value) = sample.values.get(key) {
            put(&mut out, format_args!(" {title} {value:.digits$};"));
        }
    }
    out
}

/// Writing to a string cannot fail.
fn put(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(arguments);
}
