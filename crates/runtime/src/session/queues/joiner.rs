//! Puts the parts of each input together where they come from several stages.

use std::collections::HashMap;

use crate::session::queues::inbox::Envelope;

/// What has arrived of each input that is not complete.
pub(crate) struct Joiner<P> {
    /// The stages that send parts.
    senders: usize,
    parts: HashMap<u64, Part<P>>,
}

struct Part<P> {
    missing: usize,
    envelope: Envelope<P>,
}

impl<P> Joiner<P> {
    pub(crate) fn new(senders: usize) -> Self {
        Self { senders, parts: HashMap::new() }
    }

    /// Add a part. Returns the whole input when this was the last of it, its items in the order of their places.
    pub(crate) fn add(&mut self, part: Envelope<P>) -> Option<Envelope<P>> {
        let input = part.input;
        let whole = self.parts.entry(input).or_insert_with(|| Part {
            missing: self.senders,
            envelope: Envelope {
                items: Vec::new(),
                visits: Vec::new(),
                is_first: true,
                is_last: true,
                ..part.header()
            },
        });
        whole.envelope.items.extend(part.items);
        whole.envelope.visits.extend(part.visits);
        whole.missing -= usize::from(part.is_last);
        if whole.missing > 0 {
            return None;
        }
        let mut envelope = self.parts.remove(&input)?.envelope;
        envelope.items.sort_by_key(|(place, _)| *place);
        Some(envelope)
    }

    /// Forget the inputs that `is_wanted` does not know any more.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(u64) -> bool) {
        self.parts.retain(|&input, _| is_wanted(input));
    }
}
