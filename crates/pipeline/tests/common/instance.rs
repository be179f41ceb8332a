//! The role of an instance: answers `TEXT (ADDRESS)`, or misbehaves as `INSTANCE_MODE` says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

pub fn run() {
    let Ok(port) = std::env::var("INSTANCE_PORT") else { return };
    let text = std::env::args().find_map(|argument| argument.strip_prefix("text=").map(str::to_owned)).unwrap();
    let address = std::env::var("POD_IP").unwrap();
    let mode = std::env::var("INSTANCE_MODE").unwrap_or_default();
    if mode == "exit" {
        println!("no configuration found");
        std::process::exit(3);
    }
    if mode == "silent" {
        std::thread::sleep(Duration::from_secs(3600));
    }
    let listener = TcpListener::bind(("127.0.0.1", port.parse::<u16>().unwrap())).unwrap();
    for stream in listener.incoming().flatten() {
        // Ready is asked from the instance itself; the mode shows to everybody else.
        let asked = read(&stream);
        let is_probe = asked.contains("switchyard-probe");
        let (status, body) = match mode.as_str() {
            "broken" if !is_probe => ("500 Internal Server Error", "broken".to_owned()),
            "crash" if std::path::Path::new(&std::env::var("CRASH_WHEN").unwrap()).exists() => std::process::exit(1),
            "wrong" if !is_probe => ("200 OK", "somebody else".to_owned()),
            _ => ("200 OK", format!("{text} ({address})")),
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let _ = (&stream).write_all(answer.as_bytes());
    }
}

fn read(mut stream: &TcpStream) -> String {
    let mut asked = Vec::new();
    let mut buffer = [0; 1024];
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => asked.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&asked).into_owned()
}
