//! A router in this process, on a free port, over real sockets.

#![allow(dead_code)]

pub mod backend;
pub mod names;
pub mod secure;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ::names::Dtab;
use discovery::{Precedence, Surroundings};
use naming::{ConfiguredInterpreter, Interpreter};
use proxy::Running;
use proxy::settings::{Router, Server, Settings};
use telemetry::Registry;
use testkit::http::{Answer, Connection, Request};

/// A running router with one server.
pub struct Proxy {
    pub address: SocketAddr,
    pub registry: Registry,
    pub running: Option<Running>,
    /// Whoever takes spans.
    pub exporting: telemetry::export::Exporting,
    runtime: tokio::runtime::Runtime,
}

/// A router that binds with the global namer, whose server listens on a free port.
pub fn router(dtab: &str) -> Router {
    let mut router = Router::new("http");
    router.dtab = Dtab::read(dtab).expect("a dtab");
    router.servers = vec![Server { address: "127.0.0.1:0".parse().expect("an address"), ..Server::default() }];
    router
}

impl Proxy {
    pub fn start(dtab: &str) -> Proxy {
        Proxy::of(router(dtab), 1)
    }

    pub fn of(router: Router, workers: usize) -> Proxy {
        Proxy::with(router, workers, |namers| Arc::new(ConfiguredInterpreter::new(None, namers)))
    }

    pub fn with(
        router: Router,
        workers: usize,
        interpreter: impl FnOnce(naming::Namers) -> Arc<dyn Interpreter>,
    ) -> Proxy {
        Proxy::traced(router, workers, &[], interpreter)
    }

    pub fn traced(
        router: Router,
        workers: usize,
        exporters: &[telemetry::export::Config],
        interpreter: impl FnOnce(naming::Namers) -> Arc<dyn Interpreter>,
    ) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let registry = Registry::default();
        let (running, exporting) = runtime.block_on(async {
            let namers = discovery::build_namers(&[], Precedence::LastWins, &Surroundings::default()).expect("namers");
            let settings = Settings { routers: vec![router] };
            let exporting = telemetry::export::start(exporters, &registry);
            let told = proxy::Telemetry { registry: registry.clone(), tracer: exporting.tracer() };
            (proxy::start(settings, vec![interpreter(namers)], told, workers), exporting)
        });
        let running = running.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        let address = running.servers()[0].address;
        Proxy { address, registry, running: Some(running), exporting, runtime }
    }

    /// A GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        let mut connection = Connection::open(&self.address.to_string()).expect("open");
        let request = Request { method: "GET", target, headers, body: None };
        connection.send(&request).unwrap_or_else(|error| panic!("GET {target}: {error}"))
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Sends raw bytes on a connection of their own and reads all that comes until the router closes.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("written");
        let mut answer = Vec::new();
        // A reset after the answer is an end, too.
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    pub fn drain(&mut self, grace: Duration) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.drain(grace));
        }
    }

    pub fn counter(&self, path: &[&str]) -> u64 {
        self.registry.snapshot().counter(path)
    }

    pub fn status(&self) -> Arc<dyn proxy::admin::Status> {
        self.running.as_ref().and_then(|running| running.status("http")).expect("a router called http")
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("open");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
    stream
}

/// Reads until the bytes end like this.
#[track_caller]
pub fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let (mut all, mut byte) = (Vec::new(), [0]);
    while !all.ends_with(end) {
        match stream.read(&mut byte) {
            Ok(1) => all.push(byte[0]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&all)),
        }
    }
    all
}

/// A port on which nobody listens.
pub fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// An endpoint that runs `serve` for each connection, with its number, on a thread of its own.
pub fn endpoint(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let serve = serve.clone();
            stream.set_nodelay(true).expect("an option");
            std::thread::spawn(move || serve(number, stream));
        }
    });
    port
}
