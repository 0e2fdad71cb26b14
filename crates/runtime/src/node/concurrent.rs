//! Nodes that are at several items at the same time.

use std::ops::Range;
use std::sync::Arc;

use crate::locks::Mutex;
use crate::node::{Node, Outputs};
use crate::payload::Payload;

/// A node that begins with an item before it is done with the last.
pub trait Concurrent<P: Payload> {
    /// Begin with an item. `done` is called when it is done, on any thread.
    ///
    /// Returns what asks the item to end early, if something can.
    fn start(&mut self, item: P, item_index: Option<u64>, done: Done<P>) -> Option<EndEarly>;

    /// Begin with several items. Returns for each what asks it to end early.
    fn start_all(&mut self, starts: Vec<Start<P>>) -> Vec<Option<EndEarly>> {
        P::hold(|| {
            let start = |Start { item_index, context, item, done }| {
                P::within(&P::copy_context(&context), || self.start(item, Some(item_index), done))
            };
            starts.into_iter().map(start).collect()
        })
    }

    /// Begin with items of one caller, each with its index among those of the pipeline.
    fn start_pack(&mut self, context: &P::Context, items: Vec<(u64, P)>, done: &Arc<dyn PackDone<P>>) -> EndPack {
        start_pack_singly(self, context, items, done)
    }

    /// Whether items of [`Concurrent::start_pack`] wait in the node until it begins with them, as many at once as its options say.
    fn queues_packs(&self) -> bool {
        false
    }
}

/// Begin with each of several items by [`Concurrent::start_all`].
pub fn start_pack_singly<P: Payload>(
    node: &mut (impl Concurrent<P> + ?Sized),
    context: &P::Context,
    items: Vec<(u64, P)>,
    done: &Arc<dyn PackDone<P>>,
) -> EndPack {
    let start = |(place, (item_index, item))| {
        let pack = Arc::clone(done);
        let done = Box::new(move |result| pack.done(place, vec![result]));
        Start { item_index, context: context.clone(), item, done }
    };
    let starts = items.into_iter().enumerate().map(start).collect();
    let end_early = Mutex::new(node.start_all(starts));
    Box::new(move |places| {
        let end_early: Vec<_> = end_early.lock()[places].iter_mut().filter_map(Option::take).collect();
        for end_early in end_early {
            end_early();
        }
    })
}

/// Takes what becomes of items that were begun by [`Concurrent::start_pack`].
pub trait PackDone<P: Payload>: Send + Sync {
    /// The item in this place is about to begin, if the node [queues](Concurrent::queues_packs) items. Called on any thread. Never waits.
    fn begins(&self, _place: usize) {}

    /// The item in the place `first` of those begun is done, and those behind it for which there are results, too. Called on any thread.
    /// Never waits.
    fn done(&self, first: usize, results: Vec<Result<Outputs<P>, P::Fault>>);
}

/// Asks an item that was begun by [`Concurrent::start`] to end early. Never waits, and comes too late without harm.
pub type EndEarly = Box<dyn FnOnce() + Send>;

/// Asks items that were begun by [`Concurrent::start_pack`], by their places, to end early. Never waits, and comes too late without harm.
pub type EndPack = Box<dyn Fn(Range<usize>) + Send + Sync>;

/// Takes the outputs of an item that was begun by [`Concurrent::start`]. Never waits.
pub type Done<P> = Box<dyn FnOnce(Result<Outputs<P>, <P as Payload>::Fault>) + Send>;

/// An item to begin with.
pub struct Start<P: Payload> {
    /// Its index among the items of the pipeline.
    pub item_index: u64,
    /// The context of the caller that put it in.
    pub context: P::Context,
    /// The item.
    pub item: P,
    /// Called when it is done.
    pub done: Done<P>,
}

/// Begin with an item, or process it to its end if the node is not [`Concurrent`].
pub(crate) fn start<P: Payload>(
    node: &mut dyn Node<P>,
    item: P,
    item_index: Option<u64>,
    done: Done<P>,
) -> Option<EndEarly> {
    if let Some(concurrent) = node.as_concurrent() {
        return concurrent.start(item, item_index, done);
    }
    if let Some(item_index) = item_index {
        node.announce(&[item_index]);
    }
    done(node.process(item));
    None
}

/// Begin with several items, or process each to its end if the node is not [`Concurrent`].
pub(crate) fn start_all<P: Payload>(node: &mut dyn Node<P>, starts: Vec<Start<P>>) -> Vec<Option<EndEarly>> {
    if let Some(concurrent) = node.as_concurrent() {
        return concurrent.start_all(starts);
    }
    let start = |Start { item_index, context, item, done }: Start<P>| {
        P::within(&P::copy_context(&context), || start(node, item, Some(item_index), done))
    };
    starts.into_iter().map(start).collect()
}

/// Begin with several items of one caller, or process each to its end if the node is not [`Concurrent`].
pub(crate) fn start_pack<P: Payload>(
    node: &mut dyn Node<P>,
    context: &P::Context,
    items: Vec<(u64, P)>,
    done: &Arc<dyn PackDone<P>>,
) -> EndPack {
    if let Some(concurrent) = node.as_concurrent() {
        return concurrent.start_pack(context, items, done);
    }
    for (place, (item_index, item)) in items.into_iter().enumerate() {
        node.announce(&[item_index]);
        let result = P::within(&P::copy_context(context), || node.process(item));
        done.done(place, vec![result]);
    }
    Box::new(|_| ())
}
