//! The metrics of several sessions of one pipeline, added up.

use crate::execution::metrics::{Metrics, NodeMetrics};

/// Add the counts of another to these.
macro_rules! add_counts {
    ($sum:expr, $other:expr; $($count:ident),+) => { $($sum.$count += $other.$count;)+ };
}

impl Metrics {
    /// Add those of another session of the same pipeline. Quantiles are averages, weighted by the number of items.
    pub fn add(&mut self, other: &Self) {
        add_counts!(self, other; total_duration_us, overhead_us, items_in, items_out);
        add_counts!(self, other; errors, failures, retries, skipped, dead_lettered, dropped, interrupted);
        for (node, other) in self.node_metrics.iter_mut().zip(&other.node_metrics) {
            node.add(other);
        }
    }
}

impl NodeMetrics {
    fn add(&mut self, other: &Self) {
        self.add_quantiles(other);
        add_counts!(self, other; total_duration_us, initialize_duration_us, queue_wait_us, items_in, items_out, restarts);
        add_counts!(self, other; errors, failures, retries, skipped, dead_lettered, dropped, interrupted);
        self.peak_queue_len = self.peak_queue_len.max(other.peak_queue_len);
        if let Some(worker) = &other.worker {
            self.worker.get_or_insert_default().add(worker.clone());
        }
    }

    /// Before the items are added up, which are the weights.
    #[allow(clippy::cast_precision_loss, reason = "a rounded figure for people")]
    fn add_quantiles(&mut self, other: &Self) {
        let (here, there) = (self.items_in.max(self.items_out) as f64, other.items_in.max(other.items_out) as f64);
        if there <= 0.0 {
            return;
        }
        let average = |ours: &mut f64, theirs: f64| *ours = ours.mul_add(here, theirs * there) / (here + there);
        average(&mut self.avg_duration_us, other.avg_duration_us);
        average(&mut self.p50_duration_us, other.p50_duration_us);
        average(&mut self.p95_duration_us, other.p95_duration_us);
        average(&mut self.p99_duration_us, other.p99_duration_us);
        let least = if here > 0.0 { self.min_duration_us } else { f64::INFINITY };
        self.min_duration_us = other.min_duration_us.min(least);
        self.max_duration_us = self.max_duration_us.max(other.max_duration_us);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::execution::metrics::Recorder;

    fn of(took: &[u64]) -> Metrics {
        let mut recorder = Recorder::new();
        for &micros in took {
            recorder.items_in += 1;
            recorder.called(Duration::from_micros(micros));
        }
        let node = recorder.report("a", "A", "thread");
        Metrics::of_nodes("p", Duration::from_secs(1), recorder.inside(), vec![node])
    }

    #[test]
    fn metrics_of_sessions_are_added_up() {
        let mut sum = of(&[]);

        sum.add(&of(&[100, 100, 100]));
        sum.add(&of(&[500]));
        sum.add(&of(&[]));

        let node = &sum.node_metrics[0];
        assert_eq!((node.items_in, node.total_duration_us), (4, 800));
        assert!((node.avg_duration_us - 200.0).abs() < 1.0 && (node.min_duration_us - 100.0).abs() < 1.0);
        assert!((node.max_duration_us - 500.0).abs() < 5.0);
        assert_eq!(sum.total_duration_us, 4_000_000);
    }
}
