//! Neighbouring nodes that are called together.

use crate::payload::Payload;

/// A node whose calls can be made together with those of its neighbours, because every call of it has a price of its own.
pub trait Fusible<P: Payload> {
    /// What [`Fusible::fuse`] needs of the node.
    fn part(&self) -> P;

    /// The call of this node and of those after it, which returned these parts. `ids` are the ids of all of them.
    fn fuse(&self, parts: Vec<P>, ids: Vec<String>) -> Box<dyn Fused<P>>;
}

/// Nodes that are called together: each receives the output of the one before it.
pub trait Fused<P: Payload>: Send {
    /// Take one item through.
    fn process(&mut self, item: P) -> FusedOutcome<P>;
}

/// What became of an item.
pub enum FusedOutcome<P: Payload> {
    /// The last node returned this, or one of them returned nothing.
    Output(Option<P>),
    /// The node at this index among them failed.
    Fault(usize, P::Fault),
    /// The node at this index returned a value that only [`crate::BulkMember::interpret`] understands.
    Returned(usize, P),
    /// The nodes cannot be called together after all. None was called.
    Refused(P),
}
