//! How a worker receives items, and sends results to its parent.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use crate::node::Outputs;
use crate::node::endpoints::Sink;
use crate::payload::Payload;
use crate::phase::Phase;
use crate::worker::child::control::ControlRequests;
use crate::worker::child::late_results::LateResults;
use crate::worker::child::worker_host::LeaveFork;
use crate::worker::protocol::connection::{Link, Received};
use crate::worker::protocol::frame::{Head, Kind, phase_number};
use crate::worker::protocol::message::Message;
use crate::worker::{ItemCodec, pack};

/// Sends results to the parent.
pub(crate) struct Out<P: Payload> {
    pub(crate) link: Arc<Link>,
    pub(crate) control: Arc<Link>,
    pub(crate) codec: Arc<dyn ItemCodec<P>>,
    pub(crate) requests: Arc<ControlRequests>,
    pub(crate) late_results: Arc<LateResults>,
    pub(crate) leave_fork: LeaveFork<P>,
}

impl<P: Payload> Out<P> {
    /// Write what waits.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.late_results.note_written();
        P::wait(|| self.link.flush())
    }

    /// Write what waits, and wait for the next frame, or for a wake.
    pub(crate) fn await_work(&self, is_worth_looking: bool) -> io::Result<Option<Received>> {
        self.late_results.note_written();
        self.link.flush()?;
        let goes_on = || is_worth_looking && !self.requests.is_pressing();
        if let Some(received) = self.link.next_soon(Instant::now(), goes_on)? {
            return Ok(Some(received));
        }
        let mut fds = [PollFd::new(&*self.link, PollFlags::IN), PollFd::new(&self.requests.wake_event, PollFlags::IN)];
        rustix::event::poll(&mut fds, None).ok();
        if fds.iter().any(|fd| fd.revents().contains(PollFlags::NVAL)) {
            return Err(rustix::io::Errno::BADF.into());
        }
        if !fds[1].revents().is_empty() {
            self.requests.clear_wake();
        }
        self.link.next()
    }

    /// A node has returned. In a fork of the worker nothing is sent: the parent receives one result per item.
    pub(crate) fn came_back(&self, fault: Option<&P::Fault>) {
        (self.leave_fork)(fault);
    }

    pub(crate) fn output(&self, head: Head, output: &P) -> Result<(), P::Fault> {
        self.came_back(None);
        let message = pack(&*self.codec, output, self.link.message())?;
        self.link.post(head, message);
        Ok(())
    }

    /// The last output of an item, or that there is none.
    pub(crate) fn last(&self, number: u64, output: Option<&P>, is_last_node_reached: bool) -> Result<(), P::Fault> {
        let Some(output) = output else {
            self.done(number, is_last_node_reached);
            return Ok(());
        };
        self.came_back(None);
        let message = pack(&*self.codec, output, self.link.message())?;
        self.link.post_output(number, Some(message));
        Ok(())
    }

    pub(crate) fn done(&self, number: u64, is_last_node_reached: bool) {
        self.came_back(None);
        if is_last_node_reached {
            self.link.post_output(number, None);
        } else {
            self.link.post(Head::new(Kind::Done, number), self.link.message());
        }
    }

    pub(crate) fn fault(&self, number: u64, node: usize, phase: Phase, fault: &P::Fault) {
        self.fault_as(Kind::Fault, number, node, (phase, fault));
    }

    pub(crate) fn fault_as(&self, kind: Kind, number: u64, node: usize, (phase, fault): (Phase, &P::Fault)) {
        self.came_back(Some(fault));
        let mut message: Message<'_> = self.link.message();
        message.write(&self.codec.pack_fault(fault));
        let node = u16::try_from(node).unwrap_or(u16::MAX);
        self.link.post(Head { node, extra: phase_number(phase), ..Head::new(kind, number) }, message);
    }
}

/// Send the outputs of an item but for one that can say that it is the last.
pub(crate) fn send_all_but_last<P: Payload>(
    out: &Out<P>,
    number: u64,
    outputs: Outputs<P>,
) -> Result<Option<P>, P::Fault> {
    match outputs {
        Outputs::None | Outputs::NotReached => Ok(None),
        Outputs::One(output) => Ok(Some(output)),
        Outputs::Many(mut stream) => {
            while let Some(output) = stream.next()? {
                out.output(Head::new(Kind::Output, number), &output)?;
            }
            Ok(None)
        }
    }
}

/// Takes the outputs for one item. Each waits for the next, so that the last one can say that it is.
pub(crate) struct ReplySink<'a, P: Payload> {
    pub(crate) out: &'a Out<P>,
    pub(crate) head: Head,
    pub(crate) held: Option<P>,
}

impl<P: Payload> ReplySink<'_, P> {
    fn send_held(&mut self) -> Result<(), P::Fault> {
        match self.held.take() {
            Some(output) if !self.head.is_replay => self.out.output(Head::new(Kind::Output, self.head.number), &output),
            _ => Ok(()),
        }
    }
}

impl<P: Payload> Sink<P> for ReplySink<'_, P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        self.send_held()?;
        self.held = Some(output);
        Ok(())
    }

    fn is_wanted(&mut self) -> bool {
        let requests = &self.out.requests;
        !requests.is_stale(self.head.number) && !requests.is_dropped(self.head.number)
    }

    fn before_wait(&mut self) {
        // What a generator has given goes on before it is asked for more.
        if self.held.is_some() {
            if let Err(fault) = self.send_held() {
                self.out.fault(self.head.number, 0, Phase::Process, &fault);
            }
            self.out.flush().ok();
        }
    }
}
