//! TLS on both sides of a router, over real sockets.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::secure::{Trust, ask, clients, echo, get, message, open, plain_echo, section, session};
use common::{Proxy, connect, router};
use proxy::settings::Router;
use testkit::certificates::{Authority, Issued, Wish};
use testkit::until::until;
use tls::client::Config;

fn inet(port: u16) -> String {
    format!("/svc => /$/inet/127.1/{port}")
}

/// A router whose server has a certificate for `router`, in front of an endpoint.
fn secured(trust: &Trust, dtab: &str) -> Router {
    let mut router = router(dtab);
    router.servers[0].tls = section(trust.server("router"));
    router
}

#[test]
fn callers_speak_tls_and_endpoints_need_not() {
    let trust = Trust::new();
    let proxy = Proxy::of(secured(&trust, &inet(plain_echo())), 1);
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let config = Config { protocols: Some(vec![protocol.to_owned()]), ..trust.client("router") };
        let mut caller = open(&trust.caller(&config), "router", proxy.address);
        for number in 0..3 {
            let (head, body) = ask(&mut caller, &get(&format!("/{number}")));
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            let body = String::from_utf8(body).unwrap();
            assert!(body.starts_with(&format!("GET /{number} HTTP/1.1\r\n")), "{body}");
            assert!(!body.contains("x-forwarded-client-cert"), "{body}");
        }
        assert_eq!(caller.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        // Two at once.
        caller.write_all((get("/a") + &get("/b")).as_bytes()).unwrap();
        assert!(message(&mut caller).unwrap().1.starts_with(b"GET /a "));
        assert!(message(&mut caller).unwrap().1.starts_with(b"GET /b "));
        let open = proxy.registry.snapshot().gauge(&["rt", "http", "server", "127.0.0.1/0", "tls", "connections"]);
        assert_eq!(open, Some(1.0));
        drop(caller);
        until("the connection closes", Duration::from_secs(5), || {
            let path = ["rt", "http", "server", "127.0.0.1/0", "tls", "connections"];
            match proxy.registry.snapshot().gauge(&path) {
                Some(0.0) => Ok(()),
                other => Err(other),
            }
        });
    }
}

#[test]
fn large_bodies_go_both_ways() {
    let trust = Trust::new();
    let port = trust.endpoint(&trust.server("endpoint"), echo);
    let mut settings = secured(&trust, &inet(port));
    settings.client = clients(&[("/", trust.client("endpoint"))]);
    let proxy = Proxy::of(settings, 1);
    let body: Vec<u8> = (0..6_000_000u32).map(|number| (number % 251) as u8).collect();
    let mut caller = open(&trust.caller(&trust.client("router")), "router", proxy.address);
    for _ in 0..2 {
        let head = format!("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: {}\r\n\r\n", body.len());
        caller.write_all(head.as_bytes()).unwrap();
        caller.write_all(&body).unwrap();
        // Nobody takes anything for a while: everything in between fills up, and goes on afterwards.
        let (head, answer) = message(&mut caller).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(answer == body);
    }
    // Chunked, in small pieces.
    let mut text = String::from("POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n");
    (0..1000).for_each(|_| text.push_str("5\r\nhello\r\n"));
    text.push_str("0\r\n\r\n");
    caller.write_all(text.as_bytes()).unwrap();
    assert!(message(&mut caller).unwrap().0.starts_with("HTTP/1.1 200"));
}

#[test]
fn endpoints_are_verified_by_captured_names() {
    let trust = Trust::new();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let (sender, port) = std::sync::mpsc::channel::<String>();
    let names = std::sync::Mutex::new(sender);
    let issued = trust.authority.issue(&Wish { name: "x", names: &["127.1.shop.example"], ..Wish::default() });
    let endpoint = trust.endpoint(&trust.server_with(&issued, "x"), move |number, mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        let _ = stream.conn.complete_io(&mut stream.sock);
        names.lock().unwrap().send(stream.conn.server_name().unwrap_or("none").to_owned()).unwrap();
        echo(number, stream);
    });
    let mut settings = router(&inet(endpoint));
    settings.client = clients(&[
        ("/", Config { disable_validation: Some(true), ..Config::default() }),
        ("/$/inet/{host}/*", trust.client("{host}.shop.example")),
        ("/$/inet/10.1", Config { enabled: Some(false), ..Config::default() }),
    ]);
    let proxy = Proxy::of(settings, 1);
    for _ in 0..3 {
        assert_eq!(proxy.get("/", &[("Host", "web")]).status, 200);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1, "kept and used again");
    assert_eq!(port.recv().unwrap(), "127.1.shop.example");
}

#[test]
fn a_later_section_cancels_an_earlier_one() {
    let trust = Trust::new();
    let mut settings = router(&inet(plain_echo()));
    let off = Config { enabled: Some(false), ..Config::default() };
    settings.client = clients(&[("/", trust.client("endpoint")), ("/$/inet", off)]);
    let proxy = Proxy::of(settings, 1);
    assert_eq!(proxy.get("/", &[("Host", "web")]).status, 200);
}

#[test]
fn what_failed_is_told() {
    let trust = Trust::new();
    let stranger = Authority::new("stranger");
    let old = trust.authority.issue(&Wish { name: "endpoint", names: &["endpoint"], is_expired: true });
    let own = Issued::by_itself(&Wish { name: "endpoint", names: &["endpoint"], ..Wish::default() });
    let cases = [
        (trust.authority.server("other"), "the certificate is not for endpoint: it is for other"),
        (old, "the certificate has expired on 2021-01-01T00:00:00Z"),
        (stranger.server("endpoint"), "the certificate's issuer is unknown"),
        (own, "the certificate's issuer is unknown"),
    ];
    for (number, (issued, expected)) in cases.iter().enumerate() {
        let port = trust.endpoint(&trust.server_with(issued, &format!("endpoint{number}")), echo);
        let mut settings = router(&inet(port));
        settings.client = clients(&[("/", trust.client("endpoint"))]);
        let proxy = Proxy::of(settings, 1);
        let answer = proxy.get("/", &[("Host", "web")]);
        let text = answer.text();
        assert_eq!(answer.status, 502, "{text}");
        let start =
            format!("TLS failed at remote address: 127.0.0.1/127.0.0.1:{port} from service: $/inet/127.1/{port}: ");
        assert!(text.starts_with(&start) && text.contains(expected), "{text}");
        assert!(answer.header("l5d-err").is_some());
        // Whoever does not validate takes it.
        let mut settings = router(&inet(port));
        settings.client = clients(&[("/", Config { disable_validation: Some(true), ..Config::default() })]);
        assert_eq!(Proxy::of(settings, 1).get("/", &[("Host", "web")]).status, 200);
    }
    // No TLS there at all.
    let mut settings = router(&inet(plain_echo()));
    settings.client = clients(&[("/", trust.client("endpoint"))]);
    let answer = Proxy::of(settings, 1).get("/", &[("Host", "web")]);
    assert_eq!(answer.status, 502, "{}", answer.text());
}

#[test]
fn endpoints_may_want_a_certificate() {
    let trust = Trust::new();
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let mut server = trust.server("endpoint");
        server.ca_cert_path = Some(trust.ca());
        server.require_client_auth = true;
        server.protocols = Some(vec![protocol.to_owned()]);
        let port = trust.endpoint(&server, echo);
        let own = trust.authority.issue(&Wish { name: "me", ..Wish::default() });
        let mut settings = router(&inet(port));
        settings.client = clients(&[("/", trust.known("endpoint", &own))]);
        assert_eq!(Proxy::of(settings, 1).get("/", &[("Host", "web")]).status, 200);

        let mut settings = router(&inet(port));
        settings.client = clients(&[("/", trust.client("endpoint"))]);
        let answer = Proxy::of(settings, 1).get("/", &[("Host", "web")]);
        assert_eq!(answer.status, 502, "{}", answer.text());
        let text = answer.text();
        assert!(text.contains("wants a client certificate") || text.contains("nothing in common"), "{text}");
    }
}

#[test]
fn callers_are_told_by_their_certificates() {
    let trust = Trust::new();
    let mut settings = secured(&trust, &inet(plain_echo()));
    let tls = settings.servers[0].tls.as_mut().unwrap();
    tls.config.ca_cert_path = Some(trust.ca());
    settings.client = clients(&[("/", Config { enabled: Some(false), ..Config::default() })]);
    settings.client.entries[0].1.forward_client_cert = Some(true);
    let required = {
        let mut settings = settings.clone();
        settings.servers[0].tls.as_mut().unwrap().config.require_client_auth = true;
        Proxy::of(settings, 1)
    };
    let proxy = Proxy::of(settings, 1);
    let own = trust.authority.issue(&Wish { name: "me", names: &["spiffe://example/me"], ..Wish::default() });
    let known = trust.caller(&trust.known("router", &own));
    let unknown = trust.caller(&trust.client("router"));
    let forged = "GET / HTTP/1.1\r\nhost: web\r\nx-forwarded-client-cert: forged\r\n\r\n";
    for proxy in [&proxy, &required] {
        let mut caller = open(&known, "router", proxy.address);
        let body = String::from_utf8(ask(&mut caller, forged).1).unwrap();
        assert!(!body.contains("forged"), "{body}");
        let told = body.lines().find(|line| line.starts_with("x-forwarded-client-cert: Hash=")).unwrap();
        assert!(told.ends_with(";SAN=spiffe://example/me;Subject=\"CN=me,O=Example\""), "{told}");
    }
    let body = ask(&mut open(&unknown, "router", proxy.address), forged).1;
    assert!(!String::from_utf8(body).unwrap().contains("x-forwarded-client-cert"));
    let mut caller = open(&unknown, "router", required.address);
    let refused = caller.write_all(get("/").as_bytes()).and_then(|()| caller.read(&mut [0; 100]));
    assert!(refused.unwrap_err().to_string().contains("CertificateRequired"));
}

#[test]
fn the_wrong_protocol_is_told() {
    let trust = Trust::new();
    let port = plain_echo();
    let secure = Proxy::of(secured(&trust, &inet(port)), 1);
    let answer = String::from_utf8(secure.raw(get("/").as_bytes())).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.ends_with("This port speaks TLS: use https://\n"), "{answer}");
    let plain = Proxy::start(&inet(port));
    let mut caller = open(&trust.caller(&trust.client("router")), "router", plain.address);
    assert!(caller.write_all(b"x").is_err());
    // Both still serve those who know.
    assert_eq!(plain.get("/", &[("Host", "web")]).status, 200);
    let mut caller = open(&trust.caller(&trust.client("router")), "router", secure.address);
    assert!(ask(&mut caller, &get("/")).0.starts_with("HTTP/1.1 200"));
}

#[test]
fn a_handshake_that_drips_ends_in_time_and_disturbs_nobody() {
    let trust = Trust::new();
    let proxy = Proxy::of(secured(&trust, &inet(plain_echo())), 1);
    let mut silent = connect(proxy.address);
    let mut dripping = connect(proxy.address);
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let began = Instant::now();
    // A record of 500 bytes is announced, and comes one byte at a time.
    dripping.write_all(&[22, 3, 1, 1, 244, 1, 0, 1, 240]).unwrap();
    let mut caller = open(&trust.caller(&trust.client("router")), "router", proxy.address);
    while dripping.write_all(&[3]).is_ok() && began.elapsed() < Duration::from_secs(15) {
        assert!(ask(&mut caller, &get("/")).0.starts_with("HTTP/1.1 200"));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!((Duration::from_secs(9)..Duration::from_secs(14)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(matches!(silent.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn a_body_that_only_the_end_ends_must_have_one() {
    let trust = Trust::new();
    for (http, closes) in [("1.1", true), ("1.1", false), ("1.0", true), ("1.0", false)] {
        let port = trust.endpoint(&trust.server("endpoint"), move |_, mut stream| {
            message(&mut stream);
            stream.write_all(format!("HTTP/{http} 200 OK\r\n\r\nhello").as_bytes()).unwrap();
            if closes {
                stream.conn.send_close_notify();
            }
            let _ = stream.flush();
        });
        let mut settings = secured(&trust, &inet(port));
        settings.client = clients(&[("/", trust.client("endpoint"))]);
        let proxy = Proxy::of(settings, 1);
        let mut caller = open(&trust.caller(&trust.client("router")), "router", proxy.address);
        caller.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let end = caller.read_to_end(&mut answer);
        let text = String::from_utf8(answer).unwrap();
        let is_whole = text.ends_with("\r\nhello") && text.contains("content-length: 5")
            || text.ends_with("\r\n5\r\nhello\r\n0\r\n\r\n");
        assert_eq!(is_whole, closes, "{http}: {text} {end:?}");
    }
    // To a client that knows no chunks, the end of the connection must say it.
    for closes in [true, false] {
        let port = trust.endpoint(&trust.server("endpoint"), move |_, mut stream| {
            message(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
            stream.flush().unwrap();
            if closes {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        let mut settings = secured(&trust, &inet(port));
        settings.client = clients(&[("/", trust.client("endpoint"))]);
        let proxy = Proxy::of(settings, 1);
        let mut caller = open(&trust.caller(&trust.client("router")), "router", proxy.address);
        caller.write_all(b"GET / HTTP/1.0\r\nhost: web\r\n\r\n").unwrap();
        let end = caller.read_to_end(&mut Vec::new());
        assert_eq!(end.is_ok(), closes, "{end:?}");
    }
}

#[test]
fn tunnels_go_through_both_sides() {
    let trust = Trust::new();
    let port = trust.endpoint(&trust.server("endpoint"), |_, mut stream| {
        message(&mut stream);
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhi").unwrap();
        let mut bytes = [0; 1000];
        while let Ok(read @ 1..) = stream.read(&mut bytes) {
            stream.write_all(&bytes[..read].to_ascii_uppercase()).unwrap();
        }
        stream.write_all(b"bye").unwrap();
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    let mut settings = secured(&trust, &inet(port));
    settings.client = clients(&[("/", trust.client("endpoint"))]);
    let proxy = Proxy::of(settings, 1);
    let mut caller = open(&trust.caller(&trust.client("router")), "router", proxy.address);
    let request = "GET / HTTP/1.1\r\nhost: web\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
    let (head, _) = ask(&mut caller, request);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let mut two = [0; 2];
    caller.read_exact(&mut two).unwrap();
    assert_eq!(&two, b"hi");
    for _ in 0..3 {
        caller.write_all(&[b'a'; 50_000]).unwrap();
        let mut back = vec![0; 50_000];
        caller.read_exact(&mut back).unwrap();
        assert!(back.iter().all(|byte| *byte == b'A'));
    }
    // One half ends, the other goes on.
    caller.conn.send_close_notify();
    caller.flush().unwrap();
    let mut rest = Vec::new();
    caller.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bye");
}

#[test]
fn a_kept_connection_that_was_closed_costs_no_request() {
    let trust = Trust::new();
    let port = trust.endpoint(&trust.server("endpoint"), |_, mut stream| {
        // One answer, then the connection closes without having said so.
        message(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    let mut settings = router(&inet(port));
    settings.client = clients(&[("/", trust.client("endpoint"))]);
    let proxy = Proxy::of(settings, 1);
    for _ in 0..30 {
        for method in ["GET", "PUT"] {
            let mut caller = connect(proxy.address);
            let request = format!("{method} / HTTP/1.1\r\nhost: web\r\ncontent-length: 0\r\n\r\n");
            let (head, _) = ask(&mut caller, &request);
            assert!(head.starts_with("HTTP/1.1 200"), "{method}: {head}");
        }
    }
}

#[test]
fn certificates_change_on_both_sides_without_a_failed_request() {
    let trust = Trust::new();
    let endpoint_section = trust.server("endpoint");
    let live = tls::server::Live::start(&endpoint_section, "endpoint", &trust.reloader).unwrap();
    // Connections that carry three requests each, so that handshakes go on all the time.
    let port = common::endpoint(move |_, tcp| {
        let mut stream = session(&live.config(), tcp);
        for number in 0..3 {
            if message(&mut stream).is_none() {
                return;
            }
            let close = if number == 2 { "connection: close\r\n" } else { "" };
            let answer = format!("HTTP/1.1 200 OK\r\n{close}content-length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    });
    let mut settings = secured(&trust, &inet(port));
    settings.client = clients(&[("/", trust.client("endpoint"))]);
    let proxy = Proxy::of(settings, 1);
    let second = Authority::new("second");
    // Callers trust both authorities from the start.
    let both = trust.place().join("both.pem");
    std::fs::write(&both, format!("{}{}", trust.authority.pem, second.pem)).unwrap();
    let caller = trust.caller(&Config { trust_certs_bundle: Some(both.clone()), ..trust.client("router") });
    let stop = AtomicBool::new(false);
    let (asked, address) = (AtomicUsize::new(0), proxy.address);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let mut stream = open(&caller, "router", address);
                    for _ in 0..5 {
                        let (head, _) = ask(&mut stream, &get("/"));
                        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                        asked.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let status = || proxy.running.as_ref().unwrap().reloader().status();
        let reloaded = |section: usize, reloads: u64| {
            until("a reload", Duration::from_secs(10), || match status()[section].reloads {
                found if found >= reloads => Ok(()),
                found => Err(found),
            });
        };
        // As one rotates: the new authority is trusted first, then it signs.
        let ca = trust.ca();
        let fresh = trust.place().join("ca.new");
        std::fs::copy(&both, &fresh).unwrap();
        std::fs::rename(&fresh, &ca).unwrap();
        reloaded(1, 1);
        second.server("endpoint").write(trust.place(), "endpoint");
        second.server("router").write(trust.place(), "router");
        reloaded(0, 1);
        let before = asked.load(Ordering::SeqCst);
        until("more requests", Duration::from_secs(10), || match asked.load(Ordering::SeqCst) {
            found if found > before + 50 => Ok(()),
            found => Err(found),
        });
        // Nonsense in the file changes nothing.
        std::fs::write(trust.place().join("router.pem"), "nonsense").unwrap();
        until("the failure", Duration::from_secs(10), || status()[0].stale.clone().ok_or("not noticed"));
        let before = asked.load(Ordering::SeqCst);
        until("more requests", Duration::from_secs(10), || match asked.load(Ordering::SeqCst) {
            found if found > before + 50 => Ok(()),
            found => Err(found),
        });
        stop.store(true, Ordering::SeqCst);
    });
    let mut stream = open(&caller, "router", address);
    ask(&mut stream, &get("/"));
    let presented = stream.conn.peer_certificates().unwrap()[0].clone();
    assert_eq!(tls::Certificate::of(&presented).unwrap().issuer, "CN=second,O=Example");
}
