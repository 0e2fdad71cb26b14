//! After an interrupt nothing old comes out, and the next input flows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Client, Next, Outbox, Phase, RunError, Session};
use serde_json::{Value, json};

use crate::support::{
    Fault, Item, Log, Pipe, Returned, SessionUse, TIMEOUT, TestNode, Valve, joined, node, numbers, options, pass,
    spread, stream, thread,
};

fn held(valve: &Valve) -> TestNode {
    let valve = valve.clone();
    pass().doing(Phase::Process, move || valve.pass())
}

fn every_kind() -> Vec<Value> {
    vec![
        json!({}),
        json!({"placement": "thread"}),
        json!({"placement": "thread", "replicas": 2}),
        json!({"placement": "thread", "replicas": 2, "ordered": false}),
        json!({"batch": 4}),
        json!({"batch": 2, "placement": "thread", "replicas": 2}),
        json!({"concurrency": 2}),
        json!({"queue_size": 1, "when_full": "drop_oldest"}),
    ]
}

/// A node of this kind in the middle of a pipeline.
fn in_the_middle(how: &Value, make: impl Fn() -> TestNode) -> Pipe {
    let mut pipe = Pipe::default().node("before", &[], pass()).node("a", &["before"], make()).with(options(how));
    if how.get("replicas").is_some() {
        pipe = pipe.replica(make());
    }
    pipe.node("after", &["a"], pass())
}

#[test]
fn pending_calls_are_notified() {
    for how in every_kind() {
        let valve = Valve::default();
        let session = in_the_middle(&how, || held(&valve)).open();
        let calls: Vec<_> = (0..20).map(|number| session.call(number)).collect();
        valve.wait_for(1);

        let dropped = interrupt_while_inside(&session, &valve);

        let interrupted = calls.iter().filter(|call| matches!(call.result(), Err(RunError::Interrupted))).count();
        assert_eq!(interrupted as u64, dropped, "{how}");
        assert_eq!(session.call(7).outputs(), numbers(&[7]), "{how}");
    }
}

/// Interrupt while a node is inside `process`, which comes back when it is asked not to wait.
fn interrupt_while_inside(session: &Session<Item>, valve: &Valve) -> u64 {
    session.interrupt(&|| valve.open())
}

#[test]
fn an_interrupt_of_nothing_does_nothing() {
    for how in every_kind() {
        let session = in_the_middle(&how, pass).open();
        session.call(1).outputs();

        assert_eq!(session.interrupt(&|| {}), 0, "{how}");
        assert_eq!(session.call(2).outputs(), numbers(&[2]), "{how}");
    }
}

#[test]
fn what_is_dropped_is_counted() {
    let valve = Valve::default();
    let session = Pipe::chain([held(&valve)]).measured().open();
    let calls: Vec<_> = (0..20).map(|number| session.call(number)).collect();
    valve.wait_for(1);

    assert_eq!(interrupt_while_inside(&session, &valve), 20);

    assert_eq!(session.metrics().unwrap().interrupted, 20);
    drop(calls);
}

#[test]
fn nodes_are_notified() {
    let log = Log::default();
    let session = Pipe::chain([pass().named("a", &log), pass().named("b", &log)]).open();

    session.interrupt(&|| {});

    assert_eq!(log.lines_of("interrupt"), ["a.interrupt", "b.interrupt"]);
}

#[test]
fn generators_are_closed() {
    let log = Log::default();
    let endless = spread_endless().named("a", &log);
    let session = Pipe::default().node("a", &[], endless).with(thread()).node("b", &["a"], pass()).open();
    let outbox = Arc::new(Outbox::new(2, None));
    session.put(&outbox, Some(0));
    assert!(matches!(outbox.next(TIMEOUT), Next::Output(_)));

    session.interrupt(&|| {});

    assert_eq!(log.lines_of("close"), ["a.close"]);
}

fn spread_endless() -> TestNode {
    node(|item| Ok(Returned::Many(Box::new(std::iter::repeat_with(move || Ok(item.clone()))))))
}

/// The stream goes on after an interrupt, with what is put in then and nothing else.
#[test]
fn nothing_old_comes_out() {
    for how in every_kind() {
        // A batch returns as many items as it receives.
        let outputs_of: fn(i64) -> Vec<i64> =
            if how.get("batch").is_some() { |number| vec![number] } else { |number| vec![number; 3] };
        let session = in_the_middle(&how, || spread(outputs_of)).open();
        let newest = AtomicI64::new(0);
        let outbox = Arc::new(Outbox::new(2, None));
        let deadline = Instant::now() + TIMEOUT;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..50 {
                    for _ in 0..8 {
                        session.put(&outbox, Some(round)).is_in();
                    }
                    session.interrupt(&|| {});
                    // From now on nothing of this round comes out any more.
                    newest.store(round + 1, Ordering::SeqCst);
                }
                outbox.end();
            });
            loop {
                let oldest = newest.load(Ordering::SeqCst);
                match outbox.next(Duration::from_millis(50)) {
                    Next::Output(output) => {
                        assert!((oldest..50).any(|round| output == round), "{output} after {oldest} for {how}");
                    }
                    Next::End => break,
                    Next::Nothing => assert!(Instant::now() < deadline, "the stream goes on: {how}"),
                    Next::Failed(error) => panic!("{error:?} for {how}"),
                }
            }
        });
        assert_eq!(stream(&session, &[77]).0, numbers(&outputs_of(77)), "{how}");
    }
}

#[test]
fn joins_are_forgotten() {
    let valve = Valve::default();
    let session = Pipe::default()
        .node("held", &[], held(&valve))
        .with(thread())
        .node("other", &[], pass())
        .with(thread())
        .join("join", &["held", "other"], pass())
        .open();
    let old = session.call(1);
    valve.wait_for(1);

    interrupt_while_inside(&session, &valve);

    assert!(old.result().is_err());
    assert_eq!(session.call(2).outputs(), [joined(&[("held", &[2]), ("other", &[2])])]);
}

/// Outputs of inputs that were all done once came out after an interrupt.
#[test]
fn outputs_that_nobody_has_taken_are_forgotten() {
    let session = Pipe::default().node("a", &[], pass()).with(thread()).open();
    let outbox = Arc::new(Outbox::new(10, None));
    (0..5).for_each(|number| assert!(session.put(&outbox, Some(number)).is_in()));
    let mut end = session.begin_drain();
    while !session.is_drained(&mut end, TIMEOUT) {}
    session.end_drain();

    assert_eq!(session.interrupt(&|| {}), 0);

    assert!(session.put(&outbox, Some(7)).is_in());
    assert!(matches!(outbox.next(TIMEOUT), Next::Output(output) if output == 7));
}

/// A batch that waits for company once held an interrupt up for ever.
#[test]
fn batches_are_forgotten() {
    let session = Pipe::chain([pass()]).with(options(&json!({"batch": 3}))).open();
    let outbox = Arc::new(Outbox::new(100, None));
    assert!(session.put(&outbox, Some(1)).is_in());
    assert!(session.put(&outbox, Some(2)).is_in());

    assert_eq!(session.interrupt(&|| {}), 2);

    assert_eq!(stream(&session, &[3]).0, numbers(&[3]));
    outbox.end();
    assert!(matches!(outbox.next(TIMEOUT), Next::End));
}

#[test]
fn state_of_nodes_is_kept() {
    let mut count = 0;
    let counting = node(move |_| {
        count += 1;
        Ok(Returned::One(Item::Number(count)))
    });
    let session = Pipe::chain([counting]).open();
    session.call(0).outputs();

    session.interrupt(&|| {});

    assert_eq!(session.call(0).outputs(), numbers(&[2]));
}

/// What is put in during an interrupt waits for its end, without blocking the caller.
#[test]
fn nobody_who_puts_is_held_up_by_an_interrupt() {
    let valve = Valve::default();
    let session = Pipe::chain([held(&valve)]).open();
    let old = session.call(1);
    valve.wait_for(1);

    std::thread::scope(|scope| {
        let is_notified = Valve::default();
        let notify = is_notified.clone();
        notify.open();
        let interrupted = &session;
        let interrupting = scope.spawn(move || interrupted.interrupt(&|| notify.pass()));
        is_notified.wait_for(1);
        // The node is still inside, so the interrupt is not over, and this returns all the same.
        let new = session.call(2);
        assert!(!interrupting.is_finished());
        valve.open();
        interrupting.join().unwrap();
        assert!(matches!(old.result(), Err(RunError::Interrupted)));
        assert_eq!(new.outputs(), numbers(&[2]));
    });
}

/// Takes its time to take an output, once it has been asked to forget.
#[derive(Default)]
struct Slow {
    valve: Valve,
    kept: Mutex<Vec<Item>>,
    taken: AtomicI64,
}

impl Client<Item> for Slow {
    fn output(&self, output: Item) {
        self.valve.pass();
        std::thread::sleep(Duration::from_millis(20));
        self.kept.lock().push(output);
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    fn done(&self, _: Result<(), RunError<Fault>>) {}

    fn forget(&self) {
        self.kept.lock().clear();
        self.valve.open();
    }
}

#[test]
fn an_output_on_its_way_into_a_client_is_waited_for_and_forgotten() {
    for how in every_kind() {
        let mut pipe = Pipe::default().node("a", &[], pass()).with(options(&how));
        if how.get("replicas").is_some() {
            pipe = pipe.replica(pass());
        }
        let session = pipe.open();
        let slow = Arc::new(Slow::default());
        session.submit(Some(Item::Number(1)), slow.clone(), true, None);
        slow.valve.wait_for(1);

        session.interrupt(&|| {});

        assert_eq!(slow.taken.load(Ordering::SeqCst), 1, "{how}");
        assert!(slow.kept.lock().is_empty(), "{how}");
    }
}

#[test]
fn several_may_interrupt_at_once() {
    let session = Pipe::default().node("a", &[], pass()).with(thread()).node("b", &["a"], pass()).open();

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| assert!(session.interrupt(&|| {}) <= 1)));
        }
        for _ in 0..200 {
            let result = session.call(1).result();
            assert!(matches!(result, Err(RunError::Interrupted)) || result.unwrap() == numbers(&[1]));
        }
    });

    assert_eq!(session.call(2).outputs(), numbers(&[2]));
}

#[test]
fn ten_thousand_queued_items_are_gone_in_a_moment() {
    let valve = Valve::default();
    let how = options(&json!({"queue_size": 20_000}));
    let session = Pipe::default().node("a", &[], held(&valve)).with(how).open();
    let outbox = Arc::new(Outbox::new(2, None));
    for number in 0..10_000 {
        assert!(session.put(&outbox, Some(number)).is_in());
    }
    valve.wait_for(1);

    assert_eq!(interrupt_while_inside(&session, &valve), 10_000);

    assert_eq!(outbox.load(), 0);
    assert_eq!(valve.arrived(), 1);
}
