//! Another parser's reading of the same bytes: `httparse`, which many servers use. It accepts more (bare LF, and
//! all that its users have to decide for themselves); where both accept, they must read the same.

use http1::{Exchange, HeadError, Limits, Progress, RequestHead, ResponseHead, Version, parse_request, parse_response};

const LIMITS: Limits = Limits { line: 1 << 16, headers: 1 << 16 };
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

type Theirs = Result<httparse::Status<usize>, httparse::Error>;

/// # Panics
/// Where the two readings differ without a reason.
pub fn compare_requests(bytes: &[u8]) {
    let mut head = RequestHead::default();
    let ours = parse_request(bytes, &LIMITS, &mut head);
    let mut headers = [httparse::EMPTY_HEADER; Limits::COUNT];
    let mut request = httparse::Request::new(&mut headers);
    let theirs = request.parse(bytes);
    let mut rest = bytes;
    while let Some(behind) = rest.strip_prefix(b"\r\n") {
        rest = behind;
    }
    // Which theirs takes for a version that it does not know.
    if ours == Ok(Progress::Partial) && PREFACE.starts_with(rest) {
        return;
    }
    if !agree(bytes, ours, theirs) {
        return;
    }
    assert_eq!(theirs, Ok(httparse::Status::Complete(head.len)));
    assert_eq!(request.method.map(str::as_bytes), Some(head.method_name(bytes)));
    assert_eq!(request.path.map(str::as_bytes), Some(head.target(bytes)));
    assert_eq!(request.version, Some(u8::from(head.version == Version::Http11)));
    compare_lines(bytes, &head.fields, request.headers);
}

/// # Panics
/// Where the two readings differ without a reason.
pub fn compare_responses(bytes: &[u8]) {
    let mut head = ResponseHead::default();
    let ours = parse_response(bytes, &LIMITS, Exchange::default(), &mut head);
    let mut headers = [httparse::EMPTY_HEADER; Limits::COUNT];
    let mut response = httparse::Response::new(&mut headers);
    let theirs = response.parse(bytes);
    if !agree(bytes, ours, theirs) {
        return;
    }
    assert_eq!(theirs, Ok(httparse::Status::Complete(head.len)));
    assert_eq!(response.code, Some(head.status));
    assert_eq!(response.version, Some(u8::from(head.version == Version::Http11)));
    // Theirs is empty where it is no ASCII.
    let reason = response.reason.unwrap_or_default().as_bytes();
    assert!(reason == head.reason(bytes) || !head.reason(bytes).is_ascii());
    compare_lines(bytes, &head.fields, response.headers);
}

/// Whether both have read a whole head.
fn agree(bytes: &[u8], ours: Result<Progress, HeadError>, theirs: Theirs) -> bool {
    match (ours, theirs) {
        (Ok(Progress::Complete), _) => return true,
        (Ok(Progress::Partial), theirs) => assert_eq!(theirs, Ok(httparse::Status::Partial)),
        (Err(_), Err(_)) => {}
        // What is ours alone to refuse.
        (Err(error), Ok(_)) => match error {
            // Empty lines before it; a status below 100.
            HeadError::Line => {
                assert!(matches!(bytes.first(), Some(b'\r' | b'\n')) || bytes.get(9) == Some(&b'0'), "{error:?}");
            }
            HeadError::Version | HeadError::Name | HeadError::Value | HeadError::LineTooLong => panic!("{error:?}"),
            HeadError::BareLineEnd => assert!(has_bare_line_feed(bytes), "{error:?}"),
            _ => {}
        },
    }
    false
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'\n') || bytes.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r')
}

fn compare_lines(bytes: &[u8], ours: &http1::Fields, theirs: &[httparse::Header<'_>]) {
    let ours: Vec<(&[u8], &[u8])> = ours.iter().map(|field| (field.name(bytes), field.value(bytes))).collect();
    let theirs: Vec<(&[u8], &[u8])> = theirs.iter().map(|header| (header.name.as_bytes(), header.value)).collect();
    assert_eq!(ours, theirs);
}
