//! Node objects that several sessions use at once: one at a time is inside, the first initializes, the last cleans up.
//!
//! *Invariant:* no thread is inside a node object while another is.

pub(crate) mod cancellable;
pub(crate) mod event_loop;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{CancelFlag, Hindrance, NodeLock};

use crate::attach::attach;
use crate::convert::failure;
use crate::node::callers::{Level, Place};
use crate::node::lock::cancellable::{CancellableLock, Held};

/// Called, without a lock of ours, when another session claims the object.
pub(crate) type OnShared = Arc<dyn Fn() + Send + Sync>;

/// What all sessions that hold one node object have in common.
#[derive(Default)]
pub(crate) struct Shared {
    /// Called at further claims: those of holders that wait for input.
    listeners: Mutex<Vec<(u64, OnShared)>>,
    /// Held by the session that is inside the object.
    lock: CancellableLock,
    /// Sessions that have initialized the object and not yet cleaned it up.
    users: Mutex<Users>,
}

#[derive(Default)]
struct Users {
    count: usize,
    /// The object may be given items.
    is_ready: bool,
    /// We called `initialize`, so we owe it a `cleanup`.
    owes_cleanup: bool,
}

type Registry = HashMap<usize, (usize, Arc<Shared>)>;

/// Node objects in use, by address: each entry's first number says how many [`Membership`]s hold it (and the object with it).
static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

/// A session's claim on a node object.
pub(crate) struct Membership {
    address: usize,
    shared: Arc<Shared>,
    place: Arc<Place>,
    /// The number by which it holds the lock by itself.
    holder: u64,
    /// The session is among the users of the object.
    is_user: bool,
}

impl Membership {
    /// Claim `object`, which the caller must keep alive for as long as the claim.
    pub(crate) fn new(object: &Bound<'_, PyAny>, place: &Arc<Place>) -> Self {
        let address = object.as_ptr() as usize;
        let mut registry = REGISTRY.lock();
        let entry = registry.get_or_insert_with(HashMap::new).entry(address).or_default();
        entry.0 += 1;
        let (shared, place) = (Arc::clone(&entry.1), Arc::clone(place));
        drop(registry);
        let listeners: Vec<OnShared> =
            shared.listeners.lock().iter().map(|(_, listener)| Arc::clone(listener)).collect();
        for listener in listeners {
            listener();
        }
        Self { address, shared, place, holder: next_holder(), is_user: false }
    }

    /// Join the users of the object; the first one runs `initialize`, unless the object is ready already.
    pub(crate) fn initialize(
        &mut self,
        py: Python<'_>,
        is_ready: bool,
        is_cancelled: impl Fn() -> bool,
        initialize: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        if self.shared.is_joined() {
            self.is_user = true;
            return Ok(());
        }
        let taken = self.shared.lock.take(py, (self.holder, &self.place), is_cancelled);
        let _held = taken.map_err(|hindrance| match hindrance {
            Hindrance::Cancelled => failure::CancelledError::new_err(()),
            Hindrance::Deadlock(text) => failure::PipelineError::new_err(text),
        })?;
        let _inside = Level::lock(self.holder).enter();
        self.is_user = true;
        if self.shared.enroll(is_ready) {
            initialize()?;
            self.shared.users.lock().is_ready = true;
        }
        Ok(())
    }

    /// Do something with the object while no other thread is inside.
    pub(crate) fn enter<T>(&self, py: Python<'_>, work: impl FnOnce() -> T) -> T {
        let _held = self.take_or_have(py);
        let _inside = Level::lock(self.holder).enter();
        work()
    }

    /// Leave the users of the object; the last one runs `cleanup`, unless the object belongs to its caller.
    pub(crate) fn cleanup(&mut self, py: Python<'_>, cleanup: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        if !std::mem::take(&mut self.is_user) || !self.shared.is_left_to_last() {
            return Ok(());
        }
        let _held = self.take_or_have(py);
        let _inside = Level::lock(self.holder).enter();
        if self.shared.leave_last() { cleanup() } else { Ok(()) }
    }
}

/// A node object to lock: its address, and what its sessions share.
pub(crate) type LockedObject = (usize, Arc<Shared>, Arc<Place>);

impl Membership {
    pub(crate) fn locked_object(&self) -> LockedObject {
        (self.address, Arc::clone(&self.shared), Arc::clone(&self.place))
    }

    /// Whether others have claimed the object, too.
    fn is_shared(&self) -> bool {
        let registry = REGISTRY.lock();
        registry.as_ref().and_then(|registry| registry.get(&self.address)).is_some_and(|entry| entry.0 > 1)
    }

    /// Take the lock, or nothing if its holder waits for this thread: then no other thread can be inside.
    fn take_or_have(&self, py: Python<'_>) -> Option<Held<'_>> {
        self.shared.lock.take(py, (self.holder, &self.place), || false).ok()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shared.listeners.lock().retain(|(holder, _)| *holder != self.holder);
        let mut registry = REGISTRY.lock();
        if let Some(registry) = registry.as_mut()
            && let Some(entry) = registry.get_mut(&self.address)
        {
            entry.0 -= 1;
            if entry.0 == 0 {
                registry.remove(&self.address);
            }
        }
    }
}

impl Shared {
    /// Join users that have made the object ready. Needs no lock: they may be inside for long, and there is nothing to wait for.
    fn is_joined(&self) -> bool {
        let mut users = self.users.lock();
        let is_joined = users.count > 0 && users.is_ready;
        users.count += usize::from(is_joined);
        is_joined
    }

    /// Become a user. Returns whether to initialize the object.
    fn enroll(&self, is_ready: bool) -> bool {
        let mut users = self.users.lock();
        users.count += 1;
        users.is_ready |= is_ready;
        users.owes_cleanup |= !users.is_ready;
        !users.is_ready
    }

    /// Leave the users. Returns whether to clean the object up.
    fn leave_last(&self) -> bool {
        let mut users = self.users.lock();
        users.count -= 1;
        let is_due = users.count == 0 && std::mem::take(&mut users.owes_cleanup);
        users.is_ready &= !is_due;
        is_due
    }

    /// Leave the users without the lock if others remain, because these may be inside for long; the last one needs the lock.
    fn is_left_to_last(&self) -> bool {
        let mut users = self.users.lock();
        if users.count > 1 {
            users.count -= 1;
            return false;
        }
        true
    }
}

/// The locks of all node objects of a session, taken together.
pub(crate) struct ObjectLocks {
    holder: u64,
    members: Vec<(Arc<Shared>, Arc<Place>)>,
}

fn next_holder() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl ObjectLocks {
    /// The locks of these objects.
    pub(crate) fn of(mut members: Vec<LockedObject>) -> Self {
        // One order for all sessions: two that share two nodes cannot wait for each other.
        members.sort_by_key(|(address, ..)| *address);
        members.dedup_by_key(|(address, ..)| *address);
        let members = members.into_iter().map(|(_, shared, place)| (shared, place)).collect();
        Self { holder: next_holder(), members }
    }

    fn enter_few(
        &self,
        py: Python<'_>,
        left: &[(Arc<Shared>, Arc<Place>)],
        cancel: &CancelFlag,
        work: &mut dyn FnMut(),
    ) -> Result<(), Hindrance> {
        let Some(((shared, place), left)) = left.split_first() else {
            let _inside = Level::lock(self.holder).enter();
            work();
            return Ok(());
        };
        let _held = shared.lock.take(py, (self.holder, place), || cancel.is_set())?;
        self.enter_few(py, left, cancel, work)
    }
}

impl NodeLock for ObjectLocks {
    fn thread(&self) -> u64 {
        thread_id()
    }

    fn enter(&self, work: &mut dyn FnMut()) {
        let entered = self.enter_unless(CancelFlag::never(), work);
        if entered.is_err() {
            // The holder of the lock waits for this thread, so no other thread can be inside.
            attach(|_| work());
        }
    }

    fn enter_unless(&self, cancel: &CancelFlag, work: &mut dyn FnMut()) -> Result<(), Hindrance> {
        attach(|py| {
            if self.members.len() <= FEW {
                return self.enter_few(py, &self.members, cancel, work);
            }
            let mut held = Vec::with_capacity(self.members.len());
            for (shared, place) in &self.members {
                held.push(shared.lock.take(py, (self.holder, place), || cancel.is_set())?);
            }
            let _inside = Level::lock(self.holder).enter();
            work();
            Ok(())
        })
    }
}

/// How many locks are kept on the stack, which saves an allocation per item.
const FEW: usize = 8;

/// The number of this thread, as in `threading.get_ident()`.
pub(crate) fn thread_id() -> u64 {
    thread_local! {
        static ID: Cell<u64> = const { Cell::new(0) };
    }
    ID.with(|id| {
        if id.get() == 0 {
            let ident = attach(|py| py.import("_thread")?.call_method0("get_ident")?.extract());
            id.set(ident.unwrap_or_default());
        }
        id.get()
    })
}

/// The lock of objects that several threads may be in at once, or that are not shared.
pub(crate) struct NoLocks;

impl NodeLock for NoLocks {
    fn thread(&self) -> u64 {
        thread_id()
    }

    fn enter(&self, work: &mut dyn FnMut()) {
        attach(|_| work());
    }
}
