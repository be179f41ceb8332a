//! `/delegator.json`: how a router's interpreter gets from a name to endpoints, now.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use names::{Dtab, Path};
use naming::{ExplainError, Interpreter};
use serde::Deserialize;
use serde_json::Value;

use super::{Context, Shared, json as json_answer, method_not_allowed};

const TIME_LIMIT: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Posted {
    #[serde(default)]
    namespace: Option<String>,
    dtab: String,
    path: String,
}

/// Status and text.
type Refused = (StatusCode, String);

struct Asked {
    namespace: Option<String>,
    dtab: Dtab,
    path: Path,
}

/// GET with `namespace` (a router's label), `path`, `dtab`; POST with the same as JSON.
pub(crate) async fn answer(
    State(context): State<Shared>,
    method: Method,
    headers: HeaderMap,
    Query(query): Query<Vec<(String, String)>>,
    body: Bytes,
) -> Response {
    let asked = match method {
        Method::GET => from_query(&query),
        Method::POST => from_body(&headers, &body),
        _ => return method_not_allowed("GET, POST"),
    };
    match asked {
        Ok(asked) => delegate(&context, &asked).await,
        Err(refused) => refused.into_response(),
    }
}

fn from_query(query: &[(String, String)]) -> Result<Asked, Refused> {
    let value = |wanted: &str| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let path = value("path").unwrap_or_default();
    let path = Path::read(path).map_err(|error| bad(format!("Invalid path: {path} / {error}")))?;
    let dtab = read_dtab(value("dtab").unwrap_or_default())?;
    Ok(Asked { namespace: value("namespace").map(str::to_owned), dtab, path })
}

fn from_body(headers: &HeaderMap, body: &[u8]) -> Result<Asked, Refused> {
    if !is_json(headers) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, String::new()));
    }
    let malformed = |_| bad(format!("Malformed delegation request: {}", String::from_utf8_lossy(body)));
    let posted = serde_json::from_slice::<Posted>(body).map_err(malformed)?;
    let dtab = read_dtab(&posted.dtab)?;
    let path = Path::read(&posted.path).map_err(|error| bad(format!("Invalid path: {error}")))?;
    Ok(Asked { namespace: posted.namespace, dtab, path })
}

/// `application/json`, with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn read_dtab(text: &str) -> Result<Dtab, Refused> {
    Dtab::read(text).map_err(|error| bad(format!("Invalid dtab: {error}")))
}

async fn delegate(context: &Context, asked: &Asked) -> Response {
    let interpreter: &dyn Interpreter = match &asked.namespace {
        None => &*context.sources.bare,
        Some(label) => match context.router(label) {
            Some(router) => &*router.interpreter,
            None => return unsupported(label),
        },
    };
    match tokio::time::timeout(TIME_LIMIT, interpreter.explain(&asked.dtab, &asked.path)).await {
        Ok(Ok(tree)) => json_answer(StatusCode::OK, super::explained::tree(&tree).to_string()),
        Err(_) | Ok(Err(ExplainError::TimedOut)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "Request timed out.").into_response()
        }
        Ok(Err(ExplainError::Unsupported)) => unsupported(asked.namespace.as_deref().unwrap_or_default()),
        Ok(Err(ExplainError::Failed(why))) => (StatusCode::INTERNAL_SERVER_ERROR, why.to_string()).into_response(),
    }
}

/// The tree for a page, or why there is none.
pub(crate) async fn explain(interpreter: &dyn Interpreter, dtab: &Dtab, path: &Path) -> Result<Value, String> {
    match tokio::time::timeout(TIME_LIMIT, interpreter.explain(dtab, path)).await {
        Ok(Ok(tree)) => Ok(super::explained::tree(&tree)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(ExplainError::TimedOut.to_string()),
    }
}

fn unsupported(namespace: &str) -> Response {
    let text = format!("Name Interpreter for {namespace} cannot show delegations");
    (StatusCode::NOT_IMPLEMENTED, text).into_response()
}

fn bad(text: String) -> Refused {
    (StatusCode::BAD_REQUEST, text)
}
