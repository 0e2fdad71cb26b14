//! Python nodes driven from Rust, in an interpreter inside the program.

#![allow(clippy::disallowed_methods, reason = "a test is a program with an interpreter of its own")]

#[path = "../../examples/embed.rs"]
mod embed;
mod support;

use std::slice::from_ref;

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyWeakrefReference};
use remotemedia_runtime::Metrics;

use crate::support::{Called, Chunked, Numbers, Objects, evaluate, graph_of, numbers, python, run, user_node};

#[test]
fn the_example_gives_what_it_says() {
    assert_eq!(embed::outputs().unwrap(), [10, 30, 60]);
}

#[test]
fn the_nodes_of_a_user_module_run() {
    python(|py| {
        let outputs = run(py, &[user_node(py, "Twice()")?, user_node(py, "Counter()")?], Numbers(1..3))?;

        assert_eq!(numbers(&outputs), [1, 1, 2, 2]);
        Ok(())
    });
}

#[test]
fn the_very_object_of_the_user_runs() {
    python(|py| {
        let counter = user_node(py, "Counter()")?;

        run(py, from_ref(&counter), Numbers(0..3))?;

        assert_eq!(counter.getattr("count")?.extract::<i64>()?, 3);
        assert_eq!(counter.getattr("calls")?.extract::<Vec<String>>()?, ["initialize", "cleanup"]);
        Ok(())
    });
}

#[test]
fn an_item_comes_out_as_the_object_that_went_in() {
    python(|py| {
        let item = user_node(py, "Item()")?;

        let outputs = run(py, &[user_node(py, "Counter()")?, user_node(py, "Twice()")?], Objects::new([&item]))?;

        assert!(outputs.len() == 2 && outputs.iter().all(|output| output.is(&item)));
        Ok(())
    });
}

#[test]
fn coroutines_and_async_generators_run_on_a_loop_of_the_run() {
    python(|py| {
        let outputs = run(py, &[user_node(py, "Awaited()")?, user_node(py, "Counting()")?], Numbers(1..3))?;

        assert_eq!(numbers(&outputs), [0, 1, 0, 1, 2]);
        Ok(())
    });
}

#[test]
fn a_node_is_flushed_at_the_end_of_a_feed() {
    python(|py| {
        let outputs = run(py, &[user_node(py, "Last()")?], Numbers(0..10))?;

        assert_eq!(numbers(&outputs), [9]);
        Ok(())
    });
}

#[test]
fn a_source_needs_no_feed() {
    python(|py| {
        let outputs = run(py, &[user_node(py, "Numbers()")?, user_node(py, "Awaited()")?], Numbers(0..0))?;

        assert_eq!(numbers(&outputs), [2, 3, 4]);
        Ok(())
    });
}

#[test]
fn a_failure_arrives_as_a_node_error_with_its_cause() {
    python(|py| {
        let counter = user_node(py, "Counter()")?;
        let failing = user_node(py, "FailOn(2, ValueError)")?;

        let error = run(py, &[counter.clone(), failing], Numbers(0..5)).unwrap_err();

        assert_eq!(error.get_type(py).name()?, "NodeError");
        let fact = |name| error.value(py).getattr(name);
        assert_eq!(fact("node_id")?.extract::<String>()?, "FailOn_1");
        assert_eq!(fact("item_index")?.extract::<u64>()?, 2);
        assert_eq!(fact("phase")?.extract::<String>()?, "process");
        assert!(error.cause(py).unwrap().is_instance_of::<PyValueError>(py));
        assert_eq!(counter.getattr("calls")?.extract::<Vec<String>>()?, ["initialize", "cleanup"]);
        Ok(())
    });
}

#[test]
fn a_failure_among_many_fast_items_has_the_index_of_its_item() {
    python(|py| {
        let nodes = [user_node(py, "Counter()")?, user_node(py, "FailOn(77_777, ValueError)")?];

        let error = run(py, &nodes, Chunked(Numbers(0..100_000))).unwrap_err();

        assert_eq!(error.value(py).getattr("item_index")?.extract::<u64>()?, 77_777);
        Ok(())
    });
}

#[test]
fn many_fast_items_come_out_in_order() {
    python(|py| {
        let outputs = run(py, &[user_node(py, "Counter()")?], Chunked(Numbers(0..100_000)))?;

        assert!(numbers(&outputs).into_iter().eq(0..100_000));
        Ok(())
    });
}

#[test]
fn an_interrupt_passes_through_as_itself() {
    python(|py| {
        let error = run(py, &[user_node(py, "FailOn(0, KeyboardInterrupt)")?], Numbers(0..1)).unwrap_err();

        assert!(error.is_instance_of::<PyKeyboardInterrupt>(py));
        Ok(())
    });
}

#[test]
fn what_a_sink_raises_passes_through_as_itself() {
    python(|py| {
        let graph = graph_of(&[user_node(py, "Counter()")?])?;
        let mut sink = Called(|_| Err(PyOSError::new_err("disk full")));

        let error = remotemedia_ffi::run_blocking(py, &graph, &mut Numbers(0..1), &mut sink, false).unwrap_err();

        assert!(error.is_instance_of::<PyOSError>(py));
        Ok(())
    });
}

#[test]
fn a_panic_in_a_sink_reaches_python_as_an_error() {
    python(|py| {
        let counter = user_node(py, "Counter()")?;
        let graph = graph_of(from_ref(&counter))?;
        let mut sink = Called(|_| panic!("on purpose"));

        let error = remotemedia_ffi::run_blocking(py, &graph, &mut Numbers(0..1), &mut sink, false).unwrap_err();

        assert!(error.is_instance_of::<PyRuntimeError>(py));
        assert!(error.to_string().ends_with("internal error; please report it: on purpose"));
        assert_eq!(counter.getattr("calls")?.extract::<Vec<String>>()?, ["initialize", "cleanup"]);
        Ok(())
    });
}

#[test]
fn nodes_run_again_after_a_panic() {
    python(|py| {
        let nodes = [user_node(py, "Counter()")?];
        let mut sink = Called(|_| panic!("on purpose"));
        remotemedia_ffi::run_blocking(py, &graph_of(&nodes)?, &mut Numbers(0..1), &mut sink, false).unwrap_err();

        let outputs = run(py, &nodes, Numbers(0..2))?;

        assert_eq!(numbers(&outputs), [0, 1]);
        Ok(())
    });
}

#[test]
fn a_pipeline_that_cannot_run_is_refused_before_any_node_is_touched() {
    python(|py| {
        let counter = user_node(py, "Counter()")?;

        let error = graph_of(&[counter.clone(), user_node(py, "Item()")?]).unwrap_err();

        assert!(error.to_string().contains("Item"), "{error}");
        assert_eq!(counter.getattr("calls")?.extract::<Vec<String>>()?, [""; 0]);
        Ok(())
    });
}

#[test]
fn metrics_are_those_of_the_run() {
    python(|py| {
        let graph = graph_of(&[user_node(py, "Twice()")?])?;
        let mut sink = Called(|_| Ok(()));

        let metrics: Option<Metrics> = remotemedia_ffi::run_blocking(py, &graph, &mut Numbers(0..3), &mut sink, true)?;

        let metrics = metrics.unwrap();
        assert_eq!((metrics.items_in, metrics.items_out), (3, 6));
        assert_eq!(metrics.node_metrics[0].node_type, "Twice");
        Ok(())
    });
}

#[test]
fn a_run_keeps_no_reference_to_nodes_items_and_errors() {
    python(|py| {
        let nodes = [user_node(py, "Counter()")?, user_node(py, "FailOn(2, ValueError)")?];
        let item = user_node(py, "Item()")?;
        let item_lives = PyWeakrefReference::new(&item)?;
        let count = py.import("sys")?.getattr("getrefcount")?;
        let references = || nodes.iter().map(|node| count.call1((node,))?.extract()).collect::<PyResult<Vec<i64>>>();
        let before = references()?;

        run(py, &nodes, Objects::new([&item]))?;
        run(py, &nodes, Numbers(0..5)).unwrap_err();
        drop(item);

        py.import("gc")?.call_method0("collect")?;
        assert_eq!(references()?, before);
        assert!(item_lives.call0()?.is_none());
        Ok(())
    });
}

#[test]
fn another_thread_runs_python_while_a_feed_waits() {
    python(|py| {
        let (give, mut given) = std::sync::mpsc::sync_channel(1);
        let feeder = std::thread::spawn(move || {
            python(|py| {
                let item = evaluate(py, "6 * 7")?.unbind();
                // The run may wait for an import that another thread is in the middle of.
                py.detach(|| {
                    give.send(Some(item)).unwrap();
                    give.send(None).unwrap();
                });
                Ok(())
            });
        });
        let waiting = Objects(move || {
            let given = &mut given;
            Python::attach(|py| py.detach(move || given.recv().unwrap()))
        });

        let outputs = run(py, &[user_node(py, "Counter()")?], waiting)?;

        py.detach(|| feeder.join().unwrap());
        assert_eq!(numbers(&outputs), [42]);
        Ok(())
    });
}

#[test]
fn the_python_package_runs_on_the_engine_inside() {
    python(|py| {
        let names = PyDict::new(py);
        names.set_item("nodes", PyList::new(py, [user_node(py, "Twice()")?, user_node(py, "Awaited()")?])?)?;

        py.run(
            c"import asyncio, remotemedia\noutputs = asyncio.run(remotemedia.execute_pipeline_with_input(nodes, [1, 2]))",
            Some(&names),
            None,
        )?;

        assert_eq!(names.get_item("outputs")?.unwrap().extract::<Vec<i64>>()?, [2, 2, 3, 3]);
        Ok(())
    });
}
