//! Endpoints that discovery gave an `authority`: requests carry it as their Host, and what answers say about
//! it is turned back (`Location`, `Refresh`).

use std::rc::Rc;

use http1::{ResponseHead, write_line};

use crate::client::Client;
use crate::pool::Endpoint;
use crate::request::Request;

/// Another Host than the client's.
pub(crate) struct Renamed {
    authority: Rc<str>,
    /// What the client sent, if anything.
    pub original: Option<Box<[u8]>>,
}

impl Request {
    /// Gives the outgoing head the Host that `endpoint` wants, or the client's own.
    #[inline]
    pub(crate) fn rename_for(&mut self, client: &Client, endpoint: &Endpoint, out: &mut Vec<u8>) {
        let authority = client.authority(endpoint);
        if authority.is_some() || self.renamed.is_some() {
            self.rename(authority, out);
        }
    }

    fn rename(&mut self, authority: Option<Rc<str>>, out: &mut Vec<u8>) {
        let current = host(&out[..self.tail]);
        let original = match self.renamed.take() {
            Some(renamed) => renamed.original,
            None => current.clone().map(|at| out[at].into()),
        };
        let wanted: &[u8] = match (&authority, &original) {
            (Some(authority), _) => authority.as_bytes(),
            (None, Some(original)) => original,
            (None, None) => b"",
        };
        let before = out.len();
        match current {
            Some(at) => drop(out.splice(at, wanted.iter().copied())),
            // An HTTP/1.0 request without Host gets one: it is the last line before the client's own.
            None => {
                let mut line = Vec::new();
                write_line(&mut line, b"host", wanted);
                drop(out.splice(self.tail..self.tail, line));
            }
        }
        self.tail = self.tail + out.len() - before;
        self.renamed = authority.map(|authority| Box::new(Renamed { authority, original }));
    }
}

/// Where the value of the Host line is.
fn host(head: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        if line.len() > 5 && line[..5].eq_ignore_ascii_case(b"host:") {
            let value = line[5..].trim_ascii();
            let from = start + 5 + (line.len() - 5 - line[5..].trim_ascii_start().len());
            return Some(from..from + value.len());
        }
        start += line.len();
    }
    None
}

impl Renamed {
    /// Turns the authority in `Location` and `Refresh` back into what the client calls it.
    pub(crate) fn turn_back(&self, head: &mut ResponseHead, bytes: &[u8], extra: &mut Vec<u8>) {
        let Some(original) = &self.original else { return };
        for name in ["location", "refresh"] {
            let mut first = true;
            for field in head.fields.iter_mut().filter(|field| field.name(bytes).eq_ignore_ascii_case(name.as_bytes()))
            {
                if std::mem::take(&mut first) {
                    write_line(
                        extra,
                        name.as_bytes(),
                        &replaced(field.value(bytes), self.authority.as_bytes(), original),
                    );
                }
                field.drop_line();
            }
        }
    }
}

fn replaced(value: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr::memmem::find(rest, from).filter(|_| !from.is_empty()) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_line_is_found_wherever_it_stands() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: web:80\r\n", Some("web:80")),
            ("GET /host: HTTP/1.1\r\nX-Host: a\r\nhOST:web\r\nB: c\r\n", Some("web")),
            ("GET / HTTP/1.1\r\nhost: \r\nB: c\r\n", Some("")),
            ("GET / HTTP/1.0\r\nX: y\r\n", None),
        ] {
            assert_eq!(host(head.as_bytes()).map(|at| &head[at]), expected, "{head}");
        }
    }

    #[test]
    fn every_occurrence_is_replaced() {
        assert_eq!(replaced(b"http://a.b/?x=a.b", b"a.b", b"web"), b"http://web/?x=web");
        assert_eq!(replaced(b"/x", b"a.b", b"web"), b"/x");
        assert_eq!(replaced(b"/x", b"", b"web"), b"/x");
    }
}
