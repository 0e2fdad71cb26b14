//! The thread of a source: makes inputs until it ends or the session closes.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::core::{Admission, Core, Submission};
use super::tracker::Client;
use crate::{Outputs, Payload, Phase, RunError, Stream, numbering};

/// One who waits for the items before a failure looks as often whether the session has closed.
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn run<P: Payload>(
    core: &Arc<Core<P>>,
    client: &Arc<dyn Client<P>>,
    context: P::Context,
    expect: &dyn Fn(),
) {
    let source = Source { core, client, expect, own_context: P::copy_context(&context), context };
    let unit = &core.stages[core.plan.stage_of(0)].units[0];
    if let Some(turn) = &unit.turn {
        core.source.set_thread(turn.thread());
    }
    let produced = {
        let mut machine = unit.lock();
        source.at_work(|| unit.enter(&mut machine, |machine| machine.nodes[0].produce()))
    };
    let outcome = produced.and_then(|outputs| match outputs {
        Outputs::None => Ok(()),
        Outputs::One(item) => {
            source.put(item);
            Ok(())
        }
        Outputs::Many(mut stream) => source.drain(&mut *stream),
    });
    match outcome {
        Ok(()) => {
            core.submit(source.submission(None, None));
        }
        Err(fault) => {
            let made = core.tracker.items();
            wait_for_items(core);
            client.done(Err(RunError::of_node::<P>(&core.plan.nodes()[0].id, Some(made), Phase::Process, fault)));
        }
    }
}

/// Wait until the items before are through, which come out before the failure of the source.
fn wait_for_items<P: Payload>(core: &Core<P>) {
    let end = core.begin_drain();
    while !core.is_closed() && !core.tracker.wait_until_done(end, LOOK) {}
    core.end_drain();
}

/// The source at work on its thread.
struct Source<'a, P: Payload> {
    core: &'a Arc<Core<P>>,
    client: &'a Arc<dyn Client<P>>,
    expect: &'a dyn Fn(),
    /// That of whoever started it, for the nodes that get its items.
    context: P::Context,
    /// The same for all its calls: a generator may take back at one step what it set at another.
    own_context: P::Context,
}

impl<P: Payload> Source<'_, P> {
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
        self.core.source.enter(0, numbering::of_item(self.core.tracker.items()));
        let answer = P::within(&self.own_context, call);
        self.core.source.leave();
        answer
    }

    /// Put an item in and wait until it is; `false` if the session has closed.
    fn put(&self, item: P) -> bool {
        let (sender, admitted) = sync_channel(1);
        (self.expect)();
        // The one who waits is this thread, and waits for nothing else.
        let tell = Box::new(move |is_in| {
            sender.try_send(is_in).ok();
        });
        match self.core.submit(self.submission(Some(self.core.for_entries(item)), Some(tell))) {
            Admission::Now => true,
            Admission::Later => admitted.recv().unwrap_or(false),
            Admission::Never => false,
        }
    }

    fn submission(&self, items: Option<Vec<P>>, admitted: Option<Box<dyn FnOnce(bool) + Send>>) -> Submission<P> {
        let (client, context) = (Arc::clone(self.client), self.context.clone());
        Submission { items, client, context, is_urgent: false, admitted }
    }
}
