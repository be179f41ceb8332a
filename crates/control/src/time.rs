//! Times as the API shows them.

use jiff::Timestamp;

/// RFC 3339, UTC, with milliseconds: `2026-01-31T12:00:00.000Z`.
pub(crate) fn show(time: Timestamp) -> String {
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_decimals() {
        let cases = [(0, "1970-01-01T00:00:00.000Z"), (1_700_000_000_120, "2023-11-14T22:13:20.120Z")];
        for (millis, expected) in cases {
            assert_eq!(show(Timestamp::from_millisecond(millis).unwrap()), expected);
        }
    }
}
