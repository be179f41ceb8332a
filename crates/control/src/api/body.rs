//! Request bodies, read whole: chunked ones too, which the original took for empty.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::Response,
};

use serde::{Deserialize, Deserializer, de};

use super::{Call, answers::text_error, query::Query};

/// The original's limit.
const LARGEST: usize = 5 * 1024 * 1024;
/// Of a dtab: the original's limit leaves room for some 100,000 entries.
const LARGEST_DTAB: usize = 64 * 1024 * 1024;

const WITHIN: Duration = Duration::from_secs(30);

/// The whole body; the error is the answer to give.
pub(super) async fn whole(body: Body) -> Result<Bytes, Response> {
    up_to(LARGEST, body).await
}

/// A dtab, whole; as [`whole`].
pub(super) async fn dtab(body: Body) -> Result<Bytes, Response> {
    up_to(LARGEST_DTAB, body).await
}

async fn up_to(largest: usize, body: Body) -> Result<Bytes, Response> {
    match tokio::time::timeout(WITHIN, axum::body::to_bytes(body, largest)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_large(&error) => {
            Err(text_error(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {largest} bytes\n")))
        }
        Ok(Err(_)) => Err(text_error(StatusCode::BAD_REQUEST, "the body broke off\n")),
        Err(_) => Err(text_error(StatusCode::REQUEST_TIMEOUT, "the body did not come within 30 seconds\n")),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Query parameters, and those of a form in the body.
pub(super) async fn parameters(call: &Call, body: Body) -> Result<Query, Response> {
    let content_type = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(call.query.clone());
    }
    let form = whole(body).await?;
    Ok(call.query.clone().and(&form))
}

/// A `T` that was sent as an object. Derived readers take an array of the fields' values, too, which
/// nobody means.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct Entries<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Entries<T> {
            type Value = T;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, entries: A) -> Result<T, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(entries))
            }
        }

        deserializer.deserialize_map(Entries(std::marker::PhantomData)).map(Object)
    }
}
