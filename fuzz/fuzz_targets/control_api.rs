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
    // A name that cannot be bound is a 500 with the reason, as with the original.
    let binds = ["/api/1/bind", "/api/1/addr", "/api/1/delegate"].iter().any(|it| request.uri().path().starts_with(it));
    let answer = RUNTIME.with(|runtime| {
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
    match answer {
        None => {}
        Some((500, reason)) => assert!(binds && reason.len() > 1, "{first:?}"),
        Some((status, _)) => assert!((200..=599).contains(&status)),
    }
});
