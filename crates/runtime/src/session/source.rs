//! The thread of a source: makes inputs until it ends or the session closes.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::core::{Admission, Core, Submission};
use super::tracker::Client;
use crate::{Outputs, Payload, Phase, RunError, Stream, numbering};

/// One who waits for the items before a failure looks as often whether the session has closed.
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn run<P: Payload>(core: &Arc<Core<P>>, client: &Arc<dyn Client<P>>, expect: &dyn Fn()) {
    let unit = &core.stages[core.plan.stage_of(0)].units[0];
    if let Some(turn) = &unit.turn {
        core.source.set_thread(turn.thread());
    }
    let produced = {
        let mut machine = unit.lock();
        at_work(core, || unit.enter(&mut machine, |machine| machine.nodes[0].produce()))
    };
    let outcome = produced.and_then(|outputs| match outputs {
        Outputs::None => Ok(()),
        Outputs::One(item) => {
            put(core, client, expect, item);
            Ok(())
        }
        Outputs::Many(mut stream) => drain(core, client, expect, &mut *stream),
    });
    match outcome {
        Ok(()) => {
            core.submit(Submission { items: None, client: Arc::clone(client), is_urgent: false, admitted: None });
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

fn drain<P: Payload>(
    core: &Arc<Core<P>>,
    client: &Arc<dyn Client<P>>,
    expect: &dyn Fn(),
    stream: &mut dyn Stream<P>,
) -> Result<(), P::Fault> {
    while let Some(item) = at_work(core, || stream.next())? {
        core.count_source_output();
        if !put(core, client, expect, item) {
            return stream.close();
        }
    }
    Ok(())
}

/// Run a call of the source where the watch sees it.
fn at_work<P: Payload, R>(core: &Core<P>, call: impl FnOnce() -> R) -> R {
    core.source.enter(0, numbering::of_item(core.tracker.items()));
    let answer = call();
    core.source.leave();
    answer
}

/// Put an item in and wait until it is; `false` if the session has closed.
fn put<P: Payload>(core: &Arc<Core<P>>, client: &Arc<dyn Client<P>>, expect: &dyn Fn(), item: P) -> bool {
    let (sender, admitted) = sync_channel(1);
    expect();
    let admission = core.submit(Submission {
        items: Some(core.for_entries(item)),
        client: Arc::clone(client),
        is_urgent: false,
        // The one who waits is this thread, and waits for nothing else.
        admitted: Some(Box::new(move |is_in| {
            sender.try_send(is_in).ok();
        })),
    });
    match admission {
        Admission::Now => true,
        Admission::Later => admitted.recv().unwrap_or(false),
        Admission::Never => false,
    }
}
