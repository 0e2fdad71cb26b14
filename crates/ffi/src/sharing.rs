//! Node objects that several sessions use at once: they take turns, the first initializes, the last cleans up.
//!
//! *Invariant:* no thread is inside a node object while another is, and nobody waits for a turn while attached to the interpreter.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use remotemedia_runtime::{CancelFlag, Turn};

use crate::attach::{attach, detach};
use crate::failure;

/// How often one who waits for a turn looks whether the run was cancelled.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What all sessions that hold one node object have in common.
#[derive(Default)]
pub(crate) struct Shared {
    /// Held by the session that is inside the object.
    turn: TurnLock,
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
    /// The session is among the users of the object.
    is_user: bool,
}

impl Membership {
    /// Claim `object`, which the caller must keep alive for as long as the claim.
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> Self {
        let address = object.as_ptr() as usize;
        let mut registry = lock(&REGISTRY);
        let entry = registry.get_or_insert_with(HashMap::new).entry(address).or_default();
        entry.0 += 1;
        Self { address, shared: Arc::clone(&entry.1), is_user: false }
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
        let Some(_turn) = self.shared.turn.take(py, is_cancelled) else { return Err(failure::cancelled(py)) };
        self.is_user = true;
        let must_initialize = {
            let mut users = lock(&self.shared.users);
            users.count += 1;
            users.is_ready |= is_ready;
            users.owes_cleanup |= !users.is_ready;
            !users.is_ready
        };
        if must_initialize {
            initialize()?;
            lock(&self.shared.users).is_ready = true;
        }
        Ok(())
    }

    /// Do something with the object while nobody else is inside.
    pub(crate) fn enter<T>(&self, py: Python<'_>, work: impl FnOnce() -> T) -> T {
        let _turn = self.shared.turn.take(py, || false);
        work()
    }

    /// Leave the users of the object; the last one runs `cleanup`, unless the object belongs to its caller.
    pub(crate) fn cleanup(&mut self, py: Python<'_>, cleanup: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        if !std::mem::take(&mut self.is_user) || !self.shared.is_left_to_last() {
            return Ok(());
        }
        let _turn = self.shared.turn.take(py, || false);
        let is_due = {
            let mut users = lock(&self.shared.users);
            users.count -= 1;
            users.count == 0 && std::mem::take(&mut users.owes_cleanup)
        };
        if !is_due {
            return Ok(());
        }
        lock(&self.shared.users).is_ready = false;
        cleanup()
    }
}

/// What stands for a node object when turns are taken: its address, and what its sessions have in common.
pub(crate) type Seat = (usize, Arc<Shared>);

impl Membership {
    pub(crate) fn seat(&self) -> Seat {
        (self.address, Arc::clone(&self.shared))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut registry = lock(&REGISTRY);
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
    /// Join users who have made the object ready. They may be inside for long, and there is nothing to wait for.
    fn is_joined(&self) -> bool {
        let mut users = lock(&self.users);
        let is_joined = users.count > 0 && users.is_ready;
        users.count += usize::from(is_joined);
        is_joined
    }

    /// Leave the users at once if others remain, who may be inside for long; the last one needs its turn for that.
    fn is_left_to_last(&self) -> bool {
        let mut users = lock(&self.users);
        if users.count > 1 {
            users.count -= 1;
            return false;
        }
        true
    }
}

/// The turns of all nodes of a session, taken together.
pub(crate) struct Turns(Vec<Arc<Shared>>);

impl Turns {
    /// The turns of objects that are known by their seats.
    pub(crate) fn of(mut members: Vec<Seat>) -> Self {
        // One order for all sessions: two that share two nodes cannot wait for each other.
        members.sort_by_key(|(address, _)| *address);
        members.dedup_by_key(|(address, _)| *address);
        Self(members.into_iter().map(|(_, shared)| shared).collect())
    }
}

impl Turn for Turns {
    fn thread(&self) -> u64 {
        thread_id()
    }

    fn enter(&self, work: &mut dyn FnMut()) {
        self.enter_unless(&CancelFlag::default(), work);
    }

    fn enter_unless(&self, cancel: &CancelFlag, work: &mut dyn FnMut()) {
        attach(|py| {
            if self.0.len() <= FEW {
                enter_few(py, &self.0, cancel, work);
                return;
            }
            let turns: Option<Vec<Held<'_>>> =
                self.0.iter().map(|shared| shared.turn.take(py, || cancel.is_set())).collect();
            if turns.is_some() {
                work();
            }
        });
    }
}

/// As many turns are kept on the stack, which spares an allocation an item.
const FEW: usize = 8;

fn enter_few(py: Python<'_>, left: &[Arc<Shared>], cancel: &CancelFlag, work: &mut dyn FnMut()) {
    match left.split_first() {
        None => work(),
        Some((shared, left)) => {
            if let Some(_turn) = shared.turn.take(py, || cancel.is_set()) {
                enter_few(py, left, cancel, work);
            }
        }
    }
}

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

/// Permission to enter objects that several threads may be in at once, or that nobody else has.
pub(crate) struct NoTurns;

impl Turn for NoTurns {
    fn thread(&self) -> u64 {
        thread_id()
    }

    fn enter(&self, work: &mut dyn FnMut()) {
        attach(|_| work());
    }
}

/// A lock that one can stop waiting for, and that costs a few nanoseconds while nobody does.
#[derive(Default)]
struct TurnLock {
    is_taken: AtomicBool,
    /// As many wait at the gate.
    waiting: AtomicUsize,
    gate: Mutex<()>,
    is_free: Condvar,
}

/// The lock is taken for as long as this lives.
struct Held<'a>(&'a TurnLock);

impl TurnLock {
    /// Wait for the lock and take it, or answer `None` if the wait is cancelled.
    fn take(&self, py: Python<'_>, is_cancelled: impl Fn() -> bool) -> Option<Held<'_>> {
        if self.try_take() {
            return Some(Held(self));
        }
        while !is_cancelled() {
            // Another session is inside, and may need the interpreter to come out.
            if detach(py, || self.take_within(LOOK_EVERY)) {
                return Some(Held(self));
            }
        }
        None
    }

    fn try_take(&self) -> bool {
        self.is_taken.compare_exchange(false, true, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    fn take_within(&self, patience: Duration) -> bool {
        let gate = lock(&self.gate);
        // Counted before the look: whoever lets go either lets us find the lock free or finds us waiting.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut is_ours = self.try_take();
        if !is_ours {
            drop(self.is_free.wait_timeout(gate, patience));
            is_ours = self.try_take();
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        is_ours
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.0.gate));
            self.0.is_free.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
