//! The control plane's API: any method, path, query, media type and document gets an answer that is no accident.
//!
//! Input: `METHOD uri`, a line with the `Content-Type`, a line with `If-Match`, then the body.
#![no_main]

use std::cell::OnceCell;

use axum::body::Body;
use axum::http::Request;
use control::Control;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    static CONTROL: OnceCell<Control> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (first, kind, tag, body) = (line(), line(), line(), line());
    let Some(space) = first.iter().position(|byte| *byte == b' ') else { return };
    let request = Request::builder()
        .method(&first[..space])
        .uri(&first[space + 1..])
        .header("content-type", kind)
        .header("if-match", tag)
        .body(Body::from(body.to_vec()));
    let Ok(mut request) = request else { return };
    if tag.is_empty() {
        request.headers_mut().remove("if-match");
    }
    let waits = request.uri().query().is_some_and(|query| query.contains("wait"));
    let status = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            if CONTROL.with(|kept| kept.get().is_none()) {
                let control = control::fuzzing::api().await;
                CONTROL.with(|kept| kept.get_or_init(|| control).clone());
            }
            let control = CONTROL.with(|kept| kept.get().cloned()).expect("made above");
            let answer = control::fuzzing::answer(&control, request);
            // Names that never resolve are waited for; that is no finding.
            tokio::time::timeout(std::time::Duration::from_millis(20), answer).await.ok()
        })
    });
    assert!(status.is_some_and(|status| (200..=599).contains(&status) && status != 500) || waits || status.is_none());
});
