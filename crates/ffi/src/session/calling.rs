//! The ways of an item through a session that its caller waits for: on this thread, by a worker, by the queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Caller, Client, Direct, RunError};

use crate::asyncio::context::CallerContext;
use crate::attach::{detach, prepare_thread};
use crate::convert::failure;
use crate::convert::object::Object;
use crate::graph;
use crate::node::callers;
use crate::node::callers::Place;
use crate::node::waits::Waiting;
use crate::session::call::{Call, Outputs};
use crate::session::core::{POLL_INTERVAL, SessionCore, Ticket, WaitCheck};

impl SessionCore {
    /// Work on what was put in, where nodes run on the threads that call: as long as there is room for outputs, and `goes_on`.
    pub(crate) fn work_here(&self, py: Python<'_>, goes_on: &dyn Fn() -> bool) -> PyResult<()> {
        if !self.session.is_on_callers() {
            return Ok(());
        }
        prepare_thread();
        self.session.work_here(goes_on).map_err(|order| failure::original(py, &order))
    }

    /// Work on what a node has put into its own session, when it has returned.
    pub(crate) fn work_on_left(&self, py: Python<'_>) -> PyResult<()> {
        if !self.session.has_left_work() {
            return Ok(());
        }
        self.session.work_on_left().map_err(|order| failure::original(py, &order))
    }

    /// Refuse to wait for threads that are another process's.
    pub(crate) fn check_not_left(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_left.load(Ordering::Relaxed) { Err(failure::ended(py, RunError::Closed)) } else { Ok(()) }
    }

    /// Take an item through on this thread, or flush the nodes.
    pub(super) fn take_directly(&self, py: Python<'_>, item: Option<Object>, outputs: &mut Outputs) -> PyResult<()> {
        self.directly(py, item, |item| self.session.direct(item, outputs))?;
        self.session.count_direct_outputs(outputs.0.len() as u64);
        Ok(())
    }

    /// Do something with the nodes on this thread as soon as no other is inside.
    pub(crate) fn directly(
        &self,
        py: Python<'_>,
        item: Option<Object>,
        work: impl FnMut(Option<Object>) -> Direct<Object>,
    ) -> PyResult<()> {
        self.inside(py, item, work)?.map_or(Ok(()), |error| Err(failure::ended(py, error)))
    }

    /// The same for a stream, which continues after an interruption. Returns whether nothing was dropped.
    pub(crate) fn directly_in_stream(
        &self,
        py: Python<'_>,
        item: Option<Object>,
        work: impl FnMut(Option<Object>) -> Direct<Object>,
    ) -> PyResult<bool> {
        match self.inside(py, item, work)? {
            None => Ok(true),
            Some(RunError::Interrupted) => Ok(false),
            Some(error) => Err(failure::ended(py, error)),
        }
    }

    /// Do something with the nodes as soon as no other is inside. Returns what has ended the work.
    fn inside(
        &self,
        py: Python<'_>,
        mut item: Option<Object>,
        mut work: impl FnMut(Option<Object>) -> Direct<Object>,
    ) -> PyResult<Option<RunError<PyErr>>> {
        let mut wait_check = WaitCheck::default();
        loop {
            match work(item) {
                Direct::Done => return Ok(None),
                Direct::Failed(error) => return Ok(Some(error)),
                Direct::Busy(back) => {
                    item = back;
                    self.wait_until_free(py, &mut wait_check)?;
                }
            }
        }
    }

    /// Wait for another thread that is inside the nodes, a moment at a time.
    fn wait_until_free(&self, py: Python<'_>, wait_check: &mut WaitCheck) -> PyResult<()> {
        wait_check.check(self, py, "call")?;
        detach(py, || self.session.wait_until_free(POLL_INTERVAL));
        py.check_signals()
    }

    /// Look again whether a wait can end.
    pub(crate) fn check_wait(&self, waiting: &Waiting, word: &str) -> PyResult<()> {
        waiting.check().map_err(|cycle| cycle.refusal(&self.owner, word))
    }

    /// Where its chain is that runs in bulk.
    pub(crate) fn place_of_chain(&self) -> Arc<Place> {
        graph::place_of_chain(self.session.plan(), &self.owner)
    }

    /// Bring an item to the worker on this thread, or by the queue if others are at work.
    pub(super) fn call_worker(&self, py: Python<'_>, item: Py<PyAny>) -> PyResult<Py<PyAny>> {
        // The thread that delivers the results of a worker may be the one that calls, from a callback.
        let _waiting = self.begin_wait(py, "call")?;
        let mut outputs = Outputs::default();
        match self.session.direct(Some(Object(item)), &mut outputs) {
            Direct::Done => {
                self.session.count_direct_outputs(outputs.0.len() as u64);
                outputs.shape(py)
            }
            Direct::Failed(error) => Err(failure::ended(py, error)),
            Direct::Busy(Some(Object(item))) => self.call_by_queue(py, item),
            Direct::Busy(None) => unreachable!("an item that was not accepted is returned"),
        }
    }

    pub(super) fn call_by_queue(&self, py: Python<'_>, item: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.check_takes_items()?;
        let mut wait_check = WaitCheck::default();
        wait_check.check(self, py, "call")?;
        let (context, _awaited) = CallerContext::awaited_by(py, callers::current(py)?)?;
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let client: Arc<dyn Client<Object>> = Arc::new(Call::new(Box::new(move |outputs, outcome| {
            // The call may have been abandoned.
            sender.send((outputs, outcome)).ok();
        })));
        let caller = Caller { client: Arc::clone(&client), context, is_urgent: true, own_index: None };
        self.session.submit_from(caller, Some(Object(item)), None);
        let receiver = Mutex::new(receiver);
        loop {
            let result = detach(py, || receiver.lock().recv_timeout(POLL_INTERVAL));
            if let Ok((outputs, outcome)) = result {
                outcome.map_err(|error| failure::ended(py, error))?;
                return outputs.shape(py);
            }
            if let Err(error) = wait_check.check(self, py, "call").and_then(|()| py.check_signals()) {
                self.abandon(py, &Ticket { client, waiting: None })?;
                return Err(error);
            }
        }
    }
}
