//! The yardstick: `floor LISTEN BACKEND`. The cheapest HTTP/1.1 relay that still is one: heads are
//! parsed and rewritten, a route is chosen by Host, connections to the server are kept. No
//! balancer, retries, timeouts, metrics, and it gives up on whatever it does not expect.
//!
//! ```text
//! client ──readable──▶ read into the shared buffer ─▶ parse ─▶ out = new head + body ─▶ one write
//!        ◀─one write── out = new head + body ◀─ parse ◀─ read into the same buffer ◀── server
//! ```

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bench_tools::{HOST, argument, listen, raise_file_limit};
use http1::{
    Body, Delivery, Exchange, Form, Limits, Progress, RequestHead, RequestOut, ResponseHead, ResponseOut,
    parse_request, parse_response,
};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Bodies longer than this leave beside the head in a vectored write, shorter ones are copied.
const COPY: usize = 4096;

/// Where a host goes, and the lines that its requests get.
struct Route {
    address: SocketAddr,
    lines: Vec<u8>,
}

struct Floor {
    routes: HashMap<Vec<u8>, Route>,
    other: Route,
    /// All connections read into this one.
    buffer: RefCell<Vec<u8>>,
    /// Idle connections to the server, last used first.
    idle: RefCell<Vec<Wire>>,
}

struct Wire {
    stream: TcpStream,
    /// Read and not used up.
    left: Vec<u8>,
}

fn main() -> anyhow::Result<()> {
    raise_file_limit()?;
    let listener = listen(argument::<SocketAddr>(1, "LISTEN")?)?;
    let backend: SocketAddr = argument(2, "BACKEND")?;
    let route = |name: &str| Route {
        address: backend,
        lines: format!("via: 1.1 floor\r\nl5d-dst-service: /svc/{name}\r\n").into_bytes(),
    };
    let names = (0..10).map(|n| format!("service-{n}")).chain([HOST.to_owned()]);
    let floor = Rc::new(Floor {
        routes: names.map(|name| (name.clone().into_bytes(), route(&name))).collect(),
        other: route("other"),
        buffer: RefCell::new(vec![0; 128 * 1024]),
        idle: RefCell::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let floor = Rc::clone(&floor);
            // A connection that fails is closed, and nobody is told: this is not a product.
            tokio::task::spawn_local(async move { floor.serve(Wire { stream, left: Vec::new() }).await.ok() });
        }
    })
}

/// What reading a head gives.
enum Read<T> {
    /// The bytes used up, and what they were.
    Whole(usize, T),
    Partial,
}

impl Floor {
    async fn serve(&self, mut client: Wire) -> io::Result<()> {
        let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
        let mut out = Vec::new();
        loop {
            let read = client
                .read(&self.buffer, |bytes| {
                    if parse_request(bytes, &Limits::REQUEST, &mut request).map_err(unexpected)? == Progress::Partial {
                        return Ok(Read::Partial);
                    }
                    let route = self.routes.get(request.host(bytes)).unwrap_or(&self.other);
                    request.write(bytes, &RequestOut { extra: &route.lines, ..RequestOut::default() }, &mut out);
                    let mut body = Body::new(request.body);
                    let used = take(&mut body, &bytes[request.len..], &mut out)?;
                    Ok(Read::Whole(request.len + used, (route.address, body)))
                })
                .await?;
            let Some((address, mut body)) = read else { return Ok(()) };
            let pooled = self.idle.borrow_mut().pop();
            let mut server = match pooled {
                Some(server) => server,
                None => Wire::connect(address).await?,
            };
            server.stream.write_all(&out).await?;
            out.clear();
            while !body.is_done() {
                let more =
                    client.read(&self.buffer, |bytes| Ok(Read::Whole(take(&mut body, bytes, &mut out)?, ()))).await?;
                more.ok_or(ErrorKind::UnexpectedEof)?;
                server.stream.write_all(&out).await?;
                out.clear();
            }
            let exchange = Exchange::of(&request, false);
            let keep_alive = request.keep_alive;
            let mut body = self.answer(&mut server, &client, exchange, keep_alive, &mut response, &mut out).await?;
            client.flush(&mut out).await?;
            while !body.is_done() {
                let stream = &client.stream;
                let more = server
                    .read(&self.buffer, |bytes| Ok(Read::Whole(pass(&mut body, bytes, stream, &mut out)?, ())))
                    .await?;
                more.ok_or(ErrorKind::UnexpectedEof)?;
                client.flush(&mut out).await?;
            }
            if response.keep_alive && server.left.is_empty() {
                self.idle.borrow_mut().push(server);
            }
            if !keep_alive {
                return Ok(());
            }
        }
    }

    /// Reads the answer's head, and sends it with as much of its body as came along. What the
    /// client does not take at once stays in `out`.
    async fn answer(
        &self,
        server: &mut Wire,
        client: &Wire,
        exchange: Exchange,
        keep_alive: bool,
        response: &mut ResponseHead,
        out: &mut Vec<u8>,
    ) -> io::Result<Body> {
        let read = server
            .read(&self.buffer, |bytes| {
                let parsed = parse_response(bytes, &Limits::RESPONSE, exchange, response).map_err(unexpected)?;
                if parsed == Progress::Partial {
                    return Ok(Read::Partial);
                }
                let edit = ResponseOut { keep_alive, ..ResponseOut::default() };
                if response.is_interim() || response.delivery(edit.client) != Delivery::Same {
                    return Err(ErrorKind::Unsupported.into());
                }
                response.write(bytes, &edit, out);
                let mut body = Body::new(response.body);
                let used = pass(&mut body, &bytes[response.len..], &client.stream, out)?;
                Ok(Read::Whole(response.len + used, body))
            })
            .await?;
        read.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }
}

impl Wire {
    async fn connect(address: SocketAddr) -> io::Result<Wire> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream, left: Vec::new() })
    }

    /// Reads until `use_up` has what it wants; `None` when the peer closes between messages.
    /// The bytes are looked at where they were read, so `use_up` must not read.
    async fn read<T>(
        &mut self,
        shared: &RefCell<Vec<u8>>,
        mut use_up: impl FnMut(&[u8]) -> io::Result<Read<T>>,
    ) -> io::Result<Option<T>> {
        if !self.left.is_empty()
            && let Read::Whole(used, value) = use_up(&self.left)?
        {
            self.left.drain(..used);
            return Ok(Some(value));
        }
        loop {
            let read = poll_fn(|context| -> Poll<io::Result<Option<Read<T>>>> {
                let mut shared = shared.borrow_mut();
                let held = self.left.len();
                if held >= shared.len() {
                    return Poll::Ready(Err(ErrorKind::OutOfMemory.into()));
                }
                shared[..held].copy_from_slice(&self.left);
                let mut buffer = ReadBuf::new(&mut shared[held..]);
                std::task::ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
                let read = buffer.filled().len();
                if read == 0 {
                    return Poll::Ready(if held == 0 { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) });
                }
                let bytes = &shared[..held + read];
                let result = use_up(bytes)?;
                self.left.clear();
                self.left.extend_from_slice(match &result {
                    Read::Whole(used, _) => &bytes[*used..],
                    Read::Partial => bytes,
                });
                Poll::Ready(Ok(Some(result)))
            });
            match read.await? {
                None => return Ok(None),
                Some(Read::Whole(_, value)) => return Ok(Some(value)),
                Some(Read::Partial) => {}
            }
        }
    }

    async fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if !out.is_empty() {
            self.stream.write_all(out).await?;
            out.clear();
        }
        Ok(())
    }
}

/// Appends what belongs to `body`; answers how much that used up.
fn take(body: &mut Body, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
    if body.is_done() {
        return Ok(0);
    }
    body.feed(bytes, Form::Pass, out).map(|(used, _)| used).map_err(unexpected)
}

/// Sends `out` and what belongs to `body` in one write; `out` keeps what the socket did not take.
fn pass(body: &mut Body, bytes: &[u8], stream: &TcpStream, out: &mut Vec<u8>) -> io::Result<usize> {
    let run = if body.is_done() {
        http1::Run { start: 0, end: 0, consumed: 0, done: true }
    } else {
        body.next(bytes, Form::Pass).map_err(unexpected)?
    };
    let direct = &bytes[run.start..run.end];
    let written = if direct.len() <= COPY {
        out.extend_from_slice(direct);
        would_block(stream.try_write(out))?
    } else {
        would_block(stream.try_write_vectored(&[IoSlice::new(out), IoSlice::new(direct)]))?
    };
    if direct.len() > COPY {
        let of_head = written.min(out.len());
        out.drain(..of_head);
        out.extend_from_slice(&direct[written - of_head..]);
    } else {
        out.drain(..written);
    }
    let more = if run.done { 0 } else { take(body, &bytes[run.consumed..], out)? };
    Ok(run.consumed + more)
}

fn would_block(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

fn unexpected(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
