//! The thread of a source: makes inputs until it ends or the session closes.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::locks::Mutex;

use crate::execution::machine::Machine;
use crate::failure::RunError;
use crate::node::{Node, NodeInfo, Outputs, Source, Stream};
use crate::numbering;
use crate::payload::Payload;
use crate::phase::Phase;
use crate::session::queues::clients::Client;
use crate::session::stages::shared::{Admission, Core, Input, Submission};
use crate::session::stages::tasks::{PollWhile, Tasks};

/// How often a wait for the items before a failure checks whether the session has closed.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The body of the thread: it runs the source when asked to.
pub(crate) fn run_when_asked<P: Payload>(core: &Arc<Core<P>>) {
    if let Some(tasks) = &core.source_tasks {
        tasks.run_until(|| core.is_closed());
    }
}

/// Let the source make its items.
pub(crate) fn run<P: Payload>(core: &Core<P>, client: &Arc<dyn Client<P>>, context: P::Context, expect: &dyn Fn()) {
    let source = RunningSource { core, client, expect, own_context: P::copy_context(&context), context };
    let replica = &core.stages[core.plan.stage_of(0)].replicas[0];
    if let Some(node_lock) = &replica.node_lock {
        core.source.set_thread(node_lock.thread());
    }
    let produced = {
        let mut machine = replica.machine.lock();
        source.at_work(|| replica.enter(&mut machine, Machine::produce))
    };
    let outcome = produced.and_then(|outputs| match outputs {
        Outputs::None | Outputs::NotReached => Ok(()),
        Outputs::One(item) => {
            source.put(item);
            Ok(())
        }
        Outputs::Many(mut stream) => source.drain(&mut *stream),
    });
    if let Some(tasks) = &core.source_tasks {
        // Before the end of input: the thread is at leisure for the other methods.
        tasks.note_producing(false);
    }
    match outcome {
        Ok(()) => {
            core.submit(source.submission(Input::End, None));
        }
        Err(fault) => {
            let made = core.in_flight.items();
            wait_for_items(core);
            client.done(Err(RunError::of_node::<P>(&core.plan.nodes()[0].id, Some(made), Phase::Process, fault)));
        }
    }
}

/// Wait until the items before are through, which come out before the failure of the source.
fn wait_for_items<P: Payload>(core: &Core<P>) {
    let mut drain = core.begin_drain();
    while !core.is_closed() && !core.is_drained(&mut drain, POLL_INTERVAL) {}
    core.end_drain();
}

/// The source at work on its thread.
struct RunningSource<'a, P: Payload> {
    core: &'a Core<P>,
    client: &'a Arc<dyn Client<P>>,
    expect: &'a dyn Fn(),
    /// The context of the caller that started it, for the nodes that receive its items.
    context: P::Context,
    /// The same for all its calls: a generator may take back at one step what it set at another.
    own_context: P::Context,
}

impl<P: Payload> RunningSource<'_, P> {
    fn drain(&self, stream: &mut dyn Stream<P>) -> Result<(), P::Fault> {
        while let Some(item) = self.at_work(|| stream.next())? {
            self.core.count_source_output();
            if !self.put(item) {
                return self.at_work(|| stream.close());
            }
        }
        Ok(())
    }

    /// Run a call of the source where the watch sees it.
    fn at_work<R>(&self, call: impl FnOnce() -> R) -> R {
        self.core.source.enter(0, numbering::of_item(self.core.in_flight.items()));
        let result = P::within(&self.own_context, call);
        self.core.source.leave();
        result
    }

    /// Put an item in and wait until it is; `false` if the session has closed.
    fn put(&self, item: P) -> bool {
        let (sender, admitted) = sync_channel(1);
        (self.expect)();
        // Only this thread waits, and for nothing else.
        let notify = Box::new(move |is_in| {
            sender.try_send(is_in).ok();
        });
        match self.core.submit(self.submission(Input::Item(self.core.for_entries(item)), Some(notify))) {
            Admission::Now => true,
            Admission::Later => admitted.recv().unwrap_or(false),
            Admission::Never => false,
        }
    }

    fn submission(&self, input: Input<P>, admitted: Option<Box<dyn FnOnce(bool) + Send>>) -> Submission<P> {
        let (client, context) = (Arc::clone(self.client), self.context.clone());
        Submission { input, client, context, is_urgent: false, own_index: None, admitted }
    }
}

/// What belongs to the thread of the source and is called by others, too.
struct OnThread<P: Payload, T: ?Sized> {
    inner: Arc<Mutex<Box<T>>>,
    tasks: Arc<Tasks>,
    payload: PhantomData<fn() -> P>,
}

impl<P: Payload, T: ?Sized + Send + 'static> OnThread<P, T> {
    fn new(inner: Box<T>, tasks: &Arc<Tasks>) -> Self {
        Self { inner: Arc::new(Mutex::new(inner)), tasks: Arc::clone(tasks), payload: PhantomData }
    }

    /// Do something on the thread, which has nothing else to do now or soon; nothing if it has ended.
    fn call<R: Send + 'static>(&self, work: impl FnOnce(&mut T) -> R + Send + 'static) -> Option<R> {
        if self.tasks.is_here() {
            return Some(work(&mut **self.inner.lock()));
        }
        let (inner, context) = (Arc::clone(&self.inner), P::current_context());
        let in_context = move || {
            let mut inner = inner.lock();
            P::within(&context, || work(&mut **inner))
        };
        let sent = self.tasks.send(in_context, || {});
        sent.wait::<P>(PollWhile { interval: POLL_INTERVAL, goes_on: &mut || true }).result()
    }
}

/// A source in a stage that is on another thread: all its methods run on its own one.
pub(crate) struct SourceNode<P: Payload>(OnThread<P, dyn Node<P>>);

impl<P: Payload> SourceNode<P> {
    pub(crate) fn new(node: Box<dyn Node<P>>, tasks: &Arc<Tasks>) -> Self {
        Self(OnThread::new(node, tasks))
    }
}

impl<P: Payload> Node<P> for SourceNode<P> {
    fn initialize(&mut self) -> Result<(), P::Fault> {
        self.0.call(Node::initialize).unwrap_or(Ok(()))
    }

    fn process(&mut self, item: P) -> Result<Outputs<P>, P::Fault> {
        self.0.inner.lock().process(item)
    }

    fn flush(&mut self) -> Result<Outputs<P>, P::Fault> {
        Ok(match self.0.call(Node::flush).unwrap_or(Ok(Outputs::None))? {
            Outputs::Many(stream) => Outputs::Many(Box::new(OnThread::new(stream, &self.0.tasks))),
            outputs => outputs,
        })
    }

    fn interrupt(&mut self) -> Result<(), P::Fault> {
        if self.0.tasks.is_producing() {
            // It is making items: it is interrupted meanwhile.
            return self.0.inner.lock().interrupt();
        }
        self.0.call(Node::interrupt).unwrap_or(Ok(()))
    }

    fn cleanup(&mut self) -> Result<(), P::Fault> {
        self.0.call(Node::cleanup).unwrap_or(Ok(()))
    }

    fn info(&self) -> NodeInfo {
        self.0.inner.lock().info()
    }

    fn as_source(&mut self) -> Option<&mut dyn Source<P>> {
        Some(self)
    }
}

impl<P: Payload> Source<P> for SourceNode<P> {
    fn produce(&mut self) -> Result<Outputs<P>, P::Fault> {
        self.0.inner.lock().as_source().map_or(Ok(Outputs::None), Source::produce)
    }
}

impl<P: Payload> Stream<P> for OnThread<P, dyn Stream<P>> {
    fn next(&mut self) -> Result<Option<P>, P::Fault> {
        self.call(Stream::next).unwrap_or(Ok(None))
    }

    fn close(&mut self) -> Result<(), P::Fault> {
        self.call(Stream::close).unwrap_or(Ok(()))
    }
}
