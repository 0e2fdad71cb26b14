//! A plan that is open on a thread of its own: items are put in from any thread, outputs taken out, both ends bounded.
//!
//! *Invariant:* at most `queue_size` items wait on either side. A full queue makes the one who puts wait, and a full output
//! queue makes the nodes wait, so memory never depends on the length of the input.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::{CancelFlag, Failure, Feed, Metrics, Node, Payload, Plan, Runner, Settings, Sink};

type Outcome<P> = Result<Option<Metrics>, Failure<<P as Payload>::Fault>>;

/// An open plan with a queue at either end.
///
/// Dropping a session stops it: what is under way is abandoned and the nodes are cleaned up before `drop` returns.
pub struct Session<P: Payload> {
    inbox: Option<SyncSender<P>>,
    /// Locked by the one who waits for an output, so that others can put items in meanwhile.
    outbox: Option<Mutex<Receiver<P>>>,
    cancel: CancelFlag,
    thread: Option<JoinHandle<Outcome<P>>>,
}

/// The session has ended, so it takes no more items. [`Session::close`] tells why.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended;

impl<P: Payload> Session<P> {
    /// Initialize the nodes on a new thread, and return when they are ready.
    ///
    /// # Panics
    /// If there are not as many nodes as the plan has, or the system has no thread to give.
    pub fn open(
        plan: Arc<Plan>,
        nodes: Vec<Box<dyn Node<P>>>,
        settings: Settings<P>,
        queue_size: usize,
    ) -> Result<Self, Failure<P::Fault>> {
        assert_eq!(plan.nodes().len(), nodes.len(), "a plan is opened with one node for each of its entries");
        let (inbox, items) = sync_channel(queue_size);
        let (outputs, outbox) = sync_channel(queue_size);
        let (ready, is_ready) = sync_channel(1);
        let cancel = settings.cancel.clone();
        let stop = cancel.clone();
        let thread = std::thread::Builder::new()
            .name("remotemedia-session".into())
            .spawn(move || {
                let mut runner = Runner::open(plan, nodes, settings)?;
                // The opener waits for exactly this one message.
                ready.send(()).ok();
                let outcome = runner.run(&mut Inbox(items), &mut Outbox { outputs, stop });
                let (metrics, cleanups) = runner.close();
                match outcome {
                    Ok(()) if cleanups.is_empty() => Ok(metrics),
                    outcome => Err(Failure { first: outcome.err(), cleanups }),
                }
            })
            .expect("the system has a thread for a session");
        let mut session = Self { inbox: Some(inbox), outbox: Some(Mutex::new(outbox)), cancel, thread: Some(thread) };
        if is_ready.recv().is_err() {
            session.join()?;
        }
        Ok(session)
    }

    /// Put one item in; waits while the queue is full.
    pub fn put(&self, item: P) -> Result<(), Ended> {
        self.inbox.as_ref().ok_or(Ended)?.send(item).map_err(|_| Ended)
    }

    /// No more items come: the nodes are flushed once all items are through.
    pub fn end(&mut self) {
        self.inbox = None;
    }

    /// The next output, or `None` when all are out. Waits for it.
    pub fn next_output(&self) -> Option<P> {
        self.outbox.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    /// Clean up and tell how it went. Outputs that were not taken are dropped.
    ///
    /// A session whose input has ended runs to its end first; any other one is stopped and fails with
    /// [`crate::RunError::Cancelled`].
    pub fn close(mut self) -> Outcome<P> {
        if self.inbox.is_none() {
            while self.next_output().is_some() {}
        } else {
            self.cancel.set();
        }
        self.join()
    }

    fn join(&mut self) -> Outcome<P> {
        match self.wait_for_thread() {
            None => Ok(None),
            Some(Ok(outcome)) => outcome,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }

    fn wait_for_thread(&mut self) -> Option<std::thread::Result<Outcome<P>>> {
        // Without its queues the thread neither waits for items nor for room.
        self.inbox = None;
        self.outbox = None;
        self.thread.take().map(JoinHandle::join)
    }
}

impl<P: Payload> Drop for Session<P> {
    fn drop(&mut self) {
        self.cancel.set();
        // Whoever wants to know how it went calls `close`, but a panic is told to all who are not in one already.
        if let Some(Err(panic)) = self.wait_for_thread()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

struct Inbox<P>(Receiver<P>);

impl<P: Payload> Feed<P> for Inbox<P> {
    fn next(&mut self) -> Result<Option<P>, P::Fault> {
        Ok(self.0.recv().ok())
    }
}

struct Outbox<P> {
    outputs: SyncSender<P>,
    stop: CancelFlag,
}

impl<P: Payload> Sink<P> for Outbox<P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        if self.outputs.send(output).is_err() {
            // Nobody takes outputs any more, which is how a session is stopped.
            self.stop.set();
        }
        Ok(())
    }
}
