//! One item to an idle worker, and its result, on the calling thread: no other thread need be woken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::node::Outputs;
use crate::payload::Payload;
use crate::worker::parent::client::{Life, Reader, Remote, State};
use crate::worker::parent::connection::{Connection, Job};
use crate::worker::parent::jobs::{Pending, Reply};
use crate::worker::protocol::connection::{Link, Received};
use crate::worker::protocol::poll::{POLL_INTERVAL, SHORT_WAIT, await_readable};

impl<P: Payload> Remote<P> {
    /// Do one job and read its result on this thread; returns the job if another thread is at work.
    pub(crate) fn directly(&self, item: P, item_index: Option<u64>) -> Result<Result<Outputs<P>, P::Fault>, P> {
        let Some(connection) = self.connection_if_up().filter(|_| self.spec.timeout.is_none()) else {
            return Err(item);
        };
        let job = Arc::new(Job::Item(item));
        let mut written = connection.write(&*self.codec, &job, 0..1);
        if let Some((_, fault)) = written.refused.pop() {
            return Ok(Err(fault));
        }
        let number = {
            let mut state = self.lock();
            let is_idle = state.life == Life::Up && state.pending.is_empty() && state.reader == Reader::Nobody;
            let is_same = state.connection.as_ref().is_some_and(|now| Arc::ptr_eq(now, &connection));
            if !(is_idle && is_same && state.interruptions.0 == state.interruptions.1) {
                drop((state, written));
                return match Arc::try_unwrap(job) {
                    Ok(Job::Item(item)) => Err(item),
                    _ => unreachable!("the job is this thread's own"),
                };
            }
            let number = state.next_number;
            state.next_number += 1;
            written.send(&connection, number, false);
            let mut pending = Pending::new(job, item_index, Reply::Direct, None);
            pending.note_sent(self.now_for_metrics());
            state.pending.insert(number, pending);
            state.reader = Reader::Direct;
            state.direct_result = None;
            number
        };
        Ok(self.read_own_result(&connection, number))
    }

    /// Stop waiting for a result. The worker is notified, and its result is dropped.
    fn leave(&self, number: u64, stop_request: P::Fault) -> Result<Outputs<P>, P::Fault> {
        let mut state = self.lock();
        let pending = state.pending.remove(number, 1);
        let connection = state.connection.clone().filter(|_| pending.is_some());
        if let Some(connection) = &connection {
            connection.post_drop(number);
        }
        state.direct_result = None;
        self.stop_reading(&mut state);
        drop(state);
        drop(pending);
        if let Some(connection) = connection {
            P::wait(|| connection.control.flush()).ok();
        }
        Err(stop_request)
    }

    fn read_own_result(&self, connection: &Connection, number: u64) -> Result<Outputs<P>, P::Fault> {
        let is_lost = P::wait(|| connection.link.flush()).is_err();
        let mut is_reading = !is_lost;
        loop {
            if is_reading {
                let read = P::wait(|| self.await_frame(&connection.link));
                is_reading = match read {
                    Ok(Some(received)) => {
                        let mut events = Vec::new();
                        self.take_in(received, &mut events);
                        for event in events {
                            event.deliver(self);
                        }
                        true
                    }
                    Ok(None) => {
                        if let Err(stop_request) = P::check_signals() {
                            return self.leave(number, stop_request);
                        }
                        true
                    }
                    // The supervisor handles the exit, and the result.
                    Err(_) => false,
                };
            }
            let mut state = self.lock();
            if let Some(result) = state.direct_result.take() {
                self.stop_reading(&mut state);
                return result;
            }
            if !is_reading {
                self.stop_reading(&mut state);
                drop(state);
                return P::wait(|| self.await_direct_result());
            }
        }
    }

    pub(crate) fn stop_reading(&self, state: &mut State<P>) {
        if state.reader == Reader::Direct {
            state.reader = Reader::Nobody;
            self.changed.notify_all();
            if !state.pending.is_empty() {
                self.wake_supervisor();
            }
        }
    }

    fn await_direct_result(&self) -> Result<Outputs<P>, P::Fault> {
        let mut state = self.lock();
        loop {
            if let Some(result) = state.direct_result.take() {
                return result;
            }
            self.changed.wait(&mut state);
        }
    }

    /// The next frame, for some time.
    fn await_frame(&self, link: &Link) -> io::Result<Option<Received>> {
        if let Some(received) = link.next_read()? {
            return Ok(Some(received));
        }
        let begun = Instant::now();
        if let Some(received) = link.next_soon(begun, || self.are_waits_short.load(Ordering::Relaxed))? {
            return Ok(Some(received));
        }
        await_readable(link, Some(POLL_INTERVAL));
        self.are_waits_short.store(begun.elapsed() < SHORT_WAIT, Ordering::Relaxed);
        link.next()
    }
}
