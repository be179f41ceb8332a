//! The text of an endpoint file.
//!
//! ```text
//! 127.0.0.1 7721        # a comment
//! world.internal 80 * 2.5
//! ```

use std::net::IpAddr;

/// Larger files are refused, as in the original.
pub(super) const MOST_BYTES: usize = 500 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub host: Host,
    pub port: u16,
    /// As written; `None` where it is left out.
    pub weight: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Host {
    Ip(IpAddr),
    Name(String),
}

/// All lines, or why the whole file is bad.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Line>, String> {
    if bytes.len() > MOST_BYTES {
        return Err(format!("file is larger than {MOST_BYTES} bytes"));
    }
    let text = String::from_utf8_lossy(bytes);
    // What are blanks is Java's: a no-break space is none.
    let lines = text.split('\n').filter_map(|line| {
        let code = line.split('#').next().unwrap_or("").trim_matches(|c| c <= ' ');
        (!code.is_empty()).then(|| parse_line(code).ok_or_else(|| format!("malformed address: {code}")))
    });
    lines.collect()
}

fn parse_line(text: &str) -> Option<Line> {
    let words: Vec<&str> = text.split([' ', '\t', '\r', '\x0b', '\x0c']).filter(|word| !word.is_empty()).collect();
    let (host, port, weight) = match words.as_slice() {
        [host, port] => (host, port, None),
        [host, port, "*", weight] => (host, port, Some(weight.parse::<f64>().ok()?)),
        _ => return None,
    };
    if weight.is_some_and(|weight| !weight.is_finite() || weight < 0.0) {
        return None;
    }
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    let host = host.parse().map_or_else(|_| Host::Name((*host).to_owned()), Host::Ip);
    Some(Line { host, port, weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(host: &str, port: u16, weight: Option<f64>) -> Line {
        Line { host: host.parse().map_or_else(|_| Host::Name(host.into()), Host::Ip), port, weight }
    }

    #[test]
    fn files_are_read_as_the_original_reads_them() {
        let cases: &[(&str, Result<Vec<Line>, &str>)] = &[
            ("", Ok(vec![])),
            ("\n  \n# nothing\n", Ok(vec![])),
            ("127.0.0.1 80\n", Ok(vec![line("127.0.0.1", 80, None)])),
            ("127.0.0.1\t80 # x\r\nhost 1", Ok(vec![line("127.0.0.1", 80, None), line("host", 1, None)])),
            ("h 80 * 2.5", Ok(vec![line("h", 80, Some(2.5))])),
            ("::1 80", Ok(vec![line("::1", 80, None)])),
            ("h 80\nh 80*2", Err("malformed address: h 80*2")),
            ("h 80 *2", Err("malformed address: h 80 *2")),
            ("h", Err("malformed address: h")),
            ("127.0.0.1 80\n  h 80*2  # twice\r\n", Err("malformed address: h 80*2")),
            ("h\u{a0}80", Err("malformed address: h\u{a0}80")),
            ("h 0", Err("malformed address: h 0")),
            ("h 65536", Err("malformed address: h 65536")),
            ("h 80 * -1", Err("malformed address: h 80 * -1")),
            ("h 80 * NaN", Err("malformed address: h 80 * NaN")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), expected.clone().map_err(str::to_owned), "{text:?}");
        }
        assert!(parse(&vec![b'\n'; MOST_BYTES + 1]).is_err());
    }
}
