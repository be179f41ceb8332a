//! Parameters of a request, decoded.

use std::time::Duration;

use names::{Dtab, Path};

/// Query parameters, and those of a form in the body behind them; of a repeated one the first counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

/// A wait may not take longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

impl Query {
    pub(super) fn read(text: &str) -> Query {
        Query(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    pub(super) fn and(mut self, form: &[u8]) -> Query {
        self.0.extend(url::form_urlencoded::parse(form).into_owned());
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `1`, `t` or `true`, in any case.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| ["1", "t", "true"].iter().any(|on| on.eq_ignore_ascii_case(value)))
    }

    /// The parameter `path`; the error is a 400's text.
    pub(super) fn path(&self) -> Result<Path, String> {
        let Some(text) = self.get("path") else {
            return Err("missing parameter `path`: add ?path=/svc/NAME".to_owned());
        };
        Path::read(text).map_err(|error| format!("Invalid path: {text} / {error}"))
    }

    /// The parameter `dtab`, empty where there is none.
    pub(super) fn dtab(&self) -> Result<Dtab, String> {
        Dtab::read(self.get("dtab").unwrap_or_default()).map_err(|error| format!("Invalid dtab: {error}"))
    }

    /// The parameter `wait`.
    pub(super) fn wait(&self) -> Result<Option<Duration>, String> {
        let Some(text) = self.get("wait") else { return Ok(None) };
        let wait = duration(text).ok_or_else(|| format!("wait={text}: write 500ms, 5s or 1m"))?;
        if wait > LONGEST_WAIT {
            return Err(format!("wait={text}: at most 10m"));
        }
        Ok(Some(wait))
    }

    /// The parameter `limit`.
    pub(super) fn limit(&self) -> Result<Option<usize>, String> {
        let read = |text: &str| text.parse().map_err(|_| format!("limit={text}: write a number"));
        self.get("limit").map(read).transpose()
    }
}

/// `500ms`, `5s`, `1m`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let cases = [
            ("500ms", Some(500)),
            ("5s", Some(5000)),
            ("1m", Some(60_000)),
            ("0s", Some(0)),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
            ("9999999999999999999m", None),
        ];
        for (text, millis) in cases {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn flags_are_on_by_three_spellings() {
        for (text, on) in [("1", true), ("t", true), ("TRUE", true), ("yes", false), ("", false)] {
            assert_eq!(Query::read(&format!("watch={text}")).flag("watch"), on, "{text}");
        }
        assert!(!Query::read("").flag("watch"));
    }

    #[test]
    fn of_a_repeated_parameter_the_first_counts() {
        let query = Query::read("path=/a%20&path=/b").and(b"path=/c&dtab=%2Fx%3D%3E%2Fy");
        assert_eq!((query.get("path"), query.get("dtab")), (Some("/a "), Some("/x=>/y")));
    }
}
