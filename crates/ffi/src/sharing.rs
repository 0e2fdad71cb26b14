//! Node objects that several sessions use at once: they take turns, the first initializes, the last cleans up.
//!
//! *Invariant:* no thread is inside a node object while another is, and nobody waits for a turn while attached to the interpreter.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use pyo3::prelude::*;
use remotemedia_runtime::Turn;

/// What all sessions that hold one node object have in common.
#[derive(Default)]
pub(crate) struct Shared {
    /// Held by the session that is inside the object.
    turn: Mutex<()>,
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
    pub(crate) shared: Arc<Shared>,
}

impl Membership {
    /// Claim `object`, which the caller must keep alive for as long as the claim.
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> Self {
        let address = object.as_ptr() as usize;
        let mut registry = lock(&REGISTRY);
        let entry = registry.get_or_insert_with(HashMap::new).entry(address).or_default();
        entry.0 += 1;
        Self { address, shared: Arc::clone(&entry.1) }
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
    /// Join the users of the object; the first one runs `initialize`, unless the object is ready already.
    pub(crate) fn initialize(
        &self,
        py: Python<'_>,
        is_ready: bool,
        initialize: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        let _turn = wait_for(py, &self.turn);
        let must_initialize = {
            let mut users = lock(&self.users);
            users.count += 1;
            users.is_ready |= is_ready;
            users.owes_cleanup |= !users.is_ready;
            !users.is_ready
        };
        if must_initialize {
            initialize()?;
            lock(&self.users).is_ready = true;
        }
        Ok(())
    }

    /// Do something with the object while nobody else is inside.
    pub(crate) fn enter<T>(&self, py: Python<'_>, work: impl FnOnce() -> T) -> T {
        let _turn = wait_for(py, &self.turn);
        work()
    }

    /// Leave the users of the object; the last one runs `cleanup`, unless the object belongs to its caller.
    pub(crate) fn cleanup(&self, py: Python<'_>, cleanup: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        let _turn = wait_for(py, &self.turn);
        let is_due = {
            let mut users = lock(&self.users);
            users.count = users.count.saturating_sub(1);
            users.count == 0 && std::mem::take(&mut users.owes_cleanup)
        };
        if !is_due {
            return Ok(());
        }
        lock(&self.users).is_ready = false;
        cleanup()
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
        Python::attach(|py| {
            if self.0.len() <= FEW {
                enter_few(py, &self.0, work);
            } else {
                let _turns: Vec<MutexGuard<'_, ()>> = self.0.iter().map(|shared| wait_for(py, &shared.turn)).collect();
                work();
            }
        });
    }
}

/// As many turns are kept on the stack, which spares an allocation an item.
const FEW: usize = 8;

fn enter_few(py: Python<'_>, left: &[Arc<Shared>], work: &mut dyn FnMut()) {
    match left.split_first() {
        None => work(),
        Some((shared, left)) => {
            let _turn = wait_for(py, &shared.turn);
            enter_few(py, left, work);
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
            let ident = Python::attach(|py| py.import("_thread")?.call_method0("get_ident")?.extract());
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
        Python::attach(|_| work());
    }
}

fn wait_for<'a>(py: Python<'_>, turn: &'a Mutex<()>) -> MutexGuard<'a, ()> {
    match turn.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        // Another session is inside, and may need the interpreter to come out.
        Err(TryLockError::WouldBlock) => {
            py.detach(|| drop(turn.lock()));
            wait_for(py, turn)
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
