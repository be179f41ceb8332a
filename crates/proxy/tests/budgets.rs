//! Retries and requeues with their budgets, request by request, in the form of the reference vectors
//! (`vectors/derived/budgets.json`): an endpoint answers as a script says, and counters are compared after each step.

mod common;

use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::Proxy;
use common::backend::message;
use naming::ConfiguredInterpreter;
use serde_json::{Value, json};
use testkit::until::until;

/// An endpoint that answers the attempts of one request after the other, and can go away.
#[derive(Clone, Default)]
struct Endpoint {
    /// What is still to be answered; the last one stays.
    answers: Arc<Mutex<Vec<String>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    is_down: Arc<AtomicBool>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Endpoint {
    fn start() -> (Endpoint, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let endpoint = Endpoint::default();
        let own = endpoint.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if own.is_down.load(Ordering::Acquire) {
                    return;
                }
                locked(&own.open).push(stream.try_clone().expect("a socket"));
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream));
            }
        });
        (endpoint, port)
    }

    fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while message(&mut stream, true).is_some() {
            let answer = {
                let mut answers = locked(&self.answers);
                if answers.len() > 1 { answers.remove(0) } else { answers.first().cloned().unwrap_or_default() }
            };
            let (status, more) = match answer.as_str() {
                "unsent" => ("503", "finagle-http-nack: true\r\nRetry-After: 0\r\n"),
                status => (status, ""),
            };
            let text = format!("HTTP/1.1 {status} Answer\r\n{more}Content-Length: 0\r\n\r\n");
            if stream.get_mut().write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, answers: &Value) {
        let text = |answer: &Value| answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
        *locked(&self.answers) = answers.as_array().into_iter().flatten().map(text).collect();
    }

    /// From now on nobody listens.
    fn go_down(&self, port: u16) {
        self.is_down.store(true, Ordering::Release);
        // Wakes up whoever accepts; it ends, and its socket with it.
        drop(TcpStream::connect(("127.0.0.1", port)));
        until("nobody listens", Duration::from_secs(5), || match TcpStream::connect(("127.0.0.1", port)) {
            Ok(_) => Err("somebody"),
            Err(_) => Ok(()),
        });
        for stream in locked(&self.open).drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn proxy(config: &Value, port: u16) -> Proxy {
    let mut service = json!({ "retries": config.get("retries").cloned().unwrap_or(json!({})) });
    if let Some(classifier) = config.get("responseClassifier") {
        service["responseClassifier"] = classifier.clone();
    }
    let mut client = json!({});
    for key in ["requeueBudget", "failureAccrual"] {
        if let Some(value) = config.get(key) {
            client[key] = value.clone();
        }
    }
    let dtab = format!("/svc => /$/inet/127.0.0.1/{port}");
    let servers = json!([{ "port": 0 }]);
    let router = json!({ "protocol": "http", "dtab": dtab, "servers": servers, "service": service, "client": client });
    let draft = proxy::config::read(&json!({ "routers": [router] }));
    let config = draft.finish([]).unwrap_or_else(|problems| panic!("{problems:?}"));
    let router = config.settings.routers.into_iter().next().expect("one router");
    Proxy::with(router, 1, |namers| Arc::new(ConfiguredInterpreter::new(None, namers)))
}

fn check(case: &Value) -> Result<(), String> {
    let (endpoint, port) = Endpoint::start();
    let proxy = proxy(&case["config"], port);
    let id = format!("$/inet/127.0.0.1/{port}");
    let request = &case["request"];
    for (number, step) in case["expect"]["sequence"].as_array().into_iter().flatten().enumerate() {
        let is_down = step["backend"] == json!(["down"]);
        if is_down {
            endpoint.go_down(port);
        } else {
            endpoint.answer(&step["backend"]);
        }
        let mut stream = proxy.connect();
        let method = request["method"].as_str().unwrap_or("GET");
        let text = format!("{method} / HTTP/1.1\r\nHost: foo\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
        let answer = message(&mut BufReader::new(stream), false).ok_or("no answer")?;
        if let Some(status) = step["status"].as_u64()
            && answer.word(1) != status.to_string()
        {
            return Err(format!("step {number}: {} in place of {status}", answer.line));
        }
        let of_service = ["retries", "budgetExhausted"].map(|key| (key, ["rt", "http", "service", "svc/foo"]));
        let of_client = ["requeues", "requestLimit", "budget"].map(|key| (key, ["rt", "http", "client", &*id]));
        for (key, scope) in of_service.into_iter().chain(of_client) {
            let Some(wanted) = step[key].as_u64() else { continue };
            let name = match key {
                "retries" => "total",
                "budgetExhausted" => "budget_exhausted",
                "requestLimit" => "request_limit",
                other => other,
            };
            let path = [scope.as_slice(), &["retries", name]].concat();
            // Workers publish their counts now and then, and budgets are gauges.
            let found = || {
                let snapshot = proxy.registry.snapshot();
                if key == "budget" {
                    snapshot.gauge(&path).map_or(u64::MAX, |level| level as u64)
                } else {
                    snapshot.counter(&path)
                }
            };
            until(&format!("step {number}: {key} {wanted}"), Duration::from_secs(4), || match found() {
                found if found == wanted => Ok(()),
                found => Err(found),
            });
        }
    }
    Ok(())
}

#[test]
fn budgets_pay_for_retries_and_requeues_as_in_the_original() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("vectors/derived/budgets.json")).expect("vectors");
    assert!(cases.len() >= 10, "{}", cases.len());
    let run = |case: Value| (case["id"].to_string(), std::thread::spawn(move || check(&case)));
    let running = cases.into_iter().map(run).collect::<Vec<_>>();
    let mut wrong = Vec::new();
    for (id, case) in running {
        match case.join() {
            Ok(Ok(())) => {}
            Ok(Err(why)) => wrong.push(format!("{id}: {why}")),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                wrong.push(format!("{id}: {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn refusals_are_held_against_a_client() {
    let (endpoint, port) = Endpoint::start();
    let proxy = proxy(&json!({ "failureAccrual": { "kind": "none" } }), port);
    let id = format!("$/inet/127.0.0.1/{port}");
    let path = ["rt", "http", "client", &id, "nack_admission_control", "ema_value"];
    let get = || proxy.get("/", &[("Host", "foo")]).status;
    endpoint.answer(&json!([200]));
    assert_eq!(get(), 200);
    let accepted = || proxy.registry.snapshot().gauge(&path);
    // In percent, and kept once a second.
    until("all is accepted", Duration::from_secs(5), || match accepted() {
        Some(100.0) => Ok(()),
        other => Err(other),
    });
    // Each of these is refused with its requeues, so there are far more than five in a second.
    endpoint.answer(&json!(["unsent"]));
    assert_eq!(get(), 502);
    until("the share that is accepted falls", Duration::from_secs(10), || {
        assert_eq!(get(), 502);
        match accepted() {
            Some(share) if share < 99.9 => Ok(()),
            other => Err(other),
        }
    });
    assert_eq!(proxy.counter(&["rt", "http", "client", &id, "nack_admission_control", "dropped_requests"]), 0);
    // Half a share is far away: nobody is turned away for this.
    endpoint.answer(&json!([200]));
    assert_eq!(get(), 200);
}
