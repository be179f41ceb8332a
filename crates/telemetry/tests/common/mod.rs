//! What readers of both text formats share, and paths that are hard to show.

use std::collections::BTreeMap;

use telemetry::{Registry, Snapshot};

/// Series with their values, of counters only.
pub type Counters = BTreeMap<String, u64>;

pub fn is_name(name: &str) -> bool {
    is_label(&name.replace(':', "_"))
}

pub fn is_label(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|char| char.is_ascii_alphanumeric() || char == '_')
}

/// `{a="b",c="d"} 3` or ` 3`; blanks behind commas are left to the caller's taste.
pub fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let Some(mut rest) = text.strip_prefix('{') else { return Some((BTreeMap::new(), text.strip_prefix(' ')?)) };
    let mut labels = BTreeMap::new();
    loop {
        let (name, value) = rest.split_once("=\"")?;
        let mut is_escaped = false;
        let end = value.find(|char| {
            let ends = char == '"' && !is_escaped;
            is_escaped = char == '\\' && !is_escaped;
            ends
        })?;
        if labels.insert(name.to_owned(), unescaped(&value[..end])?).is_some() {
            return None;
        }
        rest = &value[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start_matches(' '),
            None => return Some((labels, rest.strip_prefix("} ")?)),
        }
    }
}

/// `None`: an escape that there is not.
pub fn unescaped(text: &str) -> Option<String> {
    let (mut plain, mut chars) = (String::new(), text.chars());
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next()? {
                'n' => '\n',
                same @ ('\\' | '"') => same,
                _ => return None,
            },
            '"' | '\n' => return None,
            other => other,
        });
    }
    Some(plain)
}

/// Paths that are alike, share names, or hold what no name can.
pub const PATHS: &[&[&str]] = &[
    &["requests"],
    &["requests", "total"],
    &["requests_total"],
    &["9lives"],
    &["a", "b"],
    &["a/b"],
    &["a:b"],
    &["a", "count"],
    &["a", "sum"],
    &["a", "avg"],
    &["took"],
    &["took", "count"],
    &["took_sum"],
    &["rt", "out\"\\\n", "server", "127.0.0.1/4140", "requests"],
    &["rt", "out", "server", "127.0.0.1/4140", "failures"],
    &["rt", "out", "server", "127.0.0.1/4140", "failures", "x.y"],
    &["rt", "out", "server", "127.0.0.1/4140", "failures", "x.y", "z"],
    &["rt", "out", "server", "127.0.0.1/4140", "exn", "x"],
    &["rt", "out", "client", "#/io.l5d.fs/w\u{e9}b", "service", "svc/web", "requests"],
    &["rt", "out", "client", "#/a", "service_creation", "failures", "x.y"],
    &["rt", "out", "client", "#/a", "service_creation", "failures", "x_y"],
    &["rt", "out", "service", "svc/a", "retries", "total"],
    &["rt", "out", "service", "svc/a", "retries"],
    &["rt"],
    &["rt", "out"],
    &["rt", "out", "service"],
    &["quantile"],
    &[""],
    &["\u{1f980}"],
];

/// Registries with all sorts of values under [`PATHS`]: a reader must take what is shown, and find all counters again,
/// not smaller, when they have grown.
pub fn check(show: fn(&Snapshot) -> String, read: fn(&str) -> Result<Counters, String>) {
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..300 {
        let registry = Registry::default();
        let shard = registry.shard();
        let mut counters = Vec::new();
        for path in PATHS {
            match random.u8(0..4) {
                0 => counters.push(shard.counter(path)),
                1 => shard.gauge(path).set([0.0, -1.5, 3e300, f64::INFINITY][random.usize(0..4)]),
                2 => shard.stat(path).record(random.u64(0..5000)),
                _ => {}
            }
        }
        let mut grow = || counters.iter().for_each(|counter| counter.add(random.u64(0..5)));
        let look = || {
            let text = show(&registry.snapshot());
            let read = read(&text).unwrap_or_else(|error| panic!("round {round}: {error}\n{text}"));
            (read, text)
        };
        grow();
        let (before, _) = look();
        grow();
        let (after, text) = look();
        assert_eq!(before.len(), after.len());
        for (series, count) in before {
            assert!(after.get(&series).is_some_and(|later| *later >= count), "{series} fell: {count}\n{text}");
        }
    }
}
