//! One session: items go in as there is room, outputs go out as they are made.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, close_code};
use remotemedia_runtime::Value;
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::messages::{self, Reader, Request, Writer};
use super::socket::{Farewell, Gone, Socket};
use crate::input::Layout;
use crate::serve::app::App;
use crate::serve::requests::blocking::beside_others;
use crate::serve::requests::live::{LiveStream, Putting, admitted};
use crate::serve::requests::reply::Problem;
use crate::serve::requests::request_id::RequestId;
use crate::service::{CallError, CallErrorKind, StreamNext};

/// What one connection may hold of messages that wait to be put in: the rest waits with the client.
const MAX_WAITING_BYTES: usize = 1 << 20;
const MAX_WAITING: usize = 1024;

/// Outputs that are sent before the client is listened to again, and their size.
const MAX_SENT: usize = 64;
const MAX_SENT_BYTES: usize = 256 * 1024;

/// A client from which nothing comes is asked whether it is there, and left after twice this time.
const PING_INTERVAL: Duration = Duration::from_secs(30);

pub(super) struct Conversation<'a> {
    app: &'a App,
    id: &'a RequestId,
    live: LiveStream,
    reader: Reader,
    writer: Writer,
    /// What waits to be put in, with its size; `None` is the end of input.
    waiting: VecDeque<(Option<Value>, usize)>,
    waiting_bytes: usize,
    putting: Option<Putting>,
    is_ended: bool,
    is_draining: bool,
    last_heard: Instant,
}

fn size_of_message(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) => bytes.len(),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => 0,
    }
}

/// What happens next.
enum Event {
    /// There may be outputs, or room.
    Changed,
    Admitted(Result<(), CallError>),
    Received(Option<Message>),
    Draining,
    PingDue,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(app: &'a App, id: &'a RequestId, layout: Layout, live: LiveStream) -> Self {
        Self {
            app,
            id,
            live,
            reader: Reader::new(layout),
            writer: Writer::new(layout),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            putting: None,
            is_ended: false,
            is_draining: false,
            last_heard: Instant::now(),
        }
    }

    pub(super) async fn run(&mut self, socket: &mut Socket) -> Farewell {
        let mut pings = interval_at(self.last_heard + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Err(farewell) = self.step(socket, &mut pings).await {
                return farewell;
            }
        }
    }

    async fn step(&mut self, socket: &mut Socket, pings: &mut Interval) -> Result<(), Farewell> {
        let has_more = self.send_ready(socket).await?;
        self.put_next();
        let may_read = self.waiting.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES;
        let event = tokio::select! {
            () = self.live.changed() => Event::Changed,
            () = std::future::ready(()), if has_more => Event::Changed,
            outcome = admitted(&mut self.putting) => Event::Admitted(outcome),
            message = socket.receive(), if may_read => Event::Received(message),
            () = self.app.drained(), if !self.is_draining => Event::Draining,
            _ = pings.tick() => Event::PingDue,
        };
        match event {
            Event::Changed | Event::Admitted(Ok(())) => Ok(()),
            Event::Admitted(Err(error)) => self.send_error(socket, error).await,
            Event::Received(None) => Err(Farewell::new(close_code::NORMAL, "")),
            Event::Received(Some(message)) => {
                self.last_heard = Instant::now();
                self.take(socket, &message).await.map_err(Farewell::from)
            }
            Event::Draining => {
                self.is_draining = true;
                Ok(())
            }
            Event::PingDue if may_read && self.last_heard.elapsed() > 2 * PING_INTERVAL => {
                Err(Farewell::new(close_code::AWAY, "nothing was heard"))
            }
            Event::PingDue => socket.send(Message::Ping(Bytes::new())).await.map_err(Farewell::from),
        }
    }

    /// Put in what has waited longest, if there is room. When the service stops, what was received before is the last.
    fn put_next(&mut self) {
        if self.putting.is_some() || self.is_ended || !self.live.has_room() {
            return;
        }
        match self.waiting.pop_front() {
            Some((Some(item), bytes)) => {
                self.waiting_bytes -= bytes;
                self.putting = Some(self.live.put(item));
            }
            None if !self.is_draining => {}
            Some((None, _)) | None => {
                self.is_ended = true;
                self.live.end();
            }
        }
    }

    /// Send the outputs that are there, but not so many that the client is not heard meanwhile. Returns whether there may be more.
    async fn send_ready(&mut self, socket: &mut Socket) -> Result<bool, Farewell> {
        let (mut sent, mut sent_bytes) = (0, 0);
        while sent < MAX_SENT && sent_bytes < MAX_SENT_BYTES {
            match self.live.ready() {
                StreamNext::Nothing => break,
                StreamNext::Output(value) => match self.writer.write(value) {
                    Ok((announcement, message)) => {
                        sent_bytes += size_of_message(&message);
                        if let Some(announcement) = announcement {
                            socket.feed(announcement).await?;
                        }
                        socket.feed(message).await?;
                    }
                    Err(problem) => socket.feed(messages::error(&problem, self.id)).await?,
                },
                StreamNext::End => {
                    socket.send(messages::event("end", json!({}))).await?;
                    let code = if self.is_draining { close_code::AWAY } else { close_code::NORMAL };
                    return Err(Farewell::new(code, ""));
                }
                StreamNext::Failed(error) => self.send_error(socket, error).await?,
            }
            sent += 1;
        }
        if sent > 0 {
            socket.flush().await?;
        }
        Ok(sent == MAX_SENT || sent_bytes >= MAX_SENT_BYTES)
    }

    /// Tell the client of the error of an item. After one that is not about an item, the session ends.
    async fn send_error(&mut self, socket: &mut Socket, error: CallError) -> Result<(), Farewell> {
        let (kind, reason) = (error.kind, error.message.clone());
        match kind {
            CallErrorKind::Closed => Err(Farewell::new(close_code::AWAY, reason)),
            CallErrorKind::Client => Err(Farewell::new(close_code::POLICY, reason)),
            CallErrorKind::Item | CallErrorKind::Node => {
                let problem = self.app.problem_of(error, self.id);
                Ok(socket.send(messages::error(&problem, self.id)).await?)
            }
        }
    }

    /// Take a message: an item waits for its turn.
    async fn take(&mut self, socket: &mut Socket, message: &Message) -> Result<(), Gone> {
        if self.is_draining {
            return Ok(());
        }
        match beside_others(size_of_message(message), || self.reader.read(message)) {
            Ok(None) => Ok(()),
            Ok(Some((Request::Item(item), bytes))) => {
                self.waiting_bytes += bytes;
                self.waiting.push_back((Some(item), bytes));
                Ok(())
            }
            Ok(Some((Request::End, _))) => {
                self.waiting.push_back((None, 0));
                Ok(())
            }
            Ok(Some((Request::Interrupt, _))) => self.interrupt(socket).await,
            Err(problem) => self.refuse(socket, &problem).await,
        }
    }

    async fn refuse(&mut self, socket: &mut Socket, problem: &Problem) -> Result<(), Gone> {
        socket.send(messages::error(problem, self.id)).await
    }

    /// Drop what waits and what is in progress, and say so. An end of input stays.
    async fn interrupt(&mut self, socket: &mut Socket) -> Result<(), Gone> {
        self.putting = None;
        let dropped = self.live.interrupt().await;
        let waited = self.waiting.iter().filter(|(item, _)| item.is_some()).count() as u64;
        self.waiting.retain(|(item, _)| item.is_none());
        self.waiting_bytes = 0;
        socket.send(messages::event("interrupted", json!({"dropped": dropped + waited}))).await
    }
}
