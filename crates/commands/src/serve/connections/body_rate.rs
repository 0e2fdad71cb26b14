//! The least rate at which the body of a request must arrive.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// The time that a body may take whatever its length.
const GRACE: Duration = Duration::from_secs(10);

/// Each byte that arrives adds as much time as it takes at this rate.
const BYTES_PER_SEC: u64 = 1000;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body has not arrived in its time.
#[derive(Debug)]
pub(crate) struct SlowBodyError;

impl std::fmt::Display for SlowBodyError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "the body arrives too slowly: {} s and one more for each {BYTES_PER_SEC} bytes have passed",
            GRACE.as_secs()
        )
    }
}

impl std::error::Error for SlowBodyError {}

/// A body that fails with [`SlowBodyError`] when it arrives too slowly. It is read without pauses, so that they are its client's.
pub(crate) struct TimedBody {
    body: Body,
    received: u64,
    began: Instant,
    /// Most bodies arrive with the head of their request, and need no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    /// The time begins.
    pub(crate) fn new(body: Body) -> Self {
        Self { body, received: 0, began: Instant::now(), timer: None }
    }

    fn deadline(&self) -> Instant {
        self.began + GRACE + Duration::from_millis(self.received * 1000 / BYTES_PER_SEC)
    }
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
            this.received += data.map_or(0, |data| data.len() as u64);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let deadline = this.deadline();
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(SlowBodyError.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;

    use super::*;

    struct Dripping(mpsc::Receiver<Bytes>);

    impl http_body::Body for Dripping {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0.poll_recv(context).map(|data| data.map(|data| Ok(Frame::data(data))))
        }
    }

    /// A body of which so many bytes arrive at once in each interval, so many times, and whose end does not come.
    fn dripping(bytes: usize, interval: Duration, times: usize) -> Body {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for _ in 0..times {
                tokio::time::sleep(interval).await;
                if sender.send(Bytes::from(vec![0; bytes])).await.is_err() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        });
        Body::new(Dripping(receiver))
    }

    async fn fails_after(body: Body) -> Duration {
        let began = Instant::now();
        let error = TimedBody::new(body).collect().await.unwrap_err();
        assert!(error.is::<SlowBodyError>(), "{error}");
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_has_the_grace_period() {
        let took = fails_after(dripping(0, Duration::ZERO, 0)).await;

        assert_eq!(took.as_secs(), GRACE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn each_byte_adds_its_time() {
        let took = fails_after(dripping(1, Duration::from_secs(1), 1000)).await;
        assert_eq!(took.as_millis(), 10_010);

        let took = fails_after(dripping(1000, Duration::from_millis(2100), 1000)).await;
        assert_eq!(took.as_secs(), 18);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_at_the_least_rate_may_take_any_time() {
        let (bytes, times) = (1000, 3600);
        let mut body = TimedBody::new(dripping(bytes, Duration::from_secs(1), times));

        for _ in 0..times {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.data_ref().unwrap().len(), bytes);
        }
    }
}
