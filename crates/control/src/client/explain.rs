//! Explaining by asking the control plane.

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use names::{Dtab, Path};
use naming::{Explain, ExplainError};
use serde_json::json;

use super::{
    connection::{Dst, encoded, full},
    read, unreachable,
};

/// Largest explanation that is read.
const LARGEST: usize = 64 * 1024 * 1024;

pub(super) async fn ask(dst: &Dst, namespace: &str, local: &Dtab, path: &Path) -> Result<Explain, ExplainError> {
    let body = json!({ "namespace": namespace, "dtab": local.show_exact(), "path": path.show() }).to_string();
    // In a body, because dtabs may be long; the original wants the path in the query, too.
    let request = Request::post(format!("/api/1/delegate?path={}", encoded(&path.show())))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, body.len())
        .body(full(body))
        .map_err(|error| unreachable(dst, &error.to_string()))?;
    let (response, _) = dst.send(request).await.map_err(|why| unreachable(dst, &why))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| unreachable(dst, &error.to_string()))?.to_bytes();
    match status {
        StatusCode::OK => read::explain(&body).map_err(|why| unreachable(dst, &why)),
        StatusCode::NOT_IMPLEMENTED => Err(ExplainError::Unsupported),
        StatusCode::SERVICE_UNAVAILABLE => Err(ExplainError::TimedOut),
        status => {
            let text = String::from_utf8_lossy(&body);
            let why =
                Some(text.trim()).filter(|text| !text.is_empty()).map_or_else(|| status.to_string(), str::to_owned);
            Err(ExplainError::Failed(why.into()))
        }
    }
}
