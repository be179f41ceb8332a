//! `httpAccessLog` and its companions.

use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// Where the lines of a router go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// `httpAccessLog`: a file, whose directory is made if it is missing; `/dev/stdout` and `/dev/stderr` are
    /// the process's own.
    pub path: PathBuf,
    /// `httpAccessLogRollPolicy`
    pub roll: Roll,
    /// `httpAccessLogAppend`: what is in the file stays.
    pub append: bool,
    /// `httpAccessLogRotateCount`: so many rolled files are kept; `None`: all.
    pub keep: Option<usize>,
}

/// When a file is set aside for a new one, at local times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Roll {
    /// `never`, and `sighup`: whoever moves the file away gets a new one in its place without being asked.
    #[default]
    Never,
    /// `hourly`
    Hourly,
    /// `daily`, at midnight.
    Daily,
    /// `weekly(n)`: at midnight before this day, 1 for Sunday to 7 for Saturday.
    Weekly(u8),
    /// `3.megabytes`: before the file would be larger than so many bytes.
    Size(u64),
}

/// A roll policy that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "unknown roll policy `{0}`: use never, hourly, daily, weekly(n) with n from 1 (Sunday) to 7, sighup, or a size \
     such as 3.megabytes"
)]
pub struct RollError(String);

impl FromStr for Roll {
    type Err = RollError;

    /// In any case, as in the original.
    fn from_str(text: &str) -> Result<Roll, RollError> {
        let lower = text.to_ascii_lowercase();
        let unknown = || RollError(text.to_owned());
        if let Some(day) = lower.strip_prefix("weekly(").and_then(|rest| rest.strip_suffix(')')) {
            let day = day.parse().ok().filter(|day| (1..=7).contains(day));
            return day.map(Roll::Weekly).ok_or_else(unknown);
        }
        match lower.as_str() {
            "never" | "sighup" => Ok(Roll::Never),
            "hourly" => Ok(Roll::Hourly),
            "daily" => Ok(Roll::Daily),
            size => size_of(size).map(Roll::Size).ok_or_else(unknown),
        }
    }
}

/// `3.megabytes`: a kilobyte has 1024 bytes.
fn size_of(text: &str) -> Option<u64> {
    let (count, unit) = text.split_once('.')?;
    let shift = match unit.strip_suffix('s').unwrap_or(unit) {
        "byte" => 0,
        "kilobyte" => 10,
        "megabyte" => 20,
        "gigabyte" => 30,
        "terabyte" => 40,
        "petabyte" => 50,
        "exabyte" => 60,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roll_policies_are_read_as_the_original_reads_them() {
        let read = |text: &str| text.parse::<Roll>().ok();
        for (text, roll) in [
            ("never", Some(Roll::Never)),
            ("Hourly", Some(Roll::Hourly)),
            ("DAILY", Some(Roll::Daily)),
            ("sighup", Some(Roll::Never)),
            ("weekly(1)", Some(Roll::Weekly(1))),
            ("Weekly(7)", Some(Roll::Weekly(7))),
            ("3.megabytes", Some(Roll::Size(3 << 20))),
            ("1.Gigabyte", Some(Roll::Size(1 << 30))),
            ("500.bytes", Some(Roll::Size(500))),
            ("weekly(0)", None),
            ("weekly(8)", None),
            ("weekly", None),
            ("0.bytes", None),
            ("3 megabytes", None),
            ("3.mb", None),
            ("99.exabytes", None),
            ("", None),
        ] {
            assert_eq!(read(text), roll, "{text}");
        }
    }
}
