//! Live audio over WebSockets: each sends a chunk of 20 ms 50 times a second, and receives it back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::events::Events;
use crate::latencies::Latencies;

const CHUNKS_PER_SEC: u32 = 50;

/// 20 ms at 16 kHz, as samples of 16 bits.
const CHUNK_BYTES: u16 = 640;

/// Waking for each of many chunks would cost more than to send it.
const SHORTEST_WAIT: Duration = Duration::from_micros(200);

/// How long chunks may be late after the last one was sent.
const SETTLE: Duration = Duration::from_secs(2);

const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct Options {
    /// The server, such as 127.0.0.1:8000
    #[arg(long)]
    address: SocketAddr,
    #[arg(long, default_value_t = 100)]
    connections: u32,
    #[arg(long, default_value_t = 30)]
    secs: u32,
    #[arg(long, default_value = "/session")]
    path: String,
}

/// Run, and return how many chunks came back, how late, and how many did not, or were not the same.
pub(crate) fn run(options: &Options) -> io::Result<Value> {
    let mut client = Client::connect(options)?;
    client.run(u64::from(options.secs * CHUNKS_PER_SEC))?;
    let received = client.latencies.count() as u64;
    Ok(json!({
        "chunks": client.sent,
        "dropped": client.sent - received,
        "wrong": client.wrong,
        "errors": client.errors,
        "us": client.latencies.summary(),
    }))
}

struct Client {
    sockets: Vec<Socket>,
    events: Events,
    began: Instant,
    latencies: Latencies,
    /// Those that no socket had room for are included.
    sent: u64,
    wrong: u64,
    errors: u64,
}

impl Client {
    fn connect(options: &Options) -> io::Result<Self> {
        let events = Events::new()?;
        let mut sockets = Vec::new();
        for number in 0..options.connections as usize {
            let socket = Socket::connect(options)?;
            events.add(&socket.stream, number)?;
            sockets.push(socket);
        }
        let (began, latencies) = (Instant::now() + SHORTEST_WAIT, Latencies::default());
        Ok(Self { sockets, events, began, latencies, sent: 0, wrong: 0, errors: 0 })
    }

    fn run(&mut self, chunks: u64) -> io::Result<()> {
        let total = chunks * self.sockets.len() as u64;
        let end = self.due(total);
        let mut ready = Vec::new();
        loop {
            let now = Instant::now();
            while self.sent < total && self.due(self.sent) <= now {
                self.send_next();
            }
            let is_over = self.sent == total && self.latencies.count() as u64 == total;
            if is_over || now > end + SETTLE {
                self.sent = total;
                return Ok(());
            }
            let moment = if self.sent < total { self.due(self.sent) } else { end + SETTLE };
            self.events.wait_until(moment.max(now + SHORTEST_WAIT), &mut ready)?;
            for &number in &ready {
                self.receive(number)?;
            }
        }
    }

    /// When a chunk of all chunks is due: those of different sockets at different times.
    fn due(&self, chunk: u64) -> Instant {
        let per_sec = u64::from(CHUNKS_PER_SEC) * self.sockets.len() as u64;
        self.began + Duration::from_nanos(chunk * 1_000_000_000 / per_sec)
    }

    fn send_next(&mut self) {
        let count = self.sockets.len() as u64;
        let (number, chunk) = (self.sent % count, self.sent / count);
        if let Ok(number) = usize::try_from(number) {
            self.sockets[number].send(chunk);
        }
        self.sent += 1;
    }

    fn receive(&mut self, number: usize) -> io::Result<()> {
        let socket = &mut self.sockets[number];
        if !socket.read()? {
            return Err(io::Error::other("the server closed a connection"));
        }
        let mut done = 0;
        while let Some((kind, payload)) = frame_of(&self.sockets[number].received[done..]) {
            done += payload.end;
            let payload = done - (payload.end - payload.start)..done;
            match kind {
                BINARY => self.take_chunk(number, payload),
                TEXT => {
                    let text = &self.sockets[number].received[payload];
                    self.errors += u64::from(text.windows(7).any(|bytes| bytes == b"\"error\""));
                }
                PING => self.sockets[number].pong(payload)?,
                CLOSE => return Err(io::Error::other("the server ended a WebSocket")),
                _ => {}
            }
        }
        self.sockets[number].received.drain(..done);
        Ok(())
    }

    fn take_chunk(&mut self, number: usize, payload: std::ops::Range<usize>) {
        let chunk = self.sockets[number].chunks_received;
        let due = self.due(chunk * self.sockets.len() as u64 + number as u64);
        let socket = &mut self.sockets[number];
        self.wrong += u64::from(socket.received[payload] != chunk_of(chunk));
        socket.chunks_received += 1;
        self.latencies.add(due.elapsed());
    }
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Says that the length is in the next two bytes.
const LENGTH_FOLLOWS: u8 = 126;

/// A client must mask what it sends; this mask changes nothing.
const MASK: [u8; 4] = [0; 4];

struct Socket {
    stream: TcpStream,
    received: Vec<u8>,
    chunks_received: u64,
    /// It had room for a part of a frame only, and can send nothing more.
    is_full: bool,
}

impl Socket {
    fn connect(options: &Options) -> io::Result<Self> {
        let Options { address, path, .. } = options;
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        let mut socket = Self { stream, received: Vec::new(), chunks_received: 0, is_full: false };
        let end = loop {
            if !socket.read()? {
                return Err(io::Error::other("the server closed a connection"));
            }
            if let Some(end) = socket.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        if !socket.received.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::Error::other(String::from_utf8_lossy(&socket.received).into_owned()));
        }
        socket.received.drain(..end);
        socket.stream.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Read what is there; return whether the connection is still open.
    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(count > 0)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Send a chunk, unless the server has not read the ones before.
    fn send(&mut self, chunk: u64) {
        let [high, low] = CHUNK_BYTES.to_be_bytes();
        let mut frame = vec![FINAL | BINARY, MASKED | LENGTH_FOLLOWS, high, low];
        frame.extend(MASK);
        frame.extend(chunk_of(chunk));
        self.is_full = self.is_full || !matches!(self.stream.write(&frame), Ok(count) if count == frame.len());
    }

    fn pong(&mut self, payload: std::ops::Range<usize>) -> io::Result<()> {
        let payload = &self.received[payload];
        // A longer one is not allowed.
        let length = u8::try_from(payload.len()).map_err(io::Error::other)?;
        let mut frame = vec![FINAL | PONG, MASKED | length];
        frame.extend(MASK);
        frame.extend(payload);
        self.stream.write(&frame).map(drop)
    }
}

/// The samples of a chunk, which tell it from the others.
fn chunk_of(number: u64) -> [u8; CHUNK_BYTES as usize] {
    let mut samples = [0; CHUNK_BYTES as usize];
    let [low, high, ..] = number.to_le_bytes();
    samples[0] = low;
    // A sample that stays positive.
    samples[1] = high & 0x7F;
    samples
}

/// The kind of the first frame, and the place of what it carries, if it is complete. Servers mask nothing.
fn frame_of(bytes: &[u8]) -> Option<(u8, std::ops::Range<usize>)> {
    let (kind, short) = (bytes.first()? & 0x0F, *bytes.get(1)?);
    let (start, length) = match short {
        LENGTH_FOLLOWS => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, usize::from(length)),
    };
    let end = start + length;
    (bytes.len() >= end).then_some((kind, start..end))
}
