//! The nodes of a worker at work: items come in, outputs go out.

mod packs;
mod states;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::execution::machine::{Machine, Stop};
use crate::execution::progress::ProgressPlace;
use crate::failure::RunError;
use crate::node::{Observer, process_batch};
use crate::payload::Payload;
use crate::phase::Phase;
use crate::plan::Plan;
use crate::worker::child::in_flight::InFlight;
use crate::worker::child::replies::{Out, ReplySink};
use crate::worker::child::worker_loop::packs::Pack;
use crate::worker::protocol::connection::Received;
use crate::worker::protocol::frame::{Head, Kind, Wishes};
use crate::worker::protocol::poll::SHORT_WAIT;
use crate::worker::protocol::status_page::{Page, monotonic};
use crate::worker::protocol::timings::Steps;
use crate::worker::usage::usage;
use crate::worker::{Arrived, unpack};

/// Results that have waited for this time are sent even if more items are there.
const LONGEST_DELAY: Duration = Duration::from_micros(200);

/// The node that failed, in which part of its life, and with what.
type Failed<P> = (usize, Phase, <P as Payload>::Fault);

/// The nodes, and all that is needed to work on items.
#[allow(clippy::struct_excessive_bools, reason = "each is an independent property of the nodes")]
pub(crate) struct WorkerLoop<P: Payload> {
    machine: Machine<P>,
    out: Arc<Out<P>>,
    page: Arc<Page>,
    steps: Option<Arc<Steps>>,
    /// Items are begun, and done by other threads.
    is_concurrent: bool,
    is_one_by_one: bool,
    is_timed: bool,
    careful_below: u64,
    /// The number of items after which the states of the nodes are sent, if any of them has snapshots.
    snapshot_every: Option<usize>,
    /// Items that arrived together, as far as they are not taken.
    pack: Option<Pack>,
    /// The items so far of a batch that is not complete.
    batch: Vec<Arrived>,
    /// Items that were dropped before they were begun.
    skipped: HashSet<u64>,
    /// The item that the nodes were given last, and the last of which they hold nothing.
    last_taken: u64,
    forgotten: u64,
    /// Items since the last snapshot.
    done_since: usize,
    in_flight: InFlight<P>,
    /// A node could not be restored.
    has_failed_restore: bool,
}

impl<P: Payload> WorkerLoop<P> {
    pub(crate) fn new(plan: &Plan, mut machine: Machine<P>, page: Page, wishes: Wishes, out: Arc<Out<P>>) -> Self {
        let page = Arc::new(page);
        machine.progress = ProgressPlace::Shared(Arc::clone(&page) as _);
        machine.notes_visits = machine.nodes.len() > 1;
        let steps = wishes.with_metrics.then(|| Steps::of(plan, &machine.nodes));
        machine.observer = steps.clone().map(|steps| steps as Arc<dyn Observer>);
        let can_snapshot = machine.nodes.iter_mut().any(|node| node.as_snapshot().is_some());
        Self {
            is_concurrent: false,
            is_one_by_one: plan.nodes()[0].options.concurrency == 1,
            is_timed: wishes.is_timed,
            careful_below: wishes.careful_below,
            snapshot_every: can_snapshot.then_some(wishes.snapshot_every),
            machine,
            out,
            steps,
            pack: None,
            batch: Vec::new(),
            skipped: HashSet::new(),
            last_taken: 0,
            forgotten: 0,
            done_since: 0,
            in_flight: InFlight::new(&page, plan.nodes()[0].options.concurrency),
            has_failed_restore: false,
            page,
        }
    }

    /// Initialize the nodes; whether they are ready.
    pub(crate) fn make_ready(&mut self) -> io::Result<bool> {
        let nodes = self.machine.nodes.len();
        for node in 0..nodes {
            if let Err(error) = self.machine.initialize(node) {
                self.refuse(node, error);
                for entered in (0..=node).rev() {
                    // The first failure is reported.
                    self.machine.clean_up(entered).ok();
                }
                self.out.flush()?;
                return Ok(false);
            }
            self.out.came_back(None);
        }
        if let [node] = &mut self.machine.nodes[..] {
            // The state of a node is asked for between its items.
            let is_possible = !(self.is_one_by_one && self.snapshot_every.is_some());
            self.is_concurrent = is_possible && self.in_flight.takes(&mut **node);
        }
        let head = Head { extra: u64::from(self.snapshot_every.is_some()), ..Head::new(Kind::Ready, 0) };
        self.out.link.post(head, self.out.link.message());
        self.out.flush()?;
        Ok(true)
    }

    fn refuse(&self, node: usize, error: RunError<P::Fault>) {
        match error {
            RunError::Node(failure) => self.out.fault(0, node, failure.phase, &failure.fault),
            RunError::Interrupt(fault) => self.out.fault(0, node, Phase::Initialize, &fault),
            // The parent has requested it.
            _ => {}
        }
    }

    /// Work until the parent requests the end.
    pub(crate) fn work(&mut self) -> io::Result<()> {
        let mut are_waits_short = false;
        let mut replied_at = monotonic();
        while !self.out.requests.is_closing() {
            if let Some(interruption) = self.out.requests.interruption() {
                self.leave_off(interruption);
                // The order to close may have come meanwhile, and its wake is used up.
                continue;
            }
            if self.in_flight.has_any() {
                self.begin(Vec::new());
            }
            let of_pack = self.next_of_pack();
            let is_in_pack = of_pack.is_some();
            let mut next = if is_in_pack { of_pack } else { self.out.link.next_read()? };
            let now = monotonic();
            // The results of a pack go together, unless they are late.
            if next.is_some() && !is_in_pack && now.saturating_sub(replied_at) >= LONGEST_DELAY {
                self.out.flush()?;
                replied_at = now;
            }
            if next.is_none() {
                let out = &self.out;
                let begun = now;
                self.page.note_waiting();
                // What looks for work takes time from coroutines that are at work.
                let is_worth_looking = are_waits_short && !self.in_flight.has_any();
                next = P::wait(|| out.await_work(is_worth_looking))?;
                replied_at = monotonic();
                are_waits_short = replied_at.saturating_sub(begun) < SHORT_WAIT;
            }
            self.page.note_busy(now.max(replied_at));
            let next = next.and_then(|received| self.unpack(received));
            if let Some(received) = next {
                let is_suspect = received.head.number < self.careful_below;
                self.take(received);
                self.out.late_results.note_result(now.max(replied_at));
                if is_suspect {
                    self.out.flush()?;
                }
                if self.has_failed_restore {
                    return self.out.flush();
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, received: Received) {
        let is_work = matches!(received.head.kind, Kind::Item | Kind::Flush);
        self.out.requests.take_in_hand(if is_work { received.head.number } else { 0 });
        if is_work {
            self.page.note_work(received.head.number);
        }
        self.page.take_in_hand(received.head.number, self.is_timed && received.head.kind == Kind::Item);
        self.see_to(received);
        self.page.put_down();
        self.out.requests.take_in_hand(0);
    }

    fn see_to(&mut self, received: Received) {
        let Received { head, message, .. } = received;
        match head.kind {
            Kind::Restore => self.restore(usize::from(head.node), message),
            Kind::Forget => self.forget(head.number),
            _ if self.out.requests.is_stale(head.number) => self.batch.clear(),
            _ if self.out.requests.is_dropped(head.number) => drop(self.skipped.insert(head.number)),
            Kind::Item if head.extra > 0 => {
                self.batch.push(message);
                if !head.has_more {
                    let messages = std::mem::take(&mut self.batch);
                    self.work_on_batch(head, messages);
                }
            }
            Kind::Item => match unpack(&*self.out.codec, message) {
                Ok(item) if self.is_concurrent => self.begin(vec![(head.number, item)]),
                Ok(item) => self.work_on(head, Some(item)),
                Err(fault) => self.out.fault(head.number, 0, Phase::Process, &fault),
            },
            Kind::Flush => {
                self.in_flight.await_all(&mut self.machine, (&self.out, self.steps.as_ref()));
                self.work_on(head, None);
            }
            _ => {}
        }
    }

    /// An item is no longer wanted, or all so far are not: nothing of them may come out with later ones.
    fn forget(&mut self, number: u64) {
        self.out.requests.forget_dropped(number);
        if self.in_flight.end(number) {
            return;
        }
        let is_held = number == 0 || number > self.forgotten;
        if !self.skipped.remove(&number) && is_held {
            // A failure then has no receiver.
            self.machine.forget_items();
            self.forgotten = self.last_taken;
            self.out.came_back(None);
        }
    }

    /// Take one item through the nodes, or flush them.
    fn work_on(&mut self, head: Head, item: Option<P>) {
        self.machine.input = head.number;
        self.last_taken = head.number;
        let phase = if item.is_some() { Phase::Process } else { Phase::Flush };
        let out = Arc::clone(&self.out);
        let mut sink = ReplySink { out: &out, head, held: None };
        let outcome = match item {
            Some(item) => self.machine.take(item, &mut sink),
            None => self.machine.flush(&mut sink),
        };
        out.came_back(match &outcome {
            Err(Stop::Node { fault, .. }) => Some(fault),
            _ => None,
        });
        let last_output = sink.held.take();
        if let Some(steps) = &self.steps {
            steps.post(&self.out.link, head);
        }
        let last = self.machine.nodes.len() - 1;
        let (states, failed_snapshot) = self.pack_states(&out, phase);
        let failed = match outcome {
            Ok(()) if failed_snapshot.is_some() => failed_snapshot,
            Ok(()) => self.send_last(head, last_output.as_ref(), phase),
            Err(Stop::Node { node, phase, fault }) => Some((node, phase, fault)),
            Err(Stop::Sink(fault)) => Some((last, phase, fault)),
            Err(Stop::Cancelled | Stop::Paused | Stop::Hindered(_)) => {
                if !self.out.requests.is_stale(head.number) {
                    // The parent began with it after its request to stop, which came here later: it waits for a reply.
                    self.out.done(head.number, false);
                }
                None
            }
        };
        // What is left of it must not meet the next item; a failure then has no receiver.
        self.machine.abandon();
        if self.out.requests.is_dropped(head.number) {
            self.machine.forget_items();
            self.forgotten = head.number;
        }
        if let Some((node, phase, fault)) = failed
            && !head.is_replay
        {
            self.out.fault(head.number, node, phase, &fault);
        }
        self.post_states(head.number, states);
    }

    /// Send the last output, or that there is none.
    fn send_last(&self, head: Head, output: Option<&P>, phase: Phase) -> Option<Failed<P>> {
        if head.is_replay {
            return None;
        }
        let last = self.machine.nodes.len() - 1;
        let sent = self.out.last(head.number, output, last == 0 || self.machine.was_visited(last));
        sent.err().map(|fault| (last, phase, fault))
    }

    fn work_on_batch(&mut self, head: Head, messages: Vec<Arrived>) {
        let items: Result<Vec<P>, _> = messages.into_iter().map(|message| unpack(&*self.out.codec, message)).collect();
        self.machine.progress.enter(0, head.number);
        let begun = Instant::now();
        let outputs = items.and_then(|items| process_batch(&mut *self.machine.nodes[0], items));
        let took = begun.elapsed();
        self.machine.progress.leave();
        let out = Arc::clone(&self.out);
        if let Some(steps) = &self.steps {
            steps.post_one(&out.link, head, took);
        }
        out.came_back(outputs.as_ref().err());
        let (states, failed_snapshot) = self.pack_states(&out, Phase::Process);
        let sent = outputs.and_then(|outputs| {
            if let Some((.., fault)) = failed_snapshot {
                return Err(fault);
            }
            for (slot, output) in outputs.into_iter().enumerate().filter(|_| !head.is_replay) {
                if let Some(output) = output {
                    self.out
                        .output(Head { extra: slot as u64 + 1, ..Head::new(Kind::Output, head.number) }, &output)?;
                }
            }
            Ok(())
        });
        match sent {
            _ if head.is_replay => {}
            Ok(()) => self.out.done(head.number, true),
            Err(fault) => self.out.fault(head.number, 0, Phase::Process, &fault),
        }
        self.post_states(head.number, states);
    }

    /// Leave what came before an interruption.
    fn leave_off(&mut self, interruption: u64) {
        self.batch.clear();
        self.in_flight.end_all(&self.out.requests);
        // A failure here has no receiver but the log, which the node itself may write to.
        if self.out.requests.are_nodes_notified(interruption) {
            self.machine.interrupt();
        } else {
            self.machine.abandon();
        }
        self.out.came_back(None);
        self.out.requests.mark_handled(interruption);
        let control = &self.out.control;
        control.post(Head::new(Kind::Interrupt, interruption), control.message());
        control.flush().ok();
    }

    /// Clean the nodes up, unless one of them could not be restored.
    pub(crate) fn clean_up(mut self) -> io::Result<()> {
        if self.has_failed_restore {
            return Ok(());
        }
        self.in_flight.end_all(&self.out.requests);
        self.machine.abandon();
        for node in (0..self.machine.nodes.len()).rev() {
            if let Err(failure) = self.machine.clean_up(node) {
                self.out.fault_as(Kind::CleanedUp, 0, node, (failure.phase, &failure.fault));
            }
            self.out.came_back(None);
        }
        self.out.requests.end();
        let usage = usage("self").unwrap_or_default();
        let head = Head { extra: usage.resident_bytes, ..Head::new(Kind::CleanedUp, 0) };
        self.out.link.post(head.last(), self.out.link.message());
        self.out.flush()
    }
}
