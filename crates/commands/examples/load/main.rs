//! A load generator for the benchmarks of `serve`: many connections on one thread, which cost little beside what is measured.
//!
//! `load http` and `load websockets` measure; `load vanish` and `load drip` disturb. Each prints one line of JSON.

mod events;
mod http;
mod latencies;
mod unkind;
mod websockets;

use std::io;

use clap::Parser;

#[derive(Parser)]
#[command(name = "load", about = "Put load on an HTTP or WebSocket server, and print what came of it")]
enum Load {
    /// Send one request after the other on each connection, or all at a fixed rate.
    Http(http::Options),
    /// Send a chunk of audio 50 times a second on each WebSocket, and wait for it to come back.
    Websockets(websockets::Options),
    /// Connect, send a part of a request, and go.
    Vanish(unkind::VanishOptions),
    /// Send a byte a second on many connections.
    Drip(unkind::DripOptions),
}

#[allow(clippy::print_stdout, reason = "the program that starts this one reads the result")]
fn main() -> io::Result<()> {
    let result = match Load::parse() {
        Load::Http(options) => http::run(&options)?,
        Load::Websockets(options) => websockets::run(&options)?,
        Load::Vanish(options) => unkind::vanish(&options)?,
        Load::Drip(options) => unkind::drip(&options)?,
    };
    println!("{result}");
    Ok(())
}
