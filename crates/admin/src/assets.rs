//! Stylesheet, scripts and icon: embedded, served with a tag and kept by browsers for a year.
//!
//! Pages name them with a hash of their content (`/assets/page.js?v=…`), so a new binary's pages never
//! meet an old binary's scripts. Without the hash the answer is asked for again each time.

use std::fmt;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static str,
}

const ASSETS: [Asset; 4] = [
    Asset {
        name: "switchyard.css",
        kind: "text/css; charset=utf-8",
        content: include_str!("../assets/switchyard.css"),
    },
    Asset { name: "page.js", kind: "text/javascript; charset=utf-8", content: include_str!("../assets/page.js") },
    Asset { name: "charts.js", kind: "text/javascript; charset=utf-8", content: include_str!("../assets/charts.js") },
    Asset { name: "icon.svg", kind: "image/svg+xml", content: include_str!("../assets/icon.svg") },
];

static HASHES: LazyLock<[String; 4]> = LazyLock::new(|| ASSETS.each_ref().map(|asset| hash(asset.content)));

/// Routes of the static files, below `/assets/`.
pub fn assets<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/assets/{name}", get(serve))
}

/// Where a page finds one: `/assets/page.js?v=0f3c…`.
pub(crate) fn url(name: &'static str) -> impl fmt::Display {
    let hash = ASSETS.iter().zip(HASHES.iter()).find(|(asset, _)| asset.name == name).map(|(_, hash)| hash.as_str());
    format!("/assets/{name}?v={}", hash.unwrap_or_default())
}

async fn serve(Path(name): Path<String>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let Some((asset, hash)) = ASSETS.iter().zip(HASHES.iter()).find(|(asset, _)| asset.name == name) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let tag = format!("\"{hash}\"");
    let is_versioned = query.is_some_and(|query| query == format!("v={hash}"));
    let cache = if is_versioned { "public, max-age=31536000, immutable" } else { "no-cache" };
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|value| value.split(',')).any(|value| {
        let value = value.trim();
        value == "*" || value.trim_start_matches("W/") == tag
    });
    let mut response = if is_known { StatusCode::NOT_MODIFIED.into_response() } else { asset.content.into_response() };
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    answer.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.insert(header::ETAG, tag);
    }
    response
}

/// FNV-1a, 64 bits: tells our own few files apart, nothing more.
fn hash(content: &str) -> String {
    let hash = content
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}
