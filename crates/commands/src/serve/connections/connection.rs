//! One connection, from its handshake to its end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::Service as _;

/// The time for the head of a request, and for which a connection may be idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The time for the handshake of TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What arrived before a stop is accepted and read within this time after it.
const LAST_ARRIVALS: Duration = Duration::from_millis(10);

/// Who sends the requests of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// A stream with its place among the connections that may be open, which it keeps when it becomes a WebSocket.
pub(crate) struct Placed {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Placed {
    pub(crate) fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        Self { stream, _place: place }
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Agree on keys with the client; nothing if it cannot, or takes too long.
pub(crate) async fn shake_hands<S>(tls: &TlsAcceptor, stream: S) -> Option<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await.ok()?.ok()
}

/// Respond to the requests of a connection until it ends; after a stop, only to those in progress.
pub(crate) async fn serve<S>(stream: S, peer: SocketAddr, router: Router, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = tower::service_fn(move |mut request: hyper::Request<Incoming>| {
        let mut router = router.clone();
        request.extensions_mut().insert(Peer(peer));
        async move {
            Ok::<_, Infallible>(match router.call(request).await {
                Ok(response) => response,
            })
        }
    });
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = protocol.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection.with_upgrades());
    // A connection that breaks concerns only its client.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = stop(&mut stopped) => {}
    }
    // It ends at once if it has read no request.
    connection.as_mut().graceful_shutdown();
    connection.await.ok();
}

/// Wait until the service stops, and has noticed what arrived before that.
///
/// The runtime looks at its sockets before its timers: who waits for a socket first and for this second misses nothing.
pub(crate) async fn stop(stopped: &mut watch::Receiver<bool>) {
    // The sender lives as long as the service.
    drop(stopped.wait_for(|is_stopped| *is_stopped).await);
    tokio::time::sleep(LAST_ARRIVALS).await;
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::server::ResolvesServerCertUsingSni;

    use super::*;

    fn connect() -> (DuplexStream, watch::Sender<bool>) {
        let (client, server) = tokio::io::duplex(4096);
        let router = Router::new().route("/", post(|| async { "here" }));
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(server, ([127, 0, 0, 1], 1).into(), router, stopped));
        (client, stop)
    }

    /// When the other end closes the connection.
    async fn closed_after(mut client: DuplexStream) -> Duration {
        let began = tokio::time::Instant::now();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.ok();
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_closes_the_connection() {
        let (mut client, _stop) = connect();
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nX-").await.unwrap();

        assert!((HEAD_TIMEOUT..HEAD_TIMEOUT * 2).contains(&closed_after(client).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_idle_is_closed() {
        let (mut client, _stop) = connect();
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");

        assert!((HEAD_TIMEOUT..HEAD_TIMEOUT * 2).contains(&closed_after(client).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_closed_at_a_stop() {
        let (client, stop) = connect();
        tokio::task::yield_now().await;

        stop.send_replace(true);

        assert!((LAST_ARRIVALS..LAST_ARRIVALS * 2).contains(&closed_after(client).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_has_arrived_at_a_stop_has_its_response() {
        let (mut client, stop) = connect();
        let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

        client.write_all(request).await.unwrap();
        stop.send_replace(true);

        let mut received = String::new();
        client.read_to_string(&mut received).await.unwrap();
        assert!(received.starts_with("HTTP/1.1 200 OK"), "{received}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_does_not_begin_ends() {
        let (client, server) = tokio::io::duplex(4096);
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        let began = tokio::time::Instant::now();

        assert!(shake_hands(&TlsAcceptor::from(Arc::new(config)), server).await.is_none());

        assert_eq!(began.elapsed().as_secs(), HANDSHAKE_TIMEOUT.as_secs());
        drop(client);
    }
}
