//! Requests on connections that stay open.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::events::Events;
use crate::latencies::Latencies;

/// How long responses may be late after the last request.
const SETTLE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Options {
    /// The server, such as 127.0.0.1:8000
    #[arg(long)]
    address: SocketAddr,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    #[arg(long, default_value_t = 5.0)]
    secs: f64,
    /// Requests per second; latencies count from when a request is due, not from when a connection is free for it
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value = "/call")]
    path: String,
    /// Sent as JSON; the response must be the same
    #[arg(long, default_value = "1")]
    body: String,
}

/// Run, and return how many requests were answered, how quickly, and how many were not, or wrongly.
pub(crate) fn run(options: &Options) -> io::Result<Value> {
    let mut client = Client::connect(options)?;
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(options.secs);
    if let Some(rate) = options.rate {
        client.run_at_rate(began, end, rate)?;
    } else {
        client.run_at_once(end)?;
    }
    let took = client.last_response.unwrap_or(end).duration_since(began);
    let answered = u32::try_from(client.latencies.count()).map_err(io::Error::other)?;
    Ok(json!({
        "requests": client.sent,
        "failed": client.sent - u64::from(answered) + client.wrong,
        "per_sec": f64::from(answered) / took.as_secs_f64(),
        "us": client.latencies.summary(),
    }))
}

struct Client {
    connections: Vec<Connection>,
    events: Events,
    request: Vec<u8>,
    expected: Vec<u8>,
    latencies: Latencies,
    sent: u64,
    wrong: u64,
    last_response: Option<Instant>,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// When the request that it waits for was due.
    due: Option<Instant>,
}

impl Client {
    fn connect(options: &Options) -> io::Result<Self> {
        let events = Events::new()?;
        let connect = |number| {
            let stream = TcpStream::connect(options.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            events.add(&stream, number)?;
            Ok(Connection { stream, received: Vec::new(), due: None })
        };
        let connections = (0..options.connections).map(connect).collect::<io::Result<_>>()?;
        let Options { address, path, body, .. } = options;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len(),
        );
        Ok(Self {
            connections,
            events,
            request: request.into_bytes(),
            expected: body.clone().into_bytes(),
            latencies: Latencies::default(),
            sent: 0,
            wrong: 0,
            last_response: None,
        })
    }

    /// Send the next request of a connection as soon as it has the response to the last one.
    fn run_at_once(&mut self, end: Instant) -> io::Result<()> {
        for number in 0..self.connections.len() {
            self.send(number, Instant::now())?;
        }
        let mut ready = Vec::new();
        let mut waiting = self.connections.len();
        while waiting > 0 && Instant::now() < end + SETTLE {
            self.events.wait_until(end + SETTLE, &mut ready)?;
            for &number in &ready {
                if !self.receive(number)? {
                    continue;
                }
                let now = Instant::now();
                if now < end {
                    self.send(number, now)?;
                } else {
                    waiting -= 1;
                }
            }
        }
        Ok(())
    }

    /// Send requests when they are due. One for which no connection is free is sent later, and its time runs.
    fn run_at_rate(&mut self, began: Instant, end: Instant, rate: f64) -> io::Result<()> {
        let interval = Duration::from_secs_f64(1.0 / rate);
        let mut next_due = began;
        let mut backlog = VecDeque::new();
        let mut free: Vec<usize> = (0..self.connections.len()).collect();
        let mut ready = Vec::new();
        loop {
            let now = Instant::now();
            while next_due < end && next_due <= now {
                backlog.push_back(next_due);
                next_due += interval;
            }
            while !backlog.is_empty()
                && let Some(number) = free.pop()
                && let Some(due) = backlog.pop_front()
            {
                self.send(number, due)?;
            }
            let is_over = next_due >= end && backlog.is_empty() && free.len() == self.connections.len();
            if is_over || now > end + SETTLE {
                self.sent += backlog.len() as u64;
                return Ok(());
            }
            self.events.wait_until(if next_due < end { next_due } else { end + SETTLE }, &mut ready)?;
            for &number in &ready {
                if self.receive(number)? {
                    free.push(number);
                }
            }
        }
    }

    fn send(&mut self, number: usize, due: Instant) -> io::Result<()> {
        let connection = &mut self.connections[number];
        // The connection is empty, and has room for a small request.
        let count = connection.stream.write(&self.request)?;
        if count < self.request.len() {
            return Err(io::Error::other("the request is too long for this program"));
        }
        connection.due = Some(due);
        self.sent += 1;
        Ok(())
    }

    /// Read what is there; return whether the response is complete.
    fn receive(&mut self, number: usize) -> io::Result<bool> {
        let connection = &mut self.connections[number];
        let mut buffer = [0; 4096];
        match connection.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(count) => connection.received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        let Some(body) = body_of(&connection.received)? else { return Ok(false) };
        let is_right = connection.received.starts_with(b"HTTP/1.1 200 ") && body == self.expected;
        self.wrong += u64::from(!is_right);
        connection.received.clear();
        let now = Instant::now();
        if let Some(due) = connection.due.take() {
            self.latencies.add(now.duration_since(due));
        }
        self.last_response = Some(now);
        Ok(true)
    }
}

/// The body of a response, if it is complete.
fn body_of(response: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some(end) = response.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = (&response[..end], &response[end + 4..]);
    let length = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(b"content-length:".len())?;
        name.eq_ignore_ascii_case(b"content-length:").then(|| str::from_utf8(value).ok()?.trim().parse().ok()).flatten()
    });
    let length: usize = length.ok_or_else(|| io::Error::other("a response states no length"))?;
    Ok((body.len() >= length).then(|| &body[..length]))
}
