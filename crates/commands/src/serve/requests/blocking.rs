//! Work that takes long, on the threads of the network.

/// Work on more bytes than this is long enough to hold up other clients: another thread takes them over meanwhile.
const LARGE_BYTES: usize = 64 * 1024;

/// Do work that takes long if there are many bytes, without holding up other clients.
pub(crate) fn beside_others<R>(bytes: usize, work: impl FnOnce() -> R) -> R {
    if bytes > LARGE_BYTES { tokio::task::block_in_place(work) } else { work() }
}
