//! Doors for `fuzz/`, and for tests that go through them with less time; in no other build.

use std::sync::Arc;

use axum::{body::Body, http::Request};
use discovery::{Precedence, Surroundings};
use tower::ServiceExt;

use crate::{Control, api};

/// The API of a control plane that holds one dtab, `default`, in memory.
///
/// # Panics
/// If there is no such control plane, which is what a fuzz target wants to see.
pub async fn api() -> Control {
    let namers = discovery::build_namers(&[], Precedence::NoOverlap, &Surroundings::default()).expect("no namers");
    let dtab = names::Dtab::read("/svc => /$/inet/127.0.0.1/1; /a => 0.3 * /b & 0.7 * /c | /d").expect("a dtab");
    let store = store::Memory::new([("default".to_owned(), dtab)]);
    Control::over(Arc::new(store), namers, true).await.expect("a control plane")
}

/// The answer to a request: its status, and of a failure the text.
pub async fn answer(control: &Control, request: Request<Body>) -> (u16, String) {
    let response = match api::router(control.clone()).oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status();
    // Others may be streams.
    if !status.is_server_error() {
        return (status.as_u16(), String::new());
    }
    let text = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap_or_default();
    (status.as_u16(), String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As with the original.
    #[tokio::test]
    async fn a_name_that_cannot_be_bound_is_a_500_that_says_why() {
        let control = api().await;
        let request = Request::builder().uri("/api/1/bind/default?path=/$/inet/127.0.0.1/80bE").body(Body::empty());
        let (status, why) = answer(&control, request.expect("a request")).await;
        assert_eq!((status, &*why), (500, "Unknown namer: inet for path: /$/inet/127.0.0.1/80bE\n"));
    }

    #[tokio::test]
    async fn no_document_is_an_accident() {
        let seeds: [&[u8]; 3] = [
            br#"[{"prefix":"/a","dst":"0.3 * /b & /c | ~"}]"#,
            br#"{"namespace":"default","dtab":"/a=>/$/inet/127.0.0.1/1","path":"/a"}"#,
            br#"{"owner":"a","seconds":3,"reason":"b"}"#,
        ];
        let control = api().await;
        let mut seen = std::collections::BTreeMap::<u16, usize>::new();
        for (number, body) in testkit::mutation::mutations(&seeds, 3_000).enumerate() {
            let uris =
                ["/api/1/dtabs/default", "/api/1/delegate", "/api/1/leases/default?entry=/a", "/api/1/dtabs/new"];
            let methods = ["PUT", "POST"];
            let request = Request::builder()
                .method(methods[number / 4 % 2])
                .uri(uris[number % 4])
                .header("content-type", "application/json")
                .body(Body::from(body));
            *seen.entry(answer(&control, request.expect("a request")).await.0).or_default() += 1;
        }
        assert!(seen.keys().all(|status| *status != 500), "{seen:?}");
        assert!(seen.contains_key(&400) && seen.len() > 2, "{seen:?}");
    }
}
