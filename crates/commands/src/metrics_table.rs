//! The metrics of a run, for people and for programs.

use remotemedia_runtime::{Metrics, NodeMetrics};
use serde::Serialize;

use crate::cli::MetricsForm;
use crate::table::{Align, columns, counted_long, on_one_line};

/// The metrics and what they suggest, as a table with sentences below it, or as JSON on one line.
pub(crate) fn shown(metrics: &Metrics, advice: &[String], form: MetricsForm) -> String {
    match form {
        MetricsForm::Table => {
            let lines = advice.iter().map(|sentence| format!("advice: {sentence}\n"));
            table(metrics) + if advice.is_empty() { "" } else { "\n" } + &lines.collect::<String>()
        }
        MetricsForm::Json => json(&Advised { metrics, advice }),
    }
}

/// Metrics as JSON on one line.
pub(crate) fn json(metrics: &impl Serialize) -> String {
    serde_json::to_string(metrics).expect("figures are plain numbers and names")
}

/// The keys of the metrics, and one more.
#[derive(Serialize)]
struct Advised<'a> {
    #[serde(flatten)]
    metrics: &'a Metrics,
    advice: &'a [String],
}

fn table(metrics: &Metrics) -> String {
    let mut rows = vec![heading()];
    rows.extend(metrics.node_metrics.iter().map(|node| row(node, metrics.total_duration_us)));
    let align = [&[Align::Left, Align::Left][..], &[Align::Right; 10]].concat();
    let others = [
        (metrics.errors, "failed"),
        (metrics.skipped, "skipped"),
        (metrics.dead_lettered, "dead-lettered"),
        (metrics.dropped, "dropped"),
    ];
    let others = others.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}"));
    format!(
        "\n{}: {} in, {} out{}, {} in total, {} outside the nodes\n\n{}",
        on_one_line(&metrics.pipeline, 60),
        counted_long(metrics.items_in, "item"),
        metrics.items_out,
        others.collect::<String>(),
        whole_duration(metrics.total_duration_us),
        share(metrics.overhead_us, metrics.total_duration_us),
        columns(&rows, &align, "  ")
    )
}

fn heading() -> Vec<String> {
    ["NODE", "TYPE", "IN", "OUT", "ERRORS", "AVG", "P50", "P95", "P99", "INIT", "TOTAL", "SHARE"]
        .map(str::to_owned)
        .to_vec()
}

fn row(node: &NodeMetrics, whole_us: u64) -> Vec<String> {
    vec![
        on_one_line(&node.node_id, 32),
        on_one_line(&node.node_type, 32),
        node.items_in.to_string(),
        node.items_out.to_string(),
        node.errors.to_string(),
        duration(node.avg_duration_us),
        duration(node.p50_duration_us),
        duration(node.p95_duration_us),
        duration(node.p99_duration_us),
        whole_duration(node.initialize_duration_us),
        whole_duration(node.total_duration_us),
        share(node.total_duration_us, whole_us),
    ]
}

#[allow(clippy::cast_precision_loss, reason = "a rounded figure for people")]
fn share(part: u64, whole: u64) -> String {
    format!("{:.0}%", 100.0 * part as f64 / whole.max(1) as f64)
}

#[allow(clippy::cast_precision_loss, reason = "a rounded figure for people")]
fn whole_duration(micros: u64) -> String {
    duration(micros as f64)
}

/// Three digits and a unit: `0.12 µs`, `45.6 ms`, `12.3 s`.
fn duration(micros: f64) -> String {
    let (number, unit) = match micros {
        micros if micros < 1e3 => (micros, "µs"),
        micros if micros < 1e6 => (micros / 1e3, "ms"),
        micros => (micros / 1e6, "s"),
    };
    let digits = match number {
        0.0 => 0,
        number if number < 10.0 => 2,
        number if number < 100.0 => 1,
        _ => 0,
    };
    format!("{number:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use crate::metrics_table::*;

    #[test]
    fn durations_keep_three_digits() {
        let shown = [0.0, 0.123, 45.67, 999.4, 1500.0, 2_345_000.0].map(duration);

        assert_eq!(shown, ["0 µs", "0.12 µs", "45.7 µs", "999 µs", "1.50 ms", "2.35 s"]);
    }
}
