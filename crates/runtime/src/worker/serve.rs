//! The life of a worker: its nodes are made, items come in, outputs go out.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::keeper::monotonic;
use super::link::{Letter, Link, Received, Transport};
use super::memory::Page;
use super::orders::{Orders, watch_parent};
use super::process::usage;
use super::steps::Steps;
use super::wire::{Head, Kind, phase_number};
use super::{Arrived, Border};
use crate::machine::{Machine, Stop};
use crate::node::EndEarly;
use crate::progress::ProgressPlace;
use crate::{CancelFlag, Node, Outputs, Payload, Phase, Plan, RunError, Sink};

/// As long is the next item awaited without sleeping, if the last ones came that soon.
const SHORT_WAIT: Duration = Duration::from_micros(40);

/// Answers that have waited as long go out although more items are there.
const LONGEST_DELAY: Duration = Duration::from_micros(200);

/// Makes the nodes of a worker.
pub trait Workplace<P: Payload> {
    /// Make the nodes of the stage, from what the parent wrote down. They are not initialized yet: [`serve`] does that, and cleans them
    /// up.
    fn open(&mut self, setup: Arrived, notes: Notes) -> Result<Opened<P>, P::Fault>;

    /// What [`serve`] sets while nodes should not wait.
    fn stop_flag(&self) -> CancelFlag;

    /// Lets nodes wait no longer. Asked for once, after [`Workplace::open`]; called on another thread than that of the nodes, and again
    /// until they have come back.
    fn stop_waiting(&self) -> Box<dyn Fn() + Send + Sync>;
}

/// The node that failed, in which part of its life, and with what.
type Failed<P> = (usize, Phase, <P as Payload>::Fault);

/// The plan of a worker, and its nodes in that order.
pub type Opened<P> = (Arc<Plan>, Vec<Box<dyn Node<P>>>);

/// Sends notes to the parent's [`Border::noted`], from any thread.
#[derive(Clone)]
pub struct Notes(Arc<Link>);

impl Notes {
    /// Send a note, unless the parent is gone.
    pub fn send(&self, note: &[u8]) {
        let mut letter = self.0.letter();
        letter.write(note);
        self.0.post(Head::new(Kind::Note, 0), letter);
        self.0.flush().ok();
    }
}

/// Work for the parent at the other end of a socket, until it says that this is enough.
///
/// # Errors
/// If the parent speaks another language, or is gone.
pub fn serve<P: Payload>(
    socket: OwnedFd,
    border: &Arc<dyn Border<P>>,
    workplace: &mut dyn Workplace<P>,
) -> io::Result<()> {
    let link = Arc::new(Link::new(socket));
    let hello = await_frame::<P>(&link)?;
    let mut files = hello.files.into_iter();
    let (Some(control), Some(page)) = (files.next(), files.next()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a parent says hello with two files"));
    };
    let watched = control.try_clone()?;
    let parent = rustix::process::getppid();
    spawn("parent-watch", move || watch_parent(&watched, parent))?;
    let control = Arc::new(Link::new(control));
    let orders = Orders::new(workplace.stop_flag())?;
    let setup = await_frame::<P>(&link)?.letter;
    let out = Out { link: Arc::clone(&link), border: Arc::clone(border), orders: Arc::clone(&orders) };
    let (plan, nodes) = match workplace.open(setup, Notes(Arc::clone(&control))) {
        Ok(opened) => opened,
        Err(fault) => {
            out.fault(0, 0, Phase::Initialize, &fault);
            return link.flush();
        }
    };
    let stop_waiting = workplace.stop_waiting();
    let (listening, heard) = (Arc::clone(&orders), Arc::clone(&control));
    spawn("orders", move || P::live(|| listening.listen(&heard, &*stop_waiting)))?;
    let mut machine = Machine::new(&plan, 0, nodes, workplace.stop_flag());
    let page = Arc::new(Page::open(&page)?);
    machine.progress = ProgressPlace::Shared(Arc::clone(&page));
    let with_metrics = hello.head.extra & 1 != 0;
    let steps = with_metrics.then(|| Steps::of(&plan));
    machine.observer = steps.clone().map(|steps| steps as Arc<dyn crate::Observer>);
    let bench = Bench {
        is_concurrent: plan.nodes()[0].options.concurrency > 1,
        snapshot_every: machine
            .nodes
            .iter()
            .any(|node| node.can_snapshot())
            .then(|| usize::try_from(hello.head.number).unwrap_or(usize::MAX).max(1)),
        is_timed: hello.head.extra & 2 != 0,
        out,
        control,
        machine,
        page,
        steps,
        batch: Vec::new(),
        done_since: 0,
        at_work: Arc::default(),
        has_lost_its_way: false,
    };
    bench.run()
}

fn spawn(name: &str, life: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // They live as long as the process.
    std::thread::Builder::new().name(name.to_owned()).spawn(life).map(drop)
}

fn await_frame<P: Payload>(link: &Link) -> io::Result<Received> {
    loop {
        if let Some(received) = link.next()? {
            return Ok(received);
        }
        let mut fds = [PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN)];
        P::wait(|| rustix::event::poll(&mut fds, None)).ok();
    }
}

/// The way of answers to the parent.
struct Out<P: Payload> {
    link: Arc<Link>,
    border: Arc<dyn Border<P>>,
    orders: Arc<Orders>,
}

impl<P: Payload> Clone for Out<P> {
    fn clone(&self) -> Self {
        Self { link: Arc::clone(&self.link), border: Arc::clone(&self.border), orders: Arc::clone(&self.orders) }
    }
}

impl<P: Payload> Out<P> {
    /// Write what waits.
    fn flush(&self) -> io::Result<()> {
        P::wait(|| self.link.flush())
    }

    /// Write what waits, and wait for the next frame, or for a nudge.
    fn await_work(&self, is_worth_looking: bool) -> io::Result<Option<Received>> {
        self.link.flush()?;
        let begun = Instant::now();
        while is_worth_looking && begun.elapsed() < SHORT_WAIT && !self.orders.is_pressing() {
            // On a machine with one core the parent needs it.
            std::thread::yield_now();
            if let Some(received) = self.link.next()? {
                return Ok(Some(received));
            }
        }
        let mut fds = [
            PollFd::from_borrowed_fd(self.link.as_fd(), PollFlags::IN),
            PollFd::new(&self.orders.nudge, PollFlags::IN),
        ];
        rustix::event::poll(&mut fds, None).ok();
        if !fds[1].revents().is_empty() {
            rustix::io::read(&self.orders.nudge, &mut [0; 8]).ok();
        }
        self.link.next()
    }

    fn output(&self, head: Head, output: &P) -> Result<(), P::Fault> {
        let mut letter = self.link.letter();
        self.border.pack(output, &mut letter)?;
        self.link.post(head, letter);
        Ok(())
    }

    fn done(&self, number: u64) {
        self.link.post(Head::new(Kind::Done, number), self.link.letter());
    }

    fn fault(&self, number: u64, node: usize, phase: Phase, fault: &P::Fault) {
        self.fault_as(Kind::Fault, number, node, (phase, fault));
    }

    fn fault_as(&self, kind: Kind, number: u64, node: usize, (phase, fault): (Phase, &P::Fault)) {
        let mut letter: Letter<'_> = self.link.letter();
        letter.write(&self.border.pack_fault(fault));
        let node = u16::try_from(node).unwrap_or(u16::MAX);
        self.link.post(Head { node, extra: phase_number(phase), ..Head::new(kind, number) }, letter);
    }
}

/// Items in flight at the same time, by their numbers, with what ends each early.
#[derive(Default)]
struct AtWork {
    count: AtomicUsize,
    end_early: Mutex<HashMap<u64, EndEarly>>,
}

/// The nodes, and all that is needed to work on items.
#[allow(clippy::struct_excessive_bools, reason = "each says something else about the nodes, in any combination")]
struct Bench<P: Payload> {
    machine: Machine<P>,
    out: Out<P>,
    control: Arc<Link>,
    page: Arc<Page>,
    steps: Option<Arc<Steps>>,
    is_concurrent: bool,
    is_timed: bool,
    /// After as many items the states of the nodes are sent, if any of them can tell its own.
    snapshot_every: Option<usize>,
    /// Items of a batch of which more come.
    batch: Vec<Arrived>,
    /// Items since the last snapshot.
    done_since: usize,
    at_work: Arc<AtWork>,
    /// A node could not be restored.
    has_lost_its_way: bool,
}

impl<P: Payload> Bench<P> {
    fn run(mut self) -> io::Result<()> {
        let nodes = self.machine.nodes.len();
        for node in 0..nodes {
            if let Err(error) = self.machine.initialize(node) {
                self.refuse(node, error);
                for entered in (0..=node).rev() {
                    // The first failure is the one that counts.
                    self.machine.clean_up(entered).ok();
                }
                return self.out.flush();
            }
        }
        let head = Head { extra: u64::from(self.snapshot_every.is_some()), ..Head::new(Kind::Ready, 0) };
        self.out.link.post(head, self.out.link.letter());
        self.out.flush()?;
        self.work()?;
        if self.has_lost_its_way { Ok(()) } else { self.clean_up() }
    }

    fn refuse(&self, node: usize, error: RunError<P::Fault>) {
        match error {
            RunError::Node(failure) => self.out.fault(0, node, failure.phase, &failure.fault),
            RunError::Interrupt(fault) => self.out.fault(0, node, Phase::Initialize, &fault),
            // The parent has ordered it.
            _ => {}
        }
    }

    /// Work until the parent orders the end.
    fn work(&mut self) -> io::Result<()> {
        let mut are_waits_short = false;
        let mut answered = Instant::now();
        while !self.out.orders.is_closing() {
            if let Some(interruption) = self.out.orders.interruption() {
                self.leave_off(interruption);
            }
            let mut next = self.out.link.next_read()?;
            if next.is_some() && answered.elapsed() >= LONGEST_DELAY {
                self.out.flush()?;
                answered = Instant::now();
            }
            if next.is_none() {
                let out = &self.out;
                let begun = Instant::now();
                next = P::wait(|| out.await_work(are_waits_short))?;
                answered = Instant::now();
                are_waits_short = answered - begun < SHORT_WAIT;
            }
            if let Some(received) = next {
                self.take(received);
                if self.has_lost_its_way {
                    return self.out.flush();
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, received: Received) {
        let is_timed = self.is_timed && received.head.kind == Kind::Item;
        let since = if is_timed { u64::try_from(monotonic().as_nanos()).unwrap_or(0) } else { 0 };
        self.page.since_ns.store(since, Ordering::Relaxed);
        self.page.in_hand.store(received.head.number, Ordering::Release);
        self.see_to(received);
        self.page.in_hand.store(0, Ordering::Release);
    }

    fn see_to(&mut self, received: Received) {
        let Received { head, letter, .. } = received;
        match head.kind {
            Kind::Restore => self.restore(usize::from(head.node), letter),
            _ if self.out.orders.is_stale(head.number) => self.batch.clear(),
            Kind::Item if head.extra > 0 => {
                self.batch.push(letter);
                if !head.has_more {
                    let letters = std::mem::take(&mut self.batch);
                    self.work_on_batch(head, letters);
                }
            }
            Kind::Item => match self.out.border.unpack(letter) {
                Ok(item) if self.is_concurrent => self.begin(head, item),
                Ok(item) => self.work_on(head, Some(item)),
                Err(fault) => self.out.fault(head.number, 0, Phase::Process, &fault),
            },
            Kind::Flush => {
                self.await_all();
                self.work_on(head, None);
            }
            _ => {}
        }
    }

    /// Take one item through the nodes, or flush them.
    fn work_on(&mut self, head: Head, item: Option<P>) {
        self.machine.input = head.number;
        let phase = if item.is_some() { Phase::Process } else { Phase::Flush };
        let out = self.out.clone();
        let mut sink = Answer { out: &out, head, held: None };
        let outcome = match item {
            Some(item) => self.machine.take(item, &mut sink),
            None => self.machine.flush(&mut sink),
        };
        let last_output = sink.held.take();
        if let Some(steps) = &self.steps
            && !head.is_replay
        {
            steps.post(&self.out.link, head.number);
        }
        let last = self.machine.nodes.len() - 1;
        let states = self.pack_states(&out, phase);
        let (states, unsaid) = states.map_or_else(|failed| (Vec::new(), Some(failed)), |states| (states, None));
        let failed = match outcome {
            Ok(()) if unsaid.is_some() => unsaid,
            Ok(()) => self.answer_last(head, last_output, last, phase),
            Err(Stop::Node { node, phase, fault }) => Some((node, phase, fault)),
            Err(Stop::Sink(fault)) => Some((last, phase, fault)),
            Err(Stop::Cancelled) => None,
        };
        // What is left of it must not meet the next item; what fails then, fails for nobody.
        self.machine.abandon();
        if let Some((node, phase, fault)) = failed
            && !head.is_replay
        {
            self.out.fault(head.number, node, phase, &fault);
        }
        self.post_states(head.number, states);
    }

    /// Answer with the last output, or that there is none.
    fn answer_last(&self, head: Head, output: Option<P>, node: usize, phase: Phase) -> Option<Failed<P>> {
        if head.is_replay {
            return None;
        }
        let Some(output) = output else {
            self.out.done(head.number);
            return None;
        };
        let sent = self.out.output(Head::new(Kind::Output, head.number).last(), &output);
        sent.err().map(|fault| (node, phase, fault))
    }

    fn work_on_batch(&mut self, head: Head, letters: Vec<Arrived>) {
        let items: Result<Vec<P>, _> = letters.into_iter().map(|letter| self.out.border.unpack(letter)).collect();
        self.machine.progress.enter(0, head.number);
        let answers = items.and_then(|items| self.machine.nodes[0].process_batch(items));
        self.machine.progress.leave();
        let out = self.out.clone();
        let states = self.pack_states(&out, Phase::Process);
        let (states, unsaid) = states.map_or_else(|(.., fault)| (Vec::new(), Some(fault)), |states| (states, None));
        let sent = answers.and_then(|answers| {
            if let Some(fault) = unsaid {
                return Err(fault);
            }
            for (slot, answer) in answers.into_iter().enumerate().filter(|_| !head.is_replay) {
                if let Some(answer) = answer {
                    self.out
                        .output(Head { extra: slot as u64 + 1, ..Head::new(Kind::Output, head.number) }, &answer)?;
                }
            }
            Ok(())
        });
        match sent {
            _ if head.is_replay => {}
            Ok(()) => self.out.done(head.number),
            Err(fault) => self.out.fault(head.number, 0, Phase::Process, &fault),
        }
        self.post_states(head.number, states);
    }

    /// Begin with an item and go on with the next before it is done.
    fn begin(&mut self, head: Head, item: P) {
        let (out, at_work) = (self.out.clone(), Arc::clone(&self.at_work));
        self.at_work.count.fetch_add(1, Ordering::AcqRel);
        let number = head.number;
        let done = move |answer: Result<Outputs<P>, P::Fault>| {
            at_work.end_early.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            if let Err(fault) = answer.and_then(|outputs| answer_all(&out, number, outputs)) {
                out.fault(number, 0, Phase::Process, &fault);
            }
            at_work.count.fetch_sub(1, Ordering::AcqRel);
            // The thread of the nodes writes it.
            out.orders.wake();
        };
        self.machine.progress.enter(0, number);
        let end_early = self.machine.nodes[0].start(item, Box::new(done));
        self.machine.progress.leave();
        if let Some(end_early) = end_early {
            let mut under_way = self.at_work.end_early.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.insert(number, end_early);
        }
    }

    /// Wait for the items in flight.
    fn await_all(&self) {
        while self.at_work.count.load(Ordering::Acquire) > 0 && !self.out.orders.is_closing() {
            let out = &self.out;
            P::wait(|| {
                out.link.flush().ok();
                let mut fds = [PollFd::new(&out.orders.nudge, PollFlags::IN)];
                rustix::event::poll(&mut fds, None).ok();
                rustix::io::read(&out.orders.nudge, &mut [0; 8]).ok();
            });
            if self.out.orders.interruption().is_some() {
                return;
            }
        }
    }

    fn end_all(&self) {
        while self.at_work.count.load(Ordering::Acquire) > 0 {
            let under_way = std::mem::take(&mut *self.at_work.end_early.lock().unwrap_or_else(PoisonError::into_inner));
            for end_early in under_way.into_values() {
                end_early();
            }
            P::wait(|| std::thread::sleep(Duration::from_micros(200)));
        }
    }

    /// Leave what came before an interruption.
    fn leave_off(&mut self, interruption: u64) {
        self.batch.clear();
        self.end_all();
        // An interrupt that fails has nobody to be told but the log, where the node itself may write.
        self.machine.interrupt();
        self.out.orders.obey(interruption);
        self.control.post(Head::new(Kind::Interrupt, interruption), self.control.letter());
        self.control.flush().ok();
    }

    /// From time to time, the states of the nodes. They are written before the answer, which a node that cannot tell its state spoils, and
    /// sent after it: a state that came without the answer would count the item twice.
    fn pack_states<'a>(&mut self, out: &'a Out<P>, phase: Phase) -> Result<Vec<(usize, Letter<'a>)>, Failed<P>> {
        let mut states = Vec::new();
        self.done_since += 1;
        if self.snapshot_every.is_none_or(|every| self.done_since < every) {
            return Ok(states);
        }
        self.done_since = 0;
        for (index, node) in self.machine.nodes.iter_mut().enumerate() {
            let mut letter = out.link.letter();
            let state = node
                .snapshot()
                .and_then(|state| state.as_ref().map(|state| out.border.pack(state, &mut letter)).transpose());
            match state {
                Ok(Some(())) => states.push((index, letter)),
                Ok(None) => {}
                Err(fault) => return Err((index, phase, fault)),
            }
        }
        Ok(states)
    }

    fn post_states(&self, number: u64, states: Vec<(usize, Letter<'_>)>) {
        let count = states.len();
        for (slot, (index, letter)) in states.into_iter().enumerate() {
            let node = u16::try_from(index).unwrap_or(u16::MAX);
            self.out.link.post(Head { node, has_more: slot + 1 < count, ..Head::new(Kind::State, number) }, letter);
        }
    }

    /// A node that is not where it was must not go on as if it were.
    fn restore(&mut self, node: usize, letter: Arrived) {
        let restored = self.out.border.unpack(letter).and_then(|state| self.machine.nodes[node].restore(state));
        if let Err(fault) = restored {
            self.out.fault(0, node, Phase::Initialize, &fault);
            self.has_lost_its_way = true;
        }
    }

    fn clean_up(mut self) -> io::Result<()> {
        self.end_all();
        self.machine.abandon();
        for node in (0..self.machine.nodes.len()).rev() {
            if let Err(failure) = self.machine.clean_up(node) {
                self.out.fault_as(Kind::CleanedUp, 0, node, (failure.phase, &failure.fault));
            }
        }
        self.out.orders.end();
        let usage = usage("self").unwrap_or_default();
        let head = Head { extra: usage.resident_bytes, ..Head::new(Kind::CleanedUp, 0) };
        self.out.link.post(head.last(), self.out.link.letter());
        self.out.flush()
    }
}

fn answer_all<P: Payload>(out: &Out<P>, number: u64, outputs: Outputs<P>) -> Result<(), P::Fault> {
    let head = Head::new(Kind::Output, number);
    match outputs {
        Outputs::None => out.done(number),
        Outputs::One(output) => out.output(head.last(), &output)?,
        Outputs::Many(mut stream) => {
            while let Some(output) = stream.next()? {
                out.output(head, &output)?;
            }
            out.done(number);
        }
    }
    Ok(())
}

/// Takes the outputs for one item. Each waits for the next, so that the last one can say that it is.
struct Answer<'a, P: Payload> {
    out: &'a Out<P>,
    head: Head,
    held: Option<P>,
}

impl<P: Payload> Answer<'_, P> {
    fn send_held(&mut self) -> Result<(), P::Fault> {
        match self.held.take() {
            Some(output) if !self.head.is_replay => self.out.output(Head::new(Kind::Output, self.head.number), &output),
            _ => Ok(()),
        }
    }
}

impl<P: Payload> Sink<P> for Answer<'_, P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        self.send_held()?;
        self.held = Some(output);
        Ok(())
    }

    fn is_wanted(&mut self) -> bool {
        !self.out.orders.is_stale(self.head.number)
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
