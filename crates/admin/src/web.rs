//! Answers with pages, and what a form may do.
//!
//! Every page is sent with a policy that allows nothing but our own files: no inline script, no style
//! attribute, no frame around it, no form to another place.

use askama::Template;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The Content-Security-Policy of every page.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // `no-referrer` would make browsers send `Origin: null` with our own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// A page, or 500 if its template fails.
pub fn page(status: StatusCode, page: &impl Template) -> Response {
    let text = match page.render() {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            let text = format!("this page could not be rendered: {error}\n");
            return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
        }
    };
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// 303: where a browser goes after a form, so that a reload does not send it again.
pub fn see_other(location: &str) -> Response {
    match HeaderValue::from_str(location) {
        Ok(value) => (StatusCode::SEE_OTHER, [(header::LOCATION, value)]).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "cannot write this address\n").into_response(),
    }
}

/// Accepts a form only from a page of this server: its `Origin` must be the `Host` that it was sent to.
///
/// # Errors
/// The answer to give instead, 403. Browsers send `Origin` with every POST; scripts have the API.
// An answer is what a handler gives back either way.
#[allow(clippy::result_large_err)]
pub fn own_form(headers: &HeaderMap) -> Result<(), Response> {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin.and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    if authority.is_some() && authority == host {
        return Ok(());
    }
    let text = "a form is accepted only from this server's own pages; use the API from elsewhere\n";
    Err((StatusCode::FORBIDDEN, text).into_response())
}

/// One segment of a path in a URL.
pub fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string().replace("%2D", "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_come_from_our_own_pages() {
        let cases = [
            (Some("http://localhost:8080"), "localhost:8080", true),
            (Some("http://localhost:9990"), "localhost:8080", false),
            (Some("http://evil.example"), "localhost:8080", false),
            (Some("null"), "localhost:8080", false),
            (None, "localhost:8080", false),
        ];
        for (origin, host, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(own_form(&headers).is_ok(), expected, "{origin:?} at {host}");
        }
    }
}
