//! The nodes of a pipeline that run on the caller's event loop, as `remotemedia._loop` drives them.
//!
//! The event loop calls and awaits the nodes. Here is what it shares with the rest: the locks of the objects, their users, and the calls
//! that others may wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_runtime::locks::Mutex;

use crate::attach::attach;
use crate::convert::failure;
use crate::node::callers;
use crate::node::callers::{Callers, FindNode, Frame, Owner, Place};
use crate::node::lock::event_loop::LoopLocks;
use crate::node::lock::{LockedObject, Membership};
use crate::node::waits::{Target, Waiting};

/// The nodes of a run or session on an event loop. It does not keep the objects alive.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct LoopStage(Arc<Stage>);

struct Stage {
    owner: Arc<Owner>,
    place: Arc<Place>,
    locks: LoopLocks,
    /// One for each node, with its lock alone.
    members: Vec<(Mutex<Membership>, LoopLocks)>,
    find_node: FindNode,
    /// The number of inputs so far.
    inputs: AtomicU64,
    live_calls: Arc<AtomicUsize>,
    /// What the last call is known by, if nothing refers to it any more. Making it anew takes a third of entering.
    spare: Mutex<Option<Known>>,
    /// When the other tasks of the loop had a turn at the latest, in nanoseconds since `began`.
    last_turn: AtomicU64,
    began: Instant,
}

/// What a call is known by: its frame, and what carries it to the code that it calls.
struct Known {
    frame: Arc<Frame>,
    carried: Py<Callers>,
}

impl Known {
    /// Whether a later call can use it: no context was copied meanwhile, nobody looks at the frame, and nothing else waited.
    #[allow(unsafe_code, reason = "PyO3 has no safe call for it")]
    fn is_unused(&self) -> bool {
        // SAFETY: the thread is attached where calls end, and the object is live.
        let references = unsafe { pyo3::ffi::Py_REFCNT(self.carried.as_ptr()) };
        references == 1 && Arc::strong_count(&self.frame) == 2 && self.carried.get().is_one()
    }
}

/// How long calls may follow each other before the other tasks of the loop get a turn.
const TURN_NANOS: u64 = 1_000_000;

#[pymethods]
impl LoopStage {
    /// `nodes` are pairs of an id and an object, of which the first `sources` make the items; `find_node`, a weak reference to a function, returns the id of the node at work;
    /// `neighbour` is another stage of the same session.
    #[new]
    #[pyo3(signature = (pipeline, nodes, sources, find_node, neighbour=None))]
    fn new(
        pipeline: &str,
        nodes: &Bound<'_, PyList>,
        sources: usize,
        find_node: Py<PyAny>,
        neighbour: Option<&Self>,
    ) -> PyResult<Self> {
        let (owner, live_calls) = match neighbour {
            Some(Self(stage)) => (Arc::clone(&stage.owner), Arc::clone(&stage.live_calls)),
            None => owner_of_calls(pipeline),
        };
        let mut members = Vec::with_capacity(nodes.len());
        let mut objects: Vec<LockedObject> = Vec::with_capacity(nodes.len());
        let mut only = None;
        for node in nodes {
            let (id, object): (String, Bound<'_, PyAny>) = node.extract()?;
            let membership = Membership::new(&object, &Place::new(&owner, Some(&id)));
            objects.push(membership.locked_object());
            let lock = LoopLocks::of(vec![membership.locked_object()]);
            members.push((Mutex::new(membership), lock));
            only = (nodes.len() == 1).then_some(id);
        }
        Ok(Self(Arc::new(Stage {
            place: Place::new(&owner, only.as_deref()),
            owner,
            locks: LoopLocks::of(objects.split_off(sources.min(objects.len()))),
            members,
            find_node: Arc::new(move || attach(|py| node_at_work(find_node.bind(py)))),
            inputs: AtomicU64::new(0),
            live_calls,
            spare: Mutex::new(None),
            last_turn: AtomicU64::new(0),
            began: Instant::now(),
        })))
    }

    /// Join the other users of a node that they have initialized.
    fn join(&self, node: usize) -> bool {
        self.0.members[node].0.lock().join()
    }

    /// Become a user of a node, inside its lock. Returns whether to initialize it, and then to call `set_ready`.
    fn enroll(&self, node: usize, is_ready: bool) -> bool {
        self.0.members[node].0.lock().enroll(is_ready)
    }

    /// The node has been initialized.
    fn set_ready(&self, node: usize) {
        self.0.members[node].0.lock().set_ready();
    }

    /// Leave the users of a node; `False` if this is the last one, which must call `leave_last`.
    fn leave(&self, node: usize) -> bool {
        self.0.members[node].0.lock().leave()
    }

    /// Leave the users of a node, inside its lock. Returns whether to clean it up.
    fn leave_last(&self, node: usize) -> bool {
        self.0.members[node].0.lock().leave_last()
    }

    /// Take the lock of a node, or those of all nodes; `False` if others are inside.
    #[pyo3(signature = (node=None))]
    fn try_lock(&self, node: Option<usize>) -> bool {
        self.0.locks(node).try_take()
    }

    /// Release what `try_lock` took.
    #[pyo3(signature = (node=None))]
    fn unlock(&self, node: Option<usize>) {
        self.0.locks(node).release();
    }

    /// Have `wake` called, on any thread, when a lock that is not free is released; `None` if all are free.
    ///
    /// Refuses a wait that would never end. The returned wait lasts until it is deleted.
    #[pyo3(signature = (wake, node=None))]
    fn wait_for_lock(&self, py: Python<'_>, wake: Py<PyAny>, node: Option<usize>) -> PyResult<Option<Waiting>> {
        let call = || Box::new(move || attach(|py| wake_loop(py, &wake))) as _;
        let Some((holder, place)) = self.0.locks(node).wake_when_free(call) else { return Ok(None) };
        let frames = callers::with_own(callers::current(py)?, &Frame::begin(place));
        Waiting::begin(frames, Target::Lock(holder))
            .map(Some)
            .map_err(|cycle| failure::PipelineError::new_err(cycle.lock_refusal()))
    }

    /// Have `become_shared` called, on any thread, when another session claims one of the nodes; `True` if one has already.
    fn listen(&self, become_shared: Py<PyAny>) -> bool {
        let become_shared = Arc::new(become_shared);
        let mut is_shared = false;
        for (member, _) in &self.0.members {
            let become_shared = Arc::clone(&become_shared);
            let listener = Arc::new(move || attach(|py| wake_loop(py, &become_shared)));
            is_shared |= member.lock().listen(listener);
        }
        is_shared
    }

    /// Begin to wait for the session, by its method `word`; `None` where no node waits.
    fn begin_wait(&self, py: Python<'_>, word: &str) -> PyResult<Option<Waiting>> {
        let frames = callers::current(py)?;
        if frames.is_empty() {
            return Ok(None);
        }
        let target = Target::Session(Arc::clone(&self.0.owner));
        Waiting::begin(frames, target).map(Some).map_err(|cycle| cycle.refusal(&self.0.owner, word))
    }

    /// Look again whether the wait can end.
    fn check_wait(&self, waiting: &Waiting, word: &str) -> PyResult<()> {
        waiting.check().map_err(|cycle| cycle.refusal(&self.0.owner, word))
    }

    /// Whether the other tasks of the loop should get a turn now. Then it counts as given.
    fn take_turn(&self) -> bool {
        self.0.is_turn_due(true)
    }

    /// Enter the nodes for some inputs at once; `None` if others are inside, or a turn of other tasks is due. With `is_fresh`, they had
    /// one just now.
    #[pyo3(signature = (inputs, *, is_fresh=false))]
    fn try_enter(&self, py: Python<'_>, inputs: u64, is_fresh: bool) -> PyResult<Option<LoopCall>> {
        let may_enter = !self.0.is_turn_due(is_fresh) || is_fresh;
        if may_enter && self.0.locks.try_take() { self.enter(py, inputs, None).map(Some) } else { Ok(None) }
    }

    /// The call of some inputs, or of another method of a node, for which the caller holds the locks.
    #[pyo3(signature = (inputs, node=None))]
    fn enter(&self, py: Python<'_>, inputs: u64, node: Option<usize>) -> PyResult<LoopCall> {
        let known = if !callers::are_none(py)? {
            self.0.known(py, callers::current(py)?, node)?
        } else if node.is_none()
            && let Some(spare) = self.0.spare.lock().take()
        {
            spare.frame.begin_again();
            spare
        } else {
            self.0.known(py, callers::Frames::new(), node)?
        };
        self.0.begin_call(py, known, inputs, node)
    }

    /// Count inputs that a call is given after its beginning.
    fn count_inputs(&self, count: u64) {
        self.0.inputs.fetch_add(count, Ordering::Relaxed);
    }

    /// How many inputs there were.
    #[getter]
    fn inputs(&self) -> u64 {
        self.0.inputs.load(Ordering::Relaxed)
    }
}

/// The session, and the number of its calls under way.
fn owner_of_calls(pipeline: &str) -> (Arc<Owner>, Arc<AtomicUsize>) {
    let owner = Owner::new(pipeline);
    let live_calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&live_calls);
    owner.counts_calls_by(Box::new(move || counted.load(Ordering::Relaxed)));
    (owner, live_calls)
}

impl Stage {
    /// Nanoseconds since the beginning.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether the other tasks of the loop should get a turn now. It counts as given if the caller `gives` it.
    fn is_turn_due(&self, gives: bool) -> bool {
        let now = self.now();
        let is_due = now - self.last_turn.load(Ordering::Relaxed) > TURN_NANOS;
        if is_due && gives {
            self.last_turn.store(now, Ordering::Relaxed);
        }
        is_due
    }

    fn locks(&self, node: Option<usize>) -> &LoopLocks {
        node.map_or(&self.locks, |node| &self.members[node].1)
    }

    /// What a new call is known by, which these others wait for.
    fn known(&self, py: Python<'_>, mut frames: callers::Frames, node: Option<usize>) -> PyResult<Known> {
        let frame = Frame::of_stage(&self.place, self.locks(node).holder, Arc::clone(&self.find_node));
        frames.push(Arc::clone(&frame));
        Ok(Known { frame, carried: Callers::holding(py, frames)? })
    }

    fn begin_call(
        self: &Arc<Self>,
        py: Python<'_>,
        known: Known,
        inputs: u64,
        node: Option<usize>,
    ) -> PyResult<LoopCall> {
        let token = callers::set(py, known.carried.bind(py))?;
        self.live_calls.fetch_add(1, Ordering::Relaxed);
        let first = self.inputs.fetch_add(inputs, Ordering::Relaxed);
        Ok(LoopCall {
            stage: Arc::clone(self),
            known: Mutex::new(Some(known)),
            token: Mutex::new(Some(token)),
            first,
            node,
        })
    }
}

/// A call that the current task is in.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct LoopCall {
    stage: Arc<Stage>,
    /// `None` after the call.
    known: Mutex<Option<Known>>,
    token: Mutex<Option<Py<PyAny>>>,
    /// The node of a single lock.
    node: Option<usize>,
    /// The index of its first input.
    #[pyo3(get)]
    first: u64,
}

#[pymethods]
impl LoopCall {
    /// End the call, and release the locks.
    fn leave(&self, py: Python<'_>) {
        let Some(known) = self.end() else { return };
        self.detach(py);
        if self.node.is_none() && known.is_unused() {
            *self.stage.spare.lock() = Some(known);
        } else {
            known.carried.get().hold(callers::Frames::new());
        }
        self.stage.locks(self.node).release();
    }

    /// Go on in the current task without the call, which does not end yet.
    fn detach(&self, py: Python<'_>) {
        let token = self.token.lock().take();
        if let Some(token) = token {
            callers::reset(py, token.bind(py));
        }
    }
}

impl LoopCall {
    fn end(&self) -> Option<Known> {
        let known = self.known.lock().take()?;
        known.frame.end();
        self.stage.live_calls.fetch_sub(1, Ordering::Relaxed);
        Some(known)
    }
}

impl Drop for LoopCall {
    fn drop(&mut self) {
        // A coroutine that is deleted before its end, perhaps in another context.
        if let Some(known) = self.end() {
            known.carried.get().hold(callers::Frames::new());
            self.stage.locks(self.node).release();
        }
    }
}

fn node_at_work(find_node: &Bound<'_, PyAny>) -> Option<String> {
    let find_node = find_node.call0().ok()?;
    if find_node.is_none() { None } else { find_node.call0().ok()?.extract().ok() }
}

fn wake_loop(py: Python<'_>, wake: &Py<PyAny>) {
    if let Err(error) = wake.call0(py) {
        error.write_unraisable(py, None);
    }
}
