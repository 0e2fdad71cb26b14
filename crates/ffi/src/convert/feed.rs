//! The user's input as the feed of a run: a list, any iterable, an async iterable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyRange, PyTuple};
use remotemedia_runtime::{Feed, Items};

use crate::asyncio::bridge::{Bridge, Iteration};
use crate::attach::attach;
use crate::convert::object::Object;

/// Filling a chunk from an iterator ends after this, however few items it gave.
const FILL_TIME: Duration = Duration::from_millis(1);

/// The clock is read once in this many items.
const ITEMS_PER_LOOK: usize = 8;

/// The feed for what the user gave as input; `None` gives nothing (the pipeline has a source).
pub(crate) fn feed_of(input: &Bound<'_, PyAny>, bridge: &Arc<Bridge>) -> PyResult<Box<dyn Feed<Object>>> {
    if input.is_none() {
        return Ok(Box::new(Items(std::iter::empty())));
    }
    if let Ok(list) = input.cast_exact::<PyList>() {
        return Ok(Box::new(ListFeed { list: list.clone().unbind(), next: 0 }));
    }
    if let Ok(tuple) = input.cast_exact::<PyTuple>() {
        return Ok(Box::new(ListFeed { list: tuple.to_list().unbind(), next: 0 }));
    }
    if input.hasattr("__aiter__")? {
        return Ok(Box::new(AsyncFeed(bridge.iterate(input, false, None)?)));
    }
    let are_there = are_there(input);
    Ok(Box::new(IteratorFeed { iterator: input.try_iter()?.unbind(), failed: None, has_ended: false, are_there }))
}

/// Whether all items of an iterable are there already, so that reading them takes no time and runs no code.
pub(crate) fn are_there(items: &Bound<'_, PyAny>) -> bool {
    items.is_exact_instance_of::<PyList>()
        || items.is_exact_instance_of::<PyTuple>()
        || items.is_exact_instance_of::<PyRange>()
}

/// Reads by index, so the list may change while the run goes on.
struct ListFeed {
    list: Py<PyList>,
    next: usize,
}

impl Feed<Object> for ListFeed {
    fn next(&mut self) -> PyResult<Option<Object>> {
        attach(|py| {
            let list = self.list.bind(py);
            if self.next >= list.len() {
                return Ok(None);
            }
            let item = list.get_item(self.next)?;
            self.next += 1;
            Ok(Some(Object(item.unbind())))
        })
    }

    fn next_chunk(&mut self, limit: usize) -> Option<PyResult<Object>> {
        attach(|py| {
            let chunk = self.list.bind(py).get_slice(self.next, self.next + limit);
            self.next += chunk.len();
            Some(Ok(Object(chunk.into_any().unbind())))
        })
    }

    fn next_ready(&mut self, limit: usize) -> Option<PyResult<Object>> {
        self.next_chunk(limit)
    }

    fn are_there(&self) -> bool {
        true
    }
}

struct IteratorFeed {
    iterator: Py<PyIterator>,
    /// What the iterator raised while a chunk was filled; raised after the items before it.
    failed: Option<PyErr>,
    has_ended: bool,
    are_there: bool,
}

impl Feed<Object> for IteratorFeed {
    fn next(&mut self) -> PyResult<Option<Object>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.has_ended {
            return Ok(None);
        }
        attach(|py| {
            let item = self.iterator.bind(py).clone().next().transpose()?;
            Ok(item.map(|item| Object(item.unbind())))
        })
    }

    fn next_chunk(&mut self, limit: usize) -> Option<PyResult<Object>> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        attach(|py| Some(self.fill(py, limit)))
    }

    fn next_ready(&mut self, limit: usize) -> Option<PyResult<Object>> {
        if self.are_there { self.next_chunk(limit) } else { None }
    }

    fn are_there(&self) -> bool {
        self.are_there
    }
}

impl IteratorFeed {
    fn fill(&mut self, py: Python<'_>, limit: usize) -> PyResult<Object> {
        let chunk = PyList::empty(py);
        let mut iterator = self.iterator.bind(py).clone();
        let started = Instant::now();
        while !self.has_ended && chunk.len() < limit {
            match iterator.next() {
                Some(Ok(item)) => chunk.append(item)?,
                Some(Err(error)) if chunk.is_empty() => return Err(error),
                Some(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                None => self.has_ended = true,
            }
            if chunk.len() % ITEMS_PER_LOOK == 0 && started.elapsed() > FILL_TIME {
                break;
            }
        }
        Ok(Object(chunk.into_any().unbind()))
    }
}

/// The user's own async iterable, which is not closed before its end, as `async for` does not.
struct AsyncFeed(Iteration);

impl Feed<Object> for AsyncFeed {
    fn next(&mut self) -> PyResult<Option<Object>> {
        attach(|py| self.0.next(py))
    }
}

impl Drop for AsyncFeed {
    fn drop(&mut self) {
        // On a loop that is closed there is nothing left to end.
        attach(|py| drop(self.0.close(py)));
    }
}
