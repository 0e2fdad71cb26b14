//! What a session reports while it works: stalls, timeouts, drops, metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use remotemedia_runtime::{Node, NodeInfo, Observer, Outbox, Outputs, Phase, Plan, Reporter, RunError, Session, Stall};
use serde_json::json;

use crate::support::{
    BAD, Fault, Item, Log, Pipe, SessionUse, TestNode, Valve, add, numbers, options, pass, stream, thread,
};

/// What a session says, line by line.
#[derive(Clone, Default)]
struct Listening {
    log: Log,
    has_heard: Valve,
}

impl Listening {
    fn note(&self, line: String) {
        self.log.note(line);
        self.has_heard.open();
        self.has_heard.pass();
    }
}

impl Reporter<Item> for Listening {
    fn log_ignored(&self, fault: Fault) {
        self.note(format!("ignored {fault:?}"));
    }

    fn stalled(&self, stall: &Stall) {
        let Stall { node_id, item_index, for_at_least, .. } = stall;
        self.note(format!("{node_id} at {item_index:?} {}", *for_at_least >= STALL));
    }

    fn abandoned(&self, stall: &Stall, _timeout: Duration) {
        self.note(format!("{} abandoned", stall.node_id));
    }

    fn dropped(&self, node_id: &str, count: u64) {
        self.note(format!("{count} before {node_id}"));
    }
}

const STALL: Duration = Duration::from_millis(30);

fn open_and_listen(pipe: Pipe) -> (Session<Item>, Listening) {
    let listening = Listening::default();
    let mut settings = pipe.session_settings();
    settings.reporter = Some(Arc::new(listening.clone()));
    settings.stall_warning = Some(STALL);
    (pipe.open_with(&settings).expect("the nodes initialize"), listening)
}

fn held(valve: &Valve) -> TestNode {
    let valve = valve.clone();
    pass().doing(Phase::Process, move || valve.pass())
}

#[test]
fn a_node_that_stalls_is_named_once() {
    let valve = Valve::default();
    let pipe = Pipe::default().node("a", &[], pass()).node("b", &["a"], held(&valve)).with(thread());
    let (session, listening) = open_and_listen(pipe);
    let calls = [session.call(1), session.call(2)];

    listening.has_heard.wait_for(1);
    std::thread::sleep(STALL * 2);
    assert_eq!(listening.log.lines(), ["b at Some(0) true"]);

    valve.let_pass(1);
    listening.has_heard.wait_for(2);
    assert_eq!(listening.log.lines()[1..], ["b at Some(1) true"]);
    valve.open();
    assert_eq!(calls.map(|call| call.outputs()), [numbers(&[1]), numbers(&[2])]);
}

#[test]
fn a_direct_call_that_stalls_is_named() {
    let valve = Valve::default();
    let (session, listening) = open_and_listen(Pipe::chain([held(&valve)]));

    std::thread::scope(|scope| {
        scope.spawn(|| drop(session.direct(Some(Item::Number(1)), &mut Vec::new())));
        listening.has_heard.wait_for(1);
        valve.open();
    });

    assert_eq!(listening.log.lines(), ["n0 at Some(0) true"]);
}

#[test]
fn what_stalls_without_an_item_is_named() {
    let valve = Valve::default();
    let in_flush = valve.clone();
    let flushing = pass().doing(Phase::Flush, move || in_flush.pass());
    let (session, listening) = open_and_listen(Pipe::chain([flushing]).with(thread()));

    std::thread::scope(|scope| {
        let stream = scope.spawn(|| stream(&session, &[1]));
        listening.has_heard.wait_for(1);
        valve.open();
        stream.join().unwrap();
    });

    assert_eq!(listening.log.lines(), ["n0 at None true"]);
}

#[test]
fn a_session_that_is_idle_says_nothing() {
    let (session, listening) = open_and_listen(Pipe::default().node("a", &[], pass()).with(thread()));
    session.call(1).outputs();

    std::thread::sleep(STALL * 3);

    assert_eq!(listening.log.lines(), [""; 0]);
}

fn with_timeout(node: TestNode, timeout: f64) -> Pipe {
    Pipe::default().node("a", &[], node).with(options(&json!({"timeout": timeout})))
}

#[test]
fn a_call_that_overruns_its_time_ends_the_session() {
    let valve = Valve::default();
    let session = with_timeout(held(&valve), 0.05).open();

    let first = session.call(1);
    valve.wait_for(1);
    let second = session.call(2);

    let timed_out = |error: RunError<Fault>| match error {
        RunError::Timeout { node_id, item_index, timeout, is_stopped } => {
            (node_id, item_index, timeout.as_millis(), is_stopped)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(timed_out(first.result().unwrap_err()), ("a".to_owned(), Some(0), 50, false));
    assert_eq!(timed_out(second.result().unwrap_err()), ("a".to_owned(), Some(0), 50, false));
    assert!(matches!(session.call(3).result(), Err(RunError::Closed)));
    assert_eq!(session.close(Duration::from_millis(20), &|| {}).abandoned.len(), 1);
    valve.open();
}

#[test]
fn one_who_waits_at_admission_is_ended_by_a_timeout() {
    let valve = Valve::default();
    let session = with_timeout(held(&valve), 0.05).open();
    let outbox = Arc::new(Outbox::new(100, None));
    let puts: Vec<_> = (0..20).map(|number| session.put(&outbox, Some(number))).collect();

    assert!(puts[19].is_waiting());
    assert!(!puts[19].is_in());
    valve.open();
}

/// The time that a node has for an item once ran while it got ready.
#[test]
fn getting_ready_may_take_longer_than_an_item() {
    let slow = || std::thread::sleep(Duration::from_millis(60));
    let session = with_timeout(pass().doing(Phase::Initialize, slow), 0.01).open();

    assert_eq!(session.call(1).outputs(), numbers(&[1]));
}

#[test]
fn items_that_take_their_time_one_by_one_are_not_a_timeout() {
    let slow = || std::thread::sleep(Duration::from_millis(15));
    let session = with_timeout(pass().doing(Phase::Process, slow), 0.1).open();

    let calls: Vec<_> = (0..12).map(|number| session.call(number)).collect();

    assert!(calls.iter().all(|call| call.result().is_ok()));
}

/// A node that ends calls itself.
struct Punctual(Duration);

impl Node<Item> for Punctual {
    fn process(&mut self, item: Item) -> Result<Outputs<Item>, Fault> {
        std::thread::sleep(self.0);
        Ok(Outputs::One(item))
    }

    fn info(&self) -> NodeInfo {
        NodeInfo { keeps_time: true, ..NodeInfo::default() }
    }
}

/// On a busy machine the session once ended before the node had ended its call.
#[test]
fn a_node_that_ends_its_calls_itself_has_time_to_do_it() {
    let how = options(&json!({"timeout": 0.01}));
    let session = Pipe::default().node("a", &[], Punctual(Duration::from_millis(60))).with(how).open();

    assert_eq!(session.call(1).outputs(), numbers(&[1]));
}

#[test]
fn drops_are_reported_with_their_number() {
    let valve = Valve::default();
    let how = options(&json!({"queue_size": 1, "when_full": "drop_newest"}));
    let (session, listening) = open_and_listen(Pipe::default().node("a", &[], held(&valve)).with(how));
    let first = session.call(0);
    valve.wait_for(1);
    let calls: Vec<_> = (0..5).map(|number| session.call(number)).collect();

    let report_of_drops = || listening.log.lines().into_iter().find(|line| line.contains("before"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while report_of_drops().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }

    assert_eq!(report_of_drops().unwrap(), "4 before a");
    valve.open();
    assert!(calls.iter().all(|call| call.result().is_ok()));
    first.outputs();
}

#[test]
fn errors_of_closing_a_generator_are_logged() {
    let failing = pass().failing(Phase::Process, BAD);
    let pipe = Pipe::chain([unclosable(), failing]);
    let (session, listening) = open_and_listen(pipe);

    session.call(1).result().unwrap_err();

    assert_eq!(listening.log.lines(), [format!("ignored {BAD:?}")]);
}

/// A generator that fails when it is closed.
fn unclosable() -> TestNode {
    crate::support::node(|item| {
        Ok(crate::support::Returned::Unclosable(Box::new(std::iter::repeat_with(move || Ok(item.clone())))))
    })
}

struct Watching(Log);

impl Observer for Watching {
    fn opened(&self, plan: &Plan) {
        self.0.note(format!("opened {}", plan.name()));
    }

    fn stepped(&self, node_id: &str, phase: Phase, item_index: Option<u64>, _: Duration) {
        self.0.note(format!("{node_id} {} {item_index:?}", phase.name()));
    }
}

#[test]
fn an_observer_is_notified_of_each_step_in_every_kind_of_stage() {
    for how in [json!({}), json!({"placement": "thread"}), json!({"batch": 1}), json!({"concurrency": 2})] {
        let log = Log::default();
        let mut pipe = Pipe::default().node("a", &[], pass()).with(options(&how));
        pipe.settings.observer = Some(Arc::new(Watching(log.clone())));
        let session = pipe.open();
        session.call(1).outputs();
        session.call(2).outputs();
        session.shut();

        let steps = ["a initialize None", "a process Some(0)", "a process Some(1)", "a cleanup None"];
        assert_eq!(log.lines(), [&["opened test"], &steps[..]].concat(), "{how}");
    }
}

#[test]
fn figures_are_those_of_all_stages() {
    let pipe = Pipe::default()
        .node("a", &[], pass())
        .node("b", &["a"], add(1))
        .with(options(&json!({"placement": "thread", "replicas": 2})))
        .replica(add(1))
        .node("c", &["b"], pass())
        .with(options(&json!({"batch": 4})))
        .measured();
    let session = pipe.open();

    stream(&session, &(0..20).collect::<Vec<_>>());

    let metrics = session.metrics().unwrap();
    let counts: Vec<_> = metrics.node_metrics.iter().map(|node| (node.items_in, node.items_out, node.errors)).collect();
    assert_eq!(counts, [(20, 20, 0); 3]);
    assert_eq!((metrics.items_in, metrics.items_out, metrics.errors), (20, 20, 0));
    let placements: Vec<_> = metrics.node_metrics.iter().map(|node| node.placement.as_str()).collect();
    assert_eq!(placements, ["inline", "thread", "inline"]);
    assert!(metrics.node_metrics.iter().all(|node| node.peak_queue_len >= 1));
}

/// A call for the metrics once waited for the node.
#[test]
fn figures_can_be_read_while_a_node_hangs() {
    let valve = Valve::default();
    let session = Pipe::default().node("a", &[], held(&valve)).with(thread()).measured().open();
    let call = session.call(1);
    valve.wait_for(1);

    assert_eq!(session.metrics().unwrap().items_in, 1);

    valve.open();
    call.outputs();
}

#[test]
fn the_wait_before_a_stage_is_measured() {
    let valve = Valve::default();
    let session = Pipe::default().node("a", &[], held(&valve)).with(thread()).measured().open();
    let calls = [session.call(1), session.call(2)];
    valve.wait_for(1);
    std::thread::sleep(Duration::from_millis(5));
    valve.open();
    assert!(calls.iter().all(|call| call.result().is_ok()));

    let node = &session.metrics().unwrap().node_metrics[0];

    assert!(node.queue_wait_us >= 5000, "{}", node.queue_wait_us);
    assert!((1..=2).contains(&node.peak_queue_len));
}

#[test]
fn a_session_that_is_not_measured_has_no_figures() {
    let session = Pipe::chain([pass()]).open();

    assert!(session.metrics().is_none());
    assert!(session.shut().metrics.is_none());
}
