//! Where the items of a run come from, and where its outputs go.

use std::time::Duration;

use crate::payload::Payload;

/// What a [`Feed`] returns.
pub enum Fed<P> {
    /// An item.
    Item(P),
    /// None came in time.
    Nothing,
    /// No more items come.
    End,
}

/// Where the items of a run come from. [`Items`] makes one of an iterator.
pub trait Feed<P: Payload> {
    /// The next item, or `None` at the end of input. May wait.
    fn next(&mut self) -> Result<Option<P>, P::Fault>;

    /// The next item if it comes within `timeout`, for callers that have other work meanwhile.
    ///
    /// A feed that cannot wait for a limited time may take longer.
    fn next_within(&mut self, _timeout: Duration) -> Result<Fed<P>, P::Fault> {
        Ok(self.next()?.map_or(Fed::End, Fed::Item))
    }

    /// Up to `limit` items at once, or `None` when this feed gives single items only.
    ///
    /// An empty chunk is the end of input.
    fn next_chunk(&mut self, _limit: usize) -> Option<Result<P, P::Fault>> {
        None
    }

    /// Up to `limit` items that are there already, or `None` where that is not known or there are none.
    ///
    /// An empty chunk is the end of input.
    fn next_ready(&mut self, _limit: usize) -> Option<Result<P, P::Fault>> {
        None
    }

    /// Whether all items are there, so that [`Feed::next_ready`] gives them.
    fn are_there(&self) -> bool {
        false
    }

    /// Whether this feed is notified of the progress of a run.
    fn shows_progress(&self) -> bool {
        false
    }

    /// The first `count` items that were given are done. For feeds that show progress.
    fn note_done(&mut self, _count: u64) {}
}

/// The items of an iterator, which cannot fail.
pub struct Items<I>(pub I);

impl<P: Payload, I: Iterator<Item = P>> Feed<P> for Items<I> {
    fn next(&mut self) -> Result<Option<P>, P::Fault> {
        Ok(self.0.next())
    }
}

/// Where the outputs of a run go. A vector collects them.
pub trait Sink<P: Payload> {
    /// Take one output.
    fn accept(&mut self, output: P) -> Result<(), P::Fault>;

    /// Take one output by the exit of this number, for stages that have several.
    fn accept_at(&mut self, _exit: usize, output: P) -> Result<(), P::Fault> {
        self.accept(output)
    }

    /// The outputs from now on are those of the item at this position of the chunk.
    fn begin_item(&mut self, _position: usize) {}

    /// Whether the outputs are still wanted. Called before a generator is asked for its next output.
    fn is_wanted(&mut self) -> bool {
        true
    }

    /// Whether the input must wait until outputs are taken. Called before a generator is asked for its next output.
    fn is_full(&mut self) -> bool {
        false
    }

    /// A generator is about to be asked for its next output, which may take long: pass on what was accepted.
    fn before_wait(&mut self) {}

    /// The same where the next item of a chunk is about to begin: those so far have no more outputs.
    fn between_items(&mut self) {
        self.before_wait();
    }
}

impl<P: Payload> Sink<P> for Vec<P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        self.push(output);
        Ok(())
    }
}
