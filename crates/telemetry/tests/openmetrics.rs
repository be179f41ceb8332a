//! OpenMetrics text as a strict reader takes it (OpenMetrics 1.0): families whole and named once, samples that
//! belong to their family, no series twice, texts escaped, counters that only grow, one `# EOF` at the end.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Counters, is_label, is_name, labels, unescaped};

/// A reader that takes nothing that the standard does not allow.
fn read(text: &str) -> Result<Counters, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("no # EOF at the end")?;
    let (mut families, mut series, mut counters) = (BTreeMap::new(), BTreeSet::new(), Counters::new());
    let mut family: Option<(String, String)> = None;
    let mut helped = BTreeSet::new();
    // Names of samples, each of one family.
    let mut owners = BTreeMap::<String, String>::new();
    for line in body.split_terminator('\n') {
        let wrong = |what: &str| Err(format!("{what}: {line}"));
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or(line)?;
            if !is_name(name) || !["counter", "gauge", "summary"].contains(&kind) {
                return wrong("no TYPE");
            }
            if families.insert(name.to_owned(), kind.to_owned()).is_some() {
                return wrong("a second TYPE");
            }
            family = Some((name.to_owned(), kind.to_owned()));
            continue;
        }
        let Some((name, kind)) = &family else { return wrong("before a TYPE") };
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (of, help) = rest.split_once(' ').ok_or(line)?;
            if of != name || !helped.insert(of.to_owned()) || unescaped(help).is_none() {
                return wrong("no HELP of this family");
            }
            continue;
        }
        let (sample, rest) = line.split_at(line.find(['{', ' ']).ok_or(line)?);
        let (labels, value) = labels(rest).ok_or_else(|| format!("no labels: {line}"))?;
        let value: f64 = value.parse().map_err(|error| format!("{error}: {line}"))?;
        let suffix = sample.strip_prefix(name.as_str()).ok_or_else(|| format!("of another family: {line}"))?;
        let quantile = labels.get("quantile").map(|text| text.parse::<f64>());
        let allowed = match kind.as_str() {
            "counter" => suffix == "_total" && value >= 0.0 && quantile.is_none(),
            "gauge" => suffix.is_empty(),
            _ => match suffix {
                "_count" | "_sum" => quantile.is_none() && value >= 0.0,
                "" => matches!(quantile, Some(Ok(0.0..=1.0))),
                _ => false,
            },
        };
        if !allowed || labels.keys().any(|name| !is_label(name)) {
            return wrong("not in a family of this type");
        }
        if owners.entry(sample.to_owned()).or_insert_with(|| name.clone()) != name {
            return wrong("a name of two families");
        }
        let shown = format!("{sample}{labels:?}");
        if !series.insert(shown.clone()) {
            return wrong("a series twice");
        }
        if kind == "counter" || suffix == "_count" {
            counters.insert(shown, value as u64);
        }
    }
    // A family may not be called like another's sample either.
    match owners.iter().find(|(sample, of)| families.contains_key(*sample) && sample != of) {
        Some((sample, _)) => Err(format!("{sample} is a family and a sample of another")),
        None => Ok(counters),
    }
}

#[test]
fn whatever_paths_there_are_a_strict_reader_takes_the_text() {
    common::check(|snapshot| snapshot.to_openmetrics(""), read);
}

#[test]
fn the_strict_reader_refuses_what_is_wrong() {
    let good = "# TYPE a counter\n# HELP a A.\na_total{b=\"c\\\"\"} 1\n# TYPE d gauge\n# HELP d D.\nd 1.5\n# EOF\n";
    assert_eq!(read(good).map(|counters| counters.len()), Ok(1));
    for (from, to) in [
        ("# EOF\n", ""),
        ("a_total", "a"),
        ("\\\"", "\\x"),
        ("} 1", "} -1"),
        ("d gauge\n# HELP d", "a gauge\n# HELP a"),
        ("d 1.5\n", "d 1.5\nd 1.5\n"),
        ("d 1.5\n", "d 1.5\na_total 3\n"),
        ("d 1.5\n", "d 1.5\n\n"),
        ("b=", "9b="),
    ] {
        assert!(read(&good.replacen(from, to, 1)).is_err(), "{from:?} as {to:?}");
    }
}
