//! Prometheus' text as a strict reader takes it (format 0.0.4): lines of one name together, below one HELP and one
//! TYPE; no series twice, texts escaped, values that are numbers, counters that only grow.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Counters, is_label, is_name, labels};
use telemetry::Registry;

/// A reader that takes nothing that the format does not allow, and wants HELP and TYPE for every name.
fn read(text: &str) -> Result<Counters, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    let (mut kinds, mut helped) = (BTreeMap::new(), BTreeSet::new());
    let (mut series, mut counters, mut ended) = (BTreeSet::new(), Counters::new(), BTreeSet::new());
    let mut group: Option<String> = None;
    for line in text.split_terminator('\n') {
        let wrong = |what: &str| Err(format!("{what}: {line}"));
        let comment = line.strip_prefix("# ").map(|rest| rest.splitn(3, ' ').collect::<Vec<_>>());
        let name = match comment.as_deref() {
            Some(["HELP" | "TYPE", name, _]) => *name,
            Some(_) => return wrong("neither HELP nor TYPE"),
            None => &line[..line.find(['{', ' ']).ok_or_else(|| format!("no sample: {line}"))?],
        };
        if !is_name(name) {
            return wrong("no name");
        }
        // One group: its comments and its samples. (A summary would be one with its _sum and _count; there is none.)
        if group.as_deref() != Some(name) {
            ended.extend(group.replace(name.to_owned()));
            if ended.contains(name) {
                return wrong("a name in two places");
            }
        }
        match comment.as_deref() {
            Some(["HELP", _, help]) => {
                // Quotes stand for themselves here.
                if !helped.insert(name.to_owned()) {
                    return wrong("a second HELP");
                }
                if help.replace("\\\\", "").replace("\\n", "").contains('\\') {
                    return wrong("an escape that there is not");
                }
            }
            Some([_, _, kind]) => {
                if !["counter", "gauge", "untyped"].contains(kind) {
                    return wrong("no type");
                }
                if kinds.insert(name.to_owned(), (*kind).to_owned()).is_some() {
                    return wrong("a second TYPE");
                }
            }
            _ => {
                let Some(kind) = kinds.get(name).filter(|_| helped.contains(name)) else {
                    return wrong("before its HELP and TYPE");
                };
                let (labels, value) = labels(&line[name.len()..]).ok_or_else(|| format!("no labels: {line}"))?;
                let value: f64 = match value {
                    "+Inf" => f64::INFINITY,
                    "-Inf" => f64::NEG_INFINITY,
                    value if value.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                        value.parse().map_err(|error| format!("{error}: {line}"))?
                    }
                    _ => return wrong("no value"),
                };
                if labels.keys().any(|name| !is_label(name)) || kind == "counter" && value < 0.0 {
                    return wrong("no sample of its type");
                }
                let shown = format!("{name}{labels:?}");
                if !series.insert(shown.clone()) {
                    return wrong("a series twice");
                }
                if kind == "counter" {
                    counters.insert(shown, value as u64);
                }
            }
        }
    }
    Ok(counters)
}

#[test]
fn whatever_paths_there_are_a_strict_reader_takes_the_text() {
    common::check(|snapshot| snapshot.to_prometheus(""), read);
}

#[test]
fn the_strict_reader_refuses_what_is_wrong() {
    let good = "# HELP a A\\n.\n# TYPE a counter\na{b=\"c\\\"\", d=\"\"} 1\n# HELP e E.\n# TYPE e gauge\ne +Inf\n";
    assert_eq!(read(good).map(|counters| counters.len()), Ok(1));
    for (from, to) in [
        ("# HELP a A", "# HELP a \\x"),
        ("# HELP a A\\n.\n", ""),
        ("# TYPE a counter\n", ""),
        ("a counter", "a number"),
        ("\\\"", "\\x"),
        ("} 1", "} -1"),
        ("} 1", "} one"),
        ("+Inf", "inf"),
        ("d=", "b="),
        ("d=", "9d="),
        ("e +Inf\n", "e +Inf\ne 1\n"),
        ("e +Inf\n", "e +Inf\na 1\n"),
        ("e +Inf\n", "e +Inf\n# TYPE e gauge\n"),
        ("e +Inf\n", "e +Inf\n# HELP e E.\n"),
        ("e +Inf\n", "e +Inf\n# EOF\n"),
        ("e +Inf\n", "e +Inf"),
        ("e +Inf\n", "e +Inf\n\n"),
    ] {
        assert!(read(&good.replacen(from, to, 1)).is_err(), "{from:?} as {to:?}");
    }
}

#[test]
fn names_of_two_types_are_untyped_and_series_that_become_one_are_added() {
    let registry = Registry::default();
    let shard = registry.shard();
    let counters = [&["a", "b"][..], &["a:b"], &["x\"", "y"], &["x\\", "y"]].map(|path| shard.counter(path));
    counters.iter().for_each(|counter| counter.add(2));
    let level = shard.gauge(&["a", "x y"]);
    level.set(1.5);
    let also = shard.counter(&["a", "x_y"]);
    also.add(1);
    let text = registry.snapshot().to_prometheus("");
    let samples: Vec<_> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
    let expected =
        ["# TYPE a:b counter", "a:b 4", "# TYPE a:x_y untyped", "a:x_y 2.5", "# TYPE x_:y counter", "x_:y 4"];
    assert_eq!(samples, expected);
}
