//! `check`: what would run where, and what stands in the way.

use std::fs;

use remotemedia_runtime::{DEFAULT_QUEUE_SIZE, Plan, Stage, WhenFull};

use crate::cli::CheckOptions;
use crate::draw::{group_of, shown_options};
use crate::failure::{Failure, FailureKind};
use crate::loader::{Loader, Remark};
use crate::table::{columns, counted, on_one_line};
use crate::terminal;

const NAME_COLUMNS: usize = 40;
/// Says which nodes give the output.
const OUTPUT_COLUMN: usize = 3;

/// Print the plan of the target, what is worth knowing about it and what is wrong with it.
pub(crate) fn check(options: &CheckOptions, loader: &dyn Loader) -> Result<u8, Failure> {
    let pipeline = loader.load(&options.target).map_err(cannot_run)?;
    let mut remarks = pipeline.remarks();
    if let Some(path) = &options.metrics {
        let metrics = fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read metrics '{}': {}", path.display(), terminal::reason(&error)))
        })?;
        let advice = pipeline
            .advice(&metrics)
            .map_err(|failure| Failure { message: format!("'{}': {}", path.display(), failure.message), ..failure })?;
        remarks.extend(advice.into_iter().map(Remark::note));
    }
    terminal::print(&report(pipeline.plan(), &remarks))?;
    Ok(u8::from(remarks.iter().any(|remark| remark.is_problem)))
}

/// A target that names nothing cannot run either: that is what was asked, not a wrong question.
fn cannot_run(failure: Failure) -> Failure {
    let kind = if failure.kind == FailureKind::Usage { FailureKind::Failed } else { failure.kind };
    Failure { kind, ..failure }
}

fn report(plan: &Plan, remarks: &[Remark]) -> String {
    let problems = remarks.iter().filter(|remark| remark.is_problem).count();
    let verdict = if problems == 0 { "can run".to_owned() } else { format!("has {}", counted(problems, "problem")) };
    let mut text = format!(
        "{} {verdict}: {} in {}\n",
        on_one_line(plan.name(), NAME_COLUMNS),
        counted(plan.nodes().len(), "node"),
        counted(plan.stages().len(), "stage")
    );
    for (number, stage) in plan.stages().iter().enumerate() {
        let group = group_of(plan, number).map_or_else(String::new, |group| format!(", group {group}"));
        let placement = stage.placement.name();
        text += &format!("\nstage {}, {placement}{group}: {}\n", number + 1, resources(plan, number));
        let mut rows: Vec<Vec<String>> = stage.nodes.iter().map(|&index| row(plan, index)).collect();
        if rows.iter().all(|row| row[OUTPUT_COLUMN].is_empty()) {
            for row in &mut rows {
                row.remove(OUTPUT_COLUMN);
            }
        }
        text += &columns(&rows, &[], "  ");
    }
    if !plan.is_direct() {
        let workers = plan.stages().iter().map(Stage::workers).sum();
        let threads = plan.stages().iter().map(Stage::threads).sum();
        let items = plan.window(DEFAULT_QUEUE_SIZE);
        let workers = if workers > 0 { counted(workers, "worker") + ", " } else { String::new() };
        text += &format!("\n{workers}{}, at most {} in progress\n", counted(threads, "thread"), counted(items, "item"));
    }
    if !remarks.is_empty() {
        text.push('\n');
    }
    for remark in remarks {
        text +=
            &format!("{}: {}\n", if remark.is_problem { "problem" } else { "note" }, remark.text.replace('\n', "\n  "));
    }
    text
}

/// What a stage takes: workers, threads, and room for items that wait.
fn resources(plan: &Plan, number: usize) -> String {
    if plan.is_direct() {
        return "on the caller's thread, one item at a time".into();
    }
    let stage = &plan.stages()[number];
    let mut words = counted(stage.threads(), "thread");
    if stage.workers() > 0 {
        words.insert_str(0, &(counted(stage.workers(), "worker") + ", "));
    }
    let width = stage.width(DEFAULT_QUEUE_SIZE);
    if stage.sends_ahead() {
        words += &format!(", up to {} sent ahead", counted(width, "item"));
    } else if width > 1 {
        words += &format!(", {} at a time", counted(width, "item"));
    }
    if plan.sides_of(number) > 1 && stage.options.when_full == WhenFull::Wait {
        // Its queue must take whatever it is brought.
        words += ", merges branches";
    } else {
        words += &format!(", queue of {}", stage.options.queue_size.unwrap_or(DEFAULT_QUEUE_SIZE));
    }
    words
}

fn row(plan: &Plan, index: usize) -> Vec<String> {
    let node = &plan.nodes()[index];
    let upstreams: Vec<String> =
        node.upstreams.iter().map(|&index| on_one_line(&plan.nodes()[index].id, NAME_COLUMNS)).collect();
    let from = match (upstreams.as_slice(), node.join) {
        ([], _) => "reads the input".to_owned(),
        (ids, true) => format!("joins {}", ids.join(", ")),
        (ids, false) => format!("after {}", ids.join(", ")),
    };
    let to = if node.downstreams.is_empty() { "writes the output" } else { "" }.to_owned();
    let (id, node_type) = (on_one_line(&node.id, NAME_COLUMNS), on_one_line(&node.node_type, NAME_COLUMNS));
    vec![id, node_type, from, to, shown_options(plan, index).join(", ")]
}
