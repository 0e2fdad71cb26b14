//! The extension module `remotemedia._core`.

use pyo3::prelude::*;

/// What the Python package calls; its users call the package.
#[pymodule(gil_used = true)]
pub mod _core {
    use std::ffi::OsString;

    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;
    use pyo3::types::{PyDict, PyList, PyString};
    use remotemedia_commands::GraphFormat;

    #[pymodule_export]
    use crate::convert::manifest::{ManifestOrder, ParsedManifest};
    use crate::convert::options;
    #[pymodule_export]
    use crate::node::bulk::chunk_items::ChunkItems;
    #[pymodule_export]
    use crate::node::callers::Callers;
    #[pymodule_export]
    use crate::node::loop_metrics::LoopMetrics;
    #[pymodule_export]
    use crate::node::loop_stage::{LoopCall, LoopStage};
    use crate::node::outputs::Kind;
    #[pymodule_export]
    use crate::node::waits::Waiting;
    #[pymodule_export]
    use crate::session::core::{SessionCore, Ticket};
    #[pymodule_export]
    use crate::session::direct_map::DirectMap;
    #[pymodule_export]
    use crate::session::opener::Opener;
    #[pymodule_export]
    use crate::session::stream::OutputStream;
    #[pymodule_export]
    use crate::session::stream_feed::StreamFeed;
    #[pymodule_export]
    use crate::threaded_run::Call;
    use crate::{command_line, graph, run as runs, serving, threaded_run, worker};

    /// The version of the crates.
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the name that Python programs look for")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// At this signal a worker writes the Python stacks of its threads to its standard error stream.
    #[pymodule_export]
    const STACK_SIGNAL: i32 = remotemedia_runtime::worker::STACK_SIGNAL;

    /// How many items may wait before a stage, unless an option says otherwise.
    #[pymodule_export]
    const DEFAULT_QUEUE_SIZE: usize = remotemedia_runtime::DEFAULT_QUEUE_SIZE;

    /// How long a session or a run may take to close before the nodes that have not returned are abandoned.
    #[pymodule_export]
    const CLOSE_TIMEOUT_SECS: f64 = remotemedia_runtime::CLOSE_TIMEOUT.as_secs_f64();

    /// The longest time that an option accepts.
    #[pymodule_export]
    const LONGEST_SECS: f64 = remotemedia_runtime::LONGEST_SECS;

    /// The longest pause before a retry.
    #[pymodule_export]
    const LONGEST_RETRY_DELAY_SECS: f64 = remotemedia_runtime::LONGEST_RETRY_DELAY.as_secs_f64();

    /// Run a graph on a thread of its own and deliver the outcome on an event loop.
    #[pyfunction]
    fn start(
        graph: &Bound<'_, PyAny>,
        feed: Py<PyAny>,
        event_loop: Py<PyAny>,
        deliver: Py<PyAny>,
        enable_metrics: bool,
    ) -> PyResult<Call> {
        let order = threaded_run::Order { input: feed, event_loop, deliver, with_metrics: enable_metrics };
        threaded_run::start(graph, order)
    }

    /// Run a graph on this thread.
    #[pyfunction]
    fn run<'py>(
        graph: &Bound<'py, PyAny>,
        feed: &Bound<'py, PyAny>,
        enable_metrics: bool,
    ) -> PyResult<(Bound<'py, PyList>, Option<Bound<'py, PyAny>>)> {
        runs::run(graph, feed, enable_metrics)
    }

    /// Parse and check a manifest, JSON or YAML.
    #[pyfunction]
    fn parse_manifest(py: Python<'_>, text: &str) -> PyResult<ParsedManifest> {
        ParsedManifest::parse(py, text)
    }

    /// Refuse a graph whose nodes cannot be divided into stages.
    #[pyfunction]
    fn check_stages(graph: &Bound<'_, PyAny>) -> PyResult<()> {
        graph::plan_of(graph).map(drop)
    }

    /// Draw a graph as `text`, `mermaid`, `dot` or `svg`.
    #[pyfunction]
    fn draw(graph: &Bound<'_, PyAny>, format: &str) -> PyResult<String> {
        let plan = graph::plan_of(graph)?;
        let format = format.parse::<GraphFormat>().map_err(PyValueError::new_err)?;
        Ok(remotemedia_commands::draw(&plan, format))
    }

    /// Whether a value that a node returned is a generator, a coroutine, or another object that has yet to run.
    #[pyfunction]
    fn is_lazy(value: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(Kind::of(value)? != Kind::Plain)
    }

    /// What is wrong with the options of a node, or with those of `Pipeline.open`: the end of an error text, or nothing.
    #[pyfunction]
    fn option_problem(written: &Bound<'_, PyDict>, are_of_session: bool) -> PyResult<Option<String>> {
        options::problem(written, are_of_session)
    }

    /// The end of an error text: `; did you mean 'x'?`, or nothing.
    #[pyfunction]
    fn did_you_mean(name: &Bound<'_, PyString>, candidates: &Bound<'_, PyAny>) -> PyResult<String> {
        let names: PyResult<Vec<String>> = candidates.try_iter()?.map(|name| Ok(name?.to_string())).collect();
        Ok(remotemedia_runtime::did_you_mean(&name.to_string_lossy(), names?.iter().map(String::as_str)))
    }

    /// Be a worker, on the socket that is the standard input.
    #[pyfunction]
    fn serve_worker(py: Python<'_>) -> PyResult<()> {
        worker::serve_parent(py)
    }

    /// Whether the nodes of this worker work on items.
    #[pyfunction]
    fn is_at_work() -> bool {
        worker::is_at_work()
    }

    /// Be a fork of a worker: leave where a node comes back.
    #[pyfunction]
    fn be_fork() {
        worker::be_fork();
    }

    /// Serve a graph on the network, on this thread, until the host says to stop.
    #[pyfunction]
    fn serve(graph: &Bound<'_, PyAny>, words: Vec<OsString>, host: Py<PyAny>) -> PyResult<()> {
        serving::serve(graph, words, host)
    }

    /// Run the command line and return its exit code.
    #[pyfunction]
    fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
        command_line::main(py, "remotemedia", arguments)
    }
}
