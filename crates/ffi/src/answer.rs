//! What a call of user code answered: the one place that decides between a value, a generator and a coroutine.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyIterator, PyType};
use remotemedia_runtime::{Outputs, Stream};

use crate::attach::attach;
use crate::bridge::{Bridge, Iteration};
use crate::object::Object;

/// The addresses of the types whose instances are answers in the making.
pub(crate) struct LazyTypes {
    generator: usize,
    coroutine: usize,
    async_generator: usize,
}

static LAZY_TYPES: PyOnceLock<LazyTypes> = PyOnceLock::new();

static COLLECTED: PyOnceLock<Py<PyType>> = PyOnceLock::new();

impl LazyTypes {
    pub(crate) fn get(py: Python<'_>) -> PyResult<&Self> {
        LAZY_TYPES.get_or_try_init(py, || {
            let types = py.import("types")?;
            let address = |name| PyResult::Ok(types.getattr(name)?.as_ptr() as usize);
            Ok(Self {
                generator: address("GeneratorType")?,
                coroutine: address("CoroutineType")?,
                async_generator: address("AsyncGeneratorType")?,
            })
        })
    }

    /// Whether this is the address of one of them.
    pub(crate) fn contains(&self, kind: usize) -> bool {
        kind == self.generator || kind == self.coroutine || kind == self.async_generator
    }

    /// Whether an answer is a coroutine; those of the older kind, made by `types.coroutine`, are generators with a flag.
    fn has_coroutine(&self, answer: &Bound<'_, PyAny>) -> PyResult<bool> {
        const CO_ITERABLE_COROUTINE: u32 = 0x100;
        let kind = answer.get_type_ptr() as usize;
        if kind != self.generator {
            return Ok(kind == self.coroutine);
        }
        let flags: u32 = answer.getattr("gi_code")?.getattr("co_flags")?.extract()?;
        Ok(flags & CO_ITERABLE_COROUTINE != 0)
    }
}

/// Turn what user code returned into outputs: a coroutine is awaited, a generator drained, a plain value is a value.
pub(crate) fn outputs(
    answer: Bound<'_, PyAny>,
    bridge: &Arc<Bridge>,
    timeout_secs: Option<f64>,
) -> PyResult<Outputs<Object>> {
    if answer.is_none() {
        return Ok(Outputs::None);
    }
    let types = LazyTypes::get(answer.py())?;
    if types.has_coroutine(&answer)? {
        return outputs(bridge.wait_at_most(answer, timeout_secs)?, bridge, timeout_secs);
    }
    let kind = answer.get_type_ptr() as usize;
    if kind == types.generator {
        return Ok(Outputs::Many(Box::new(Generator(answer.unbind()))));
    }
    if kind == types.async_generator {
        return Ok(Outputs::Many(Box::new(AsyncGenerator(bridge.iterate(&answer, true, timeout_secs)?))));
    }
    Ok(Outputs::One(Object(answer.unbind())))
}

/// Whether a call answered with a coroutine, which has yet to run.
pub(crate) fn is_awaitable(answer: &Bound<'_, PyAny>) -> PyResult<bool> {
    LazyTypes::get(answer.py())?.has_coroutine(answer)
}

/// Whether a call answered with an async generator, which has yet to run.
pub(crate) fn is_async_generator(answer: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(answer.get_type_ptr() as usize == LazyTypes::get(answer.py())?.async_generator)
}

/// The outputs that the value of an awaited answer stands for: all of an async generator, or those of any other call.
pub(crate) fn outputs_of_started(value: Bound<'_, PyAny>, bridge: &Arc<Bridge>) -> PyResult<Outputs<Object>> {
    let py = value.py();
    if !value.is_exact_instance(COLLECTED.import(py, "remotemedia._retries", "Collected")?) {
        return outputs(value, bridge, None);
    }
    let collected = value.getattr("outputs")?.try_iter()?.map(|output| Ok(Object(output?.unbind())));
    let outputs = collected.collect::<PyResult<Vec<_>>>()?.into_iter();
    let failure = value.getattr("failure")?;
    let failure = (!failure.is_none()).then(|| PyErr::from_value(failure));
    Ok(Outputs::Many(Box::new(CollectedStream { outputs, failure })))
}

/// The outputs of an async generator that has ended, and how.
struct CollectedStream {
    outputs: std::vec::IntoIter<Object>,
    failure: Option<PyErr>,
}

impl Stream<Object> for CollectedStream {
    fn next(&mut self) -> PyResult<Option<Object>> {
        match self.outputs.next() {
            Some(output) => Ok(Some(output)),
            None => self.failure.take().map_or(Ok(None), Err),
        }
    }
}

/// A Python generator at work. Each `yield` is an output, whatever it gives.
struct Generator(Py<PyAny>);

impl Stream<Object> for Generator {
    fn next(&mut self) -> PyResult<Option<Object>> {
        attach(|py| {
            let mut iterator = self.0.bind(py).cast::<PyIterator>()?.clone();
            Ok(iterator.next().transpose()?.map(|output| Object(output.unbind())))
        })
    }

    fn close(&mut self) -> PyResult<()> {
        attach(|py| self.0.bind(py).call_method0("close").map(drop))
    }
}

/// An async generator at work.
struct AsyncGenerator(Iteration);

impl Stream<Object> for AsyncGenerator {
    fn next(&mut self) -> PyResult<Option<Object>> {
        attach(|py| self.0.next(py))
    }

    fn close(&mut self) -> PyResult<()> {
        attach(|py| self.0.close(py))
    }
}
