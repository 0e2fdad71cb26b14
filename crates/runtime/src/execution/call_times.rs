//! The durations of calls that a [`crate::Bulk`] measures itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::locks::Mutex;
use quanta::Clock;

use crate::node::bulk::Calls;

/// Shorter durations, in nanoseconds, are counted in a table: finding their place in a histogram takes longer than many a call.
const TABLE: usize = 1024;

/// Measures the calls of one node. The end of one call is the start of the next, of whichever node.
///
/// One thread at a time uses it, and the others that belong to the same nodes.
pub struct CallTimes {
    clock: Clock,
    last: Arc<AtomicU64>,
    last_took: AtomicU64,
    items_in: AtomicU64,
    items_out: AtomicU64,
    table: Box<[AtomicU32]>,
    /// The durations that are not in the table.
    long: Mutex<Vec<u64>>,
}

/// Add without a locked instruction.
fn add(count: &AtomicU64, number: u64) {
    count.store(count.load(Relaxed).wrapping_add(number), Relaxed);
}

impl CallTimes {
    /// One for each of this many nodes that call each other.
    pub fn of(nodes: usize) -> Vec<Self> {
        let (clock, last) = (Clock::new(), Arc::new(AtomicU64::new(0)));
        let new = |_| Self {
            clock: clock.clone(),
            last: Arc::clone(&last),
            last_took: AtomicU64::new(0),
            items_in: AtomicU64::new(0),
            items_out: AtomicU64::new(0),
            table: (0..TABLE).map(|_| AtomicU32::new(0)).collect(),
            long: Mutex::default(),
        };
        (0..nodes).map(new).collect()
    }

    /// The first call begins now.
    pub fn start(&self) {
        self.last.store(self.clock.raw(), Relaxed);
    }

    /// A call has ended, with an output or without.
    #[inline]
    pub fn note(&self, has_output: bool) {
        let now = self.clock.raw();
        let took = self.clock.delta_as_nanos(self.last.load(Relaxed), now);
        self.last.store(now, Relaxed);
        self.last_took.store(took, Relaxed);
        add(&self.items_in, 1);
        add(&self.items_out, u64::from(has_output));
        match usize::try_from(took).ok().and_then(|took| self.table.get(took)) {
            Some(count) => count.store(count.load(Relaxed).wrapping_add(1), Relaxed),
            None => self.long.lock().push(took),
        }
    }

    /// The last call was not what it seemed: its result is not an output. Returns how long it took.
    pub fn take_back(&self) -> Duration {
        let took = self.last_took.load(Relaxed);
        add(&self.items_in, u64::MAX);
        add(&self.items_out, u64::MAX);
        match usize::try_from(took).ok().and_then(|took| self.table.get(took)) {
            Some(count) => count.store(count.load(Relaxed).wrapping_sub(1), Relaxed),
            None => drop(self.long.lock().pop()),
        }
        Duration::from_nanos(took)
    }

    /// What was measured since the last time.
    pub fn take(&self) -> Calls {
        let short = (0..).zip(&self.table).filter_map(|(took, count)| match count.swap(0, Relaxed) {
            0 => None,
            count => Some((Duration::from_nanos(took), u64::from(count))),
        });
        let long = std::mem::take(&mut *self.long.lock());
        let long = long.into_iter().map(|took| (Duration::from_nanos(took), 1));
        Calls {
            items_in: self.items_in.swap(0, Relaxed),
            items_out: self.items_out.swap(0, Relaxed),
            durations: short.chain(long).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(calls: &Calls) -> u64 {
        calls.durations.iter().map(|(_, count)| count).sum()
    }

    #[test]
    fn calls_are_counted_with_their_durations() {
        let [first, second] = &CallTimes::of(2)[..] else { panic!("two") };
        first.start();
        for _ in 0..3 {
            first.note(true);
        }
        std::thread::sleep(Duration::from_millis(2));
        second.note(false);

        let (first, second) = (first.take(), second.take());

        assert_eq!((first.items_in, first.items_out, count(&first)), (3, 3, 3));
        assert_eq!((second.items_in, second.items_out, count(&second)), (1, 0, 1));
        // The processor's counter agrees with the system's clock only nearly.
        assert!(second.durations[0].0 >= Duration::from_micros(1980));
    }

    #[test]
    fn a_call_that_is_taken_back_is_not_counted() {
        let times = &CallTimes::of(1)[0];
        times.start();
        times.note(true);

        times.take_back();

        let calls = times.take();
        assert_eq!((calls.items_in, calls.items_out, count(&calls)), (0, 0, 0));
    }
}
