//! Items that a concurrent node has begun with and is not done with.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::execution::machine::Machine;
use crate::locks::Mutex;
use crate::node::concurrent::{EndPack, PackDone, start_pack};
use crate::node::{Node, Outputs};
use crate::payload::Payload;
use crate::phase::Phase;
use crate::worker::child::control::ControlRequests;
use crate::worker::child::replies::{Out, send_all_but_last};
use crate::worker::protocol::frame::{Head, Kind};
use crate::worker::protocol::poll::POLL_INTERVAL;
use crate::worker::protocol::status_page::{Page, monotonic};
use crate::worker::protocol::timings::Steps;

/// Items in flight at the same time.
pub(crate) struct InFlight<P: Payload> {
    shared: Arc<Shared>,
    /// How many the node may be at, and whether it sees to that itself.
    limit: usize,
    has_queue: bool,
    /// Those that wait here.
    waiting: VecDeque<(u64, P)>,
}

/// What the items share with the threads on which they are done.
struct Shared {
    page: Arc<Page>,
    /// One is after the other.
    is_one_by_one: bool,
    count: AtomicUsize,
    /// Where each item is, by its number.
    places: Mutex<HashMap<u64, Place>>,
}

/// The pack in which an item was begun, and its place there.
type Place = (Arc<OnceLock<EndPack>>, usize);

impl<P: Payload> InFlight<P> {
    pub(crate) fn new(page: &Arc<Page>, limit: usize) -> Self {
        let (count, places) = (AtomicUsize::new(0), Mutex::default());
        let shared = Shared { page: Arc::clone(page), is_one_by_one: limit == 1, count, places };
        Self { shared: Arc::new(shared), limit, has_queue: false, waiting: VecDeque::new() }
    }

    /// Whether the items of a node that is initialized go this way.
    pub(crate) fn takes(&mut self, node: &mut dyn Node<P>) -> bool {
        self.has_queue = node.as_concurrent().is_some_and(|node| node.queues_packs());
        self.limit > 1 || self.has_queue
    }

    /// Begin with items of these numbers, as far as they need not wait. The outputs of each, and how long it took, are sent when it is done.
    pub(crate) fn begin(
        &mut self,
        machine: &mut Machine<P>,
        (out, steps): (&Arc<Out<P>>, Option<&Arc<Steps>>),
        items: Vec<(u64, P)>,
    ) {
        self.waiting.extend(items);
        let room = if self.has_queue { usize::MAX } else { self.limit.saturating_sub(self.count()) };
        let items: Vec<_> = self.waiting.drain(..room.min(self.waiting.len())).collect();
        let Some(&(first, _)) = items.first() else { return };
        self.shared.count.fetch_add(items.len(), Ordering::AcqRel);
        let numbers: Vec<u64> = items.iter().map(|(number, _)| *number).collect();
        let end_pack = Arc::new(OnceLock::new());
        // Before they are begun: they may be done at once.
        let places = (0..).map(|place| (Arc::clone(&end_pack), place));
        self.shared.places.lock().extend(numbers.iter().copied().zip(places));
        let now = Instant::now();
        let replies = Replies {
            in_flight: Arc::clone(&self.shared),
            out: Arc::clone(out),
            steps: steps.cloned(),
            begun: numbers.iter().map(|_| AtomicU64::new(0)).collect(),
            since: now,
            numbers,
        };
        if !self.has_queue {
            (0..replies.numbers.len()).for_each(|place| replies.begins(place));
        }
        let done: Arc<dyn PackDone<P>> = Arc::new(replies);
        machine.progress.enter(0, first);
        let begun = start_pack(&mut *machine.nodes[0], &P::Context::default(), items, &done);
        machine.progress.leave();
        end_pack.set(begun).ok();
        out.came_back(None);
    }

    /// End an item early; `false` if it is not in flight.
    pub(crate) fn end(&mut self, number: u64) -> bool {
        if let Some(place) = self.waiting.iter().position(|(waiting, _)| *waiting == number) {
            self.waiting.remove(place);
            return true;
        }
        let place = self.shared.places.lock().remove(&number);
        place.is_some_and(|place| {
            end_early(&place);
            true
        })
    }

    /// Wait until no item is in flight, or the parent interrupts or closes the worker.
    pub(crate) fn await_all(&mut self, machine: &mut Machine<P>, (out, steps): (&Arc<Out<P>>, Option<&Arc<Steps>>)) {
        let Out { link, requests, late_results, .. } = &**out;
        while self.has_any() && !requests.is_closing() {
            P::wait(|| {
                late_results.note_written();
                link.flush().ok();
                requests.wait_for_wake(POLL_INTERVAL);
            });
            if requests.interruption().is_some() {
                return;
            }
            self.end_dropped(requests);
            self.begin(machine, (out, steps), Vec::new());
        }
    }

    /// End the items early that were dropped: this thread does not come to what says so behind them.
    fn end_dropped(&mut self, requests: &ControlRequests) {
        for number in requests.dropped() {
            self.end(number);
        }
    }

    /// End all items early, and wait until none is in flight.
    pub(crate) fn end_all(&mut self, requests: &ControlRequests) {
        self.waiting.clear();
        while self.has_any() {
            let places = std::mem::take(&mut *self.shared.places.lock());
            places.values().for_each(end_early);
            P::wait(|| requests.wait_for_wake(POLL_INTERVAL));
        }
    }

    pub(crate) fn has_any(&self) -> bool {
        self.count() > 0 || !self.waiting.is_empty()
    }

    fn count(&self) -> usize {
        self.shared.count.load(Ordering::Acquire)
    }
}

fn end_early((pack, place): &Place) {
    if let Some(end_pack) = pack.get() {
        end_pack(*place..place + 1);
    }
}

/// Sends the results of items that were begun together.
struct Replies<P: Payload> {
    in_flight: Arc<Shared>,
    out: Arc<Out<P>>,
    steps: Option<Arc<Steps>>,
    numbers: Vec<u64>,
    /// When each of them began, in nanoseconds since then.
    begun: Vec<AtomicU64>,
    since: Instant,
}

impl<P: Payload> Replies<P> {
    fn nanos(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl<P: Payload> PackDone<P> for Replies<P> {
    fn begins(&self, place: usize) {
        let (page, number) = (&self.in_flight.page, self.numbers[place]);
        if self.in_flight.is_one_by_one {
            page.note_work(number);
            page.take_in_hand(number, false);
        } else {
            page.note_begun(number);
        }
        if self.steps.is_some() {
            self.begun[place].store(self.nanos(), Ordering::Relaxed);
        }
    }

    fn done(&self, first: usize, results: Vec<Result<Outputs<P>, P::Fault>>) {
        let count = results.len();
        for ((place, &number), result) in self.numbers.iter().enumerate().skip(first).zip(results) {
            self.in_flight.places.lock().remove(&number);
            let last = result.and_then(|outputs| send_all_but_last(&self.out, number, outputs));
            if let Some(steps) = &self.steps {
                let took = self.nanos().saturating_sub(self.begun[place].load(Ordering::Relaxed));
                steps.post_one(&self.out.link, Head::new(Kind::Item, number), Duration::from_nanos(took));
            }
            if let Err(fault) = last.and_then(|last| self.out.last(number, last.as_ref(), true)) {
                self.out.fault(number, 0, Phase::Process, &fault);
            }
        }
        if self.in_flight.is_one_by_one {
            self.in_flight.page.put_down();
        }
        let left = self.in_flight.count.fetch_sub(count, Ordering::AcqRel) - count;
        if self.in_flight.is_one_by_one && left > 0 {
            // They go together, unless they are late.
            self.out.late_results.note_result(monotonic());
        } else {
            // The thread of the nodes writes them.
            self.out.requests.wake();
        }
    }
}
