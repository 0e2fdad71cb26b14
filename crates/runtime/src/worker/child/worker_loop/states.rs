//! The states of the nodes of a worker: sent to the parent from time to time, and put back in the worker that takes the place of this one.

use crate::payload::Payload;
use crate::phase::Phase;
use crate::worker::child::replies::Out;
use crate::worker::child::worker_loop::{Failed, WorkerLoop};
use crate::worker::protocol::frame::{Head, Kind};
use crate::worker::protocol::message::Message;
use crate::worker::{Arrived, pack};

impl<P: Payload> WorkerLoop<P> {
    /// From time to time, the states of the nodes. They are written before the result, because a node whose `snapshot` fails fails the item, and
    /// sent after it: a state without the result would count the item twice.
    pub(super) fn pack_states<'a>(
        &mut self,
        out: &'a Out<P>,
        phase: Phase,
    ) -> (Vec<(usize, Message<'a>)>, Option<Failed<P>>) {
        let mut states = Vec::new();
        self.done_since += 1;
        if self.snapshot_every.is_none_or(|every| self.done_since < every) {
            return (states, None);
        }
        self.done_since = 0;
        for (index, node) in self.machine.nodes.iter_mut().enumerate() {
            let Some(node) = node.as_snapshot() else { continue };
            let state = node.snapshot();
            out.came_back(state.as_ref().err());
            match state.and_then(|state| pack(&*out.codec, &state, out.link.message())) {
                Ok(message) => states.push((index, message)),
                Err(fault) => return (Vec::new(), Some((index, phase, fault))),
            }
        }
        (states, None)
    }

    pub(super) fn post_states(&self, number: u64, states: Vec<(usize, Message<'_>)>) {
        let count = states.len();
        for (slot, (index, message)) in states.into_iter().enumerate() {
            let node = u16::try_from(index).unwrap_or(u16::MAX);
            self.out.link.post(Head { node, has_more: slot + 1 < count, ..Head::new(Kind::State, number) }, message);
        }
    }

    /// Put the state of a node back. A node that lost its state must not continue, so a failure ends the worker.
    pub(super) fn restore(&mut self, node: usize, message: Arrived) {
        let codec = &self.out.codec;
        let state = match message.missing {
            None => codec.unpack_own(message),
            Some(bytes) => Err(codec.no_memory(bytes)),
        };
        let restored = state.and_then(|state| match self.machine.nodes[node].as_snapshot() {
            Some(node) => node.restore(state),
            None => Ok(()),
        });
        self.out.came_back(restored.as_ref().err());
        if let Err(fault) = restored {
            self.out.fault(0, node, Phase::Initialize, &fault);
            self.has_failed_restore = true;
        }
    }
}
