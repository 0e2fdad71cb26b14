//! Puts the parts of each input together where they come from several stages.

use std::collections::HashMap;

use crate::session::queues::inbox::Parcel;

/// What has come of each input that is not whole yet.
pub(crate) struct Assembler<P> {
    /// The stages that send parts.
    senders: usize,
    parts: HashMap<u64, Part<P>>,
}

struct Part<P> {
    missing: usize,
    parcel: Parcel<P>,
}

impl<P> Assembler<P> {
    pub(crate) fn new(senders: usize) -> Self {
        Self { senders, parts: HashMap::new() }
    }

    /// Add a part. Answers the whole input when this was the last of it, its items in the order of their places.
    pub(crate) fn add(&mut self, part: Parcel<P>) -> Option<Parcel<P>> {
        let input = part.input;
        let whole = self.parts.entry(input).or_insert_with(|| Part {
            missing: self.senders,
            parcel: Parcel { items: Vec::new(), visits: Vec::new(), is_first: true, is_last: true, ..part.header() },
        });
        whole.parcel.items.extend(part.items);
        whole.parcel.visits.extend(part.visits);
        whole.missing -= usize::from(part.is_last);
        if whole.missing > 0 {
            return None;
        }
        let mut parcel = self.parts.remove(&input)?.parcel;
        parcel.items.sort_by_key(|(place, _)| *place);
        Some(parcel)
    }

    /// Forget the inputs that `is_wanted` does not know any more.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(u64) -> bool) {
        self.parts.retain(|&input, _| is_wanted(input));
    }
}
