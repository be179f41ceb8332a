//! One question to a process: are you ready? A GET that must answer 2xx or 3xx within a second.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(1);

/// `Err` says why not, in words.
pub(crate) async fn ask(url: &str) -> Result<(), String> {
    match tokio::time::timeout(LIMIT, exchange(url)).await {
        Ok(answer) => answer.map_err(|why| format!("{url}: {why}")),
        Err(_) => Err(format!("{url}: no answer within {LIMIT:?}")),
    }
}

async fn exchange(url: &str) -> Result<(), String> {
    let (host, path) = split(url).ok_or("not a plain http URL")?;
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(host).await.map_err(text)?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: switchyard-probe\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(text)?;
    let mut head = Vec::new();
    let mut buffer = [0; 512];
    while head.len() < 13 {
        match stream.read(&mut buffer).await.map_err(text)? {
            0 => break,
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    match status(&head) {
        Some(status) if (200..400).contains(&status) => Ok(()),
        Some(status) => Err(format!("answers {status}")),
        None => Err("does not answer in HTTP".to_owned()),
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.get(..12)?).ok()?;
    line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
}

fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let clean = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control());
    (host.contains(':') && clean(url)).then_some((host, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_asked() {
        assert_eq!(split("http://127.0.0.1:80/a"), Some(("127.0.0.1:80", "/a")));
        assert_eq!(split("http://127.0.0.1:80"), Some(("127.0.0.1:80", "/")));
        assert_eq!(split("http://127.0.0.1:80/a b"), None);
        assert_eq!(split("https://127.0.0.1:80/"), None);
        assert_eq!(status(b"HTTP/1.1 204 No Content"), Some(204));
        assert_eq!(status(b"SSH-2.0-x y z 200"), None);
    }
}
