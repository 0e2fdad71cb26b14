//! What a session has measured so far.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::execution::metrics::{Metrics, Recorder};
use crate::payload::Payload;
use crate::session::Session;

impl<P: Payload> Session<P> {
    /// The queue before each stage at this moment: the number of its first node in the plan, the items in it, and for how many it has
    /// room.
    pub fn queues(&self) -> Vec<(usize, usize, usize)> {
        let stages = self.core.stages.iter();
        stages
            .map(|stage| {
                let (len, capacity) = stage.inbox.fill();
                (self.core.plan.stages()[stage.index].nodes[0], len, capacity)
            })
            .collect()
    }

    /// The metrics so far, if they are collected.
    pub fn metrics(&self) -> Option<Metrics> {
        let core = &self.core;
        if !core.with_metrics {
            return None;
        }
        let total = self.opened.elapsed();
        let mut recorders: Vec<Recorder> = core.plan.nodes().iter().map(|_| Recorder::new()).collect();
        for stage in &core.stages {
            let members = &core.plan.stages()[stage.index].nodes;
            for measured in stage.replicas.iter().filter_map(|replica| replica.recorders.as_ref()) {
                for (index, &node) in members.iter().enumerate() {
                    measured.note(index, |recorder| recorders[node].add(recorder));
                }
            }
        }
        let inside: Duration = recorders.iter().map(Recorder::inside).sum();
        let (items_in, items_out) = core.in_flight.counts();
        let mut node_metrics: Vec<_> = recorders
            .iter()
            .zip(core.plan.nodes())
            .map(|(recorder, node)| recorder.report(&node.id, &node.node_type, node.options.placement.name()))
            .collect();
        for stage in &core.stages {
            let first = &mut node_metrics[core.plan.stages()[stage.index].nodes[0]];
            let metrics = stage.inbox.metrics();
            first.queue_wait_us = stage.waited_us.load(Ordering::Relaxed);
            first.peak_queue_len = metrics.peak_len as u64;
            first.dropped = metrics.dropped;
            let workers =
                stage.replicas.iter().filter_map(|replica| replica.worker.as_ref()).map(|worker| worker.metrics());
            let worker = workers.reduce(|mut sum, metrics| {
                sum.add(metrics);
                sum
            });
            if let Some(worker) = worker {
                first.restarts = worker.restarts;
                first.worker = Some(worker);
            }
        }
        Some(Metrics {
            items_in,
            items_out: items_out + self.calls_out.load(Ordering::Relaxed),
            interrupted: core.in_flight.interrupted(),
            ..Metrics::of_nodes(core.plan.name(), total, inside, node_metrics)
        })
    }
}
