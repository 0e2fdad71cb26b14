//! A node whose failures are handled where they happen: retried, skipped, or dead-lettered.

use std::sync::Arc;
use std::time::Duration;

use crate::cancel::CancelFlag;
use crate::error_budget::ErrorBudget;
use crate::failure::NodeFailure;
use crate::failure_counts::FailureCounts;
use crate::limits::LONGEST_RETRY_DELAY;
use crate::node;
use crate::node::bulk::{BulkMember, Compilable};
use crate::node::concurrent::{self, Concurrent, Done, EndEarly, Start};
use crate::node::fused::Fusible;
use crate::node::{Batched, Node, NodeInfo, Outputs, RemoteStage, Snapshot, Source, Stream, Streaming};
use crate::options::{OnError, Options};
use crate::payload::Payload;
use crate::phase::Phase;

/// As long can all attempts at one item take, with the pauses between them, if each may take `timeout`.
pub fn longest_call(options: &Options, timeout: Duration) -> Duration {
    let pauses: Duration = (0..options.retries).map(|attempt| longest_pause(options.retry_delay, attempt)).sum();
    timeout.saturating_mul(options.retries + 1).saturating_add(pauses)
}

fn longest_pause(retry_delay: Duration, attempt: u32) -> Duration {
    retry_delay.saturating_mul(1 << attempt.min(16)).min(LONGEST_RETRY_DELAY)
}

/// Takes an item that failed for good, its index and its fault. May fail itself, and then the item has failed after all.
///
/// What takes long is returned as a stream without items. Its end is waited for where outputs are taken, because this may be called where
/// nothing may wait.
pub type DeadLetter<P> =
    Arc<dyn Fn(P, Option<u64>, <P as Payload>::Fault) -> Result<Outputs<P>, <P as Payload>::Fault> + Send + Sync>;

/// What is done about failures of one node.
pub struct Policy<P: Payload> {
    /// Whether a failed item is dropped.
    pub on_error: OnError,
    /// Who gets failed items instead.
    pub dead_letter: Option<DeadLetter<P>>,
    /// How often an item is retried.
    pub retries: u32,
    /// The pause before the first retry; it doubles with each one.
    pub retry_delay: Duration,
    /// Ends a pause.
    pub stop: CancelFlag,
    counts: Arc<FailureCounts>,
    budget: Option<(Arc<ErrorBudget<P>>, String)>,
}

impl<P: Payload> Policy<P> {
    /// The policy that the options of a node ask for.
    pub fn new(options: &Options, dead_letter: Option<DeadLetter<P>>, stop: CancelFlag) -> Self {
        Self {
            on_error: options.on_error,
            dead_letter,
            retries: options.retries,
            retry_delay: options.retry_delay,
            stop,
            counts: Arc::default(),
            budget: None,
        }
    }

    /// Let items fail only within the budget of a run. `node_id` names the node of this policy in the failure that it keeps.
    #[must_use]
    pub fn within(self, budget: Arc<ErrorBudget<P>>, node_id: &str) -> Self {
        Self { budget: Some((budget, node_id.to_owned())), ..self }
    }

    /// Whether the item may fail without ending the run.
    fn is_affordable(&self, index: Option<u64>, fault: &P::Fault) -> bool {
        let Some((budget, node_id)) = &self.budget else { return true };
        budget.spend(|| NodeFailure {
            node_id: node_id.clone(),
            item_index: index,
            phase: Phase::Process,
            fault: P::duplicate_fault(fault),
        })
    }

    /// Whether the item is tried once more, after the pause that is due before that.
    fn may_retry(&self, attempt: u32, fault: &P::Fault) -> bool {
        if attempt >= self.retries || P::is_interrupt(fault) {
            return false;
        }
        // Full jitter: many that failed together don't come back together.
        let longest = longest_pause(self.retry_delay, attempt);
        let pause = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
        let is_due = !P::wait(|| self.stop.wait_for(pause));
        if is_due {
            self.counts.count_retry();
        }
        is_due
    }

    /// The only item of a call failed for good.
    fn fail_for_good(self: &Arc<Self>, item: P, index: Option<u64>, fault: P::Fault) -> Result<Outputs<P>, P::Fault> {
        if let Outputs::Many(rest) = self.handle_failure(item, index, fault)? {
            return Ok(Outputs::Many(Box::new(Handover { rest, policy: Arc::clone(self) })));
        }
        self.count_failed_item();
        Ok(Outputs::None)
    }

    fn count_failed_item(&self) {
        self.count_handled();
        self.counts.count_failed_call(1);
    }

    fn count_handled(&self) {
        self.counts.count(self.dead_letter.is_some());
        if let Some((budget, _)) = &self.budget {
            budget.count(self.dead_letter.is_some());
        }
    }

    /// An item failed for good. What is returned may have to be drawn to its end.
    fn handle_failure(&self, item: P, index: Option<u64>, fault: P::Fault) -> Result<Outputs<P>, P::Fault> {
        // A stopped item is neither skipped nor dead-lettered.
        if P::is_interrupt(&fault) || P::is_final(&fault) || self.stop.is_set() {
            return Err(fault);
        }
        let is_stopped_by = self.dead_letter.is_none() && self.on_error == OnError::Stop;
        if is_stopped_by || !self.is_affordable(index, &fault) {
            return Err(fault);
        }
        self.dead_letter.as_ref().map_or(Ok(Outputs::None), |dead_letter| dead_letter(item, index, fault))
    }
}

/// A node under a [`Policy`].
pub struct PolicyNode<P: Payload> {
    node: Box<dyn Node<P>>,
    policy: Arc<Policy<P>>,
    /// The index of each item of the next call.
    indices: Vec<u64>,
}

impl<P: Payload> PolicyNode<P> {
    /// Put a node under a policy.
    pub fn new(node: Box<dyn Node<P>>, mut policy: Policy<P>) -> Self {
        // A node that tries items again itself counts that.
        policy.counts = node.info().failure_counts.unwrap_or_default();
        Self { node, policy: Arc::new(policy), indices: Vec::new() }
    }

    /// The context in which the policy hands a failed item over, if it does.
    fn context_of_failures(&self, context: impl FnOnce() -> P::Context) -> P::Context {
        if self.policy.dead_letter.is_some() { context() } else { P::Context::default() }
    }

    /// What is called in the place of `done`. The pause of a retry would block the thread that reports the end: a node that begins items tries
    /// them again itself.
    fn guard_done(&self, item: &P, index: Option<u64>, context: P::Context, done: Done<P>) -> Done<P> {
        let (policy, item) = (Arc::clone(&self.policy), item.duplicate());
        Box::new(move |result| {
            done(match result {
                Ok(Outputs::Many(rest)) => {
                    let stream = GuardedStream { item: Some(item), index, first: None, rest, policy };
                    Ok(Outputs::Many(Box::new(stream)))
                }
                Ok(outputs) => Ok(outputs),
                Err(fault) => P::within(&context, || policy.fail_for_good(item, index, fault)),
            });
        })
    }
}

#[warn(clippy::missing_trait_methods, reason = "a method that is not forwarded would never reach the inner node")]
impl<P: Payload> Node<P> for PolicyNode<P> {
    fn initialize(&mut self) -> Result<(), P::Fault> {
        self.node.initialize()
    }

    fn process(&mut self, item: P) -> Result<Outputs<P>, P::Fault> {
        let index = self.indices.first().copied();
        let mut attempt = 0;
        loop {
            // A generator fails while it is drawn from; its first output decides whether the attempt was good.
            let result = self.node.process(item.duplicate()).and_then(begin_stream);
            match result {
                Ok((first, Outputs::Many(rest))) => {
                    let policy = Arc::clone(&self.policy);
                    let stream = GuardedStream { item: Some(item), index, first, rest, policy };
                    return Ok(Outputs::Many(Box::new(stream)));
                }
                Ok((_, outputs)) => return Ok(outputs),
                Err(fault) if self.policy.may_retry(attempt, &fault) => attempt += 1,
                Err(fault) => return self.policy.fail_for_good(item, index, fault),
            }
        }
    }

    fn flush(&mut self) -> Result<Outputs<P>, P::Fault> {
        self.node.flush()
    }

    fn interrupt(&mut self) -> Result<(), P::Fault> {
        self.node.interrupt()
    }

    fn cleanup(&mut self) -> Result<(), P::Fault> {
        self.node.cleanup()
    }

    fn announce(&mut self, item_indices: &[u64]) {
        self.indices.clear();
        self.indices.extend_from_slice(item_indices);
        self.node.announce(item_indices);
    }

    fn info(&self) -> NodeInfo {
        NodeInfo { failure_counts: Some(Arc::clone(&self.policy.counts)), ..self.node.info() }
    }

    fn as_source(&mut self) -> Option<&mut dyn Source<P>> {
        self.node.as_source()
    }

    fn as_batch(&mut self) -> Option<&mut dyn Batched<P>> {
        Some(self)
    }

    fn as_concurrent(&mut self) -> Option<&mut dyn Concurrent<P>> {
        Some(self)
    }

    fn as_remote(&mut self) -> Option<&mut dyn RemoteStage> {
        self.node.as_remote()
    }

    fn as_snapshot(&mut self) -> Option<&mut dyn Snapshot<P>> {
        self.node.as_snapshot()
    }

    fn as_streaming(&mut self) -> Option<&mut dyn Streaming<P>> {
        self.node.as_streaming()
    }

    fn as_fusible(&mut self) -> Option<&mut dyn Fusible<P>> {
        None
    }

    fn as_compilable(&mut self) -> Option<&mut dyn Compilable<P>> {
        None
    }

    fn as_bulk_member(&mut self) -> Option<&mut dyn BulkMember<P>> {
        self.node.as_bulk_member()
    }
}

impl<P: Payload> Batched<P> for PolicyNode<P> {
    fn process_batch(&mut self, items: Vec<P>) -> Result<Vec<Option<P>>, P::Fault> {
        let mut attempt = 0;
        loop {
            match node::process_batch(&mut *self.node, items.iter().map(P::duplicate).collect()) {
                Ok(outputs) => return Ok(outputs),
                Err(fault) if self.policy.may_retry(attempt, &fault) => attempt += 1,
                Err(fault) => {
                    let count = items.len();
                    for (number, item) in items.into_iter().enumerate() {
                        let index = self.indices.get(number).copied();
                        finish(self.policy.handle_failure(item, index, P::duplicate_fault(&fault))?)?;
                        self.policy.count_handled();
                    }
                    self.policy.counts.count_failed_call(count);
                    return Ok((0..count).map(|_| None).collect());
                }
            }
        }
    }
}

impl<P: Payload> Concurrent<P> for PolicyNode<P> {
    fn start(&mut self, item: P, item_index: Option<u64>, done: Done<P>) -> Option<EndEarly> {
        // Another thread reports the end.
        let context = self.context_of_failures(P::current_context);
        let done = self.guard_done(&item, item_index, context, done);
        concurrent::start(&mut *self.node, item, item_index, done)
    }

    fn start_all(&mut self, starts: Vec<Start<P>>) -> Vec<Option<EndEarly>> {
        let guard = |Start { item_index, context, item, done }| {
            let context_of_failure = self.context_of_failures(|| P::copy_context(&context));
            let done = self.guard_done(&item, Some(item_index), context_of_failure, done);
            Start { item_index, context, item, done }
        };
        let starts = P::hold(|| starts.into_iter().map(guard).collect());
        concurrent::start_all(&mut *self.node, starts)
    }
}

/// Wait until a dead letter has been taken.
fn finish<P: Payload>(outputs: Outputs<P>) -> Result<(), P::Fault> {
    if let Outputs::Many(mut rest) = outputs {
        while rest.next()?.is_some() {}
    }
    Ok(())
}

/// A dead letter that is being taken. It counts when it is.
struct Handover<P: Payload> {
    rest: Box<dyn Stream<P>>,
    policy: Arc<Policy<P>>,
}

impl<P: Payload> Stream<P> for Handover<P> {
    fn next(&mut self) -> Result<Option<P>, P::Fault> {
        while self.rest.next()?.is_some() {}
        self.policy.count_failed_item();
        Ok(None)
    }

    fn close(&mut self) -> Result<(), P::Fault> {
        self.rest.close()
    }
}

/// The first output of a stream, with those after it.
fn begin_stream<P: Payload>(outputs: Outputs<P>) -> Result<(Option<P>, Outputs<P>), P::Fault> {
    let Outputs::Many(mut stream) = outputs else { return Ok((None, outputs)) };
    let first = stream.next()?;
    let rest = if first.is_some() { Outputs::Many(stream) } else { Outputs::None };
    Ok((first, rest))
}

/// A generator that has begun well. If it fails later, its outputs so far stay, and the rest is skipped.
struct GuardedStream<P: Payload> {
    item: Option<P>,
    index: Option<u64>,
    first: Option<P>,
    rest: Box<dyn Stream<P>>,
    policy: Arc<Policy<P>>,
}

impl<P: Payload> Stream<P> for GuardedStream<P> {
    fn next(&mut self) -> Result<Option<P>, P::Fault> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match self.rest.next() {
            Err(fault) => match self.item.take() {
                Some(item) => finish(self.policy.fail_for_good(item, self.index, fault)?).map(|()| None),
                None => Err(fault),
            },
            next => next,
        }
    }

    fn close(&mut self) -> Result<(), P::Fault> {
        self.rest.close()
    }
}
