//! Continuing with an item that a [`crate::Bulk`] has begun.

use std::time::Duration;

use quanta::Instant;

use crate::execution::machine::{Machine, Step, Stop, Work};
use crate::layout::Route;
use crate::node::bulk::{BulkEnd, BulkOutcome, InProgress, Pending};
use crate::node::endpoints::Sink;
use crate::node::{Outputs, Stream};
use crate::payload::Payload;
use crate::phase::Phase;

/// Called before an item of a chunk is taken through by itself.
pub(crate) type NextItem<'a, P> = &'a mut dyn FnMut(&mut Machine<P>, &mut dyn Sink<P>);

/// A generator that failed when it was closed.
struct Closed<F>(Option<F>);

impl<P: Payload> Stream<P> for Closed<P::Fault> {
    fn next(&mut self) -> Result<Option<P>, P::Fault> {
        Ok(None)
    }

    fn close(&mut self) -> Result<(), P::Fault> {
        self.0.take().map_or(Ok(()), Err)
    }
}

impl<P: Payload> Machine<P> {
    /// Finish what a bulk has left of a chunk, of which the current input was the last item that it began. `next` is called before each
    /// item that is taken after it. Returns how many items there were, and those that are left.
    pub(crate) fn settle(
        &mut self,
        outcome: BulkOutcome<P>,
        sink: &mut dyn Sink<P>,
        next: NextItem<'_, P>,
    ) -> Result<(usize, Option<P>), Stop<P::Fault>> {
        for (node, calls) in outcome.calls.iter().enumerate() {
            self.record(node, |recorder| recorder.called_in_bulk(calls));
        }
        let took = outcome.left.took;
        self.take_over(outcome.left);
        self.take_over_closed(outcome.closed);
        match outcome.end {
            BulkEnd::Done => Ok((outcome.taken, None)),
            BulkEnd::Paused(rest) => Ok((outcome.taken, Some(rest))),
            BulkEnd::Fault(node, fault) => Err(Stop::Node { node, phase: Phase::Process, fault }),
            BulkEnd::SinkFault(fault) => Err(Stop::Sink(fault)),
            BulkEnd::Stopped => Err(Stop::Cancelled),
            BulkEnd::Refused(chunk) => Ok((self.take_all(P::unpack(chunk), sink, next)?, None)),
            BulkEnd::Unfinished { node, output, rest } => {
                self.resume(node, output, took, sink)?;
                Ok((outcome.taken + self.take_all(rest, sink, next)?, None))
            }
        }
    }

    /// Take items through one by one, after `next`. Returns how many there were.
    pub(crate) fn take_all(
        &mut self,
        items: Vec<P>,
        sink: &mut dyn Sink<P>,
        next: NextItem<'_, P>,
    ) -> Result<usize, Stop<P::Fault>> {
        let count = items.len();
        for item in items {
            if !sink.is_wanted() {
                return Err(Stop::Cancelled);
            }
            next(self, sink);
            self.take(item, sink)?;
        }
        Ok(count)
    }

    /// Take over what a bulk has in progress: to be continued by [`Machine::resume`], or abandoned.
    pub(crate) fn take_over(&mut self, left: InProgress<P>) {
        let InProgress { work, arrived, entered, open_gates, took: _ } = left;
        self.begin();
        self.steps = open_gates;
        for node in entered {
            self.visited[node] = true;
        }
        for (node, from, items) in arrived {
            let gate = node.map_or_else(|| self.gates.len().checked_sub(1), |node| self.gate_of[node]);
            if let Some(gate) = gate {
                let branch = self.gates[gate].plan.branch_of(self.members[from]);
                self.gates[gate].arrived[branch] = items;
            }
        }
        for pending in work {
            self.take_over_one(pending);
        }
    }

    /// Take over what generators raised that a bulk has closed: [`Machine::abandon`] returns it.
    pub(crate) fn take_over_closed(&mut self, closed: Vec<(usize, P::Fault)>) {
        for (node, fault) in closed.into_iter().rev() {
            let stream = Box::new(Closed(Some(fault)));
            self.stack.push(Work::Outputs { node, phase: Phase::Process, stream, took: Duration::ZERO });
        }
    }

    fn take_over_one(&mut self, pending: Pending<P>) {
        let work = match pending {
            Pending::Outputs { node, returned } => {
                // Only a generator has further outputs.
                let Ok(Outputs::Many(stream)) = self.interpret(node, returned) else { return };
                Work::Outputs { node, phase: Phase::Process, stream, took: Duration::ZERO }
            }
            Pending::Item { from: Some(from), to, item } => Work::Item { route: self.route_between(from, to), item },
            Pending::Item { from: None, to, item } | Pending::Passed { node: to, item } => {
                Work::Item { route: Route::Node(to), item }
            }
        };
        self.stack.push(work);
    }

    fn route_between(&self, from: usize, to: usize) -> Route {
        self.gate_of[to].map_or(Route::Node(to), |gate| Route::Gate {
            gate,
            branch: self.gates[gate].plan.branch_of(self.members[from]),
        })
    }

    /// Continue with a value that a node returned to a bulk after this time, and with what was taken over.
    pub(crate) fn resume(&mut self, node: usize, returned: P, took: Duration, sink: &mut dyn Sink<P>) -> Step<P> {
        let started = self.is_watched().then(Instant::now);
        let outputs = self.interpret(node, returned);
        let took = took + started.map_or(Duration::ZERO, |started| started.elapsed());
        self.note_call(node, &outputs, took);
        match outputs.map_err(|fault| Stop::Node { node, phase: Phase::Process, fault })? {
            Outputs::None | Outputs::NotReached => {}
            Outputs::One(item) => self.deliver(self.routes[node].clone(), item, sink)?,
            Outputs::Many(stream) => self.stack.push(Work::Outputs { node, phase: Phase::Process, stream, took }),
        }
        self.drain_rest(sink)
    }

    pub(super) fn interpret(&mut self, node: usize, returned: P) -> Result<Outputs<P>, P::Fault> {
        match self.nodes[node].as_bulk_member() {
            Some(member) => member.interpret(returned),
            None => Ok(Outputs::One(returned)),
        }
    }
}
