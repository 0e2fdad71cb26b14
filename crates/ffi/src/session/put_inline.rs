//! Items of a session whose nodes run on the calling threads: the thread that puts one in takes it through the nodes.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use pyo3::prelude::*;
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Admission, Bringing, Client, Outbox, Worked};

use crate::attach::detach;
use crate::convert::failure;
use crate::convert::object::Object;
use crate::session::core::{POLL_INTERVAL, SessionCore, WaitCheck};

/// What is put in, and where.
pub(crate) struct Order<'a> {
    pub(crate) core: &'a SessionCore,
    pub(crate) outbox: &'a Outbox<Object>,
    /// What the user has called: `put` or `end`.
    pub(crate) word: &'static str,
}

impl Order<'_> {
    /// Put an item in, or the end of input, by `submit`, and take it through the nodes on this thread. `false`: the session takes no more.
    ///
    /// If there is no room for outputs and another thread takes some, as `is_taken` says, this waits for room. Otherwise the rest is left
    /// to the thread that takes them, which may be this one.
    pub(crate) fn put(
        self,
        py: Python<'_>,
        submit: impl FnOnce(Box<dyn FnOnce(bool) + Send>) -> Admission,
        is_taken: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let core = self.core;
        let is_end = self.word == "end";
        let (sender, admitted) = sync_channel(1);
        let on_admission = Box::new(move |is_in| {
            // The wait may have been interrupted.
            sender.send(is_in).ok();
        });
        // Before the item is in: a thread that takes outputs would begin with it.
        let mut bringing = core.session.bring();
        let admission = submit(on_admission);
        if is_end {
            self.outbox.end();
        }
        match admission {
            Admission::Now => bringing.note_in(),
            Admission::Never => return Ok(false),
            Admission::Later => {}
        }
        let may_leave = is_end || admission == Admission::Now;
        let brought = Brought { order: self, bringing, admitted: Mutex::new(admitted) };
        let is_in = brought.take_through(py, may_leave, is_taken)?;
        core.work_on_left(py)?;
        Ok(is_in)
    }
}

/// An item on its way.
struct Brought<'a> {
    order: Order<'a>,
    bringing: Bringing<'a, Object>,
    admitted: Mutex<Receiver<bool>>,
}

impl Brought<'_> {
    /// With `may_leave`, the caller need not wait until the item is in.
    fn take_through(mut self, py: Python<'_>, mut may_leave: bool, is_taken: &Bound<'_, PyAny>) -> PyResult<bool> {
        let core = self.order.core;
        let mut wait_check = WaitCheck::default();
        let mut admission = None;
        loop {
            match admission.or_else(|| self.wait_for_admission(Duration::ZERO)) {
                Some(false) => return Ok(false),
                Some(true) => {
                    self.bringing.note_in();
                    may_leave = true;
                }
                None => {}
            }
            let worked = self.bringing.work().map_err(|order| failure::original(py, &order))?;
            if self.bringing.is_done() {
                return Ok(true);
            }
            let is_busy = worked == Worked::Busy;
            let has_room = self.order.outbox.room() > 0;
            // Where there is room, another stream is full: the thread that takes its outputs continues.
            if may_leave && !is_busy && (has_room || !is_taken.call0()?.is_truthy()?) {
                return Ok(true);
            }
            match wait_check.check(core, py, self.order.word) {
                // The nodes wait for this thread. The thread inside them continues with the item.
                Err(_) if may_leave && is_busy => {
                    core.session.leave_work();
                    return Ok(true);
                }
                looked => looked?,
            }
            admission = detach(py, || {
                if is_busy {
                    core.session.wait_until_free(POLL_INTERVAL);
                } else if !has_room {
                    self.order.outbox.wait_for_room(POLL_INTERVAL);
                } else {
                    return self.wait_for_admission(POLL_INTERVAL);
                }
                None
            });
            py.check_signals()?;
        }
    }

    fn wait_for_admission(&self, timeout: Duration) -> Option<bool> {
        self.admitted.lock().recv_timeout(timeout).ok()
    }
}
