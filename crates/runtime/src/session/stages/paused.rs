//! An input of a session whose nodes run on the threads that call, put aside until there is room for its outputs.

use crate::execution::machine::UnderWay;
use crate::payload::Payload;
use crate::session::queues::inbox::Envelope;

/// An input whose outputs wait because a queue is full.
pub(crate) struct Paused<P: Payload> {
    pub(crate) input: u64,
    pub(crate) is_flush: bool,
    /// The same for all its steps: a generator may take back at one step what it set at another.
    pub(crate) context: P::Context,
    pub(crate) work: Rest<P>,
}

/// What is left to do.
pub(crate) enum Rest<P: Payload> {
    All(Envelope<P>),
    Some(UnderWay<P>),
}
