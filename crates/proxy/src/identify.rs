//! From a request to the bytes that identify it, and from those to its name.
//!
//! The bytes are the key of the binding cache, so that a request whose name is known costs a comparison
//! and no parsing. Only a miss builds the [`Path`].

use http1::{Known, RequestHead, TargetForm, Version};
use names::Path;

use crate::settings::Identifier;

/// Between the parts of a key: no header value and no URI contains it.
const SEPARATOR: u8 = 0;

/// Why a request has no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unidentified {
    /// Try the next identifier; the text is the reason if there is none.
    Next(String),
    /// The identifier failed: the original's exception.
    Failed(String),
}

impl Identifier {
    /// Appends what identifies the request.
    pub(crate) fn key(&self, head: &RequestHead, bytes: &[u8], key: &mut Vec<u8>) -> Result<(), Unidentified> {
        match self {
            Identifier::HeaderToken { header } | Identifier::Header { header } => {
                let value = value(head, bytes, header);
                if value.is_empty() {
                    return Err(self.absent());
                }
                key.extend_from_slice(value);
            }
            Identifier::MethodAndHost { uri } => {
                match head.version {
                    Version::Http11 => {
                        let host = head.host(bytes);
                        if host.is_empty() {
                            return Err(Unidentified::Next("HTTP/1.1 request missing hostname".to_owned()));
                        }
                        key.extend_from_slice(b"1.1\0");
                        key.extend_from_slice(head.method_name(bytes));
                        key.push(SEPARATOR);
                        key.extend(host.iter().map(u8::to_ascii_lowercase));
                    }
                    Version::Http10 => {
                        key.extend_from_slice(b"1.0\0");
                        key.extend_from_slice(head.method_name(bytes));
                    }
                }
                if *uri {
                    for segment in segments(path_of(head, bytes)) {
                        key.push(SEPARATOR);
                        key.extend_from_slice(segment);
                    }
                }
            }
            Identifier::Path { segments: wanted, .. } => {
                let mut found = 0;
                for segment in segments(path_of(head, bytes)).take(*wanted) {
                    if segment.is_empty() {
                        return Err(Unidentified::Failed("requirement failed".to_owned()));
                    }
                    if found > 0 {
                        key.push(SEPARATOR);
                    }
                    key.extend_from_slice(segment);
                    found += 1;
                }
                if found < *wanted {
                    return Err(Unidentified::Next("not enough segments in path".to_owned()));
                }
            }
            Identifier::Static { .. } => {}
            Identifier::Ruled(ruled) => {
                let rules = ruled.rules().ok_or_else(|| Unidentified::Failed(format!("{}: no rules", ruled.path)))?;
                let named = rules.name(head.host(bytes), path_of(head, bytes)).map_err(Unidentified::Failed)?;
                let labels = named.ok_or_else(|| Unidentified::Next("no ingress rule matches".to_owned()))?;
                for (number, label) in labels.iter().enumerate() {
                    if number > 0 {
                        key.push(SEPARATOR);
                    }
                    key.extend_from_slice(label.as_bytes());
                }
            }
        }
        Ok(())
    }

    /// Whether it reads what `clearContext` takes away.
    pub(crate) fn reads_context(&self) -> bool {
        match self {
            Identifier::HeaderToken { header } | Identifier::Header { header } => {
                header.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("l5d-"))
            }
            _ => false,
        }
    }

    /// What it says where its header is not there.
    pub(crate) fn absent(&self) -> Unidentified {
        Unidentified::Next(match self {
            Identifier::HeaderToken { header } | Identifier::Header { header } => format!("{header} header is absent"),
            _ => String::new(),
        })
    }

    /// The name, without the router's prefix, that such a key stands for.
    pub(crate) fn name(&self, key: &[u8]) -> Result<Path, String> {
        let labels = |key: &[u8]| {
            Path::from_labels(key.split(|byte| *byte == SEPARATOR)).ok_or_else(|| "requirement failed".to_owned())
        };
        match self {
            Identifier::HeaderToken { .. } => Path::from_labels([key]).ok_or_else(|| "requirement failed".to_owned()),
            Identifier::Header { .. } => Path::read(&String::from_utf8_lossy(key)).map_err(|error| error.message),
            Identifier::MethodAndHost { .. } | Identifier::Path { .. } | Identifier::Ruled(_) => labels(key),
            Identifier::Static { path } => Ok(path.clone()),
        }
    }

    /// The target to send on instead of the request's, where the identifier takes a part of it away.
    pub(crate) fn target(&self, head: &RequestHead, bytes: &[u8], target: &mut Vec<u8>) -> bool {
        let Identifier::Path { segments: taken, consume: true } = self else {
            return false;
        };
        let whole = head.path(bytes);
        let (path, query) = whole.split_at(whole.iter().position(|byte| *byte == b'?').unwrap_or(whole.len()));
        let mut rest = path;
        for _ in 0..*taken {
            let inner = rest.strip_prefix(b"/").unwrap_or(rest);
            rest = &inner[inner.iter().position(|byte| *byte == b'/').unwrap_or(inner.len())..];
        }
        target.extend_from_slice(if rest.is_empty() { b"/" } else { rest });
        target.extend_from_slice(query);
        true
    }
}

/// The header's first value; Host is what the request is for, wherever that stands.
fn value<'b>(head: &RequestHead, bytes: &'b [u8], header: &str) -> &'b [u8] {
    match Known::of(header.as_bytes()) {
        Known::Host => head.host(bytes),
        // Families of names share a tag, and other names have none.
        Known::Other | Known::L5dOther | Known::L5dCtxOther | Known::L5dDstOther => {
            head.fields.named(bytes, header).next().unwrap_or_default()
        }
        known => head.first(bytes, known).unwrap_or_default(),
    }
}

fn path_of<'b>(head: &RequestHead, bytes: &'b [u8]) -> &'b [u8] {
    if head.form == TargetForm::Authority {
        return b"";
    }
    let path = head.path(bytes);
    &path[..path.iter().position(|byte| *byte == b'?').unwrap_or(path.len())]
}

/// Split at `/`, without what comes before the first one and without empty segments at the end.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let path = path[..end].strip_prefix(b"/").unwrap_or(&path[..end]);
    let none = path.is_empty();
    path.split(|byte| *byte == b'/').filter(move |_| !none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http1::{Limits, Progress, parse_request};

    fn check(identifier: &Identifier, text: &str, expected: Result<&str, Unidentified>) {
        let mut head = RequestHead::default();
        assert_eq!(parse_request(text.as_bytes(), &Limits::REQUEST, &mut head), Ok(Progress::Complete), "{text:?}");
        let mut key = Vec::new();
        let name = identifier.key(&head, text.as_bytes(), &mut key).map(|()| identifier.name(&key));
        assert_eq!(name, expected.map(|path| Ok(Path::read(path).expect("a path"))), "{identifier:?} of {text:?}");
    }

    #[test]
    fn each_kind_names_what_it_should() {
        let next = |reason: &str| Err(Unidentified::Next(reason.to_owned()));
        let token = Identifier::default();
        check(&token, "GET /a HTTP/1.1\r\nHost: Web:80\r\n\r\n", Ok("/Web:80"));
        check(&token, "GET http://world/ HTTP/1.1\r\nHost: x\r\n\r\n", Ok("/world"));
        check(&token, "GET /a HTTP/1.1\r\n\r\n", next("Host header is absent"));
        let header = Identifier::Header { header: "l5d-name".to_owned() };
        check(&header, "GET /a HTTP/1.1\r\nL5d-Name: /a/b\r\n\r\n", Ok("/a/b"));
        let both = Identifier::MethodAndHost { uri: true };
        check(&both, "PUT /A/b/?q HTTP/1.1\r\nHost: Web\r\n\r\n", Ok("/1.1/PUT/web/A/b"));
        check(&both, "PUT / HTTP/1.0\r\nHost: Web\r\n\r\n", Ok("/1.0/PUT"));
        let path = Identifier::Path { segments: 2, consume: false };
        check(&path, "GET /a/b/c HTTP/1.1\r\n\r\n", Ok("/a/b"));
        check(&path, "GET /a/ HTTP/1.1\r\n\r\n", next("not enough segments in path"));
        check(&path, "GET /a//b HTTP/1.1\r\n\r\n", Err(Unidentified::Failed("requirement failed".to_owned())));
    }

    /// One rule: this host, paths below `/a`.
    struct OneRule;

    impl crate::settings::RequestRules for OneRule {
        fn name(&self, host: &[u8], path: &[u8]) -> Result<Option<[std::sync::Arc<str>; 3]>, String> {
            match host {
                b"down.test" => Err("the rules are not known".to_owned()),
                b"shop.test" if path.starts_with(b"/a") => Ok(Some(["n".into(), "80".into(), "web".into()])),
                _ => Ok(None),
            }
        }
    }

    #[test]
    fn rules_name_by_host_and_path() {
        let ruled = crate::settings::Ruled::new("routers[0].identifier".to_owned(), serde_json::Value::Null);
        let identifier = Identifier::Ruled(ruled.clone());
        let failed = |why: &str| Err(Unidentified::Failed(why.to_owned()));
        let request = "GET /a/b?/c HTTP/1.1\r\nHost: shop.test\r\n\r\n";
        check(&identifier, request, failed("routers[0].identifier: no rules"));
        ruled.set(std::sync::Arc::new(OneRule));
        check(&identifier, request, Ok("/n/80/web"));
        let next = Err(Unidentified::Next("no ingress rule matches".to_owned()));
        check(&identifier, "GET /?/a HTTP/1.1\r\nHost: shop.test\r\n\r\n", next);
        check(&identifier, "GET /a HTTP/1.1\r\nHost: down.test\r\n\r\n", failed("the rules are not known"));
    }

    #[test]
    fn consumed_segments_leave_the_rest_as_it_was() {
        for (segments, uri, rest) in [
            (1, "/mysvc/?a=b", "/?a=b"),
            (3, "/m/s/p1?foo=bar/", "/?foo=bar/"),
            (2, "/m/s/p1/", "/p1/"),
            (1, "/m", "/"),
        ] {
            let text = format!("GET {uri} HTTP/1.1\r\nHost: x\r\n\r\n");
            let (mut head, mut target) = (RequestHead::default(), Vec::new());
            assert_eq!(parse_request(text.as_bytes(), &Limits::REQUEST, &mut head), Ok(Progress::Complete));
            assert!(Identifier::Path { segments, consume: true }.target(&head, text.as_bytes(), &mut target));
            assert_eq!(String::from_utf8_lossy(&target), rest, "{uri}");
        }
    }
}
