//! Figures as people read them. The same rules as `Chart.fmt` in `assets/charts.js`.
//!
//! What is not known is `–`, never 0, and nothing is rounded up to 100%.

use jiff::{SignedDuration, Timestamp};

/// Shown for what is not known.
pub const NONE: &str = "–";

/// `1,204`
pub fn int(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `0`, `3.4`, `1,204`, `48.2k`: something a second.
pub fn rate(value: f64) -> String {
    match value {
        v if !v.is_finite() => NONE.to_owned(),
        v if v <= 0.0 => "0".to_owned(),
        v if v < 9.95 => format!("{v:.1}"),
        v if v < 9_999.5 => int(v.round() as u64),
        v => format!("{:.1}k", v / 1e3),
    }
}

/// A share between 0 and 1: `10%`, `89.9%`, `99.97%`, `99.997%`. Never more than is true.
pub fn percent(share: f64) -> String {
    let floor = |digits: i32| {
        let unit = 10f64.powi(digits + 2);
        // The small addition undoes what binary fractions lose: 0.07 is a hair below 7%.
        let value = (share * unit + 1e-6).floor() / 10f64.powi(digits);
        format!("{value:.*}%", digits.max(0) as usize)
    };
    match share {
        s if !s.is_finite() => NONE.to_owned(),
        s if s >= 1.0 => "100%".to_owned(),
        s if s <= 0.0 => "0%".to_owned(),
        s if s > 0.9999 => floor(3),
        s if s > 0.99 => floor(2),
        s if (s * 100.0 - (s * 100.0).round()).abs() < 1e-6 => format!("{:.0}%", s * 100.0),
        s => format!("{:.1}%", s * 100.0),
    }
}

/// Milliseconds: `210 µs`, `4.2 ms`, `61 ms`, `1.0 s`, `12 s`.
pub fn millis(value: f64) -> String {
    match value {
        v if !v.is_finite() => NONE.to_owned(),
        v if v <= 0.0 => "0".to_owned(),
        v if v < 0.9995 => format!("{:.0} µs", (v * 1e3).max(1.0)),
        v if v < 9.95 => format!("{v:.1} ms"),
        v if v < 999.5 => format!("{v:.0} ms"),
        v if v < 9_950.0 => format!("{:.1} s", v / 1e3),
        v => format!("{:.0} s", v / 1e3),
    }
}

/// `17 MB`, in powers of ten.
pub fn bytes(value: f64) -> String {
    match value {
        v if !v.is_finite() => NONE.to_owned(),
        v if v < 1e3 => format!("{v:.0} B"),
        v if v < 1e6 => format!("{:.0} kB", v / 1e3),
        v if v < 1e9 => format!("{:.0} MB", v / 1e6),
        v => format!("{:.1} GB", v / 1e9),
    }
}

/// A length of time: `0.8 s`, `41 s`, `3 min 31 s`, `14 min`, `1 h 5 min`, `3 d 4 h`.
pub fn span(length: SignedDuration) -> String {
    let millis = length.as_millis().max(0);
    let seconds = millis / 1000;
    let both = |big: i128, big_unit: &str, small: i128, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match seconds {
        0..10 => format!("{}.{} s", seconds, millis % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..600 => both(seconds / 60, "min", seconds % 60, "s"),
        600..3600 => format!("{} min", seconds / 60),
        3600..86_400 => both(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => both(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// [`span`] of milliseconds.
pub fn span_ms(millis: u64) -> String {
    span(SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)))
}

/// How long ago: coarser than [`span`], because it is read at a glance. `0.4 s ago`, `4 min ago`, `3 d ago`.
pub fn ago(time: Timestamp, now: Timestamp) -> String {
    let length = now.duration_since(time);
    let seconds = length.as_secs();
    match seconds {
        ..10 => format!("{} ago", span(length)),
        10..90 => format!("{seconds} s ago"),
        90..5400 => format!("{} min ago", (seconds + 30) / 60),
        5400..129_600 => format!("{} h ago", (seconds + 1800) / 3600),
        _ => format!("{} d ago", (seconds + 43_200) / 86_400),
    }
}

/// `1 failed`, `3 failed`; the plural with an s: `1 router`, `3 routers`.
pub fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        n => format!("{} {what}s", int(n)),
    }
}

/// `/svc/` and `world`: a name's head, which may be cut, and its last segment, which may not.
pub fn split_name(name: &str) -> (&str, &str) {
    match name.trim_end_matches('/').rfind('/') {
        Some(at) => name.split_at(at + 1),
        None => ("", name),
    }
}

/// The last segment of a name: `world-v1` of `/#/io.l5d.fs/world-v1`.
pub fn tail(name: &str) -> &str {
    split_name(name).1
}

/// A destination as people write it: `1 * /tmp/world-v2 & 9 * /tmp/world-v1` of `/tmp/world-v2 & 9.00*/tmp/world-v1`.
pub fn destination(text: &str) -> String {
    let is_union = text.contains(" & ") && !text.contains(['|', '(']);
    let term = |term: &str| match term.split_once('*') {
        Some((weight, rest)) => {
            let weight = weight.trim_end();
            let weight = if weight.contains('.') { weight.trim_end_matches('0').trim_end_matches('.') } else { weight };
            format!("{weight} * {}", rest.trim_start())
        }
        None if is_union => format!("1 * {term}"),
        None => term.to_owned(),
    };
    text.split(" & ").map(term).collect::<Vec<_>>().join(" & ")
}

/// A word for a POSIX shell: as it is where nothing in it is special, else in single quotes.
pub fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=,@%+".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Copy>(read: impl Fn(T) -> String, cases: &[(T, &str)]) {
        for (n, (value, expected)) in cases.iter().enumerate() {
            assert_eq!(read(*value), *expected, "case {n}");
        }
    }

    #[test]
    fn figures_read_well() {
        check(int, &[(0, "0"), (999, "999"), (1204, "1,204"), (1_234_567, "1,234,567")]);
        check(rate, &[(0.0, "0"), (0.24, "0.2"), (9.94, "9.9"), (9.96, "10"), (412.4, "412"), (48_210.0, "48.2k")]);
        check(
            millis,
            &[
                (0.21, "210 µs"),
                (0.0001, "1 µs"),
                (4.2, "4.2 ms"),
                (61.4, "61 ms"),
                (1000.0, "1.0 s"),
                (12_400.0, "12 s"),
                (f64::NAN, "–"),
            ],
        );
        check(bytes, &[(900.0, "900 B"), (17_300_000.0, "17 MB"), (2.5e9, "2.5 GB")]);
    }

    #[test]
    fn a_failure_is_never_rounded_away() {
        check(
            percent,
            &[
                (1.0, "100%"),
                (0.999_999, "99.999%"),
                (0.9999, "99.99%"),
                (0.9997, "99.97%"),
                (0.982, "98.2%"),
                (0.1, "10%"),
                (0.899, "89.9%"),
                (0.07, "7%"),
                (0.0, "0%"),
            ],
        );
    }

    #[test]
    fn times_read_well() {
        let cases = [
            (800, "0.8 s"),
            (41_000, "41 s"),
            (211_000, "3 min 31 s"),
            (180_000, "3 min"),
            (846_000, "14 min"),
            (3_900_000, "1 h 5 min"),
            (273_600_000, "3 d 4 h"),
        ];
        check(span_ms, &cases);
        let now = "2026-11-26T14:00:00Z".parse::<Timestamp>().unwrap();
        let back = |millis: i64| ago(now - SignedDuration::from_millis(millis), now);
        check(back, &[(400, "0.4 s ago"), (30_000, "30 s ago"), (250_000, "4 min ago"), (260_000_000, "3 d ago")]);
    }

    #[test]
    fn destinations_show_their_weights() {
        let cases = [
            ("/srv/world-v1", "/srv/world-v1"),
            ("/tmp/v2 | /tmp/v1", "/tmp/v2 | /tmp/v1"),
            ("/tmp/v2 & 9.00*/tmp/v1", "1 * /tmp/v2 & 9 * /tmp/v1"),
            ("0.10*/tmp/v2 & 0.001*/tmp/v1", "0.1 * /tmp/v2 & 0.001 * /tmp/v1"),
            ("1 * /tmp/v2 & 9 * /tmp/v1", "1 * /tmp/v2 & 9 * /tmp/v1"),
            ("(/a | 2.00*/b) & /c", "(/a | 2 * /b) & /c"),
        ];
        check(destination, &cases);
    }

    #[test]
    fn names_and_words_are_cut_and_quoted() {
        assert_eq!(split_name("/#/io.l5d.fs/world-v1"), ("/#/io.l5d.fs/", "world-v1"));
        assert_eq!(split_name("world"), ("", "world"));
        assert_eq!(split_name("/"), ("", "/"));
        assert_eq!(shell_word("a/b"), "a/b");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
