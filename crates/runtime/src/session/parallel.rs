//! Stages that work on several parcels at once: replicas, concurrent coroutines, batches.
//!
//! Those who work put what they have done into a [`Reorder`](super::reorder::Reorder), and one thread hands it on from there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::core::Core;
use super::inbox::{Parcel, Popped};
use super::reorder::Completion;
use super::stage::{Stage, Unit, work_on};
use crate::{Outputs, Payload, Sink};

/// Collects the outputs of a machine until the parcel is done.
#[derive(Default)]
struct Collect<P>(Vec<(usize, P)>);

impl<P: Payload> Sink<P> for Collect<P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        self.accept_at(0, output)
    }

    fn accept_at(&mut self, exit: usize, output: P) -> Result<(), P::Fault> {
        self.0.push((exit, output));
        Ok(())
    }
}

/// The life of the thread of one replica.
pub(crate) fn run_replica<P: Payload>(core: &Arc<Core<P>>, stage: usize, unit: usize) {
    let stage = &core.stages[stage];
    let reorder = stage.reorder.as_ref().expect("replicas are put in order again");
    let unit = &stage.units[unit];
    while reorder.begin() {
        let Popped::Parcel(number, parcel) = stage.pop(core, None) else {
            reorder.unbegin();
            break;
        };
        let header = parcel.header();
        let mut outputs = Collect(Vec::new());
        if parcel.is_flush {
            flush_all(core, stage, number, &header);
            continue;
        }
        {
            let mut machine = unit.lock();
            work_on(core, unit, &mut machine, parcel, &mut outputs);
        }
        reorder.complete(number, Completion { header, outputs: outputs.0 });
    }
}

/// The end of input: whoever finds it flushes all replicas.
fn flush_all<P: Payload>(core: &Arc<Core<P>>, stage: &Stage<P>, number: u64, header: &Parcel<P>) {
    let mut outputs = Collect(Vec::new());
    for unit in &stage.units {
        let mut machine = unit.lock();
        work_on(core, unit, &mut machine, header.header(), &mut outputs);
    }
    let reorder = stage.reorder.as_ref().expect("replicas are put in order again");
    reorder.complete(number, Completion { header: header.header(), outputs: outputs.0 });
}

/// The life of the thread of a stage whose node works on several items at once without threads.
pub(crate) fn run_concurrent<P: Payload>(core: &Arc<Core<P>>, stage_index: usize) {
    let stage = &core.stages[stage_index];
    let reorder = stage.reorder.as_ref().expect("concurrent items are put in order again");
    let unit = &stage.units[0];
    while reorder.begin() {
        let Popped::Parcel(number, mut parcel) = stage.pop(core, None) else {
            reorder.unbegin();
            break;
        };
        let header = parcel.header();
        let items = std::mem::take(&mut parcel.items);
        if items.is_empty() || !core.tracker.is_wanted(parcel.input) {
            let mut outputs = Collect(Vec::new());
            if header.is_flush {
                work_on(core, unit, &mut unit.lock(), header.header(), &mut outputs);
            }
            reorder.complete(number, Completion { header, outputs: outputs.0 });
            continue;
        }
        let group = Group::new(core, stage_index, number, &header, items.len());
        for (slot, (_, item)) in items.into_iter().enumerate() {
            if slot > 0 && !reorder.begin_item() {
                return;
            }
            let group = Arc::clone(&group);
            let done = Box::new(move |answer| group.finish(slot, answer));
            let mut machine = unit.lock();
            machine.count_input(0);
            unit.enter(&mut machine, |machine| machine.nodes[0].start(item, done));
        }
    }
}

/// The items of one parcel that are under way at the same time.
struct Group<P: Payload> {
    core: Arc<Core<P>>,
    stage: usize,
    number: u64,
    header: Parcel<()>,
    started: Instant,
    answers: Mutex<Answers<P>>,
}

struct Answers<P> {
    missing: usize,
    outputs: Vec<Vec<(usize, P)>>,
}

impl<P: Payload> Group<P> {
    fn new(core: &Arc<Core<P>>, stage: usize, number: u64, header: &Parcel<P>, count: usize) -> Arc<Self> {
        let outputs = (0..count).map(|_| Vec::new()).collect();
        let answers = Mutex::new(Answers { missing: count, outputs });
        Arc::new(Self {
            core: Arc::clone(core),
            stage,
            number,
            header: header.header(),
            started: Instant::now(),
            answers,
        })
    }

    fn finish(&self, slot: usize, answer: Result<Outputs<P>, P::Fault>) {
        let stage = &self.core.stages[self.stage];
        let outputs = collect(answer).unwrap_or_else(|fault| {
            let error = self.core.blame_node(self.stage, self.header.input, fault);
            self.core.fail(self.header.input, error);
            Vec::new()
        });
        self.core.count_call(stage, self.header.input, self.started.elapsed(), outputs.len());
        let outputs = {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.outputs[slot] = outputs;
            answers.missing -= 1;
            (answers.missing == 0).then(|| std::mem::take(&mut answers.outputs))
        };
        let reorder = stage.reorder.as_ref().expect("concurrent items are put in order again");
        match outputs {
            None => reorder.end_item(),
            Some(outputs) => {
                let outputs = outputs.into_iter().flatten().collect();
                reorder.complete(self.number, Completion { header: self.header.header(), outputs });
            }
        }
    }
}

fn collect<P: Payload>(answer: Result<Outputs<P>, P::Fault>) -> Result<Vec<(usize, P)>, P::Fault> {
    Ok(match answer? {
        Outputs::None => Vec::new(),
        Outputs::One(output) => vec![(0, output)],
        Outputs::Many(mut stream) => {
            let mut outputs = Vec::new();
            while let Some(output) = stream.next()? {
                outputs.push((0, output));
            }
            outputs
        }
    })
}

/// The life of the thread that hands on what replicas and concurrent items have done.
pub(crate) fn run_forwarder<P: Payload>(core: &Arc<Core<P>>, stage: usize) {
    let stage = &core.stages[stage];
    let reorder = stage.reorder.as_ref().expect("a forwarder takes from a reorder");
    while let Some(Completion { header, outputs }) = reorder.next() {
        hand_on(core, stage, &header, outputs);
    }
}

/// Send the outputs of a parcel to the stages after this one.
fn hand_on<P: Payload>(core: &Core<P>, stage: &Stage<P>, header: &Parcel<P>, outputs: Vec<(usize, P)>) {
    let mut pending: Vec<Vec<(usize, P)>> = stage.links.iter().map(|_| Vec::new()).collect();
    for (exit, output) in outputs {
        for (link, pending) in stage.links.iter().zip(&mut pending) {
            if let Some((_, place)) = link.exits.iter().find(|(candidate, _)| *candidate == exit) {
                pending.push((*place, output));
                break;
            }
        }
    }
    for (link, items) in stage.links.iter().zip(pending) {
        let visits = if header.is_last { link.exits.iter().map(|(_, place)| *place).collect() } else { Vec::new() };
        core.send(link, Parcel { items, visits, ..header.header() });
    }
}

/// The life of the thread of a stage that takes several items in one call.
pub(crate) fn run_batches<P: Payload>(core: &Arc<Core<P>>, stage: usize, unit: usize) {
    let stage = &core.stages[stage];
    let reorder = stage.reorder.as_ref().expect("batches are put in order again");
    let options = &core.plan.stages()[stage.index].options;
    let batch = options.batch.as_ref().expect("a stage of batches has a size of them");
    let mut waiting: Vec<(u64, Parcel<P>)> = Vec::new();
    let mut full_at: Option<Instant> = None;
    loop {
        let is_full = waiting.iter().map(|(_, parcel)| parcel.items.len()).sum::<usize>() >= batch.size;
        let is_pressed = core.is_draining() || waiting.iter().any(|(_, parcel)| parcel.is_urgent || parcel.is_flush);
        let may_wait = !is_full && !waiting.iter().any(|(_, parcel)| parcel.is_flush);
        let popped = match (may_wait, waiting.is_empty()) {
            (false, _) => Popped::Nothing,
            (true, true) => {
                if !reorder.begin() {
                    return;
                }
                stage.pop(core, None)
            }
            (true, false) => {
                // Without a limit a batch waits for company, unless somebody waits for it.
                let patience = if is_pressed && batch.max_wait.is_none() { Some(Duration::ZERO) } else { None };
                let deadline = if core.is_draining() { Some(Instant::now()) } else { full_at };
                let deadline = patience.map(|patience| Instant::now() + patience).or(deadline);
                if reorder.begin() { stage.pop(core, Some(deadline.unwrap_or_else(far_away))) } else { Popped::Closed }
            }
        };
        match popped {
            Popped::Parcel(number, parcel) => {
                full_at = full_at.or_else(|| batch.max_wait.map(|wait| Instant::now() + wait));
                waiting.push((number, parcel));
            }
            Popped::Nothing if waiting.is_empty() => {}
            Popped::Nothing => {
                if may_wait {
                    reorder.unbegin();
                    let is_due = core.is_draining() || is_pressed || full_at.is_some_and(|due| due <= Instant::now());
                    if !is_due {
                        continue;
                    }
                }
                full_at = None;
                work_on_batch(core, stage, &stage.units[unit], std::mem::take(&mut waiting));
            }
            Popped::Closed => {
                reorder.unbegin();
                return;
            }
        }
    }
}

/// Later than anything that somebody waits for.
fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn work_on_batch<P: Payload>(core: &Arc<Core<P>>, stage: &Stage<P>, unit: &Unit<P>, parcels: Vec<(u64, Parcel<P>)>) {
    let reorder = stage.reorder.as_ref().expect("batches are put in order again");
    let mut headers = Vec::with_capacity(parcels.len());
    let mut items = Vec::new();
    let mut owners = Vec::new();
    for (number, parcel) in parcels {
        let header = parcel.header();
        if core.tracker.is_wanted(parcel.input) {
            for (_, item) in parcel.items {
                items.push(item);
                owners.push(headers.len());
            }
        }
        headers.push((number, header, Vec::new()));
    }
    let mut machine = unit.lock();
    if !items.is_empty() {
        let started = Instant::now();
        let count = items.len();
        let item_index = headers[owners[0]].1.input;
        machine.progress.enter(0, item_index);
        let answers = unit.enter(&mut machine, |machine| machine.nodes[0].process_batch(items));
        machine.progress.leave();
        machine.count_batch(0, count, started.elapsed());
        match answers {
            Ok(answers) => {
                for (owner, answer) in owners.into_iter().zip(answers) {
                    if let Some(output) = answer {
                        machine.count_output(0);
                        headers[owner].2.push((0, output));
                    }
                }
            }
            Err(fault) => core.fail_all(stage.index, headers.iter().map(|(_, header, _)| header.input), &fault),
        }
    }
    for (number, header, mut outputs) in headers {
        if header.is_flush {
            let mut sink = Collect(Vec::new());
            work_on(core, unit, &mut machine, header.header(), &mut sink);
            outputs.extend(sink.0);
        }
        reorder.complete(number, Completion { header, outputs });
    }
}
