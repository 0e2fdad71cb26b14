//! The spans of nodes under the span of their request.

use std::sync::Arc;
use std::time::SystemTime;

use remotemedia_runtime::locks::Mutex;
use serde_json::json;

use crate::serve::tracing::otlp::Tracer;
use crate::serve::tracing::span::{Span, SpanKind, new_id};
use crate::serve::tracing::trace_context::TraceId;
use crate::service::{CallError, OnStep};

/// The span of a request, for those under it. Requests that are not recorded have none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpanContext {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: u64,
}

/// The return of a node.
struct Step {
    node_id: String,
    begin: SystemTime,
    end: SystemTime,
}

/// What nodes do for one call. Sent when it is dropped, also where the client has gone.
pub(crate) struct CallTrace<'a> {
    tracer: &'a Tracer,
    context: SpanContext,
    steps: Arc<Mutex<Vec<Step>>>,
    /// The node that failed, and the class of its exception.
    failed: Option<(String, String)>,
}

impl<'a> CallTrace<'a> {
    pub(crate) fn new(tracer: &'a Tracer, context: SpanContext) -> Self {
        Self { tracer, context, steps: Arc::default(), failed: None }
    }

    /// Receives the steps.
    pub(crate) fn on_step(&self) -> OnStep {
        let steps = Arc::clone(&self.steps);
        Arc::new(move |node_id, took| {
            let end = SystemTime::now();
            let begin = end.checked_sub(took).unwrap_or(end);
            steps.lock().push(Step { node_id: node_id.to_owned(), begin, end });
        })
    }

    /// The call failed.
    pub(crate) fn note_error(&mut self, error: &CallError) {
        self.failed = error.node_id.clone().map(|node_id| (node_id, error.type_name.clone()));
    }
}

impl Drop for CallTrace<'_> {
    fn drop(&mut self) {
        let mut steps = std::mem::take(&mut *self.steps.lock());
        // The node fails in its last step.
        let failing = self.failed.take().and_then(|(node_id, type_name)| {
            Some((steps.iter().rposition(|step| step.node_id == node_id)?, type_name))
        });
        for (place, Step { node_id, begin, end }) in steps.drain(..).enumerate() {
            let error = failing.as_ref().filter(|(failing, _)| *failing == place).map(|(_, name)| name.clone());
            let mut attributes = vec![("remotemedia.node.id", json!(node_id))];
            attributes.extend(error.as_ref().map(|name| ("error.type", json!(name))));
            self.tracer.record(Span {
                trace_id: self.context.trace_id,
                id: new_id(),
                parent_id: Some(self.context.span_id),
                name: format!("node {node_id}"),
                kind: SpanKind::Internal,
                begin,
                end,
                attributes,
                error,
            });
        }
    }
}
