//! Rolling, on real files.

use super::*;

/// Central Europe, without asking the machine.
const ZONE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

fn zone() -> TimeZone {
    TimeZone::posix(ZONE).expect("a zone")
}

fn at(text: &str) -> Timestamp {
    let time: jiff::civil::DateTime = text.parse().expect("a time");
    time.to_zoned_datetime(zone()).expect("exists").timestamp()
}

struct Log {
    directory: tempfile::TempDir,
    target: Target,
}

impl Log {
    fn open(roll: Roll, keep: Option<usize>, now: &str) -> Log {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("logs/access.log");
        let target = Target::open(&AccessLog { path, roll, append: true, keep }, zone(), at(now));
        Log { target: target.expect("opened"), directory }
    }

    fn write(&mut self, lines: &str, now: &str) {
        self.target.write(lines.as_bytes(), at(now)).map_err(|failed| failed.error).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("logs").join(name)
    }

    /// All files with their contents.
    #[track_caller]
    fn check(&self, expected: &[(&str, &str)]) {
        let listed = std::fs::read_dir(self.path("")).expect("a directory").flatten();
        let mut found = listed
            .map(|entry| {
                let text = std::fs::read_to_string(entry.path()).expect("text");
                (entry.file_name().to_string_lossy().into_owned(), text)
            })
            .collect::<Vec<_>>();
        found.sort();
        let expected = expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}

#[test]
fn a_file_that_rolls_daily_is_set_aside_under_its_day() {
    let mut log = Log::open(Roll::Daily, None, "2026-03-28T23:59");
    log.write("a\n", "2026-03-28T23:59:59");
    log.write("b\n", "2026-03-29T00:00:01");
    // The clocks go forward on this day.
    log.write("c\n", "2026-03-29T23:59:59");
    log.write("d\n", "2026-03-30T00:00:01");
    log.check(&[("access-20260328.log", "a\n"), ("access-20260329.log", "b\nc\n"), ("access.log", "d\n")]);
}

#[test]
fn rolls_come_at_local_times() {
    for (roll, now, next) in [
        (Roll::Never, "2026-01-31T13:05:07", None),
        (Roll::Size(1), "2026-01-31T13:05:07", None),
        (Roll::Hourly, "2026-01-31T13:05:07", Some("2026-01-31T14:00")),
        (Roll::Hourly, "2026-01-31T13:00:00", Some("2026-01-31T14:00")),
        (Roll::Daily, "2026-01-31T13:05:07", Some("2026-02-01T00:00")),
        // A Saturday.
        (Roll::Weekly(1), "2026-01-31T13:05:07", Some("2026-02-01T00:00")),
        (Roll::Weekly(7), "2026-01-31T13:05:07", Some("2026-02-07T00:00")),
        (Roll::Weekly(6), "2026-01-31T13:05:07", Some("2026-02-06T00:00")),
    ] {
        let found = next_roll(roll, &at(now).to_zoned_datetime(zone()));
        assert_eq!(found, next.map(at), "{roll:?} {now}");
    }
}

#[test]
fn an_hourly_file_has_the_hour_in_its_name() {
    let mut log = Log::open(Roll::Hourly, None, "2026-01-31T13:05:07");
    log.write("a\n", "2026-01-31T13:59:59");
    log.write("b\n", "2026-01-31T14:00:01");
    log.check(&[("access-20260131-13.log", "a\n"), ("access.log", "b\n")]);
}

#[test]
fn a_file_by_size_never_grows_beyond_it_and_holds_whole_lines() {
    let mut log = Log::open(Roll::Size(8), None, "2026-01-31T13:05:07");
    log.write("aaa\nbbb\nccc\n", "2026-01-31T13:05:08");
    log.write("a line that is too long\nd\n", "2026-01-31T13:05:09");
    log.check(&[
        ("access-20260131-130507.log", "aaa\nbbb\n"),
        ("access-20260131-130508.log", "ccc\n"),
        ("access-20260131-130509.log", "a line that is too long\n"),
        ("access.log", "d\n"),
    ]);
}

#[test]
fn no_file_is_overwritten_by_another_of_its_name() {
    let mut log = Log::open(Roll::Size(2), None, "2026-01-31T13:05:07");
    log.write("a\nb\nc\n", "2026-01-31T13:05:07");
    log.check(&[("access-20260131-130507.1.log", "b\n"), ("access-20260131-130507.log", "a\n"), ("access.log", "c\n")]);
}

#[test]
fn only_so_many_rolled_files_are_kept_and_nothing_else_is_removed() {
    let mut log = Log::open(Roll::Size(2), Some(1), "2026-01-31T13:05:07");
    for name in ["access-of-others.log", "access-20260131.txt", "accessory.log"] {
        std::fs::write(log.path(name), "mine").expect("written");
    }
    log.write("a\n", "2026-01-31T13:05:07");
    log.write("b\n", "2026-01-31T13:05:08");
    log.write("c\n", "2026-01-31T13:05:09");
    log.check(&[
        ("access-20260131-130508.log", "b\n"),
        ("access-20260131.txt", "mine"),
        ("access-of-others.log", "mine"),
        ("access.log", "c\n"),
        ("accessory.log", "mine"),
    ]);
}

#[test]
fn a_file_that_somebody_moved_away_gets_a_successor() {
    let mut log = Log::open(Roll::Never, None, "2026-01-31T13:05:07");
    log.write("a\n", "2026-01-31T13:05:07");
    std::fs::rename(log.path("access.log"), log.path("access.log.1")).expect("moved");
    log.write("b\n", "2026-01-31T13:05:09");
    std::fs::remove_file(log.path("access.log")).expect("removed");
    log.write("c\n", "2026-01-31T13:05:11");
    log.check(&[("access.log", "c\n"), ("access.log.1", "a\n")]);
}

#[test]
fn what_was_in_the_file_stays_unless_that_is_switched_off() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.log");
    for (append, expected) in [(true, "old\nnew\n"), (false, "new\n")] {
        std::fs::write(&path, "old\n").expect("written");
        let settings = AccessLog { path: path.clone(), roll: Roll::Never, append, keep: None };
        let now = at("2026-01-31T13:05:07");
        let mut target = Target::open(&settings, zone(), now).expect("opened");
        assert!(target.write(b"new\n", now).is_ok());
        assert_eq!(std::fs::read_to_string(&path).expect("text"), expected);
    }
}

#[test]
fn a_full_disk_loses_lines_and_is_survived() {
    let settings = AccessLog { path: "/dev/full".into(), roll: Roll::Never, append: true, keep: None };
    let now = at("2026-01-31T13:05:07");
    let mut target = Target::open(&settings, zone(), now).expect("opened");
    for _ in 0..2 {
        let failed = target.write(b"a\nb\n", now).expect_err("there is no space");
        assert_eq!((failed.lines, failed.error.kind()), (2, io::ErrorKind::StorageFull));
    }
}
