//! The checks of pages find what they are there to find.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use testkit::browser::{Browser, checked};

/// Serves pages with these bodies, right in all else, at `/0`, `/1`, …
fn serve(bodies: Vec<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let bodies = Arc::new(bodies);
        for stream in listener.incoming() {
            let bodies = bodies.clone();
            // Browsers open connections that they do not use: one must not hold up the others.
            std::thread::spawn(move || answer(stream.unwrap(), &bodies));
        }
    });
    address
}

fn answer(mut stream: TcpStream, bodies: &[String]) {
    let mut line = String::new();
    BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
    let number = line.split(['/', ' ']).nth(2).and_then(|number| number.parse::<usize>().ok());
    let body = number.and_then(|number| bodies.get(number)).map_or("", String::as_str);
    let style = "body{margin:8px;background:#fff;color:#000;font:16px sans-serif} input{height:40px}";
    let page = format!(
        "<!doctype html><html lang=en><meta name=viewport content=\"width=device-width\">\
         <link rel=icon href=\"data:,\"><style>{style}</style><h1>A</h1>{body}"
    );
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\nconnection: close\r\n\
                content-security-policy: frame-src 'none'\r\n";
    // A tab that is closed meanwhile wants no answer.
    let _ = write!(stream, "{head}content-length: {}\r\n\r\n{page}", page.len());
}

#[test]
fn the_checks_find_what_is_wrong_and_nothing_else() {
    let browser = Browser::start();
    let tab = browser.page();
    let cases = [
        ("<p>fine</p><label>a <input></label>", None),
        ("<div class=w>x</div><style>.w{width:2000px}</style>", Some("wider than the screen")),
        (
            "<style>td{max-width:40px;overflow:hidden;white-space:nowrap}</style><table><tr><td>a long text that is cut</table>",
            Some("cut: "),
        ),
        ("<p class=p>pale</p><style>.p{color:#999}</style>", Some("contrast 2.8")),
        ("<div class=o><p>faint</p></div><style>.o{opacity:.5}</style>", Some("contrast 3.9")),
        ("<div class=d><p>dark</p></div><style>.d{background:#333}</style>", Some("contrast 1.6")),
        ("<svg><text class=t y=20>pale</text></svg><style>.t{fill:#ccc}</style>", Some("contrast 1.6")),
        ("<p style=\"color:red\">x</p>", Some("style attribute")),
        ("<input>", Some("no label")),
        ("<button></button>", Some("no name")),
        ("<svg role=img></svg>", Some("no label")),
        ("<i id=a></i><i id=a></i>", Some("id twice: a")),
        ("<h1>B</h1>", Some("not one h1")),
        ("<button>x</button>", Some("too small for a finger")),
        ("<p>in a <a href=x>sentence</a> it is fine</p>", None),
        ("<script>nothing()</script>", Some("script: ReferenceError")),
        ("<script>console.error('no')</script>", Some("console: ")),
        ("<iframe title=a src=\"http://127.0.0.1:1/\"></iframe>", Some("policy: ")),
    ];
    let address = serve(cases.iter().map(|(body, _)| (*body).to_owned()).collect());
    for (number, (body, expected)) in cases.into_iter().enumerate() {
        tab.open(&format!("http://{address}/{number}"));
        let wrong = checked(&tab);
        match expected {
            None => assert!(wrong.is_empty(), "{body}: {wrong:?}"),
            Some(expected) => {
                assert!(wrong.iter().any(|problem| problem.contains(expected)), "{body}: {expected:?} in {wrong:?}");
            }
        }
    }
}
