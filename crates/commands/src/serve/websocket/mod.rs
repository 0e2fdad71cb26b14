//! `GET /session`: a live session on a WebSocket.

mod conversation;
mod messages;
mod socket;

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::input::Layout;
use crate::serve::app::App;
use crate::serve::requests::live::LiveStream;
use crate::serve::requests::request_id::RequestId;
use conversation::Conversation;
use socket::Socket;

/// The subprotocol, which a client may name along with its token.
const PROTOCOL: &str = "remotemedia";

/// Most connections are idle, and messages are small.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Outputs are sent together up to this size.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// Accept a WebSocket.
pub(crate) fn accept(
    app: Arc<App>,
    id: RequestId,
    layout: Layout,
    permit: OwnedSemaphorePermit,
    upgrade: WebSocketUpgrade,
) -> Response {
    let max_message = app.settings.max_body;
    upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(max_message)
        .max_frame_size(max_message)
        .on_upgrade(move |socket| serve(app, id, layout, permit, socket))
}

async fn serve(app: Arc<App>, id: RequestId, layout: Layout, permit: OwnedSemaphorePermit, socket: WebSocket) {
    let mut socket = Socket::new(socket);
    let session = match app.sessions.begin(permit).await {
        Ok(session) => session,
        Err(failure) => return socket.close(close_code::ERROR, &failure.message).await,
    };
    let ready = json!({"$event": "ready", "session": session.id.to_string()});
    if socket.send(Message::text(ready.to_string())).await.is_err() {
        return;
    }
    let live = LiveStream::open(&*session.service);
    let mut conversation = Conversation::new(&app, &id, layout, live);
    let farewell = conversation.run(&mut socket).await;
    // What is in progress is dropped before the client learns of the end.
    drop(conversation);
    socket.close(farewell.code, &farewell.reason).await;
    drop(session);
}
