//! The queues and the bookkeeping of a session under all schedules of a few threads.
//!
//! A thread that sleeps for ever fails a model: here no wait ends by itself.

mod admission;
mod in_flight;
mod inboxes;
mod outboxes;
mod reorders;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::locks::Mutex;

use crate::failure::RunError;
use crate::payload::Payload;
use crate::session::queues::clients::Client;
use crate::session::queues::inbox::Envelope;
use crate::session::queues::locks::thread;

/// Long, for a wait that the checker never ends.
const TIMEOUT: Duration = Duration::from_secs(1 << 20);

/// More switches in places where nothing forces one find nothing new, and take hours.
const SWITCHES: usize = 5;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(SWITCHES);
    builder.check(model);
}

fn join_all(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("no thread of a model panics");
    }
}

/// An item that is a number.
#[derive(Debug, PartialEq, Eq)]
struct Number(u64);

impl Payload for Number {
    type Fault = ();
    type Context = ();

    fn duplicate(&self) -> Self {
        Self(self.0)
    }

    fn duplicate_fault((): &()) {}

    fn join(_: Vec<(&str, Vec<Self>)>) -> Result<Self, ()> {
        Err(())
    }
}

fn envelope(input: u64) -> Envelope<Number> {
    Envelope::whole(input, vec![(0, Number(input))])
}

/// Counts its calls. Its own state is not part of the model.
#[derive(Default)]
struct Counting {
    ends: AtomicUsize,
    interrupted: AtomicUsize,
    outputs: Mutex<Vec<u64>>,
}

impl Client<Number> for Counting {
    fn output(&self, Number(output): Number) {
        self.outputs.lock().push(output);
    }

    fn done(&self, _: Result<(), RunError<()>>) {
        self.ends.fetch_add(1, Ordering::SeqCst);
    }

    fn interrupted(&self, count: u64) {
        let count = usize::try_from(count).expect("a small number");
        self.interrupted.fetch_add(count, Ordering::SeqCst);
        self.ends.fetch_add(count, Ordering::SeqCst);
    }

    fn forget(&self) {
        self.outputs.lock().clear();
    }
}
