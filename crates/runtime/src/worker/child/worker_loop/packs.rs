//! Items that arrived together: taken one after the other, or begun together.

use std::ops::Range;

use crate::payload::Payload;
use crate::phase::Phase;
use crate::worker::child::worker_loop::WorkerLoop;
use crate::worker::protocol::connection::Received;
use crate::worker::protocol::frame::{Head, Kind};
use crate::worker::protocol::parts::Parts;
use crate::worker::{Arrived, unpack};

/// The items of a frame, each as if it had arrived by itself.
pub(super) struct Pack {
    /// The numbers of those that are left.
    numbers: Range<u64>,
    parts: Parts,
    /// There is not enough memory for so many bytes, and so for none of these items.
    missing: Option<usize>,
}

impl Pack {
    pub(super) fn of(received: Received) -> Self {
        let Received { head, message, .. } = received;
        let numbers = head.number..head.number + head.extra;
        Self { numbers, parts: Parts::of(message.body), missing: message.missing }
    }
}

impl Iterator for Pack {
    type Item = Received;

    fn next(&mut self) -> Option<Received> {
        let head = Head::new(Kind::Item, self.numbers.next()?);
        let message = match (self.missing, self.parts.next()) {
            (None, Some(Some(body))) => Arrived::of(body),
            (missing, _) => Arrived::missing(missing.unwrap_or(0)),
        };
        Some(Received { head, message, files: Vec::new() })
    }
}

impl<P: Payload> WorkerLoop<P> {
    /// The next of the items that arrived together.
    pub(super) fn next_of_pack(&mut self) -> Option<Received> {
        let next = self.pack.as_mut()?.next();
        if next.is_none() {
            self.pack = None;
        }
        next
    }

    /// What has arrived, or the first of several items.
    pub(super) fn unpack(&mut self, received: Received) -> Option<Received> {
        if received.head.kind != Kind::Pack {
            return Some(received);
        }
        let pack = Pack::of(received);
        if self.is_concurrent {
            self.begin_pack(pack);
            return None;
        }
        self.pack = Some(pack);
        self.next_of_pack()
    }

    /// Begin with the items that arrived together.
    fn begin_pack(&mut self, pack: Pack) {
        let mut items = Vec::new();
        for Received { head: Head { number, .. }, message, .. } in pack {
            self.page.take_in_hand(number, self.is_timed);
            if self.out.requests.is_stale(number) {
                continue;
            }
            if self.out.requests.is_dropped(number) {
                self.skipped.insert(number);
                continue;
            }
            match unpack(&*self.out.codec, message) {
                Ok(item) => items.push((number, item)),
                Err(fault) => self.out.fault(number, 0, Phase::Process, &fault),
            }
        }
        self.page.put_down();
        self.begin(items);
    }

    /// Begin with items that are in progress at the same time.
    pub(super) fn begin(&mut self, items: Vec<(u64, P)>) {
        let replies = (&self.out, self.steps.as_ref());
        self.in_flight.begin(&mut self.machine, replies, items);
        if self.is_one_by_one {
            // Nothing else is in hand meanwhile.
            self.in_flight.await_all(&mut self.machine, replies);
        }
    }
}
