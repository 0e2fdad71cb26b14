//! The command line over nodes that are written in Rust: `cargo run --example native -- run loudness --input speech.wav`.
//!
//! A program brings a [`Loader`]; files, pipes, pictures, help and exit codes come with the commands. The integration tests drive
//! this program through real files and pipes, so some of its pipelines exist to fail.

use std::process::ExitCode;
use std::time::Duration;

use remotemedia_commands::{
    Failure, Finding, FindingKind, ItemFeed, LoadedPipeline, Loader, Next, NodeDoc, ParameterDoc, Remark, RunResult,
    RunSettings,
};
use remotemedia_runtime::{AudioChunk, Metrics, NodeMetrics, NodeSpec, Plan, Value};

const TARGETS: [&str; 11] =
    ["echo", "loudness", "half", "mixed", "bytes", "nan", "fail", "numbers", "diamond", "doubtful", "broken"];

/// What a pipeline does to one item; the number counts items from 0.
type Step = fn(u64, Value) -> Result<Value, Failure>;

struct Native;

struct NativePipeline {
    plan: Plan,
    step: Step,
    is_source: bool,
    remarks: Vec<Remark>,
}

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    ExitCode::from(remotemedia_commands::main(arguments, "native", &Native))
}

impl Loader for Native {
    fn load(&self, target: &str) -> Result<Box<dyn LoadedPipeline + '_>, Failure> {
        let step: Step = match target {
            "echo" | "diamond" | "doubtful" | "numbers" => |_, item| Ok(item),
            "loudness" => |_, item| Ok(loudness(item)),
            "half" => |_, item| Ok(scaled(item, 0.5)),
            "mixed" => |number, item| Ok(if number == 1 { resampled(item) } else { item }),
            "bytes" => |_, _| Ok(Value::Bytes(vec![1, 2, 3])),
            "nan" => |_, _| Ok(Value::Map(vec![("score".into(), Value::Float(f64::NAN))])),
            "fail" => |number, item| if number == 2 { Err(user_failure()) } else { Ok(item) },
            "broken" => return Err(Failure::failed("broken.py, line 3: cannot import 'nothing'")),
            _ => {
                let hint = remotemedia_runtime::did_you_mean(target, TARGETS);
                return Err(Failure::usage(format!("there is no pipeline '{target}'{hint}")));
            }
        };
        let remarks = if target == "doubtful" {
            vec![Remark::note("'version' has no effect"), Remark::problem("node 'a' cannot be sent to a worker")]
        } else {
            Vec::new()
        };
        Ok(Box::new(NativePipeline { plan: plan(target), step, is_source: target == "numbers", remarks }))
    }

    fn nodes(&self) -> Result<Vec<NodeDoc>, Failure> {
        let operand = ParameterDoc {
            name: "operand".into(),
            default: Some("1".into()),
            annotation: Some("float".into()),
            doc: "The second number.".into(),
        };
        let calculator = NodeDoc {
            name: "CalculatorNode".into(),
            aliases: vec!["Calculator".into()],
            doc: "Calculates with numbers.\n\nAnswers a number.".into(),
            parameters: vec![ParameterDoc { name: "operation".into(), ..ParameterDoc::default() }, operand],
        };
        let pass = NodeDoc { name: "PassThroughNode".into(), doc: "Passes items on.".into(), ..NodeDoc::default() };
        Ok(vec![calculator, pass])
    }

    fn findings(&self) -> Result<Vec<Finding>, Failure> {
        Ok(vec![
            Finding { label: "Nodes".into(), text: "native".into(), kind: FindingKind::Fact },
            Finding { label: "Python".into(), text: "not found\ninstall it".into(), kind: FindingKind::Problem },
        ])
    }
}

impl LoadedPipeline for NativePipeline {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn remarks(&self) -> Vec<Remark> {
        self.remarks.clone()
    }

    fn advice(&self, metrics: &str) -> Result<Vec<String>, Failure> {
        if !metrics.starts_with('{') {
            return Err(Failure::usage("not metrics"));
        }
        let is_about_all = metrics.contains("\"items_in\":3");
        Ok(if is_about_all { vec!["Node 'a' has three items".into()] } else { Vec::new() })
    }

    fn run(
        &mut self,
        feed: Option<&mut dyn ItemFeed>,
        output: &mut (dyn FnMut(Value) -> Result<(), Failure> + Send),
        settings: RunSettings,
    ) -> RunResult {
        self.run_steps(feed, output, settings.with_metrics).into()
    }
}

impl NativePipeline {
    fn run_steps(
        &mut self,
        feed: Option<&mut dyn ItemFeed>,
        output: &mut (dyn FnMut(Value) -> Result<(), Failure> + Send),
        with_metrics: bool,
    ) -> Result<Option<Metrics>, Failure> {
        let mut number = 0;
        let mut take = |item| {
            let taken = (self.step)(number, item).and_then(&mut *output);
            number += 1;
            taken
        };
        match feed {
            Some(feed) => loop {
                match feed.next(Duration::from_millis(50)) {
                    Next::Item(item) => take(item)?,
                    Next::Waiting => {}
                    Next::End => break,
                    Next::Broken(failure) => return Err(failure),
                }
            },
            None if self.is_source => (0..).try_for_each(|count| take(Value::Int(count)))?,
            None => take(Value::Null)?,
        }
        Ok(with_metrics.then(|| metrics(&self.plan, number)))
    }
}

fn plan(target: &str) -> Plan {
    let spec = |id: &str, after: &[&str], join| NodeSpec {
        id: id.into(),
        node_type: format!("{}Node", id.to_uppercase()),
        after: after.iter().map(|&upstream| upstream.into()).collect(),
        join,
        ..NodeSpec::default()
    };
    let specs = if target == "diamond" {
        vec![spec("a", &[], false), spec("b", &["a"], false), spec("c", &["a"], false), spec("d", &["b", "c"], true)]
    } else {
        vec![spec("a", &[], false)]
    };
    Plan::new(target, &specs).expect("the descriptions above are sound")
}

fn loudness(item: Value) -> Value {
    let Value::Audio(chunk) = item else { return item };
    let peak = chunk.samples.iter().fold(0.0, |peak: f32, sample| peak.max(sample.abs()));
    let frames = i64::try_from(chunk.frames()).unwrap_or(i64::MAX);
    Value::Map(vec![
        ("start".into(), Value::Float(chunk.start_secs)),
        ("frames".into(), Value::Int(frames)),
        ("channels".into(), Value::Int(chunk.channels.into())),
        ("rate".into(), Value::Int(chunk.sample_rate.into())),
        ("peak".into(), Value::Float(peak.into())),
    ])
}

fn scaled(item: Value, factor: f32) -> Value {
    let Value::Audio(chunk) = item else { return item };
    Value::Audio(AudioChunk { samples: chunk.samples.iter().map(|sample| sample * factor).collect(), ..chunk })
}

fn resampled(item: Value) -> Value {
    let Value::Audio(chunk) = item else { return item };
    Value::Audio(AudioChunk { sample_rate: chunk.sample_rate * 2, ..chunk })
}

fn user_failure() -> Failure {
    let users = "Traceback (most recent call last):\n  File \"app.py\", line 7, in process\nValueError: bad value";
    let full = format!("Traceback (most recent call last):\n  File \"engine.py\", line 1, in run\n{users}");
    Failure {
        traceback: Some(users.into()),
        full_traceback: Some(full),
        ..Failure::failed("node 'a' failed in process() on item 2: ValueError: bad value (app.py, line 7)")
    }
}

fn metrics(plan: &Plan, items: u64) -> Metrics {
    let nodes = plan.nodes().iter().map(|node| NodeMetrics {
        node_id: node.id.clone(),
        node_type: node.node_type.clone(),
        placement: node.options.placement.name().into(),
        items_in: items,
        items_out: items,
        total_duration_us: 1500,
        avg_duration_us: 500.0,
        ..NodeMetrics::default()
    });
    Metrics {
        pipeline: plan.name().into(),
        total_duration_us: 2000,
        overhead_us: 500,
        items_in: items,
        items_out: items,
        node_metrics: nodes.collect(),
        ..Metrics::default()
    }
}
