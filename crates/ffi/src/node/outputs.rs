//! What a call of user code returned: the one place that decides between a value, a generator and a coroutine.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyIterator, PyType};
use remotemedia_runtime::{Outputs, Payload, Stream};

use crate::asyncio::bridge::Iteration;
use crate::asyncio::context::CallerContext;
use crate::attach::attach;
use crate::convert::object::Object;
use crate::node::callers::Level;
use crate::node::site::Site;

/// What a call returned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Generator,
    Coroutine,
    AsyncGenerator,
}

/// The addresses of the interpreter's own types whose instances have yet to run.
struct LazyTypes {
    generator: usize,
    coroutine: usize,
    async_generator: usize,
}

static LAZY_TYPES: PyOnceLock<LazyTypes> = PyOnceLock::new();

static RETURN_KIND: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

static COLLECTED: PyOnceLock<Py<PyType>> = PyOnceLock::new();

impl LazyTypes {
    fn get(py: Python<'_>) -> PyResult<&Self> {
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
}

impl Kind {
    /// The kind of a returned value. The interpreter's own types are recognized here, and most others by what their types lack; the rest
    /// by `remotemedia._graph.node_kinds`, which knows those of other compilers.
    pub(crate) fn of(returned: &Bound<'_, PyAny>) -> PyResult<Self> {
        let types = LazyTypes::get(returned.py())?;
        let kind = returned.get_type_ptr() as usize;
        if kind == types.coroutine {
            return Ok(Self::Coroutine);
        }
        if kind == types.async_generator {
            return Ok(Self::AsyncGenerator);
        }
        if kind == types.generator {
            return Self::of_generator(returned);
        }
        if !may_be_lazy(returned.as_borrowed()) {
            return Ok(Self::Plain);
        }
        let kind =
            RETURN_KIND.import(returned.py(), "remotemedia._graph.node_kinds", "return_kind")?.call1((returned,))?;
        Ok(match kind.extract()? {
            "coroutine" => Self::Coroutine,
            "generator" => Self::Generator,
            "async_generator" => Self::AsyncGenerator,
            _ => Self::Plain,
        })
    }

    /// Coroutines of the older kind, made by `types.coroutine`, are generators with a flag.
    fn of_generator(returned: &Bound<'_, PyAny>) -> PyResult<Self> {
        const CO_ITERABLE_COROUTINE: u32 = 0x100;
        let flags: u32 = returned.getattr("gi_code")?.getattr("co_flags")?.extract()?;
        Ok(if flags & CO_ITERABLE_COROUTINE == 0 { Self::Generator } else { Self::Coroutine })
    }
}

/// Whether an object can be awaited, or is an iterator. All others are plain values.
#[allow(unsafe_code, reason = "PyO3 has no way to look at the slots of a type")]
pub(crate) fn may_be_lazy(value: Borrowed<'_, '_, PyAny>) -> bool {
    // SAFETY: the object is borrowed, and keeps its type; the slots of a type are plain pointers.
    unsafe {
        let slots = (*value.get_type_ptr()).tp_as_async.as_ref();
        let can_be_awaited = slots.is_some_and(|slots| slots.am_await.is_some() || slots.am_anext.is_some());
        // Each class of Python code has something in its slot for `__next__`.
        can_be_awaited || pyo3::ffi::PyIter_Check(value.as_ptr()) != 0
    }
}

/// Turn what user code returned into outputs: a coroutine is awaited, a generator drained, a plain value is a value.
pub(crate) fn outputs(
    returned: Bound<'_, PyAny>,
    site: &Arc<Site>,
    timeout_secs: Option<f64>,
) -> PyResult<Outputs<Object>> {
    if returned.is_none() {
        return Ok(Outputs::None);
    }
    Ok(match Kind::of(&returned)? {
        Kind::Plain => Outputs::One(Object(returned.unbind())),
        Kind::Generator => Outputs::Many(Box::new(Generator(returned.unbind(), Arc::clone(site)))),
        Kind::Coroutine => return outputs(site.bridge.wait_at_most(returned, timeout_secs)?, site, timeout_secs),
        Kind::AsyncGenerator => {
            let iteration = site.bridge.iterate(&returned, true, timeout_secs)?;
            Outputs::Many(Box::new(AsyncGenerator(iteration, Arc::clone(site))))
        }
    })
}

/// The outputs of the value of an awaited call: all of an async generator, or those of any other call.
pub(crate) fn outputs_of_started(value: Bound<'_, PyAny>, site: &Arc<Site>) -> PyResult<Outputs<Object>> {
    let py = value.py();
    if !value.is_exact_instance(COLLECTED.import(py, "remotemedia._asyncio.retries", "Collected")?) {
        return outputs(value, site, None);
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

/// The coroutine of a call whose value is not used, if it returned one.
pub(crate) fn handed_over(returned: Bound<'_, PyAny>, site: &Arc<Site>) -> PyResult<Outputs<Object>> {
    if Kind::of(&returned)? != Kind::Coroutine {
        return Ok(Outputs::None);
    }
    Ok(Outputs::Many(Box::new(Awaited::new(returned, site, false))))
}

/// The items of a source. They are made outside of the node, and go on over interruptions: a coroutine is awaited when its item is asked
/// for.
pub(crate) fn items(returned: Bound<'_, PyAny>, site: &Arc<Site>) -> PyResult<Outputs<Object>> {
    let kind = Kind::of(&returned)?;
    if matches!(kind, Kind::Coroutine | Kind::AsyncGenerator) {
        site.bridge.spare_thread(returned.py())?;
    }
    if kind == Kind::Coroutine {
        return Ok(Outputs::Many(Box::new(Awaited::new(returned, site, true))));
    }
    outputs(returned, site, None)
}

/// A coroutine that has yet to run, as a stream of its value, or of nothing.
struct Awaited {
    is_value_wanted: bool,
    returned: Option<Py<PyAny>>,
    site: Arc<Site>,
    /// The one of the call, which may have been made on another thread.
    context: CallerContext,
}

impl Awaited {
    fn new(returned: Bound<'_, PyAny>, site: &Arc<Site>, is_value_wanted: bool) -> Self {
        let context = Object::current_context();
        Self { is_value_wanted, returned: Some(returned.unbind()), site: Arc::clone(site), context }
    }
}

impl Stream<Object> for Awaited {
    fn next(&mut self) -> PyResult<Option<Object>> {
        let Some(returned) = self.returned.take() else { return Ok(None) };
        let _inside = Level::node(&self.site.place).enter();
        let wait = || {
            attach(|py| {
                let mut returned = returned.into_bound(py);
                while Kind::of(&returned)? == Kind::Coroutine {
                    returned = self.site.bridge.wait(returned)?;
                }
                Ok((self.is_value_wanted && !returned.is_none()).then(|| Object(returned.unbind())))
            })
        };
        Object::within(&self.context, wait)
    }

    fn close(&mut self) -> PyResult<()> {
        let Some(returned) = self.returned.take() else { return Ok(()) };
        // Python warns about a coroutine that was never awaited, unless it is closed.
        attach(|py| match returned.bind(py).getattr_opt("close")? {
            Some(close) => close.call0().map(drop),
            None => Ok(()),
        })
    }
}

/// A Python generator at work. Each `yield` is an output, whatever it gives.
struct Generator(Py<PyAny>, Arc<Site>);

impl Stream<Object> for Generator {
    fn next(&mut self) -> PyResult<Option<Object>> {
        let _inside = Level::node(&self.1.place).enter();
        attach(|py| {
            let mut iterator = self.0.bind(py).cast::<PyIterator>()?.clone();
            Ok(iterator.next().transpose()?.map(|output| Object(output.unbind())))
        })
    }

    fn close(&mut self) -> PyResult<()> {
        let _inside = Level::node(&self.1.place).enter();
        attach(|py| self.0.bind(py).call_method0("close").map(drop))
    }
}

/// An async generator at work.
struct AsyncGenerator(Iteration, Arc<Site>);

impl Stream<Object> for AsyncGenerator {
    fn next(&mut self) -> PyResult<Option<Object>> {
        let _inside = Level::node(&self.1.place).enter();
        attach(|py| self.0.next(py))
    }

    fn close(&mut self) -> PyResult<()> {
        let _inside = Level::node(&self.1.place).enter();
        attach(|py| self.0.close(py))
    }
}
