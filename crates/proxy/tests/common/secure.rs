//! Both ends of TLS for tests: callers, endpoints, and the settings of a router between them.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use names::PathMatcher;
use proxy::settings::{ByPrefix, Client, Section};
use testkit::certificates::{Authority, Files, Issued};
use tls::client::{self, Naming};
use tls::rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use tls::{Reloader, server};

pub type Caller = StreamOwned<ClientConnection, TcpStream>;
pub type Endpoint = StreamOwned<ServerConnection, TcpStream>;

/// A directory with an authority's certificate, `ca.pem`.
pub struct Trust {
    pub directory: tempfile::TempDir,
    pub authority: Authority,
    pub reloader: Reloader,
}

impl Trust {
    pub fn new() -> Trust {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::new("ca");
        authority.write(directory.path(), "ca.pem");
        Trust { directory, authority, reloader: Reloader::default() }
    }

    pub fn place(&self) -> &Path {
        self.directory.path()
    }

    pub fn ca(&self) -> PathBuf {
        self.place().join("ca.pem")
    }

    /// A `tls` section of a server with a certificate for this name.
    pub fn server(&self, name: &str) -> server::Config {
        self.server_with(&self.authority.server(name), name)
    }

    pub fn server_with(&self, issued: &Issued, name: &str) -> server::Config {
        let Files { certificate, key } = issued.write(self.place(), name);
        server::Config {
            cert_path: certificate,
            key_path: key,
            intermediate_certs_path: None,
            ca_cert_path: None,
            ciphers: None,
            require_client_auth: false,
            protocols: None,
        }
    }

    /// A `tls` section of a client that wants this name.
    pub fn client(&self, name: &str) -> client::Config {
        let name = Some(name.to_owned());
        client::Config { common_name: name, trust_certs_bundle: Some(self.ca()), ..client::Config::default() }
    }

    /// The same with a certificate of its own.
    pub fn known(&self, name: &str, own: &Issued) -> client::Config {
        let Files { certificate, key } = own.write(self.place(), "caller");
        let auth = client::ClientAuth { cert_path: certificate, key_path: key, intermediate_certs_path: None };
        client::Config { client_auth: Some(auth), ..self.client(name) }
    }

    pub fn caller(&self, config: &client::Config) -> Arc<ClientConfig> {
        client::Live::start(config, Naming::CommonName, "test", &self.reloader).expect("files").config()
    }

    /// An endpoint that runs `serve` for each connection, with its number.
    pub fn endpoint(&self, config: &server::Config, serve: impl Fn(usize, Endpoint) + Send + Sync + 'static) -> u16 {
        let live = server::Live::start(config, "endpoint", &self.reloader).expect("files");
        super::endpoint(move |number, tcp| {
            serve(number, session(&live.config(), tcp));
        })
    }
}

pub fn session(config: &Arc<ServerConfig>, tcp: TcpStream) -> Endpoint {
    StreamOwned::new(ServerConnection::new(config.clone()).expect("a session"), tcp)
}

pub fn open(config: &Arc<ClientConfig>, name: &str, address: SocketAddr) -> Caller {
    let name = client::server_name(name).expect("a name");
    StreamOwned::new(ClientConnection::new(config.clone(), name).expect("a session"), super::connect(address))
}

/// One head, and what its Content-Length says.
pub fn message(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("ASCII");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().expect("a length"))
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Sends `request` and reads the answer.
#[track_caller]
pub fn ask(stream: &mut (impl Read + Write), request: &str) -> (String, Vec<u8>) {
    stream.write_all(request.as_bytes()).expect("written");
    stream.flush().expect("written");
    message(stream).expect("an answer")
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n")
}

/// Answers every request with its own head, and its own body.
pub fn echo(_: usize, mut stream: Endpoint) {
    while let Some((head, body)) = message(&mut stream) {
        let body = if body.is_empty() { head.into_bytes() } else { body };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
        let _ = stream.flush();
    }
}

/// `client` settings with these sections, by prefix.
pub fn clients(sections: &[(&str, client::Config)]) -> ByPrefix<Client> {
    let entry = |(number, (prefix, config)): (usize, &(&str, client::Config))| {
        let section = Section { at: format!("routers[0].client.configs[{number}].tls"), config: config.clone() };
        (PathMatcher::new(prefix), Client { tls: Some(section), ..Client::default() })
    };
    ByPrefix { entries: sections.iter().enumerate().map(entry).collect() }
}

pub fn section<T>(config: T) -> Option<Section<T>> {
    Some(Section { at: "routers[0].servers[0].tls".to_owned(), config })
}

/// A plain endpoint that answers like [`echo`].
pub fn plain_echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
                let mut stream = stream;
                while let Some((head, body)) = message(&mut reader) {
                    let body = if body.is_empty() { head.into_bytes() } else { body };
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                    if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}
