//! Which calls of nodes wait for the code that runs now. What would wait for one of them would wait for itself, and is refused.
//!
//! On a thread these are the calls on its stack. A context variable takes them along to coroutines, to the nodes of other pipelines, and
//! to whatever user code copies its context for. A call counts until it is over, so a task that a node has started and
//! not awaited may wait for it.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use remotemedia_runtime::locks::Mutex;

/// A session or a run.
pub(crate) struct Owner {
    /// The name of its pipeline.
    pub(crate) pipeline: String,
    /// Counts its calls of nodes that are under way.
    live_calls: OnceLock<Box<dyn Fn() -> usize + Send + Sync>>,
}

impl Owner {
    pub(crate) fn new(pipeline: &str) -> Arc<Self> {
        Arc::new(Self { pipeline: pipeline.to_owned(), live_calls: OnceLock::new() })
    }

    /// Say how the calls under way are counted, where there can be several.
    pub(crate) fn counts_calls_by(&self, live_calls: Box<dyn Fn() -> usize + Send + Sync>) {
        self.live_calls.set(live_calls).ok();
    }

    pub(super) fn live_calls(&self) -> usize {
        self.live_calls.get().map_or(0, |live_calls| live_calls())
    }
}

/// A node of a session or run.
pub(crate) struct Place {
    pub(crate) owner: Arc<Owner>,
    /// `None` where it could be any node of the pipeline.
    pub(crate) node_id: Option<String>,
}

impl Place {
    pub(crate) fn new(owner: &Arc<Owner>, node_id: Option<&str>) -> Arc<Self> {
        Arc::new(Self { owner: Arc::clone(owner), node_id: node_id.map(str::to_owned) })
    }
}

/// Returns the id of the node that a call is in now.
pub(crate) type FindNode = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// A call of a node on which others may depend.
pub(crate) struct Frame {
    pub(super) place: Arc<Place>,
    /// The holder numbers of the locks that it holds meanwhile.
    pub(super) locks: Vec<u64>,
    /// Where the place is a whole stage: finds the node.
    find_node: Option<FindNode>,
    is_over: AtomicBool,
}

impl Frame {
    /// A call that is not on the stack of its thread.
    pub(crate) fn begin(place: &Arc<Place>) -> Arc<Self> {
        ENTERED.with_borrow(|entered| Self::new(place, entered))
    }

    /// The same for a call of several nodes; `find_node` finds the one that it is in.
    pub(crate) fn begin_stage(place: &Arc<Place>, find_node: FindNode) -> Arc<Self> {
        let (place, find_node) = (Arc::clone(place), Some(find_node));
        let locks = ENTERED.with_borrow(|entered| locks_of(entered));
        Arc::new(Self { place, locks, find_node, is_over: AtomicBool::new(false) })
    }

    fn new(place: &Arc<Place>, below: &[Entered]) -> Arc<Self> {
        Arc::new(Self {
            place: Arc::clone(place),
            locks: locks_of(below),
            find_node: None,
            is_over: AtomicBool::new(false),
        })
    }

    /// A call of a stage on an event loop, which holds the locks of its nodes by this number.
    pub(super) fn of_stage(place: &Arc<Place>, holder: u64, find_node: FindNode) -> Arc<Self> {
        let place = Arc::clone(place);
        Arc::new(Self { place, locks: vec![holder], find_node: Some(find_node), is_over: AtomicBool::new(false) })
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Another call, after the end of this one. Nobody else may refer to it.
    pub(super) fn begin_again(&self) {
        self.is_over.store(false, Ordering::Release);
    }

    pub(super) fn is_live(&self) -> bool {
        !self.is_over.load(Ordering::Acquire)
    }

    /// The id of its node, if that is known.
    pub(super) fn node_id(&self) -> Option<String> {
        self.place.node_id.clone().or_else(|| self.find_node.as_ref().and_then(|find_node| find_node()))
    }

    /// The node and its pipeline.
    pub(super) fn name(&self) -> String {
        let pipeline = &self.place.owner.pipeline;
        self.node_id().map_or_else(
            || format!("pipeline '{pipeline}'"),
            |node_id| format!("node '{node_id}' of pipeline '{pipeline}'"),
        )
    }
}

pub(crate) type Frames = Vec<Arc<Frame>>;

/// The same frames with this one for the call that the thread is in.
pub(crate) fn with_own(mut frames: Frames, own: &Arc<Frame>) -> Frames {
    frames.pop_if(|last| Arc::ptr_eq(&last.place, &own.place));
    frames.push(Arc::clone(own));
    frames
}

/// What a thread may be inside: a call of a node, or a lock of nodes.
#[derive(Clone, Copy)]
pub(crate) enum Level<'a> {
    Node(&'a Arc<Place>),
    /// The locks held by this number.
    Lock(u64),
}

/// A level that this thread is inside.
enum Entered {
    /// Its frame is made when somebody asks.
    Node(NonNull<Place>, Option<Arc<Frame>>),
    Lock(u64),
}

thread_local! {
    /// The outermost first. Not on the stack of the thread, which greenlets exchange.
    static ENTERED: RefCell<Vec<Entered>> = const { RefCell::new(Vec::new()) };
}

impl<'a> Level<'a> {
    pub(crate) fn node(place: &'a Arc<Place>) -> Self {
        Self::Node(place)
    }

    pub(crate) fn lock(holder: u64) -> Self {
        Self::Lock(holder)
    }

    /// Be inside until what is returned is dropped.
    #[inline]
    pub(crate) fn enter(self) -> Inside<'a> {
        ENTERED.with(|levels| {
            let mut entered = levels.borrow_mut();
            entered.push(match self {
                Self::Node(place) => Entered::Node(NonNull::from(&**place), None),
                Self::Lock(holder) => Entered::Lock(holder),
            });
            Inside { levels: NonNull::from(levels), depth: entered.len() - 1, level: PhantomData }
        })
    }
}

/// This thread is inside a level for as long as this lives. To be dropped by the thread that entered, and never forgotten.
pub(crate) struct Inside<'a> {
    /// Those of this thread: looking them up once more would cost as much as the rest of it.
    levels: NonNull<RefCell<Vec<Entered>>>,
    depth: usize,
    level: PhantomData<(&'a Arc<Place>, *const ())>,
}

impl Drop for Inside<'_> {
    #[inline]
    #[allow(unsafe_code, reason = "see `levels`")]
    fn drop(&mut self) {
        // SAFETY: this is on the stack of the thread whose levels these are, and they live until the thread ends.
        let levels = unsafe { self.levels.as_ref() };
        let mut entered = levels.borrow_mut();
        if entered.len() == self.depth + 1 && !matches!(entered[self.depth], Entered::Node(_, Some(_))) {
            entered.pop();
        } else {
            drop(entered);
            leave(self.depth);
        }
    }
}

/// Greenlets may leave in another order than they entered: what is further in has ended with this one.
#[cold]
fn leave(depth: usize) {
    while let Some(left) = ENTERED.with_borrow_mut(|entered| if entered.len() > depth { entered.pop() } else { None }) {
        if let Entered::Node(_, Some(frame)) = left {
            frame.end();
        }
    }
}

fn locks_of(entered: &[Entered]) -> Vec<u64> {
    entered.iter().filter_map(|level| if let Entered::Lock(holder) = level { Some(*holder) } else { None }).collect()
}

#[allow(unsafe_code, reason = "counting the place in every call of a node costs a tenth of a call")]
fn counted(place: NonNull<Place>) -> Arc<Place> {
    // SAFETY: the place is in an `Arc` that the `Inside` of its level borrows. A level is on the list only while its `Inside` lives:
    // a level that is dropped takes everything from its own depth on off the list.
    unsafe {
        Arc::increment_strong_count(place.as_ptr());
        Arc::from_raw(place.as_ptr())
    }
}

/// The calls that wait for the code that runs now, the outermost first.
pub(crate) fn current(py: Python<'_>) -> PyResult<Frames> {
    let mut frames = match carried(py)? {
        Some(carried) => carried.get().live(),
        None => Vec::new(),
    };
    ENTERED.with_borrow_mut(|entered| {
        for index in 0..entered.len() {
            let (below, level) = entered.split_at_mut(index);
            let Some(Entered::Node(place, frame)) = level.first_mut() else { continue };
            // A callback of a node belongs to the call that it comes out of.
            if frames.last().is_none_or(|last| Arc::as_ptr(&last.place) != place.as_ptr()) {
                frames.push(Arc::clone(frame.get_or_insert_with(|| Frame::new(&counted(*place), below))));
            }
        }
    });
    Ok(frames)
}

/// The calls that wait for what is done in a context, held by a variable of it.
#[pyclass(module = "remotemedia._core", frozen)]
#[derive(Default)]
pub(crate) struct Callers(Mutex<Frames>);

#[pymethods]
impl Callers {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Set the context variable of the current task to this object.
    fn install(slf: &Bound<'_, Self>) -> PyResult<()> {
        variable(slf.py())?.call_method1("set", (slf,)).map(drop)
    }

    /// Store the calls that wait for the current code.
    fn capture(&self, py: Python<'_>) -> PyResult<()> {
        self.hold(current(py)?);
        Ok(())
    }

    /// Remove all calls.
    fn clear(&self) {
        self.hold(Vec::new());
    }
}

impl Callers {
    pub(crate) fn holding(py: Python<'_>, frames: Frames) -> PyResult<Py<Self>> {
        Py::new(py, Self(Mutex::new(frames)))
    }

    pub(crate) fn hold(&self, frames: Frames) {
        *self.0.lock() = frames;
    }

    /// Whether this is a single call.
    pub(super) fn is_one(&self) -> bool {
        self.0.lock().len() == 1
    }

    fn live(&self) -> Frames {
        self.0.lock().iter().filter(|frame| frame.is_live()).cloned().collect()
    }
}

/// The variable that holds the [`Callers`] of a context.
pub(crate) fn variable(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static VARIABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let variable = VARIABLE.get_or_try_init(py, || {
        let class = py.import("contextvars")?.getattr("ContextVar")?;
        PyResult::Ok(class.call1(("remotemedia callers",))?.unbind())
    })?;
    Ok(variable.bind(py))
}

/// Whether nobody waits for the code that runs now.
pub(crate) fn are_none(py: Python<'_>) -> PyResult<bool> {
    Ok(ENTERED.with_borrow(Vec::is_empty) && carried(py)?.is_none_or(|carried| carried.get().live().is_empty()))
}

/// Set the variable in the current context. Returns the token for `reset`.
#[allow(unsafe_code, reason = "PyO3 has no safe call for it, and by way of a method it takes several times as long")]
pub(crate) fn set(py: Python<'_>, callers: &Bound<'_, Callers>) -> PyResult<Py<PyAny>> {
    // SAFETY: this thread is attached, and both arguments are live objects; the call returns a new reference or NULL.
    let token = unsafe { pyo3::ffi::PyContextVar_Set(variable(py)?.as_ptr(), callers.as_ptr()) };
    // SAFETY: as above.
    unsafe { Bound::from_owned_ptr_or_err(py, token) }.map(Bound::unbind)
}

/// Set the variable to what it was before. In another context, which has its own value, there is nothing to do.
#[allow(unsafe_code, reason = "as above")]
pub(crate) fn reset(py: Python<'_>, token: &Bound<'_, PyAny>) {
    let Ok(variable) = variable(py) else { return };
    // SAFETY: this thread is attached, and both arguments are live objects, the second of them a token of the first.
    if unsafe { pyo3::ffi::PyContextVar_Reset(variable.as_ptr(), token.as_ptr()) } < 0 {
        drop(PyErr::take(py));
    }
}

#[allow(unsafe_code, reason = "PyO3 has no safe call for it, and by way of a method it takes several times as long")]
pub(crate) fn carried(py: Python<'_>) -> PyResult<Option<Bound<'_, Callers>>> {
    let mut value = std::ptr::null_mut();
    // SAFETY: this thread is attached, the first argument is a live `ContextVar`, and the last one is where a new reference goes, or NULL.
    let found = unsafe { pyo3::ffi::PyContextVar_Get(variable(py)?.as_ptr(), std::ptr::null_mut(), &raw mut value) };
    if found < 0 {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: as above.
    let value = unsafe { Bound::from_owned_ptr_or_opt(py, value) };
    Ok(value.and_then(|value| value.cast_into::<Callers>().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth() -> usize {
        ENTERED.with_borrow(Vec::len)
    }

    #[test]
    fn levels_may_be_left_in_another_order_than_they_were_entered() {
        let place = Place::new(&Owner::new("pipeline"), Some("node"));
        let outer = Level::node(&place).enter();
        let inner = Level::lock(1).enter();

        drop(outer);
        assert_eq!(depth(), 0);
        let next = Level::node(&place).enter();
        drop(next);
        drop(inner);

        assert_eq!((depth(), Arc::strong_count(&place)), (0, 1));
    }
}
