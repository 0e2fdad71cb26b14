//! A stream of items, awaited.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use remotemedia_runtime::Value;
use tokio::sync::{Notify, oneshot};

use crate::service::{CallError, ItemStream, Service, StreamNext};

/// A client puts no more items in while there are as many in its stream.
const MAX_LOAD: usize = 64;

/// The items of one client, and their outputs. Dropping it drops what is in progress.
pub(crate) struct LiveStream {
    stream: Box<dyn ItemStream>,
    changed: Arc<Notify>,
}

/// Ends when the next item may be put in.
pub(crate) type Putting = Pin<Box<dyn Future<Output = Result<(), CallError>> + Send>>;

impl LiveStream {
    pub(crate) fn open(service: &dyn Service) -> Self {
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        Self { stream: service.open_stream(Box::new(move || notify.notify_one())), changed }
    }

    /// Whether another item may be put in.
    pub(crate) fn has_room(&self) -> bool {
        self.stream.load() < MAX_LOAD
    }

    pub(crate) fn put(&self, item: Value) -> Putting {
        let (sender, receiver) = oneshot::channel();
        self.stream.put(item, Box::new(move |admitted| drop(sender.send(admitted))));
        Box::pin(async move { receiver.await.unwrap_or_else(|_| Err(CallError::closing())) })
    }

    pub(crate) fn end(&self) {
        self.stream.end();
    }

    /// What there is now.
    pub(crate) fn ready(&self) -> StreamNext {
        self.stream.next()
    }

    /// Wait until there is something new: for [`LiveStream::ready`], or room. One may wait at a time.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Drop what is in progress; returns the number of items.
    pub(crate) async fn interrupt(&self) -> u64 {
        let (sender, receiver) = oneshot::channel();
        self.stream.interrupt(Box::new(move |dropped| {
            sender.send(dropped).ok();
        }));
        receiver.await.unwrap_or(0)
    }
}

/// Wait for an item that is being put in; never ends if there is none.
pub(crate) async fn admitted(putting: &mut Option<Putting>) -> Result<(), CallError> {
    match putting {
        Some(admission) => {
            let outcome = admission.await;
            *putting = None;
            outcome
        }
        None => std::future::pending().await,
    }
}
