//! `GET /status`: what the page shows, as JSON.

use remotemedia_runtime::{NodeMetrics, Plan};
use serde_json::{Value, json};

use crate::serve::app::App;
use crate::serve::observing::metrics::Fill;

/// How full the service is. May wait.
pub(crate) fn fill(app: &App) -> Fill {
    let (sessions, _, _) = app.sessions.counts();
    let name = |(node, len, capacity): (usize, usize, usize)| (app.plan.nodes()[node].id.clone(), len, capacity);
    Fill { sessions, queues: app.sessions.queues().into_iter().map(name).collect() }
}

/// All that is known now. May wait.
pub(crate) fn report(app: &App) -> Value {
    let (open, max, warm) = app.sessions.counts();
    let (total, failed) = app.metrics.calls();
    let metrics = app.sessions.metrics();
    let queues = app.sessions.queues();
    let node = |index: usize| {
        let queue = queues.iter().find(|(first, ..)| *first == index);
        let measured = metrics.as_ref().and_then(|metrics| metrics.node_metrics.get(index));
        node_of(&app.plan, index, measured.unwrap_or(&NodeMetrics::default()), queue.map(|&(_, len, room)| (len, room)))
    };
    let nodes: Vec<_> = (0..app.plan.nodes().len()).map(node).collect();
    let id = |index: usize| &app.plan.nodes()[index].id;
    let edges = app.plan.nodes().iter().flat_map(|node| node.upstreams.iter().map(|&from| [id(from), &node.id]));
    json!({
        "pipeline": app.plan.name(),
        "version": env!("CARGO_PKG_VERSION"),
        "state": if app.is_draining() { "draining" } else { "ready" },
        "uptime_s": app.started.elapsed().as_secs_f64(),
        "sessions": {"open": open, "max": max, "warm": warm, "own_nodes": app.sessions.have_own_nodes()},
        "calls": {
            "in_progress": app.metrics.in_progress.get(), "max": app.settings.max_in_flight,
            "total": total, "failed": failed,
        },
        "nodes": nodes,
        "edges": edges.collect::<Vec<_>>(),
        "errors": app.errors.report(app.settings.is_private()),
    })
}

fn node_of(plan: &Plan, index: usize, measured: &NodeMetrics, queue: Option<(usize, usize)>) -> Value {
    let node = &plan.nodes()[index];
    json!({
        "id": node.id, "type": node.node_type, "placement": node.options.placement.name(),
        "stage": plan.stage_of(index),
        "items_in": measured.items_in, "items_out": measured.items_out, "errors": measured.errors,
        "restarts": measured.restarts, "retries": measured.retries, "dropped": measured.dropped,
        "p50_us": measured.p50_duration_us, "p99_us": measured.p99_duration_us,
        "total_us": measured.total_duration_us,
        "queue_len": queue.map(|(len, _)| len), "queue_capacity": queue.map(|(_, capacity)| capacity).filter(|&capacity| capacity < usize::MAX),
    })
}
