//! What the end of a run says about items that failed without ending it.

use crate::failure::{Failure, FailureKind};
use crate::loader::FailedItems;
use crate::table::counted_long;

/// How many items were skipped and dead-lettered, and the first error; nothing if all went well.
pub(crate) fn summary(failed: &FailedItems) -> Option<String> {
    let counts = [(failed.skipped, "skipped"), (failed.dead_lettered, "dead-lettered")];
    let parts: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", counted_long(*count, "item")))
        .collect();
    if parts.is_empty() {
        return None;
    }
    let first = failed.first_error.as_ref().map(|failure| format!("; the first error: {}", failure.message.trim_end()));
    Some(format!("{}{}", parts.join(", "), first.unwrap_or_default()))
}

/// Say that it was `--max-errors` by which an item that failed ended the run.
pub(crate) fn explain_limit(failure: Failure, failed: &FailedItems, limit: Option<u64>) -> Failure {
    match limit {
        Some(limit) if failure.kind == FailureKind::Failed && failed.skipped + failed.dead_lettered >= limit => {
            failure.and(&format!("--max-errors allows {}", counted_long(limit, "failed item")))
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_listed_with_the_first_error() {
        let first_error = Some(Failure::failed("Node 'a' failed on item 3: ValueError"));
        let failed = |skipped, dead_lettered| FailedItems { skipped, dead_lettered, first_error: first_error.clone() };
        let first = "the first error: Node 'a' failed on item 3: ValueError";

        assert_eq!(summary(&failed(1, 0)), Some(format!("1 item skipped; {first}")));
        assert_eq!(summary(&failed(2, 3)), Some(format!("2 items skipped, 3 items dead-lettered; {first}")));
        assert_eq!(summary(&FailedItems::default()), None);
    }
}
