//! What a worker is asked to do.

/// What a worker is asked to do.
pub(crate) enum Job<P> {
    Item(P),
    Batch(Vec<P>),
    Flush,
}
