//! Version names: `SERVICE-vN`, compared as numbers, so that 11 follows 10.

/// N of `SERVICE-vN`. No sign, no leading zero: two names are never one number.
pub fn number(service: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(service)?.strip_prefix("-v")?;
    let canonical = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && (digits == "0" || !digits.starts_with('0'))).then(|| digits.parse().ok()).flatten()
}

/// The name after `current` and after everything that exists already.
pub fn next<'a>(service: &str, current: u64, existing: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let highest = existing.into_iter().filter_map(|name| number(service, name)).fold(current, u64::max);
    Some(format!("{service}-v{}", highest.checked_add(1)?))
}

/// The version name of a plain destination `PREFIX/NAME`; `None` for anything else.
pub fn target<'a>(prefix: &str, dst: &'a str) -> Option<&'a str> {
    let name = dst.trim().strip_prefix(prefix)?.strip_prefix('/')?;
    let plain = !name.is_empty() && !name.contains(|c: char| c == '/' || c.is_whitespace() || "|&*()!~;".contains(c));
    plain.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_not_texts() {
        let cases = [
            ("world-v1", Some(1)),
            ("world-v11", Some(11)),
            ("world-v01", None),
            ("world-v", None),
            ("world-v1a", None),
            ("world-v+1", None),
            ("world-abc", None),
            ("worlds-v1", None),
            ("world-v99999999999999999999999", None),
        ];
        for (name, expected) in cases {
            assert_eq!(number("world", name), expected, "{name}");
        }
        assert_eq!(next("world", 10, ["world-v9", "world-v10", "hello-v40"]).as_deref(), Some("world-v11"));
        assert_eq!(next("world", 1, ["world-v7"]).as_deref(), Some("world-v8"));
        assert_eq!(next("world", u64::MAX, []), None);
    }

    #[test]
    fn only_a_plain_destination_is_a_target() {
        assert_eq!(target("/srv", "/srv/world-v1"), Some("world-v1"));
        for dst in ["/tmp/world-v1", "/srv/a/b", "/srv/", "/srv", "/srv/a | /srv/b", "1 * /srv/a & 2 * /srv/b", "!"] {
            assert_eq!(target("/srv", dst), None, "{dst}");
        }
    }
}
