//! The times that a client waited.

use std::time::Duration;

use serde_json::{Value, json};

#[derive(Default)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    pub(crate) fn add(&mut self, waited: Duration) {
        self.0.push(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The percentiles in microseconds; all are null if nothing came back.
    pub(crate) fn summary(mut self) -> Value {
        self.0.sort_unstable();
        json!({ "p50": self.micros(500), "p99": self.micros(990), "p999": self.micros(999), "max": self.micros(1000) })
    }

    fn micros(&self, thousandths: usize) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        let nanos = Duration::from_nanos(self.0[last * thousandths / 1000]);
        Some(nanos.as_secs_f64() * 1e6)
    }
}
