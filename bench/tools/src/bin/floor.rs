//! The floor: the cheapest relay that still frames HTTP/1.1 safely. No product, a yardstick: one
//! thread, one backend, one read and one write per message and side, on the product's own codec.
//!
//!     floor LISTEN BACKEND

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use bench_tools::{Buffer, listen, run};
use http1::{
    Body, CONTINUE, Delivery, Exchange, Form, LAST_CHUNK, Limits, Method, Progress, RequestHead, RequestOut,
    ResponseHead, ResponseOut, Version, parse_request, parse_response, write_chunk, write_error, write_refusal,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Heads fit, and bodies of 64 KiB in one read.
const UPSTREAM_BUFFER: usize = 80 * 1024;
const CLIENT_BUFFER: usize = 16 * 1024;
const MAX_INTERIM: usize = 100;
/// Bodies above this are not copied behind their head but written beside it.
const COPY_LIMIT: usize = 4 * 1024;

struct Upstream {
    stream: TcpStream,
    buffer: Buffer,
}

thread_local! {
    static POOL: RefCell<Vec<Upstream>> = const { RefCell::new(Vec::new()) };
}

/// One client and what is reused from request to request.
struct Session {
    client: TcpStream,
    input: Buffer,
    request: RequestHead,
    response: ResponseHead,
    out: Vec<u8>,
    backend: SocketAddr,
}

/// What became of an exchange.
enum Fate {
    Next,
    /// Everything was said: close gently.
    Close,
    /// Something is missing: the client must notice.
    Cut,
}

#[derive(PartialEq)]
enum Answer {
    Head,
    Nothing,
    Bad,
}

impl Session {
    async fn serve(mut self) -> io::Result<()> {
        loop {
            match self.exchange().await? {
                Fate::Next => {}
                Fate::Cut => return Ok(()),
                Fate::Close => return self.linger().await,
            }
        }
    }

    async fn exchange(&mut self) -> io::Result<Fate> {
        loop {
            match parse_request(self.input.filled(), &Limits::REQUEST, &mut self.request) {
                Ok(Progress::Complete) => break,
                Ok(Progress::Partial) if self.input.fill(&mut self.client).await? == 0 => {
                    return Ok(Fate::Cut);
                }
                Ok(Progress::Partial) => {}
                Err(error) => return self.refuse(error.status()).await,
            }
        }
        if self.request.lacks_host() {
            return self.refuse(400).await;
        }
        if self.request.method == Method::Connect {
            return self.refuse(405).await;
        }
        self.out.clear();
        let extra = b"via: 1.1 floor\r\nl5d-dst-service: /svc/web\r\n";
        let edit = RequestOut { extra, ..RequestOut::default() };
        self.request.write(self.input.filled(), &edit, &mut self.out);
        let mut body = Body::new(self.request.body);
        let mut used = self.request.len;
        if !body.is_done() {
            match body.feed(&self.input.filled()[used..], Form::Pass, &mut self.out) {
                Ok((length, _)) => used += length,
                Err(_) => return self.refuse(400).await,
            }
        }
        self.input.consume(used);
        if self.request.expect_continue && !body.is_done() {
            self.client.write_all(CONTINUE).await?;
        }
        self.forward(body).await
    }

    async fn forward(&mut self, mut body: Body) -> io::Result<Fate> {
        let pooled = checkout().await;
        let mut again = pooled.is_some() && body.is_done();
        let mut upstream = match pooled {
            Some(upstream) => upstream,
            None => match connect(self.backend).await {
                Ok(upstream) => upstream,
                Err(_) => return self.gateway_error().await,
            },
        };
        loop {
            let sent = upstream.stream.write_all(&self.out).await.is_ok();
            let answer = if sent { self.await_answer(&mut upstream, &mut body).await? } else { Answer::Nothing };
            match answer {
                Answer::Head => return self.deliver(upstream, body).await,
                // An idle connection that closed as we wrote: nothing was lost, once.
                Answer::Nothing if again => {
                    again = false;
                    upstream = match connect(self.backend).await {
                        Ok(upstream) => upstream,
                        Err(_) => return self.gateway_error().await,
                    };
                }
                Answer::Nothing | Answer::Bad => return self.gateway_error().await,
            }
        }
    }

    /// Sends the rest of the request body while it waits for a final response head.
    async fn await_answer(&mut self, up: &mut Upstream, body: &mut Body) -> io::Result<Answer> {
        let exchange = Exchange::of(&self.request, false);
        let (mut interim, mut any) = (0, false);
        loop {
            while !up.buffer.filled().is_empty() {
                let bytes = up.buffer.filled();
                match parse_response(bytes, &Limits::RESPONSE, exchange, &mut self.response) {
                    Ok(Progress::Partial) => break,
                    Err(_) => return Ok(Answer::Bad),
                    Ok(Progress::Complete) if !self.response.is_interim() => return Ok(Answer::Head),
                    Ok(Progress::Complete) => {}
                }
                interim += 1;
                if interim > MAX_INTERIM {
                    return Ok(Answer::Bad);
                }
                if self.request.version == Version::Http11 {
                    let mut out = Vec::new();
                    self.response.write(bytes, &ResponseOut::default(), &mut out);
                    self.client.write_all(&out).await?;
                }
                up.buffer.consume(self.response.len);
            }
            let read = if body.is_done() {
                up.buffer.fill(&mut up.stream).await
            } else {
                tokio::select! {
                    biased;
                    read = up.buffer.fill(&mut up.stream) => read,
                    read = self.input.fill(&mut self.client) => {
                        if read? == 0 {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                        any = true;
                        self.out.clear();
                        match body.feed(self.input.filled(), Form::Pass, &mut self.out) {
                            Ok((used, _)) => self.input.consume(used),
                            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
                        }
                        // A server that reads no further may still have answered.
                        let _ = up.stream.write_all(&self.out).await;
                        continue;
                    }
                }
            };
            match read {
                Ok(read) if read > 0 => any = true,
                _ => return Ok(if any { Answer::Bad } else { Answer::Nothing }),
            }
        }
    }

    async fn deliver(&mut self, mut up: Upstream, request_body: Body) -> io::Result<Fate> {
        let delivery = self.response.delivery(self.request.version);
        let form = if delivery == Delivery::Same { Form::Pass } else { Form::Payload };
        let keep_alive = self.request.keep_alive && request_body.is_done() && delivery != Delivery::UntilClose;
        let edit = ResponseOut { client: self.request.version, keep_alive, ..ResponseOut::default() };
        self.out.clear();
        self.response.write(up.buffer.filled(), &edit, &mut self.out);
        up.buffer.consume(self.response.len);
        let mut body = Body::new(self.response.body);
        let mut done = body.is_done();
        loop {
            while !done && !up.buffer.filled().is_empty() {
                let input = up.buffer.filled();
                let Ok(run) = body.next(input, form) else {
                    self.client.write_all(&self.out).await?;
                    return Ok(Fate::Cut);
                };
                let bytes = &input[run.start..run.end];
                if delivery == Delivery::Chunk {
                    write_chunk(&mut self.out, bytes);
                } else if bytes.len() <= COPY_LIMIT {
                    self.out.extend_from_slice(bytes);
                } else {
                    write_both(&mut self.client, &self.out, bytes).await?;
                    self.out.clear();
                }
                up.buffer.consume(run.consumed);
                done = run.done;
            }
            if !self.out.is_empty() {
                self.client.write_all(&self.out).await?;
                self.out.clear();
            }
            if done {
                break;
            }
            match up.buffer.fill(&mut up.stream).await {
                Ok(0) if body.close().is_ok() => {
                    if delivery == Delivery::Chunk {
                        self.client.write_all(LAST_CHUNK).await?;
                    }
                    break;
                }
                Ok(0) | Err(_) => return Ok(Fate::Cut),
                Ok(_) => {}
            }
        }
        // Bytes behind the answer are nobody's: such a connection is not kept.
        if self.response.keep_alive && request_body.is_done() && up.buffer.filled().is_empty() {
            POOL.with(|pool| pool.borrow_mut().push(up));
        }
        Ok(if keep_alive { Fate::Next } else { Fate::Close })
    }

    async fn refuse(&mut self, status: u16) -> io::Result<Fate> {
        self.out.clear();
        write_refusal(&mut self.out, status);
        self.client.write_all(&self.out).await?;
        Ok(Fate::Close)
    }

    async fn gateway_error(&mut self) -> io::Result<Fate> {
        self.out.clear();
        write_error(&mut self.out, 502, b"connection: close\r\n", b"");
        self.client.write_all(&self.out).await?;
        Ok(Fate::Close)
    }

    /// Closes so that the client can read the answer although it may still be sending.
    async fn linger(mut self) -> io::Result<()> {
        self.client.shutdown().await?;
        let mut sink = [0; 4096];
        let drain = async { while self.client.read(&mut sink).await.is_ok_and(|read| read > 0) {} };
        let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
        Ok(())
    }
}

async fn connect(backend: SocketAddr) -> io::Result<Upstream> {
    let stream = TcpStream::connect(backend).await?;
    stream.set_nodelay(true)?;
    Ok(Upstream { stream, buffer: Buffer::new(UPSTREAM_BUFFER) })
}

/// An idle connection on which nothing has happened since it was put back. Costs no system call:
/// the event loop has noted whatever came.
async fn checkout() -> Option<Upstream> {
    loop {
        let upstream = POOL.with(|pool| pool.borrow_mut().pop())?;
        let ready = poll_fn(|context| Poll::Ready(upstream.stream.poll_read_ready(context).is_ready()));
        if !ready.await {
            return Some(upstream);
        }
    }
}

async fn write_both(client: &mut TcpStream, mut first: &[u8], mut second: &[u8]) -> io::Result<()> {
    while !first.is_empty() {
        let written = client.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]).await?;
        let of_first = written.min(first.len());
        first = &first[of_first..];
        second = &second[written - of_first..];
    }
    client.write_all(second).await
}

fn main() -> io::Result<()> {
    let addresses: Vec<SocketAddr> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [address, backend] = addresses[..] else {
        return Err(io::Error::other("usage: floor LISTEN BACKEND"));
    };
    run(tokio::task::LocalSet::new().run_until(async move {
        let listener = listen(address)?;
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            client.set_nodelay(true)?;
            let session = Session {
                client,
                input: Buffer::new(CLIENT_BUFFER),
                request: RequestHead::default(),
                response: ResponseHead::default(),
                out: Vec::with_capacity(8 * 1024),
                backend,
            };
            // A client that goes away is no failure of the relay.
            tokio::task::spawn_local(async move { drop(session.serve().await) });
        }
    }))
}
