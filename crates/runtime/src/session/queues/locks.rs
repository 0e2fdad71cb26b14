//! The locks of the session's queues, which the model checker replaces by its own.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};

#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(not(loom))]
pub(crate) use self::quiet::Condvar;

#[cfg(not(loom))]
mod quiet {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{LockResult, MutexGuard, WaitTimeoutResult};
    use std::time::Duration;

    /// A condition variable that costs next to nothing to notify while nobody waits. The standard one asks the system each time.
    ///
    /// *Invariant:* what is waited for changes under the mutex, so that whoever notifies after a change sees all who waited before it.
    pub(crate) struct Condvar {
        inner: std::sync::Condvar,
        waiting: AtomicUsize,
    }

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self { inner: std::sync::Condvar::new(), waiting: AtomicUsize::new(0) }
        }

        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let waited = self.inner.wait(guard);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            waited
        }

        pub(crate) fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            timeout: Duration,
        ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let waited = self.inner.wait_timeout(guard, timeout);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            waited
        }

        pub(crate) fn notify_one(&self) {
            if self.waiting.load(Ordering::SeqCst) > 0 {
                self.inner.notify_one();
            }
        }

        pub(crate) fn notify_all(&self) {
            if self.waiting.load(Ordering::SeqCst) > 0 {
                self.inner.notify_all();
            }
        }
    }
}
