//! The locks of node objects for stages on an event loop: nothing here waits; a waker is called when a lock is released.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::node::callers::Place;
use crate::node::lock::cancellable::Waker;
use crate::node::lock::{LockedObject, Membership, ObjectLocks, OnShared, Shared};

/// What a claim offers to a stage of an event loop, which takes and releases the lock by itself, and calls the methods of the object.
impl Membership {
    /// Join users that have made the object ready.
    pub(crate) fn join(&mut self) -> bool {
        self.is_user = self.shared.is_joined();
        self.is_user
    }

    /// Become a user, inside the lock. Returns whether to initialize the object, and then to call `set_ready`.
    pub(crate) fn enroll(&mut self, is_ready: bool) -> bool {
        self.is_user = true;
        self.shared.enroll(is_ready)
    }

    /// Have `listener` called at further claims. Returns whether others have claimed the object already.
    pub(crate) fn listen(&self, listener: OnShared) -> bool {
        self.shared.listeners.lock().push((self.holder, listener));
        self.is_shared()
    }

    pub(crate) fn set_ready(&self) {
        self.shared.users.lock().is_ready = true;
    }

    /// Leave the users, if others remain or this session is not one of them. Otherwise it needs the lock for `leave_last`.
    pub(crate) fn leave(&mut self) -> bool {
        !self.is_user || (!self.shared.is_left_to_last() && std::mem::replace(&mut self.is_user, false))
    }

    /// Leave the users, inside the lock. Returns whether to clean the object up.
    pub(crate) fn leave_last(&mut self) -> bool {
        std::mem::take(&mut self.is_user) && self.shared.leave_last()
    }
}

/// The locks of all node objects of a stage of an event loop, taken together.
pub(crate) struct LoopLocks {
    pub(crate) holder: u64,
    members: Vec<(Arc<Shared>, Arc<Place>)>,
}

impl LoopLocks {
    pub(crate) fn of(members: Vec<LockedObject>) -> Self {
        let ObjectLocks { holder, members } = ObjectLocks::of(members);
        Self { holder, members }
    }

    /// Take all locks, or none of them.
    pub(crate) fn try_take(&self) -> bool {
        for (index, (shared, _)) in self.members.iter().enumerate() {
            if !shared.lock.try_take(self.holder) {
                self.members[..index].iter().for_each(|(shared, _)| shared.lock.release(self.holder));
                return false;
            }
        }
        true
    }

    pub(crate) fn release(&self) {
        self.members.iter().for_each(|(shared, _)| shared.lock.release(self.holder));
    }

    /// Have `waker` called when the next lock that is not free is released; `None` if all are free.
    ///
    /// Returns the holder of that lock, for the check of a wait, and the place that waits.
    pub(crate) fn wake_when_free(&self, waker: impl FnOnce() -> Waker) -> Option<(Arc<AtomicU64>, &Arc<Place>)> {
        let mut waker = Some(waker);
        self.members.iter().find_map(|(shared, place)| {
            let make = || waker.take().map_or_else(|| Box::new(|| ()) as Waker, |waker| waker());
            shared.lock.wake_when_free(make).then(|| (Arc::clone(&shared.lock.holder), place))
        })
    }
}
