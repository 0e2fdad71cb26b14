//! How long the nodes of a worker took, told to the parent with each answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::link::{Link, Transport};
use super::wire::{Head, Kind};
use crate::{Observer, Phase, Plan};

/// As long is one step in a letter: the node and its time in nanoseconds.
const STEP_LEN: usize = 10;

/// Collects the steps of one item.
pub(super) struct Steps {
    node_ids: Vec<String>,
    steps: Mutex<Vec<u8>>,
}

impl Steps {
    pub(super) fn of(plan: &Plan) -> Arc<Self> {
        let node_ids = plan.nodes().iter().map(|node| node.id.clone()).collect();
        Arc::new(Self { node_ids, steps: Mutex::default() })
    }

    /// Send the steps of an item.
    pub(super) fn post(&self, link: &Link, number: u64) {
        let steps = std::mem::take(&mut *self.steps.lock().unwrap_or_else(PoisonError::into_inner));
        if !steps.is_empty() {
            let mut letter = link.letter();
            letter.write(&steps);
            link.post(Head::new(Kind::Steps, number), letter);
        }
    }

    /// Send the only step of an item, or of a batch of them, which no observer has seen.
    pub(super) fn post_one(link: &Link, number: u64, took: Duration) {
        let mut letter = link.letter();
        letter.write(&step(0, took));
        link.post(Head::new(Kind::Steps, number), letter);
    }
}

impl Observer for Steps {
    fn opened(&self, _plan: &Plan) {}

    fn stepped(&self, node_id: &str, phase: Phase, _item_index: Option<u64>, took: Duration) {
        if phase != Phase::Process {
            return;
        }
        let node = self.node_ids.iter().position(|id| id == node_id).unwrap_or(0);
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&step(node, took));
    }
}

/// One step as it is told.
fn step(node: usize, took: Duration) -> [u8; STEP_LEN] {
    let mut step = [0; STEP_LEN];
    step[..2].copy_from_slice(&u16::try_from(node).unwrap_or(u16::MAX).to_le_bytes());
    step[2..].copy_from_slice(&u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
    step
}

/// The steps that a letter tells of.
pub(super) fn read(body: &[u8]) -> impl Iterator<Item = (usize, Duration)> {
    body.chunks_exact(STEP_LEN).map(|step| {
        let node = usize::from(u16::from_le_bytes([step[0], step[1]]));
        let nanos = u64::from_le_bytes(step[2..].try_into().expect("eight bytes"));
        (node, Duration::from_nanos(nanos))
    })
}
