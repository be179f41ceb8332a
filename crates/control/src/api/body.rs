//! Request bodies, read whole: chunked ones too, which the original took for empty. In time, and not longer than
//! this, they come from the port ([`crate::listen`]).

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::Response,
};

use serde::{Deserialize, Deserializer, de};

use super::{Call, answers::text_error, query::Query};
use crate::listen::{LONGEST_BODY, LONGEST_DTAB};

/// The whole body; the error is the answer to give.
pub(super) async fn whole(body: Body) -> Result<Bytes, Response> {
    up_to(LONGEST_BODY, body).await
}

/// A dtab, whole; as [`whole`].
pub(super) async fn dtab(body: Body) -> Result<Bytes, Response> {
    up_to(LONGEST_DTAB, body).await
}

async fn up_to(largest: usize, body: Body) -> Result<Bytes, Response> {
    axum::body::to_bytes(body, largest).await.map_err(|error| match is_too_large(&error) {
        true => text_error(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {largest} bytes\n")),
        false => text_error(StatusCode::BAD_REQUEST, "the body broke off\n"),
    })
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
