//! Two sessions that talk to each other, whatever the pieces in which their bytes arrive.

#![allow(clippy::unwrap_used)]

use std::io;
use std::path::Path;

use testkit::certificates::{Authority, Issued, Wish};
use tls::client::{self, Naming};
use tls::{Received, Reloader, Session, server};

/// A side with what it received.
struct Side {
    session: Session,
    out: Vec<u8>,
    plain: Vec<u8>,
    ended: bool,
}

impl Side {
    fn new(session: io::Result<Session>) -> Side {
        let mut side = Side { session: session.unwrap(), out: Vec::new(), plain: Vec::new(), ended: false };
        side.session.start(&mut side.out).unwrap();
        side
    }

    /// Takes `bytes`, `piece` at a time.
    fn take(&mut self, bytes: &[u8], piece: usize) -> io::Result<()> {
        let mut scratch = vec![0; 128 * 1024];
        for part in bytes.chunks(piece) {
            let read = |space: &mut [u8]| {
                space[..part.len()].copy_from_slice(part);
                Ok(part.len())
            };
            let plain = &mut self.plain;
            let mut keep = |bytes: &[u8]| plain.extend_from_slice(bytes);
            self.ended |= self.session.receive(&mut scratch, read, &mut keep, &mut self.out)? == Received::End;
        }
        Ok(())
    }
}

/// Until both have nothing to say.
fn talk(a: &mut Side, b: &mut Side, piece: usize) -> io::Result<()> {
    while !a.out.is_empty() || !b.out.is_empty() {
        let (from_a, from_b) = (std::mem::take(&mut a.out), std::mem::take(&mut b.out));
        let result = b.take(&from_a, piece);
        let other = a.take(&from_b, piece);
        if result.is_err() || other.is_err() {
            // The alert goes out all the same.
            let (from_a, from_b) = (std::mem::take(&mut a.out), std::mem::take(&mut b.out));
            let told = b.take(&from_a, piece).and(a.take(&from_b, piece));
            return result.and(other).and(told);
        }
    }
    Ok(())
}

struct World {
    directory: tempfile::TempDir,
    authority: Authority,
    reloader: Reloader,
}

impl World {
    fn new() -> World {
        let world = World {
            directory: tempfile::tempdir().unwrap(),
            authority: Authority::new("ca"),
            reloader: Reloader::default(),
        };
        world.authority.write(world.place(), "ca.pem");
        world
    }

    fn place(&self) -> &Path {
        self.directory.path()
    }

    fn server(&self, issued: &Issued) -> server::Config {
        let files = issued.write(self.place(), "server");
        server::Config {
            cert_path: files.certificate,
            key_path: files.key,
            intermediate_certs_path: None,
            ca_cert_path: None,
            ciphers: None,
            require_client_auth: false,
            protocols: None,
        }
    }

    fn client(&self, name: &str) -> client::Config {
        client::Config {
            common_name: Some(name.to_owned()),
            trust_certs_bundle: Some(self.place().join("ca.pem")),
            ..client::Config::default()
        }
    }

    /// Both sides, before they talk.
    fn sides(&self, server: &server::Config, client: &client::Config) -> (Side, Side) {
        let live = client::Live::start(client, Naming::CommonName, "client", &self.reloader).unwrap();
        let name = match &client.common_name {
            Some(name) => client::server_name(name).unwrap(),
            None => client::nameless("127.0.0.1".parse().unwrap()),
        };
        let near = Side::new(Session::client(&live, name));
        let live = server::Live::start(server, "server", &self.reloader).unwrap();
        let far = Side { session: Session::server(&live).unwrap(), out: vec![], plain: vec![], ended: false };
        (near, far)
    }

    #[track_caller]
    fn refused(&self, server: &server::Config, client: &client::Config, expected: &str) {
        let (mut near, mut far) = self.sides(server, client);
        let error = talk(&mut near, &mut far, 1 << 16).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn bytes_arrive_whatever_the_pieces() {
    let world = World::new();
    let server = world.server(&world.authority.server("web"));
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        for piece in [1, 7, 1000, 1 << 16] {
            let mut client = world.client("web");
            client.protocols = Some(vec![protocol.to_owned()]);
            let (mut near, mut far) = world.sides(&server, &client);
            talk(&mut near, &mut far, piece).unwrap();
            assert!(near.session.is_open() && far.session.is_open(), "{protocol} {piece}");
            assert!(near.session.agreed().starts_with(&protocol.replace('.', "_")), "{}", near.session.agreed());

            let large: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
            near.session.seal(b"hello", &mut near.out).unwrap();
            far.session.seal(&large, &mut far.out).unwrap();
            talk(&mut near, &mut far, piece).unwrap();
            assert_eq!(far.plain, b"hello");
            assert!(near.plain == large);
            assert_eq!((near.session.part(), far.session.part()), (0, 0));

            near.session.close(&mut near.out).unwrap();
            talk(&mut near, &mut far, piece).unwrap();
            assert!(far.ended && !near.ended);
            // The other half goes on.
            far.session.seal(b"bye", &mut far.out).unwrap();
            far.session.close(&mut far.out).unwrap();
            talk(&mut near, &mut far, piece).unwrap();
            assert!(near.plain.ends_with(b"bye") && near.ended);
        }
    }
}

#[test]
fn an_end_without_a_word_is_an_error() {
    let world = World::new();
    let server = world.server(&world.authority.server("web"));
    let (mut near, mut far) = world.sides(&server, &world.client("web"));
    talk(&mut near, &mut far, 1 << 16).unwrap();
    let end = near.session.receive(&mut [0; 1024], |_| Ok(0), &mut |_| {}, &mut Vec::new());
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn wrong_certificates_are_refused_with_the_reason() {
    let world = World::new();
    let good = world.server(&world.authority.server("web"));
    world.refused(&good, &world.client("shop"), "the certificate is not for shop: it is for web");
    let unnamed = world.authority.issue(&Wish { name: "web", ..Wish::default() });
    world.refused(&world.server(&unnamed), &world.client("web"), "no name at all");
    let old = world.authority.issue(&Wish { name: "web", names: &["web"], is_expired: true });
    world.refused(&world.server(&old), &world.client("web"), "the certificate has expired on 2021-01-01T00:00:00Z");
    let stranger = Authority::new("stranger").server("web");
    world.refused(&world.server(&stranger), &world.client("web"), "issuer is unknown");
    let own = Issued::by_itself(&Wish { name: "web", names: &["web"], ..Wish::default() });
    let own = world.server(&own);
    world.refused(&own, &world.client("web"), "issuer is unknown");
    let anybody = client::Config { disable_validation: Some(true), ..client::Config::default() };
    let (mut near, mut far) = world.sides(&own, &anybody);
    talk(&mut near, &mut far, 1 << 16).unwrap();
    assert!(near.session.is_open());
}

#[test]
fn clients_are_known_by_their_certificates() {
    let world = World::new();
    let mut server = world.server(&world.authority.server("web"));
    server.ca_cert_path = Some(world.place().join("ca.pem"));
    let mine = world.authority.issue(&Wish { name: "me", ..Wish::default() }).write(world.place(), "me");
    let known = client::Config {
        client_auth: Some(client::ClientAuth {
            cert_path: mine.certificate,
            key_path: mine.key,
            intermediate_certs_path: None,
        }),
        ..world.client("web")
    };
    let stranger = Authority::new("stranger").issue(&Wish { name: "me", ..Wish::default() });
    let stranger = stranger.write(world.place(), "stranger");
    let unknown = client::Config {
        client_auth: Some(client::ClientAuth {
            cert_path: stranger.certificate,
            key_path: stranger.key,
            intermediate_certs_path: None,
        }),
        ..world.client("web")
    };
    for required in [false, true] {
        server.require_client_auth = required;
        let (mut near, mut far) = world.sides(&server, &known);
        talk(&mut near, &mut far, 1 << 16).unwrap();
        let peer = tls::Certificate::of(far.session.peer().unwrap()).unwrap();
        assert_eq!(peer.subject, "CN=me,O=Example");
        world.refused(&server, &unknown, "issuer is unknown");
    }
    world.refused(&server, &world.client("web"), "no certificate was presented");
    server.require_client_auth = false;
    let (mut near, mut far) = world.sides(&server, &world.client("web"));
    talk(&mut near, &mut far, 1 << 16).unwrap();
    assert!(far.session.is_open() && far.session.peer().is_none());
}

#[test]
fn protocols_and_ciphers_are_those_of_the_section() {
    let world = World::new();
    let mut server = world.server(&world.authority.server("web"));
    server.protocols = Some(vec!["TLSv1.3".to_owned()]);
    let mut client = world.client("web");
    client.protocols = Some(vec!["TLSv1.2".to_owned()]);
    world.refused(&server, &client, "no protocol version in common");
    client.protocols = None;
    server.ciphers = Some(vec!["TLS_CHACHA20_POLY1305_SHA256".to_owned()]);
    let (mut near, mut far) = world.sides(&server, &client);
    talk(&mut near, &mut far, 1 << 16).unwrap();
    assert_eq!(near.session.agreed(), "TLSv1_3 TLS13_CHACHA20_POLY1305_SHA256");
}

#[test]
fn nonsense_is_refused() {
    let world = World::new();
    let server = world.server(&world.authority.server("web"));
    let live = server::Live::start(&server, "server", &world.reloader).unwrap();
    let mut side = Side { session: Session::server(&live).unwrap(), out: vec![], plain: vec![], ended: false };
    let error = side.take(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n", 1 << 16).unwrap_err();
    assert_eq!(error.to_string(), "the other side does not speak TLS");
    assert!(side.take(b"more", 4).is_err());
}
