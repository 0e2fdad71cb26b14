//! What the program that serves a worker provides: the nodes, and ways to stop them.

use std::sync::Arc;

use crate::cancel::CancelFlag;
use crate::node::Node;
use crate::payload::Payload;
use crate::plan::Plan;
use crate::worker::Arrived;
use crate::worker::protocol::connection::Link;
use crate::worker::protocol::frame::{Head, Kind};

/// Makes the nodes of a worker.
pub trait WorkerHost<P: Payload> {
    /// Make the nodes of the stage, from what the parent wrote down. They are not initialized yet: [`serve`](super::serve::serve) does that, and cleans them
    /// up.
    fn open(&mut self, setup: Arrived, notes: Notes) -> Result<Opened<P>, P::Fault>;

    /// What [`serve`](super::serve::serve) sets while nodes should not wait.
    fn stop_flag(&self) -> CancelFlag;

    /// Returns what ends the waits of the nodes. Requested once, after [`WorkerHost::open`]; called on another thread than that of the nodes,
    /// and again until they have returned.
    fn stop_waiting(&self) -> Box<dyn Fn() + Send + Sync>;

    /// Cancels what the thread of the nodes waits for, because its item was dropped. Requested once, on that thread; called on another one,
    /// and again until the nodes have returned. What it waits for must be found out before [`IsStill`] is asked, so that no other item is
    /// hit.
    fn cancel_wait(&self) -> Box<dyn Fn(IsStill) + Send + Sync> {
        Box::new(|_| {})
    }

    /// Returns what cancels the call in progress, if it can. Requested once, as [`WorkerHost::stop_waiting`] is; called on another thread.
    fn cancel_calls(&self) -> Box<dyn Fn() + Send + Sync> {
        Box::new(|| {})
    }

    /// The nodes begin, or cease, to work on items: only in between may a call be cancelled.
    fn be_at_work(&mut self, _is_at_work: bool) {}

    /// What ends a process that is not the worker but a fork of it, in which a node has returned: asked after every call of a node.
    fn leave_fork(&self) -> LeaveFork<P> {
        Arc::new(|_| {})
    }
}

/// Whether the dropped item is still the one in hand.
pub type IsStill = Box<dyn Fn() -> bool + Send>;

/// Ends the process if it is a fork of the worker, with what the node failed with, if it did.
pub type LeaveFork<P> = Arc<dyn Fn(Option<&<P as Payload>::Fault>) + Send + Sync>;

/// The plan of a worker, and its nodes in that order.
pub type Opened<P> = (Arc<Plan>, Vec<Box<dyn Node<P>>>);

/// Sends notes to the parent's [`ItemCodec::noted`](crate::worker::ItemCodec::noted), from any thread.
#[derive(Clone)]
pub struct Notes(pub(crate) Arc<Link>);

impl Notes {
    /// Send a note, unless the parent is gone.
    pub fn send(&self, note: &[u8]) {
        let mut message = self.0.message();
        message.write(note);
        self.0.post(Head::new(Kind::Note, 0), message);
        self.0.flush().ok();
    }
}
