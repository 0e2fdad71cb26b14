//! Who puts inputs in, and is notified of their outputs and ends.

use std::collections::HashMap;
use std::sync::Arc;

use crate::failure::RunError;
use crate::payload::Payload;

/// The caller that puts inputs in, and receives their outputs.
///
/// Called on the threads of stages, with no lock of the session held that an input or output could wait for.
pub trait Client<P: Payload>: Send + Sync {
    /// An item that it puts in alone has this number in the session, by which an [`Observer`](crate::Observer) knows it. Called before any
    /// node receives the item, with locks of the session held: never waits, and calls nothing of the session.
    fn numbered(&self, _item_index: u64) {}

    /// Take one output. May wait, which holds the pipeline back.
    fn output(&self, output: P);

    /// How many outputs it takes without waiting. With a single producer, the number only shrinks by its outputs.
    fn room(&self) -> usize {
        usize::MAX
    }

    /// One input has failed, and [`Client::done`] is about to say so. May wait like `output`, until [`Client::forget`] is called
    /// after this [`Client::generation`].
    fn fails(&self, _generation: u64) {}

    /// Changes whenever outputs that were not taken are dropped, as [`Client::forget`] does. Never waits.
    fn generation(&self) -> u64 {
        0
    }

    /// Take several outputs, as [`Client::output`] does.
    fn outputs(&self, outputs: Vec<P>) {
        for output in outputs {
            self.output(output);
        }
    }

    /// All outputs of one input are out, or it failed. Never waits.
    fn done(&self, outcome: Result<(), RunError<P::Fault>>);

    /// The same for a chunk of so many items, of which one failed, or none.
    fn chunk_done(&self, items: u64, outcome: Result<(), RunError<P::Fault>>) {
        for _ in 1..items {
            self.done(Ok(()));
        }
        self.done(outcome);
    }

    /// So many inputs were dropped by an interruption.
    fn interrupted(&self, count: u64) {
        for _ in 0..count {
            self.done(Err(RunError::Interrupted));
        }
    }

    /// Outputs that were handed over and not taken are no longer wanted; no call of `output` waits after this.
    fn forget(&self);

    /// Whether a stream is left in the middle: nodes may hold something of its inputs although they are done. Says so once.
    fn is_left(&self) -> bool {
        false
    }

    /// Whether outputs may still wait to be looked at when their inputs are done.
    fn keeps_outputs(&self) -> bool {
        false
    }
}

/// Several clients, and how many inputs each of them had; each item of a chunk counts.
pub(crate) struct Clients<P: Payload> {
    by_address: HashMap<*const (), Counted<P>>,
    /// The inputs that were taken out. They may be many, and are disposed of together when the clients have been notified.
    inputs: Option<Box<dyn Send>>,
}

struct Counted<P: Payload> {
    client: Arc<dyn Client<P>>,
    inputs: u64,
    /// Ends of input, which do not count as dropped items.
    ends: u64,
    /// The items of chunks that were being handed on, which are done.
    done: u64,
}

impl<'a, P: Payload> FromIterator<(&'a Arc<dyn Client<P>>, u64)> for Clients<P> {
    fn from_iter<T: IntoIterator<Item = (&'a Arc<dyn Client<P>>, u64)>>(inputs: T) -> Self {
        let mut clients = Self { by_address: HashMap::new(), inputs: None };
        let mut inputs = inputs.into_iter().peekable();
        while let Some((client, mut count)) = inputs.next() {
            // Most often all are of one client.
            while let Some((_, more)) = inputs.next_if(|(next, _)| address_of(next) == address_of(client)) {
                count += more;
            }
            clients.add(client, count);
        }
        clients
    }
}

impl<P: Payload> Clients<P> {
    /// Add so many inputs of a client.
    pub(super) fn add(&mut self, client: &Arc<dyn Client<P>>, inputs: u64) {
        self.counted(client).inputs += inputs;
    }

    /// Add an end of input.
    pub(crate) fn add_end(&mut self, client: &Arc<dyn Client<P>>) {
        self.counted(client).ends += 1;
    }

    /// Add so many items of a client that were being handed on: an interruption does not drop them.
    pub(super) fn add_done(&mut self, client: &Arc<dyn Client<P>>, items: u64) {
        self.counted(client).done += items;
    }

    /// Keep what was taken out until the clients have been notified.
    pub(super) fn keep(&mut self, inputs: impl Send + 'static) {
        self.inputs = Some(Box::new(inputs));
    }

    fn counted(&mut self, client: &Arc<dyn Client<P>>) -> &mut Counted<P> {
        let counted = || Counted { client: Arc::clone(client), inputs: 0, ends: 0, done: 0 };
        self.by_address.entry(address_of(client)).or_insert_with(counted)
    }

    /// How many items they had in all.
    pub(crate) fn count(&self) -> u64 {
        self.by_address.values().map(|counted| counted.inputs).sum()
    }

    /// What was handed over is no longer wanted.
    pub(crate) fn forget(&self) {
        self.by_address.values().for_each(|counted| counted.client.forget());
    }

    /// All the inputs were dropped.
    pub(crate) fn interrupted(self) {
        for Counted { client, inputs, ends, done } in self.by_address.into_values() {
            if done > 0 {
                client.chunk_done(done, Ok(()));
            }
            client.interrupted(inputs + ends);
        }
        P::dispose(self.inputs);
    }

    /// All the inputs ended with this error.
    pub(crate) fn fail_all(self, error: impl Fn() -> RunError<P::Fault>) {
        for Counted { client, inputs, ends, done } in self.by_address.into_values() {
            (0..inputs + ends + done).for_each(|_| client.done(Err(error())));
        }
        P::dispose(self.inputs);
    }
}

fn address_of<P: Payload>(client: &Arc<dyn Client<P>>) -> *const () {
    Arc::as_ptr(client).cast()
}
