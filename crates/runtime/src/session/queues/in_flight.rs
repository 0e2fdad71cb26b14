//! Which inputs are in flight, which clients put them in, and whether they failed.
//!
//! *Invariant:* the end of every input that was opened is reported exactly once: that is how one call among many gets exactly its own
//! outputs, and how nothing is lost in silence.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::failure::RunError;
use crate::numbering::{self, ByNumber};
use crate::payload::Payload;
use crate::session::queues::clients::{Client, Clients};
use crate::session::queues::locks::{Condvar, Mutex};

/// The inputs of a client that are no longer wanted.
#[derive(Default)]
pub(crate) struct Abandoned {
    /// Those in flight.
    pub(crate) inputs: HashSet<u64>,
    /// Those among them that were wanted until now.
    pub(crate) wanted_before: Vec<u64>,
}

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputKind {
    Item,
    /// So many items together.
    Chunk(u32),
    /// The end of input.
    End,
}

struct Open<P: Payload> {
    client: Arc<dyn Client<P>>,
    /// How many inputs it counts for: the items of a chunk count each.
    count: u64,
    kind: InputKind,
    /// Its last outputs are being handed on.
    is_done: bool,
    /// The first items of a chunk of which all outputs are being handed on, or were.
    done: u64,
    /// The first item of a chunk that has failed, by its position. Those before it are still wanted.
    failed: Option<(u32, RunError<P::Fault>)>,
    context: P::Context,
    /// The index by which the client counts it, if not by that in the session.
    own_index: Option<u64>,
    error: Option<RunError<P::Fault>>,
}

impl<P: Payload> Open<P> {
    fn is_chunk(&self) -> bool {
        matches!(self.kind, InputKind::Chunk(_))
    }
}

struct State<P: Payload> {
    /// The number of the input opened last; 0 before the first.
    last_input: u64,
    open: ByNumber<Open<P>>,
    /// The sum of their counts.
    count: u64,
    /// The clients without inputs in flight that may keep outputs. Some may be gone.
    clients_with_outputs: Vec<Weak<dyn Client<P>>>,
    items_out: u64,
    interrupted: u64,
    /// Outputs on their way into a client.
    handing_over: usize,
}

impl<P: Payload> State<P> {
    /// An input on which work is still wanted.
    fn wanted(&self, input: u64) -> Option<&Open<P>> {
        self.open.get(&input).filter(|open| open.error.is_none())
    }

    fn remember(&mut self, client: &Arc<dyn Client<P>>) {
        let is_it = |other: &Weak<dyn Client<P>>| std::ptr::addr_eq(other.as_ptr(), Arc::as_ptr(client));
        // Most sessions have one stream at a time.
        if !self.clients_with_outputs.last().is_some_and(is_it) && !self.clients_with_outputs.iter().any(is_it) {
            self.clients_with_outputs.retain(|other| other.strong_count() > 0);
            self.clients_with_outputs.push(Arc::downgrade(client));
        }
    }
}

/// The inputs in flight.
pub(crate) struct InFlight<P: Payload> {
    /// Items that have come in: through here, or on their callers' threads.
    items: AtomicU64,
    state: Mutex<State<P>>,
    has_changed: Condvar,
}

impl<P: Payload> InFlight<P> {
    pub(crate) fn new() -> Self {
        let state = State {
            last_input: 0,
            open: ByNumber::default(),
            count: 0,
            clients_with_outputs: Vec::new(),
            items_out: 0,
            interrupted: 0,
            handing_over: 0,
        };
        Self { items: AtomicU64::new(0), state: Mutex::new(state), has_changed: Condvar::new() }
    }

    /// A new input. Inputs are numbered in the order in which they are opened.
    pub(crate) fn open(
        &self,
        client: Arc<dyn Client<P>>,
        context: P::Context,
        own_index: Option<u64>,
        kind: InputKind,
    ) -> u64 {
        let mut state = self.state.lock();
        let (input, count) = match kind {
            InputKind::Item => {
                let item_index = self.number_items(1);
                client.numbered(item_index);
                (numbering::of_item(item_index), 1)
            }
            InputKind::Chunk(items) => (numbering::of_chunk(self.number_items(items.into())), items.into()),
            InputKind::End => (numbering::of_end(self.items(), state.last_input), 1),
        };
        state.last_input = input;
        state.count += count;
        state.open.insert(
            input,
            Open { client, count, kind, is_done: false, done: 0, failed: None, context, own_index, error: None },
        );
        input
    }

    /// One more item comes into a chunk; returns its position there. `None` if another input has come between.
    pub(crate) fn extend(&self, input: u64) -> Option<u32> {
        let mut state = self.state.lock();
        let open = state
            .open
            .get_mut(&input)
            .filter(|open| open.is_chunk() && open.error.is_none() && open.failed.is_none())?;
        let next = numbering::item_index(input) + open.count;
        self.items.compare_exchange(next, next + 1, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        let position = u32::try_from(open.count).ok()?;
        open.count += 1;
        state.count += 1;
        Some(position)
    }

    /// Whether work on the input is still wanted: it is in flight and has not failed.
    pub(crate) fn is_wanted(&self, input: u64) -> bool {
        self.state.lock().wanted(input).is_some()
    }

    /// The context of an input on which work is still wanted.
    pub(crate) fn context_of_wanted(&self, input: u64) -> Option<P::Context> {
        self.state.lock().wanted(input).map(|open| open.context.clone())
    }

    /// The contexts of several inputs, as [`InFlight::context_of_wanted`].
    pub(crate) fn contexts_of_wanted(&self, inputs: impl Iterator<Item = u64>) -> Vec<Option<P::Context>> {
        let state = self.state.lock();
        inputs.map(|input| state.wanted(input).map(|open| open.context.clone())).collect()
    }

    /// Whether work on each of several inputs is still wanted.
    pub(crate) fn are_wanted(&self, inputs: impl Iterator<Item = u64>) -> Vec<bool> {
        let state = self.state.lock();
        inputs.map(|input| state.wanted(input).is_some()).collect()
    }

    /// How many outputs of the input can be handed over without waiting; none if it is no longer wanted.
    pub(crate) fn room(&self, input: u64) -> usize {
        let client = self.state.lock().wanted(input).map(|open| Arc::clone(&open.client));
        client.map_or(0, |client| client.room())
    }

    /// Whether the end of the input has not been reported.
    pub(crate) fn is_open(&self, input: u64) -> bool {
        self.state.lock().open.contains_key(&input)
    }

    /// The index by which the client counts an input in flight, if not by that in the session.
    pub(crate) fn own_index(&self, input: u64) -> Option<u64> {
        self.state.lock().open.get(&input)?.own_index
    }

    /// The input failed; its first error is the one that is reported.
    pub(crate) fn fail(&self, input: u64, mut error: RunError<P::Fault>) {
        if let Some(open) = self.state.lock().open.get_mut(&input) {
            let mut position = None;
            if let Some(index) = error.item_index_mut() {
                let place = index.saturating_sub(numbering::item_index(input));
                *index = open.own_index.map_or(*index, |own_index| own_index + place);
                position = u32::try_from(place).ok().filter(|_| open.is_chunk());
            }
            match (position, &open.failed) {
                (None, _) => drop(open.error.get_or_insert(error)),
                (Some(position), Some((before, _))) if *before <= position => {}
                (Some(position), _) => open.failed = Some((position, error)),
            }
        }
    }

    /// The position of the first item of a chunk that has failed.
    pub(crate) fn failed_position(&self, input: u64) -> Option<u32> {
        self.state.lock().open.get(&input)?.failed.as_ref().map(|(position, _)| *position)
    }

    /// Hand an output over, unless the input is no longer wanted.
    pub(crate) fn output(&self, input: u64, output: P) {
        let client = {
            let mut state = self.state.lock();
            let Some(client) = state.wanted(input).map(|open| Arc::clone(&open.client)) else { return };
            state.items_out += 1;
            state.handing_over += 1;
            client
        };
        client.output(output);
        self.state.lock().handing_over -= 1;
        self.has_changed.notify_all();
    }

    /// The same for the outputs of a chunk: nothing more comes of so many items that are `done`, nor of the others if these are the last.
    pub(crate) fn outputs(&self, input: u64, outputs: Vec<P>, done: u32, are_last: bool) {
        let client = {
            let mut state = self.state.lock();
            let Some(open) = state.open.get_mut(&input).filter(|open| open.error.is_none()) else { return };
            // An interruption does not count items whose outputs may have been taken.
            open.is_done |= are_last;
            open.done = open.done.max(done.into());
            let client = Arc::clone(&open.client);
            state.items_out += outputs.len() as u64;
            state.handing_over += 1;
            client
        };
        client.outputs(outputs);
        self.state.lock().handing_over -= 1;
        self.has_changed.notify_all();
    }

    /// Whether no output is being handed over, or none is any more within `timeout`. After [`InFlight::take_all`] no old output can
    /// come out any more then.
    pub(crate) fn is_quiet(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        if state.handing_over > 0 {
            self.has_changed.wait_for(&mut state, timeout);
        }
        state.handing_over == 0
    }

    /// Nothing more comes of the input.
    pub(crate) fn complete(&self, input: u64) {
        let Some(open) = self.take(input) else { return };
        let is_chunk = open.is_chunk();
        let error = open.error.or(open.failed.map(|(_, error)| error));
        let outcome = error.map_or(Ok(()), Err);
        if is_chunk {
            open.client.chunk_done(open.count, outcome);
        } else {
            open.client.done(outcome);
        }
        self.has_changed.notify_all();
    }

    fn take(&self, input: u64) -> Option<Open<P>> {
        let mut state = self.state.lock();
        let fails = |open: &&Open<P>| match &open.error {
            None => open.failed.is_some(),
            Some(error) => matches!(error, RunError::Node(_)),
        };
        if let Some(open) = state.open.get(&input).filter(fails) {
            // The input stays in flight meanwhile, so that an interruption or a close finds its client.
            let client = Arc::clone(&open.client);
            let generation = client.generation();
            drop(state);
            client.fails(generation);
            state = self.state.lock();
        }
        let open = state.open.remove(&input)?;
        state.count -= open.count;
        if open.client.keeps_outputs() {
            state.remember(&open.client);
        }
        Some(open)
    }

    /// The inputs of a client are no longer wanted.
    pub(crate) fn abandon(&self, client: &Arc<dyn Client<P>>) -> Abandoned {
        let mut state = self.state.lock();
        let is_its = |open: &Open<P>| std::ptr::addr_eq(Arc::as_ptr(&open.client), Arc::as_ptr(client));
        let mut abandoned = Abandoned::default();
        for (&input, open) in state.open.iter_mut().filter(|(_, open)| is_its(open)) {
            abandoned.inputs.insert(input);
            if open.is_chunk() {
                let first = numbering::item_index(input);
                abandoned.inputs.extend((first..first + open.count).map(numbering::of_item));
            }
            if open.error.is_none() {
                open.error = Some(RunError::Cancelled);
                abandoned.wanted_before.push(input);
            }
        }
        abandoned
    }

    /// Take out all inputs that are in flight; their clients receive nothing yet.
    pub(crate) fn take_all(&self) -> Clients<P> {
        let mut state = self.state.lock();
        state.count = 0;
        let open = std::mem::take(&mut state.open);
        drop(state);
        self.has_changed.notify_all();
        let are_in_work = open.values().filter(|open| !open.is_done && open.kind != InputKind::End);
        let mut clients: Clients<P> = are_in_work.map(|open| (&open.client, open.count - open.done)).collect();
        open.values().filter(|open| open.kind == InputKind::End).for_each(|open| clients.add_end(&open.client));
        for open in open.values().filter(|open| open.is_done || open.done > 0) {
            clients.add_done(&open.client, if open.is_done { open.count } else { open.done });
        }
        clients.keep(open);
        clients
    }

    /// The same, and with them the clients that keep outputs although their inputs are done.
    pub(crate) fn take_all_with_outputs(&self) -> Clients<P> {
        let mut clients = self.take_all();
        let clients_with_outputs = std::mem::take(&mut self.state.lock().clients_with_outputs);
        clients_with_outputs.iter().filter_map(Weak::upgrade).for_each(|client| clients.add(&client, 0));
        clients
    }

    /// The number of the input opened last.
    pub(crate) fn last_input(&self) -> u64 {
        self.state.lock().last_input
    }

    /// A number above those of all inputs so far.
    pub(crate) fn end(&self) -> u64 {
        self.state.lock().last_input + 1
    }

    /// Count this many items that are coming in, by whatever way. Returns the index of the first.
    pub(crate) fn number_items(&self, count: u64) -> u64 {
        self.items.fetch_add(count, Ordering::Relaxed)
    }

    /// How many items have come in, by whatever way.
    pub(crate) fn items(&self) -> u64 {
        self.items.load(Ordering::Relaxed)
    }

    /// How many inputs are in flight; the items of a chunk count each.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.state.lock().count).unwrap_or(usize::MAX)
    }

    /// Whether no input before `end` is in flight.
    pub(crate) fn is_done(&self, end: u64) -> bool {
        self.state.lock().open.keys().all(|&input| input >= end)
    }

    /// Wait until no input before `end` is in flight, for at most `timeout`; returns whether none is.
    pub(crate) fn wait_until_done(&self, end: u64, timeout: Duration) -> bool {
        let is_there = |state: &mut State<P>| state.open.keys().any(|&input| input < end);
        !self.has_changed.wait_while_for(&mut self.state.lock(), is_there, timeout)
    }

    /// Inputs were dropped because their session was interrupted.
    pub(crate) fn count_interrupted(&self, count: u64) {
        self.state.lock().interrupted += count;
    }

    /// Inputs that were dropped because their session was interrupted.
    pub(crate) fn interrupted(&self) -> u64 {
        self.state.lock().interrupted
    }

    /// Items that went in and that came out.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        (self.items(), state.items_out)
    }
}
