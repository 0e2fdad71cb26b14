//! What the engine asks of items.

use std::fmt;

/// What an item carries: a native value or a foreign object that the engine passes on untouched.
pub trait Payload: Send + Sync + Sized + 'static {
    /// How a node of this kind fails.
    type Fault: Send + Sync + fmt::Debug;

    /// What surrounds the callers who put inputs in, such as the variables of a request, and is to surround the nodes that work for
    /// them. The default is nothing.
    type Context: Clone + Default + Send + Sync + 'static;

    /// A copy of the context that this thread is in.
    #[must_use]
    fn current_context() -> Self::Context {
        Self::Context::default()
    }

    /// A copy of a context, for one call to change without anyone else seeing it.
    #[must_use]
    fn copy_context(context: &Self::Context) -> Self::Context {
        context.clone()
    }

    /// Whether nothing has been set in a copy of a context since it was made.
    fn is_same_context(_context: &Self::Context, _copy: &Self::Context) -> bool {
        true
    }

    /// What is the same in all these contexts, for one call that works on an input of each.
    #[must_use]
    fn common_context(_contexts: Vec<Self::Context>) -> Self::Context {
        Self::Context::default()
    }

    /// Run `work` in a context, which sees the changes that it makes.
    fn within<R>(_context: &Self::Context, work: impl FnOnce() -> R) -> R {
        work()
    }

    /// The same item once more, for another branch. An object is shared, not copied.
    #[must_use]
    fn duplicate(&self) -> Self;

    /// The same fault once more, for another input that it hit too.
    fn duplicate_fault(fault: &Self::Fault) -> Self::Fault;

    /// Run `work`, which waits, without holding up other threads.
    fn wait<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        work()
    }

    /// Asked now and then by a thread that waits for long: a stop request to this thread, such as Ctrl-C, is the error.
    fn check_signals() -> Result<(), Self::Fault> {
        Ok(())
    }

    /// Do several things that each need what [`Payload::wait`] releases, and acquire it once for all. `work` waits only by that method.
    fn hold<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    /// Drop many items at once, on a thread that is not in a node.
    fn dispose<T: Send>(garbage: T) {
        drop(garbage);
    }

    /// Run the life of a thread that will enter nodes again and again.
    fn live(life: impl FnOnce() + Send) {
        life();
    }

    /// One item out of the outputs of several branches, each with the id of its node.
    ///
    /// A branch without outputs stands as the empty value, one with a single output as that output, one with more as a list.
    fn join(branches: Vec<(&str, Vec<Self>)>) -> Result<Self, Self::Fault>;

    /// The single items of a chunk that a [`Feed`](crate::Feed) gave.
    fn unpack(chunk: Self) -> Vec<Self> {
        vec![chunk]
    }

    /// A chunk of these items, which [`Payload::unpack`] takes apart. Asked only for nodes that are
    /// [`Compilable`](crate::Compilable).
    ///
    /// # Errors
    /// There is no memory for it.
    fn pack(items: Vec<Self>) -> Result<Self, Self::Fault> {
        Ok(items.into_iter().next().expect("a payload whose nodes are compiled has chunks"))
    }

    /// Whether a fault is not a failure of the node but a stop request, which passes through as itself.
    fn is_interrupt(_fault: &Self::Fault) -> bool {
        false
    }

    /// Whether after this fault the node can do nothing more, so that no policy lets its items go.
    fn is_final(_fault: &Self::Fault) -> bool {
        false
    }

    /// Whether a fault says that what was waited for was asked to stop, as an interrupted session does.
    fn is_cancellation(_fault: &Self::Fault) -> bool {
        false
    }
}
