//! Clients that do not behave: they vanish in the middle of a request, or send a byte a second.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

const BODY: &str = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]";

#[derive(Args)]
pub(crate) struct VanishOptions {
    /// The server, such as 127.0.0.1:8000
    #[arg(long)]
    address: SocketAddr,
    #[arg(long, default_value_t = 10_000)]
    clients: u32,
    /// Over this time they come and go
    #[arg(long, default_value_t = 10.0)]
    secs: f64,
}

#[derive(Args)]
pub(crate) struct DripOptions {
    /// The server, such as 127.0.0.1:8000
    #[arg(long)]
    address: SocketAddr,
    #[arg(long, default_value_t = 500)]
    connections: u32,
    #[arg(long, default_value_t = 10)]
    secs: u32,
}

/// Connect, send a part of a request, and go: with a close or a reset, in its head, in its body, or before the response.
pub(crate) fn vanish(options: &VanishOptions) -> io::Result<Value> {
    let request = request(options.address);
    let head = request.len() - BODY.len();
    let ends = [head / 2, head + BODY.len() / 2, request.len()];
    let interval = Duration::from_secs_f64(options.secs / f64::from(options.clients));
    let began = Instant::now();
    for (number, end) in (0..options.clients).zip(ends.into_iter().cycle()) {
        thread::sleep((began + interval * number).saturating_duration_since(Instant::now()));
        let mut stream = TcpStream::connect(options.address)?;
        stream.write_all(&request.as_bytes()[..end])?;
        if number % 2 == 0 {
            set_socket_linger(&stream, Some(Duration::ZERO))?;
        }
    }
    Ok(json!({ "clients": options.clients, "secs": began.elapsed().as_secs_f64() }))
}

/// Send a byte a second on each connection: on half of them of the head, on the others of the body.
pub(crate) fn drip(options: &DripOptions) -> io::Result<Value> {
    let request = request(options.address);
    let head = request.len() - BODY.len();
    let mut connections = Vec::new();
    for number in 0..options.connections {
        let mut stream = TcpStream::connect(options.address)?;
        let begun = if number % 2 == 0 { 1 } else { head };
        stream.write_all(&request.as_bytes()[..begun])?;
        connections.push((stream, begun));
    }
    let began = Instant::now();
    let interval = Duration::from_secs(1) / options.connections;
    let mut refused = 0_u32;
    for number in 0..options.secs * options.connections {
        thread::sleep((began + interval * number).saturating_duration_since(Instant::now()));
        let index = number as usize % connections.len();
        let (stream, sent) = &mut connections[index];
        match stream.write_all(&request.as_bytes()[*sent..=*sent]) {
            Ok(()) => *sent = (*sent + 1).min(request.len() - 1),
            // Patience has its end.
            Err(error) if [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind()) => refused += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(json!({ "connections": options.connections, "refused": refused }))
}

fn request(address: SocketAddr) -> String {
    format!("POST /call HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len())
}
