//! The client's end of a session.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::SinkExt;
use tokio::time::timeout;

/// A client that does not read may hold an output back for this time.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// The client is given this time to take the last message.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest reason of a close frame, in bytes.
const LONGEST_REASON: usize = 120;

pub(super) struct Socket(WebSocket);

/// The client has gone, or does not read.
pub(super) struct Gone;

/// How a session ends: a close code, and what it says to people.
pub(super) struct Farewell {
    pub(super) code: u16,
    pub(super) reason: String,
}

impl Farewell {
    pub(super) fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

impl From<Gone> for Farewell {
    fn from(Gone: Gone) -> Self {
        Self::new(close_code::AWAY, "")
    }
}

impl Socket {
    pub(super) fn new(socket: WebSocket) -> Self {
        Self(socket)
    }

    /// Hand a message over to be sent.
    pub(super) async fn feed(&mut self, message: Message) -> Result<(), Gone> {
        timeout(SEND_TIMEOUT, self.0.feed(message)).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    /// Send what was handed over.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        timeout(SEND_TIMEOUT, self.0.flush()).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    pub(super) async fn send(&mut self, message: Message) -> Result<(), Gone> {
        self.feed(message).await?;
        self.flush().await
    }

    /// The next message; `None` when the client has closed or broken the connection.
    pub(super) async fn receive(&mut self) -> Option<Message> {
        match self.0.recv().await {
            Some(Ok(Message::Close(_)) | Err(_)) | None => None,
            Some(Ok(message)) => Some(message),
        }
    }

    /// Say why, and wait a moment for the client to close, too.
    pub(super) async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code, reason: shortened(reason).into() };
        let farewell = async {
            // It fails if the client has closed first: reading on sends the reply to that.
            self.send(Message::Close(Some(frame))).await.ok();
            while let Some(Ok(_)) = self.0.recv().await {}
        };
        timeout(CLOSE_TIMEOUT, farewell).await.ok();
    }
}

fn shortened(reason: &str) -> &str {
    let mut end = reason.len().min(LONGEST_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "ä".repeat(100);

        assert_eq!(shortened(&reason), "ä".repeat(60));
        assert_eq!(shortened(&reason[2..4]), "ä");
        assert!(shortened(&format!("x{reason}")).len() <= LONGEST_REASON);
    }
}
