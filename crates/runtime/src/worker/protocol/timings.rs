//! How long the nodes of a worker took and how often they retried, sent to the parent with each result.

use std::sync::Arc;
use std::time::Duration;

use crate::locks::Mutex;

use crate::execution::metrics::Step;
use crate::failure_counts::FailureCounts;
use crate::node::{Node, Observer};
use crate::payload::Payload;
use crate::phase::Phase;
use crate::plan::Plan;
use crate::worker::protocol::connection::Link;
use crate::worker::protocol::frame::{Head, Kind};

/// The length of one step in a message: the node, and its time in nanoseconds or a number of retries.
const STEP_LEN: usize = 10;

/// Set in the number of the node where the step is a number of retries.
const RETRIED: u16 = 1 << 15;

/// Collects the steps of one item.
pub(crate) struct Steps {
    node_ids: Vec<String>,
    taken: Mutex<Vec<u8>>,
    failure_counts: Vec<Option<Arc<FailureCounts>>>,
}

impl Steps {
    pub(crate) fn of<P: Payload>(plan: &Plan, nodes: &[Box<dyn Node<P>>]) -> Arc<Self> {
        let node_ids = plan.nodes().iter().map(|node| node.id.clone()).collect();
        let failure_counts = nodes.iter().map(|node| node.info().failure_counts).collect();
        Arc::new(Self { node_ids, taken: Mutex::default(), failure_counts })
    }

    /// Send the steps of an item, unless the parent knows them.
    pub(crate) fn post(&self, link: &Link, head: Head) {
        let steps = std::mem::take(&mut *self.taken.lock());
        self.post_these(steps, link, head);
    }

    /// The same for the only step of an item, or of a batch of them, which no observer has seen.
    pub(crate) fn post_one(&self, link: &Link, head: Head, took: Duration) {
        self.post_these(encoded(0, Step::Took(took)).to_vec(), link, head);
    }

    fn post_these(&self, mut steps: Vec<u8>, link: &Link, head: Head) {
        for (node, counts) in self.failure_counts.iter().enumerate() {
            let retries = counts.as_ref().map_or(0, |counts| counts.take_retries());
            if retries > 0 {
                steps.extend_from_slice(&encoded(node, Step::Retried(retries)));
            }
        }
        if !steps.is_empty() && !head.is_replay {
            let mut message = link.message();
            message.write(&steps);
            link.post(Head::new(Kind::Steps, head.number), message);
        }
    }
}

impl Observer for Steps {
    fn opened(&self, _plan: &Plan) {}

    fn stepped(&self, node_id: &str, phase: Phase, _item_index: Option<u64>, took: Duration) {
        if phase != Phase::Process {
            return;
        }
        let node = self.node_ids.iter().position(|id| id == node_id).unwrap_or(0);
        let mut steps = self.taken.lock();
        steps.extend_from_slice(&encoded(node, Step::Took(took)));
    }
}

/// One step as it is sent.
fn encoded(node: usize, step: Step) -> [u8; STEP_LEN] {
    let (flag, number) = match step {
        Step::Took(took) => (0, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)),
        Step::Retried(count) => (RETRIED, count),
    };
    let node = u16::try_from(node).unwrap_or(u16::MAX).min(RETRIED - 1);
    let mut bytes = [0; STEP_LEN];
    bytes[..2].copy_from_slice(&(node | flag).to_le_bytes());
    bytes[2..].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// The steps that a message contains.
pub(crate) fn read(body: &[u8]) -> impl Iterator<Item = (usize, Step)> {
    body.chunks_exact(STEP_LEN).map(|step| {
        let node = u16::from_le_bytes([step[0], step[1]]);
        let number = u64::from_le_bytes(step[2..].try_into().expect("eight bytes"));
        let step = if node & RETRIED == 0 { Step::Took(Duration::from_nanos(number)) } else { Step::Retried(number) };
        (usize::from(node & !RETRIED), step)
    })
}
