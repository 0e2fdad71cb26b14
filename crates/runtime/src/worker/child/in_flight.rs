//! Items that a concurrent node has begun with and is not done with.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::execution::machine::Machine;
use crate::locks::Mutex;
use crate::node::{EndEarly, Outputs, start};
use crate::payload::Payload;
use crate::phase::Phase;
use crate::worker::child::control::ControlRequests;
use crate::worker::child::replies::{Out, send_all_but_last};
use crate::worker::protocol::frame::Head;
use crate::worker::protocol::poll::POLL_INTERVAL;
use crate::worker::protocol::timings::Steps;

/// Items in flight at the same time.
#[derive(Default)]
pub(crate) struct InFlight(Arc<Shared>);

/// What the items share with the thread of the nodes.
#[derive(Default)]
struct Shared {
    count: AtomicUsize,
    /// What ends an item early, by its number.
    end_early: Mutex<HashMap<u64, EndEarly>>,
}

impl InFlight {
    /// Begin with an item. Its outputs, and how long it took, are sent when it is done.
    pub(crate) fn begin<P: Payload>(
        &self,
        machine: &mut Machine<P>,
        (out, steps): (&Arc<Out<P>>, Option<&Arc<Steps>>),
        head: Head,
        item: P,
    ) {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        let number = head.number;
        let (shared, steps, begun) = (Arc::clone(&self.0), steps.cloned(), Instant::now());
        let sender = Arc::clone(out);
        let done = move |result: Result<Outputs<P>, P::Fault>| {
            shared.end_early.lock().remove(&number);
            let last = result.and_then(|outputs| send_all_but_last(&sender, number, outputs));
            if let Some(steps) = &steps {
                steps.post_one(&sender.link, head, begun.elapsed());
            }
            if let Err(fault) = last.and_then(|last| sender.last(number, last.as_ref(), true)) {
                sender.fault(number, 0, Phase::Process, &fault);
            }
            shared.count.fetch_sub(1, Ordering::AcqRel);
            // The thread of the nodes writes it.
            sender.requests.wake();
        };
        machine.progress.enter(0, number);
        let end_early = start(&mut *machine.nodes[0], item, None, Box::new(done));
        machine.progress.leave();
        out.came_back(None);
        if let Some(end_early) = end_early {
            self.0.end_early.lock().insert(number, end_early);
        }
    }

    /// End an item early; `false` if it is not in flight.
    pub(crate) fn end(&self, number: u64) -> bool {
        let in_flight = self.0.end_early.lock().remove(&number);
        in_flight.map(|end_early| end_early()).is_some()
    }

    /// Wait until no item is in flight, or the parent interrupts or closes the worker.
    pub(crate) fn await_all<P: Payload>(&self, out: &Out<P>) {
        let Out { link, requests, .. } = out;
        while self.has_any() && !requests.is_closing() {
            P::wait(|| {
                link.flush().ok();
                requests.wait_for_wake(POLL_INTERVAL);
            });
            if requests.interruption().is_some() {
                return;
            }
        }
    }

    /// End all items early, and wait until none is in flight.
    pub(crate) fn end_all<P: Payload>(&self, requests: &ControlRequests) {
        while self.has_any() {
            let end_early = std::mem::take(&mut *self.0.end_early.lock());
            for end_early in end_early.into_values() {
                end_early();
            }
            P::wait(|| requests.wait_for_wake(POLL_INTERVAL));
        }
    }

    fn has_any(&self) -> bool {
        self.0.count.load(Ordering::Acquire) > 0
    }
}
