//! All methods of a node are called on one thread.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use remotemedia_runtime::{Client, Direct, InlinePlan, Next, Outbox, Phase, Session, Worked};
use serde_json::json;

use crate::support::{
    BAD, Item, Log, Pipe, Returned, SessionUse, TIMEOUT, TestNode, Valve, numbers, options, pass, source, spread,
    stream,
};

/// Every method of the nodes: `initialize`, `process`, generators, `interrupt`, `flush`, `cleanup`.
fn use_all_methods(session: &Session<Item>) {
    session.call(1).outputs();
    session.interrupt(&|| {});
    stream(session, &[2, 3]);
    session.shut();
}

fn open_on_callers(pipe: Pipe) -> Session<Item> {
    let mut settings = pipe.session_settings();
    settings.inline = InlinePlan::OnCallers;
    pipe.open_with(&settings).unwrap()
}

fn generator(name: &'static str, log: &Log) -> TestNode {
    spread(|number| vec![number; 2]).flushing(&[9]).named(name, log)
}

#[test]
fn a_stage_has_one_thread_for_all_methods() {
    for how in [
        json!({"placement": "thread"}),
        json!({"queue_size": 3}),
        json!({"timeout": 100}),
        json!({"batch": 2}),
        json!({"concurrency": 2}),
    ] {
        let log = Log::default();
        let session = Pipe::default().node("a", &[], pass().flushing(&[9]).named("a", &log)).with(options(&how)).open();

        use_all_methods(&session);

        assert_ne!(log.thread_of("a"), thread::current().id(), "{how}");
        for method in ["initialize", "process", "interrupt", "flush", "cleanup"] {
            assert!(!log.lines_of(method).is_empty(), "{how}: {method}");
        }
    }
}

#[test]
fn generators_run_on_the_thread_of_their_stage() {
    let log = Log::default();
    let session =
        Pipe::default().node("a", &[], generator("a", &log)).with(options(&json!({"placement": "thread"}))).open();

    use_all_methods(&session);

    assert_ne!(log.thread_of("a"), thread::current().id());
}

#[test]
fn each_stage_of_a_mixed_plan_has_its_own_thread() {
    let log = Log::default();
    let session = Pipe::default()
        .node("a", &[], generator("a", &log))
        .node("b", &["a"], generator("b", &log))
        .with(options(&json!({"placement": "thread"})))
        .node("c", &["b"], generator("c", &log))
        .open();

    use_all_methods(&session);

    let threads = [log.thread_of("a"), log.thread_of("b"), log.thread_of("c"), thread::current().id()];
    assert_eq!(threads.iter().collect::<std::collections::HashSet<_>>().len(), 4);
}

#[test]
fn every_replica_has_one_thread() {
    for mut how in [json!({}), json!({"batch": 2}), json!({"ordered": false})] {
        how["placement"] = json!("thread");
        how["replicas"] = json!(2);
        let log = Log::default();
        let session = Pipe::default()
            .node("a", &[], pass().flushing(&[9]).named("first", &log))
            .with(options(&how))
            .replica(pass().flushing(&[9]).named("second", &log))
            .open();

        for _ in 0..3 {
            stream(&session, &[1, 2, 3, 4]);
        }
        use_all_methods(&session);

        assert_ne!(log.thread_of("first"), log.thread_of("second"), "{how}");
        assert!(!log.threads_of("second").contains(&thread::current().id()), "{how}");
    }
}

#[test]
fn an_all_inline_plan_runs_on_the_thread_that_calls() {
    let log = Log::default();
    let session = open_on_callers(Pipe::chain([generator("a", &log)]));

    let mut outputs = Vec::new();
    assert!(matches!(session.direct(Some(Item::Number(1)), &mut outputs), Direct::Done));
    session.interrupt(&|| {});
    assert!(matches!(session.direct(None, &mut outputs), Direct::Done));
    session.shut();

    assert_eq!(log.thread_of("a"), thread::current().id());
}

#[test]
fn inputs_that_are_put_in_are_worked_on_where_that_is_asked_for() {
    let log = Log::default();
    let session = open_on_callers(Pipe::chain([generator("a", &log), pass()]));
    let outbox = Arc::new(Outbox::new(3, None).waiting_unless(session.on_callers()));
    let puts = [session.put(&outbox, Some(1)), session.put(&outbox, Some(2))];
    assert!(puts.iter().all(crate::support::Put::is_in) && log.lines_of("process").is_empty());

    // The third output fills the queue: the second input is paused, and a direct call goes through meanwhile.
    session.work_here(&|| true).unwrap();
    assert_eq!((log.lines_of("process").len(), log.lines_of("yield").len()), (2, 3));
    let mut outputs = Vec::new();
    assert!(matches!(session.direct(Some(Item::Number(5)), &mut outputs), Direct::Done));

    session.put(&outbox, None);
    outbox.end();
    let mut taken = Vec::new();
    while let Next::Output(output) = outbox.next(Duration::ZERO) {
        taken.push(output);
        session.work_here(&|| !outbox.is_ready()).unwrap();
    }
    assert_eq!((taken, outputs), (numbers(&[1, 1, 2, 2, 9]), numbers(&[5, 5])));
    session.shut();
    assert_eq!(log.thread_of("a"), thread::current().id());
}

#[test]
fn whoever_takes_outputs_leaves_the_work_to_those_who_bring_inputs() {
    let log = Log::default();
    let session = open_on_callers(Pipe::chain([generator("a", &log)]));
    let outbox = Arc::new(Outbox::new(9, None).waiting_unless(session.on_callers()));
    let mut bringing = session.bring();
    session.put(&outbox, Some(1));
    bringing.note_in();
    let later = session.put(&outbox, Some(2));

    session.work_here(&|| true).unwrap();
    assert!(later.is_in() && log.lines_of("process").is_empty());

    // It takes its own input through, and no other.
    assert_eq!(bringing.work().unwrap(), Worked::Paused);
    assert!(bringing.is_done());
    assert_eq!(log.lines_of("process").len(), 1);

    drop(bringing);
    session.work_here(&|| true).unwrap();
    assert_eq!(log.lines_of("process").len(), 2);
    session.shut();
}

#[test]
fn work_that_is_left_is_done_once() {
    let log = Log::default();
    let session = open_on_callers(Pipe::chain([generator("a", &log)]));
    let outbox = Arc::new(Outbox::new(9, None).waiting_unless(session.on_callers()));
    session.put(&outbox, Some(1));
    session.work_on_left().unwrap();
    assert!(log.lines_of("process").is_empty());

    session.leave_work();
    session.work_on_left().unwrap();

    assert!(!session.has_left_work());
    assert_eq!(log.lines_of("process").len(), 1);
    session.shut();
}

#[test]
fn a_paused_generator_is_closed() {
    for how in ["interrupt", "abandon", "close"] {
        let log = Log::default();
        let session = open_on_callers(Pipe::chain([generator("a", &log)]));
        let outbox = Arc::new(Outbox::new(1, None).waiting_unless(session.on_callers()));
        session.put(&outbox, Some(1));
        session.work_here(&|| true).unwrap();
        assert_eq!(log.lines_of("yield"), ["a.yield(1)"]);

        if how == "interrupt" {
            session.interrupt(&|| {});
        } else if how == "abandon" {
            let client: Arc<dyn Client<Item>> = outbox.clone();
            session.abandon(&client);
            session.work_here(&|| false).unwrap();
        }
        session.shut();

        assert_eq!(log.lines_of("close"), ["a.close"], "{how}");
        assert_eq!(log.thread_of("a"), thread::current().id());
    }
}

#[test]
fn an_all_inline_plan_has_a_thread_unless_it_runs_on_those_that_call() {
    let log = Log::default();

    use_all_methods(&Pipe::chain([generator("a", &log)]).open());

    assert_ne!(log.thread_of("a"), thread::current().id());
}

#[test]
fn a_source_has_a_thread_of_its_own() {
    let log = Log::default();
    let made = source(|| Ok(Returned::many(&[1, 2, 3]))).flushing(&[9]).named("source", &log);
    let session = Pipe::default().node("source", &[], made).node("a", &["source"], generator("a", &log)).open();
    let outbox = Arc::new(Outbox::new(2, None));
    outbox.expect_input();
    let (client, expecting): (Arc<dyn Client<Item>>, _) = (outbox.clone(), Arc::clone(&outbox));
    session.start_source(client, (), Box::new(move || expecting.expect_input()));
    outbox.end();
    while !matches!(outbox.next(TIMEOUT), Next::End) {}
    session.interrupt(&|| {});

    session.shut();

    assert_ne!(log.thread_of("source"), log.thread_of("a"));
    for what in ["initialize", "produce", "yield(3)", "flush", "yield(9)", "interrupt", "cleanup"] {
        assert_eq!(log.lines_of(&format!("source.{what}")).len(), 1, "{what}");
    }
    assert!(!log.threads_of("a").contains(&thread::current().id()));
}

#[test]
fn nodes_are_cleaned_up_on_their_threads_when_a_later_one_fails_to_initialize() {
    let log = Log::default();
    let pipe = Pipe::default()
        .node("a", &[], pass().named("a", &log))
        .with(options(&json!({"placement": "thread"})))
        .node("b", &["a"], pass().named("b", &log).failing(Phase::Initialize, BAD))
        .with(options(&json!({"queue_size": 2})));

    assert!(pipe.try_open().is_err());

    assert_eq!(log.lines(), ["a.initialize", "b.initialize", "b.cleanup", "a.cleanup"]);
    assert_ne!(log.thread_of("a"), log.thread_of("b"));
}

#[test]
fn nodes_are_cleaned_up_on_their_threads_although_another_is_stuck() {
    let (log, valve) = (Log::default(), Valve::default());
    let held = valve.clone();
    let session = Pipe::default()
        .node("a", &[], pass().named("a", &log).doing(Phase::Process, move || held.pass()))
        .with(options(&json!({"placement": "thread"})))
        .node("b", &["a"], pass().named("b", &log))
        .with(options(&json!({"queue_size": 2})))
        .open();
    let _call = session.call(1);
    valve.wait_for(1);

    let closed = session.close(Duration::from_millis(50), &|| {});

    assert_eq!(closed.abandoned.iter().map(|stall| stall.node_id.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(log.lines_of("cleanup"), ["b.cleanup"]);
    assert_ne!(log.thread_of("b"), thread::current().id());
    valve.open();
}

#[test]
fn a_cleanup_that_hangs_is_named_and_abandoned() {
    let (log, valve) = (Log::default(), Valve::default());
    let held = valve.clone();
    let session = Pipe::default()
        .node("a", &[], pass().named("a", &log))
        .with(options(&json!({"queue_size": 2})))
        .node("b", &["a"], pass().doing(Phase::Cleanup, move || held.pass()))
        .with(options(&json!({"placement": "thread"})))
        .open();

    let closed = session.close(Duration::from_millis(50), &|| {});

    let named: Vec<_> = closed.abandoned.iter().map(|stall| (&*stall.node_id, stall.phase)).collect();
    assert_eq!(named, [("b", Phase::Cleanup)]);
    assert_eq!(log.lines_of("cleanup"), ["a.cleanup"]);
    valve.open();
}
