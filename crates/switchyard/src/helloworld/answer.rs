//! What the application answers. Texts and statuses are the original's.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use super::duration;
use super::upstream::Upstream;
use crate::dtab::go_json;

/// One instance.
pub struct Application {
    /// With the instance's address, if it has one.
    pub text: String,
    pub upstream: Option<Upstream>,
    pub json: bool,
    pub behaviour: Behaviour,
}

/// What the setters change, for the whole process.
pub struct Behaviour(Mutex<(Duration, f64)>);

impl Behaviour {
    pub fn new(latency: Duration, failure_rate: f64) -> Behaviour {
        Behaviour(Mutex::new((latency, failure_rate)))
    }

    fn get(&self) -> (Duration, f64) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn change(&self, change: impl FnOnce(&mut (Duration, f64))) {
        change(&mut self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }
}

impl Application {
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/setLatency" => self.set("latency", &request, |text| {
                let latency = duration::parse(text).ok_or("latency is not a valid duration")?;
                self.behaviour.change(|behaviour| behaviour.0 = latency);
                Ok(())
            }),
            "/setFailureRate" => self.set("failureRate", &request, |text| {
                let rate: f64 = text.parse().map_err(|_| "failureRate is not a valid float")?;
                if !(0.0..=1.0).contains(&rate) {
                    return Err("failureRate must be between 0.0 and 1.0");
                }
                self.behaviour.change(|behaviour| behaviour.1 = rate);
                Ok(())
            }),
            _ => self.greet(request.headers()).await,
        }
    }

    async fn greet(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let (latency, failure_rate) = self.behaviour.get();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if fastrand::f64() < failure_rate {
            return error(StatusCode::INTERNAL_SERVER_ERROR, "");
        }
        let mut text = self.text.clone().into_bytes();
        if let Some(upstream) = &self.upstream {
            match upstream.call(context(headers)).await {
                Ok(body) => {
                    text.push(b' ');
                    text.extend_from_slice(&body);
                }
                Err(message) => return error(StatusCode::SERVICE_UNAVAILABLE, &message),
            }
        }
        if self.json {
            let text = String::from_utf8_lossy(&text);
            return plain(format!("{{\"api_result\":{}}}", go_json::string(&text)).into());
        }
        text.push(b'!');
        plain(text.into())
    }

    fn set(
        &self,
        name: &str,
        request: &Request<Incoming>,
        apply: impl FnOnce(&str) -> Result<(), &'static str>,
    ) -> Response<Full<Bytes>> {
        if request.method() != Method::POST {
            return error(StatusCode::METHOD_NOT_ALLOWED, "POST required");
        }
        let query = request.uri().query().unwrap_or("").as_bytes();
        let value = url::form_urlencoded::parse(query).find(|(key, _)| key == name).map(|(_, value)| value);
        match value.filter(|value| !value.is_empty()) {
            None => error(StatusCode::BAD_REQUEST, &format!("missing required parameter: {name}")),
            Some(value) => match apply(&value) {
                Ok(()) => plain("ok".into()),
                Err(message) => error(StatusCode::BAD_REQUEST, message),
            },
        }
    }
}

/// The headers that are sent on: those that begin with `l5d-ctx`, the first value of each.
fn context(headers: &HeaderMap) -> HeaderMap {
    let mut context = HeaderMap::new();
    for name in headers.keys().filter(|name| name.as_str().starts_with("l5d-ctx")) {
        if let Some(value) = headers.get(name) {
            context.insert(name.clone(), value.clone());
        }
    }
    context
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

fn plain(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

fn error(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let mut response = plain(format!("{message}\n").into());
    *response.status_mut() = status;
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}
