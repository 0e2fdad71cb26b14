//! What travels on the socket between a parent and its worker: frames of a fixed head, the places of shared buffers, and a body.

use serde::de::{IntoDeserializer, value};
use serde::{Deserialize, Serialize};

use crate::phase::Phase;
use crate::worker::protocol::shared_memory::Place;

/// The length of the head of every frame.
pub(crate) const HEAD_LEN: usize = 32;

/// The length of the place of one shared buffer.
pub(crate) const PLACE_LEN: usize = 24;

/// What a frame is about.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A segment of shared memory, whose file comes along; `number` is its id, and `extra` the slot if it is passed on.
    Segment = 1,
    /// The sender has closed the segment with this id.
    Closed,
    /// To the worker, with files, the control socket and the page: [`Wishes`].
    Hello,
    /// To the worker: what makes its nodes.
    Setup,
    /// To the worker: an item. `more` says that the next one belongs to the same call.
    Item,
    /// To the worker: the end of input.
    Flush,
    /// To the worker: the state that the node had.
    Restore,
    /// From the worker: the nodes are ready; `extra` says whether their state can be fetched.
    Ready,
    /// From the worker: an output; `last` says that the item is done with it.
    Output,
    /// From the worker: the item is done, without a further output, and has not reached the last node.
    Done,
    /// From the worker: the node of this number failed, which ends the item.
    Fault,
    /// From the worker: how long the nodes took for the item; the body holds a number for each.
    Steps,
    /// From the worker: the state of a node after this item.
    State,
    /// By the control socket: what came before this is no longer wanted, and the nodes are notified; `number` counts interruptions.
    Interrupt,
    /// The same, but the nodes are not notified.
    Discard,
    /// By the control socket, to the worker: end the work, clean the nodes up. With an `extra` of 1 the call in progress is cancelled.
    Close,
    /// From the worker: the failures of the cleanups, one frame each, then one without a body.
    CleanedUp,
    /// By the control socket, from the worker: a note.
    Note,
    /// By the control socket, to the worker: the item of this number is no longer wanted.
    Drop,
    /// To the worker, behind the items before it: what its nodes hold of the item of this number is not to come out with later ones, nor
    /// what they hold of any, if the number is 0.
    Forget,
    /// To the worker: as many items as `extra` says. The first has this number and each other the next one. See [`parts`](super::parts).
    Pack,
    /// From the worker: the only outputs of as many items, which are done with them, or that they have none.
    Outputs,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        let index = u32::from(number).checked_sub(1)?;
        Self::deserialize(IntoDeserializer::<value::Error>::into_deserializer(index)).ok()
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// More of the same follows: items of a batch.
    pub(crate) has_more: bool,
    /// Nothing more comes of the item.
    pub(crate) is_last: bool,
    /// The outputs of the item came out before, and are not wanted again.
    pub(crate) is_replay: bool,
    /// The number of a node in its stage.
    pub(crate) node: u16,
    /// Of the item that it is about, or as the kind says.
    pub(crate) number: u64,
    /// As the kind says.
    pub(crate) extra: u64,
}

/// What a parent wants of its worker, as it says hello: the body of the frame, as JSON.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Wishes {
    /// How long the nodes took is reported.
    pub(crate) with_metrics: bool,
    /// The parent watches how long an item takes.
    pub(crate) is_timed: bool,
    /// After as many items the states of the nodes are sent.
    pub(crate) snapshot_every: usize,
    /// Items below this number were with another worker when it died. Their results are sent one by one: one of them may be the cause,
    /// and it should not take those before it along.
    pub(crate) careful_below: u64,
}

impl Head {
    pub(crate) fn new(kind: Kind, number: u64) -> Self {
        Self { kind, has_more: false, is_last: false, is_replay: false, node: 0, number, extra: 0 }
    }

    /// The same, as the last frame of its item.
    pub(crate) fn last(self) -> Self {
        Self { is_last: true, ..self }
    }

    /// Write a frame without shared buffers.
    pub(crate) fn write(&self, body: &[u8], out: &mut Vec<u8>) {
        self.write_front(&[], body.len(), false, out);
        out.extend_from_slice(body);
    }

    /// Write a frame, but for its body of this many bytes.
    pub(crate) fn write_front(&self, places: &[Place], body_len: usize, is_body_shared: bool, out: &mut Vec<u8>) {
        let flags = u8::from(self.has_more)
            | u8::from(self.is_last) << 1
            | u8::from(self.is_replay) << 2
            | u8::from(is_body_shared) << 3;
        out.extend_from_slice(&[self.kind as u8, flags]);
        out.extend_from_slice(&self.node.to_le_bytes());
        out.extend_from_slice(&u32::try_from(places.len()).expect("a message has only a few buffers").to_le_bytes());
        out.extend_from_slice(&(body_len as u64).to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.extra.to_le_bytes());
        for place in places {
            let segment = u64::from(place.segment) << 1 | u64::from(place.is_readers);
            out.extend_from_slice(&segment.to_le_bytes());
            out.extend_from_slice(&place.start.to_le_bytes());
            out.extend_from_slice(&place.len.to_le_bytes());
        }
    }
}

/// A frame that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) head: Head,
    pub(crate) places: Vec<Place>,
    pub(crate) body: &'a [u8],
    /// The body is the last of the places.
    pub(crate) is_body_shared: bool,
    /// How many bytes it took.
    pub(crate) len: usize,
}

/// What the beginning of some bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read<'a> {
    Frame(Frame<'a>),
    /// A part of a frame, which takes as many bytes in all, as far as is known.
    Part(usize),
    /// No frame.
    Garbage,
}

/// Read the frame at the beginning of `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Read<'_> {
    if bytes.len() < HEAD_LEN {
        return Read::Part(HEAD_LEN);
    }
    if Kind::of(bytes[0]).is_none() {
        return Read::Garbage;
    }
    let front_len = front_len(bytes);
    let Some(len) = usize::try_from(number_at(bytes, 8)).ok().and_then(|len| front_len.checked_add(len)) else {
        return Read::Garbage;
    };
    if bytes.len() < len {
        return Read::Part(len);
    }
    let Some((head, places)) = read_front(bytes) else { return Read::Part(len) };
    Read::Frame(Frame { head, places, body: &bytes[front_len..len], is_body_shared: bytes[1] & 8 != 0, len })
}

/// One more part was added to a frame without shared buffers, which takes all of these bytes.
pub(crate) fn note_part(frame: &mut [u8]) {
    let (len, count) = ((frame.len() - HEAD_LEN) as u64, number_at(frame, 24) + 1);
    frame[8..16].copy_from_slice(&len.to_le_bytes());
    frame[24..32].copy_from_slice(&count.to_le_bytes());
}

/// How much of a frame comes before its body, as its head says.
pub(crate) fn front_len(head: &[u8]) -> usize {
    HEAD_LEN + u32::from_le_bytes(head[4..8].try_into().expect("four bytes")) as usize * PLACE_LEN
}

/// The head and the places of the frame at the beginning of `bytes`, if they are there.
pub(crate) fn read_front(bytes: &[u8]) -> Option<(Head, Vec<Place>)> {
    let kind = Kind::of(*bytes.first()?)?;
    if bytes.len() < HEAD_LEN || bytes.len() < front_len(bytes) {
        return None;
    }
    let flags = bytes[1];
    let head = Head {
        kind,
        has_more: flags & 1 != 0,
        is_last: flags & 2 != 0,
        is_replay: flags & 4 != 0,
        node: u16::from_le_bytes([bytes[2], bytes[3]]),
        number: number_at(bytes, 16),
        extra: number_at(bytes, 24),
    };
    let places = (HEAD_LEN..front_len(bytes)).step_by(PLACE_LEN).map(|at| Place {
        is_readers: number_at(bytes, at) & 1 == 1,
        segment: u32::try_from(number_at(bytes, at) >> 1).unwrap_or(u32::MAX),
        start: number_at(bytes, at + 8),
        len: number_at(bytes, at + 16),
    });
    Some((head, places.collect()))
}

fn number_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// A phase as it travels.
pub(crate) fn phase_number(phase: Phase) -> u64 {
    phase as u64
}

pub(crate) fn phase_of(number: u64) -> Phase {
    let phases = [Phase::Initialize, Phase::Process, Phase::Flush, Phase::Cleanup];
    phases.into_iter().find(|&phase| phase_number(phase) == number).unwrap_or(Phase::Process)
}

#[cfg(test)]
mod tests {
    use crate::worker::protocol::frame::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let place = Place { is_readers: true, segment: 7, start: 64, len: 1 << 40 };
        let head = Head { has_more: true, node: 3, extra: 9, ..Head::new(Kind::Item, 42) };
        let mut bytes = Vec::new();

        head.write_front(&[place], 4, false, &mut bytes);
        bytes.extend(b"body");

        let expected = Frame { head, places: vec![place], body: b"body", is_body_shared: false, len: bytes.len() };
        assert_eq!(read(&bytes), Read::Frame(expected));
        assert_eq!(read(&bytes[..bytes.len() - 1]), Read::Part(bytes.len()));
    }

    #[test]
    fn every_kind_has_its_own_number() {
        let kinds: Vec<(u8, Kind)> = (0..=u8::MAX).filter_map(|number| Some((number, Kind::of(number)?))).collect();

        assert!(kinds.iter().all(|(number, kind)| *kind as u8 == *number));
        assert_eq!(kinds.len(), Kind::Outputs as usize);
    }

    #[test]
    fn what_is_not_a_frame_is_refused() {
        assert_eq!(read(&[0; HEAD_LEN]), Read::Garbage);
        assert_eq!(read(&[255; HEAD_LEN]), Read::Garbage);
    }
}
