//! Who waits for which calls: a wait that would never end is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use remotemedia_runtime::locks::Mutex;

use crate::convert::failure;
use crate::node::callers::{Frame, Frames, Owner};

/// What somebody waits for.
#[derive(Clone)]
pub(crate) enum Target {
    /// An item or all work of a session.
    Session(Arc<Owner>),
    /// A lock, which the thread with this number holds now.
    Lock(Arc<AtomicU64>),
}

impl Target {
    fn is_held_up_by(&self, frame: &Frame) -> bool {
        frame.is_live()
            && match self {
                Self::Session(owner) => Arc::ptr_eq(owner, &frame.place.owner),
                Self::Lock(holder) => frame.locks.contains(&holder.load(Ordering::Acquire)),
            }
    }
}

struct Wait {
    number: u64,
    frames: Frames,
    target: Target,
}

/// What nodes wait for. A caller outside of all nodes delays no one.
static WAITS: Mutex<(u64, Vec<Wait>)> = Mutex::new((0, Vec::new()));

/// Calls of nodes wait for as long as this lives.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct Waiting(u64);

impl Waiting {
    /// Begin to wait.
    ///
    /// # Errors
    /// The calls along the way back to the one that waits, the innermost of its own last of the first part.
    pub(crate) fn begin(frames: Frames, target: Target) -> Result<Self, Cycle> {
        let mut waits = WAITS.lock();
        if let Some(cycle) = cycle(&frames, &target, &waits.1) {
            return Err(cycle);
        }
        waits.0 += 1;
        let number = waits.0;
        waits.1.push(Wait { number, frames, target });
        Ok(Self(number))
    }

    /// Check again: other threads have continued since.
    pub(crate) fn check(&self) -> Result<(), Cycle> {
        let waits = WAITS.lock();
        let Some(wait) = waits.1.iter().find(|wait| wait.number == self.0) else { return Ok(()) };
        cycle(&wait.frames, &wait.target, &waits.1).map_or(Ok(()), Err)
    }
}

#[pymethods]
impl Waiting {
    /// Look again whether a wait for a lock can end.
    fn check_lock(&self) -> PyResult<()> {
        self.check().map_err(|cycle| failure::PipelineError::new_err(cycle.lock_refusal()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITS.lock().1.retain(|wait| wait.number != self.0);
    }
}

/// A wait that would never end.
pub(crate) struct Cycle {
    /// The calls that would wait, beginning with the one that would wait for itself.
    own: Frames,
    /// Calls of others, each of which waits too.
    others: Frames,
}

impl Cycle {
    /// The innermost of the calls that would wait.
    fn node(&self) -> String {
        self.own.last().map_or_else(String::new, |frame| frame.name())
    }

    /// The error where a method of a session, `word`, would wait for ever.
    pub(crate) fn refusal(&self, owner: &Owner, word: &str) -> PyErr {
        let pipeline = &owner.pipeline;
        failure::PipelineError::new_err(match self.is_short() {
            Some(node) => format!(
                "Node '{node}' called {word}() of its own session and would wait for itself; call it outside the session"
            ),
            None => format!(
                "{word}() of a session of pipeline '{pipeline}' would wait for itself: {} → pipeline '{pipeline}'; call it outside the pipeline",
                self.path()
            ),
        })
    }

    /// The text of the error where a wait for the lock of an object would never end.
    pub(crate) fn lock_refusal(&self) -> String {
        format!(
            "The object of {} is already in use and would wait for itself: {}; give each pipeline its own object",
            self.node(),
            self.path()
        )
    }

    /// The id of the node, where the wait is for its own session.
    fn is_short(&self) -> Option<String> {
        match (&self.own[..], &self.others[..]) {
            ([frame], []) => frame.node_id(),
            _ => None,
        }
    }

    /// The calls one after the other.
    fn path(&self) -> String {
        let mut names: Vec<String> = self.own.iter().chain(&self.others).map(|frame| frame.name()).collect();
        names.dedup();
        names.join(" → ")
    }
}

fn cycle(own: &Frames, target: &Target, waits: &[Wait]) -> Option<Cycle> {
    let mut left = vec![(target.clone(), Frames::new())];
    let mut seen = Vec::new();
    while let Some((target, others)) = left.pop() {
        // One of the session's own nodes is refused in any case; others wait only if nothing of a session moves any more.
        if let Some(first) = own.iter().position(|frame| target.is_held_up_by(frame))
            && (others.is_empty() || is_stuck(&target, own, waits))
        {
            return Some(Cycle { own: own[first..].to_vec(), others });
        }
        for wait in waits {
            let held_up_by = wait.frames.iter().position(|frame| target.is_held_up_by(frame));
            if let Some(first) = held_up_by
                && !seen.contains(&wait.number)
                && is_stuck(&target, own, waits)
            {
                seen.push(wait.number);
                let others = others.iter().chain(&wait.frames[first..]).cloned().collect();
                left.push((wait.target.clone(), others));
            }
        }
    }
    None
}

/// Whether all calls that are under way in a session wait for something.
fn is_stuck(target: &Target, own: &Frames, waits: &[Wait]) -> bool {
    let Target::Session(owner) = target else { return true };
    let mut waiting: Vec<*const Frame> = waits
        .iter()
        .flat_map(|wait| &wait.frames)
        .chain(own)
        .filter(|frame| target.is_held_up_by(frame))
        .map(Arc::as_ptr)
        .collect();
    waiting.sort_unstable();
    waiting.dedup();
    owner.live_calls() <= waiting.len()
}
