//! Worker processes: this test program itself, started again.
#![allow(clippy::print_stderr, reason = "what a worker writes there is looked at")]

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use remotemedia_runtime::worker::{
    Arrived, Border, Letter, Loss, LossCause, Notes, Opened, Said, View, WorkerSpec, Workplace, remote_nodes, serve,
};
use remotemedia_runtime::{
    CancelFlag, Next, Node, NodeSpec, Options, Outbox, Outputs, Payload, Phase, Plan, Replicas, RunError, Session,
    SessionSettings, Stream,
};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

/// An item of these tests.
#[derive(Debug, Clone)]
enum Thing {
    Number(i64),
    Bytes(Vec<u8>),
    Seen(View),
}

#[derive(Debug, Clone, PartialEq)]
enum Fault {
    Said(String),
    Lost(Loss),
}

impl Payload for Thing {
    type Fault = Fault;

    fn duplicate(&self) -> Self {
        self.clone()
    }

    fn duplicate_fault(fault: &Fault) -> Fault {
        fault.clone()
    }

    fn join(_branches: Vec<(&str, Vec<Self>)>) -> Result<Self, Fault> {
        Err(Fault::Said("nothing is joined here".into()))
    }
}

/// Writes things down, and remembers what workers say.
#[derive(Default)]
struct Clerk {
    lines: Mutex<Vec<String>>,
    notes: Mutex<Vec<Vec<u8>>>,
}

impl Border<Thing> for Clerk {
    fn pack(&self, item: &Thing, letter: &mut Letter<'_>) -> Result<(), Fault> {
        match item {
            Thing::Number(i64::MIN) => return Err(Fault::Said("cannot be packed".into())),
            Thing::Number(number) => letter.write(&number.to_le_bytes()),
            Thing::Bytes(bytes) => letter.add_buffer(bytes),
            Thing::Seen(view) => letter.add_buffer(view),
        }
        Ok(())
    }

    fn unpack(&self, mut letter: Arrived) -> Result<Thing, Fault> {
        Ok(match letter.buffers.pop() {
            Some(buffer) => Thing::Seen(buffer),
            None => Thing::Number(i64::from_le_bytes(letter.body[..8].try_into().expect("eight bytes"))),
        })
    }

    fn pack_fault(&self, fault: &Fault) -> Vec<u8> {
        format!("{fault:?}").into_bytes()
    }

    fn unpack_fault(&self, node_id: &str, phase: Phase, bytes: &[u8]) -> Fault {
        Fault::Said(format!("{node_id} in {}: {}", phase.name(), String::from_utf8_lossy(bytes)))
    }

    fn lost(&self, loss: &Loss) -> Fault {
        Fault::Lost(loss.clone())
    }

    fn said(&self, _node_ids: &[String], stream: Said, line: &str) {
        self.lines.lock().unwrap().push(format!("{stream:?}: {line}"));
    }

    fn noted(&self, _node_ids: &[String], note: &[u8]) {
        self.notes.lock().unwrap().push(note.to_vec());
    }
}

/// Does what its word says.
struct Worker {
    word: String,
    sum: i64,
    notes: Notes,
    stop: CancelFlag,
}

impl Node<Thing> for Worker {
    fn initialize(&mut self) -> Result<(), Fault> {
        match self.word.as_str() {
            "refuse" => Err(Fault::Said("not today".into())),
            "die early" => std::process::abort(),
            _ => Ok(()),
        }
    }

    fn process(&mut self, item: Thing) -> Result<Outputs<Thing>, Fault> {
        let number = match item {
            Thing::Number(number) => number,
            bytes => return Ok(Outputs::One(if self.word == "copy" { copied(bytes) } else { bytes })),
        };
        self.sum += number;
        Ok(match self.word.as_str() {
            "double" => Outputs::One(Thing::Number(number * 2)),
            "sum" => Outputs::One(Thing::Number(self.sum)),
            "odd" if number % 2 == 0 => Outputs::None,
            "fail" if number == 13 => return Err(Fault::Said("thirteen".into())),
            "abort" if number == 13 => std::process::abort(),
            "exit" if number == 13 => kill_self_by_exit(),
            "hang" if number == 13 => loop {
                std::thread::sleep(Duration::from_millis(5));
                if self.stop.is_set() {
                    break Outputs::None;
                }
            },
            "hang for ever" if number == 13 => loop {
                self.notes.send(b"hanging");
                std::thread::sleep(Duration::from_secs(1));
            },
            "note" => {
                self.notes.send(b"seen");
                writeln!(std::io::stderr(), "thing {number}").expect("somebody reads it");
                Outputs::One(Thing::Number(number))
            }
            "pid" => Outputs::One(Thing::Number(i64::from(std::process::id()))),
            "count" => Outputs::Many(Box::new(Count { next: 0, end: number })),
            "unpackable" => Outputs::One(Thing::Number(i64::MIN)),
            _ => Outputs::One(Thing::Number(number)),
        })
    }

    fn flush(&mut self) -> Result<Outputs<Thing>, Fault> {
        Ok(if self.word == "sum" { Outputs::One(Thing::Number(-self.sum)) } else { Outputs::None })
    }

    fn cleanup(&mut self) -> Result<(), Fault> {
        if self.word == "fail late" { Err(Fault::Said("at the end".into())) } else { Ok(()) }
    }

    fn can_snapshot(&self) -> bool {
        self.word == "sum"
    }

    fn snapshot(&mut self) -> Result<Option<Thing>, Fault> {
        Ok(Some(Thing::Number(self.sum)))
    }

    fn restore(&mut self, state: Thing) -> Result<(), Fault> {
        if let Thing::Number(sum) = state {
            self.sum = sum;
        }
        Ok(())
    }
}

fn copied(thing: Thing) -> Thing {
    match thing {
        Thing::Seen(view) => Thing::Bytes(view.to_vec()),
        other => other,
    }
}

fn kill_self_by_exit() -> ! {
    #[allow(clippy::disallowed_methods, reason = "the test is about a process that ends like this")]
    std::process::exit(3)
}

struct Count {
    next: i64,
    end: i64,
}

impl Stream<Thing> for Count {
    fn next(&mut self) -> Result<Option<Thing>, Fault> {
        self.next += 1;
        Ok((self.next <= self.end).then_some(Thing::Number(self.next)))
    }
}

/// Makes nodes of the words that the parent wrote down.
struct Shop(CancelFlag);

impl Workplace<Thing> for Shop {
    fn open(&mut self, setup: Arrived, notes: Notes) -> Result<Opened<Thing>, Fault> {
        let text = String::from_utf8_lossy(&setup.body).into_owned();
        let words: Vec<&str> = text.split(',').collect();
        let specs: Vec<NodeSpec> = chain(&words, &Options::default());
        let plan = Plan::new("worker", &specs).expect("the parent has checked it");
        let node = |word: &&str| {
            let (word, notes, stop) = ((*word).to_owned(), notes.clone(), self.0.clone());
            Box::new(Worker { word, sum: 0, notes, stop }) as Box<dyn Node<Thing>>
        };
        Ok((Arc::new(plan), words.iter().map(node).collect()))
    }

    fn stop_flag(&self) -> CancelFlag {
        self.0.clone()
    }

    fn stop_waiting(&self) -> Box<dyn Fn() + Send + Sync> {
        Box::new(|| {})
    }
}

fn chain(ids: &[&str], options: &Options) -> Vec<NodeSpec> {
    let spec = |index: usize| NodeSpec {
        id: ids[index].to_owned(),
        node_type: "Worker".into(),
        after: index.checked_sub(1).map(|before| ids[before].to_owned()).into_iter().collect(),
        options: options.clone(),
        ..NodeSpec::default()
    };
    (0..ids.len()).map(spec).collect()
}

/// Not a test: what the others start.
#[test]
#[ignore = "it is a worker, and needs a parent"]
fn worker_process() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input is open");
    let clerk: Arc<dyn Border<Thing>> = Arc::new(Clerk::default());
    serve(socket, &clerk, &mut Shop(CancelFlag::default())).expect("the parent behaves");
}

/// A session over workers under test.
struct Bench {
    session: Session<Thing>,
    clerk: Arc<Clerk>,
    outbox: Arc<Outbox<Thing>>,
}

fn options(json: serde_json::Value) -> Options {
    let mut written = json;
    written["placement"] = json!("process");
    Options::from_json(written.as_object().expect("options are an object")).expect("the options are good")
}

fn try_open(words: &[&str], json: serde_json::Value) -> Result<Bench, Fault> {
    let options = options(json);
    let plan = Arc::new(Plan::new("test", &chain(words, &options)).expect("the plan is good"));
    let clerk = Arc::new(Clerk::default());
    let mut replicas: Vec<Replicas<Thing>> = words.iter().map(|_| Replicas { nodes: Vec::new() }).collect();
    for stage in plan.stages() {
        for _ in 0..options.replicas {
            let ids: Vec<String> = stage.nodes.iter().map(|&node| plan.nodes()[node].id.clone()).collect();
            let nodes = remote_nodes(spec(ids, &options), Arc::clone(&clerk) as Arc<dyn Border<Thing>>);
            for (&number, node) in stage.nodes.iter().zip(nodes.expect("there are files left")) {
                replicas[number].nodes.push(node);
            }
        }
    }
    let settings = SessionSettings { with_metrics: true, ..SessionSettings::default() };
    let session = Session::open(plan, replicas, &settings, &|_, _| None).map_err(|failure| match failure.first {
        Some(RunError::Node(failure)) => failure.fault,
        other => Fault::Said(format!("{other:?}")),
    })?;
    Ok(Bench { session, clerk, outbox: Arc::new(Outbox::new(1000, None)) })
}

fn open(words: &[&str], json: serde_json::Value) -> Bench {
    try_open(words, json).expect("the nodes initialize")
}

fn spec(node_ids: Vec<String>, options: &Options) -> WorkerSpec<Thing> {
    let setup = node_ids.join(",");
    WorkerSpec {
        node_ids,
        program: std::env::current_exe().expect("the test has a program").into(),
        arguments: ["--ignored", "--exact", "workers::worker_process", "--nocapture"].map(Into::into).to_vec(),
        setup: Arc::new(move |letter| {
            letter.write(setup.as_bytes());
            Ok(())
        }),
        initialize_timeout: options.initialize_timeout,
        timeout: options.timeout,
        is_concurrent: options.concurrency > 1,
        max_restarts: options.max_restarts,
        restart_window: options.restart_window,
        snapshot_every: options.snapshot_every,
        with_metrics: true,
    }
}

impl Bench {
    fn put(&self, thing: Option<Thing>) {
        self.outbox.expect_input();
        let (told, admitted) = std::sync::mpsc::sync_channel(1);
        let tell = Box::new(move |is_in| told.send(is_in).expect("somebody waits"));
        if self.session.submit(thing, self.outbox.clone(), false, Some(tell)) == remotemedia_runtime::Admission::Later {
            admitted.recv_timeout(PATIENCE).expect("there is room after all");
        }
    }

    fn next(&self) -> Result<Thing, Fault> {
        match self.outbox.next(PATIENCE) {
            Next::Output(thing) => Ok(thing),
            Next::Failed(RunError::Node(failure)) => Err(failure.fault),
            Next::Failed(other) => Err(Fault::Said(format!("{other:?}"))),
            _ => Err(Fault::Said("nothing".into())),
        }
    }

    fn number(&self) -> Result<i64, Fault> {
        self.next().map(|thing| match thing {
            Thing::Number(number) => number,
            _ => panic!("a number was expected"),
        })
    }

    fn map(&self, numbers: impl IntoIterator<Item = i64>) -> Vec<Result<i64, Fault>> {
        numbers.into_iter().for_each(|number| self.put(Some(Thing::Number(number))));
        self.put(None);
        self.outbox.end();
        let mut answers = Vec::new();
        loop {
            match self.outbox.next(PATIENCE) {
                Next::Output(Thing::Number(number)) => answers.push(Ok(number)),
                Next::Failed(RunError::Node(failure)) => answers.push(Err(failure.fault)),
                Next::End => return answers,
                other => panic!("neither a number nor the end: {other:?}"),
            }
        }
    }

    fn close(self) -> Vec<Fault> {
        let closed = self.session.close(PATIENCE, &|| {});
        closed.cleanups.into_iter().map(|failure| failure.fault).collect()
    }
}

fn good(numbers: impl IntoIterator<Item = i64>) -> Vec<Result<i64, Fault>> {
    numbers.into_iter().map(Ok).collect()
}

fn cause(fault: Fault) -> LossCause {
    match fault {
        Fault::Lost(loss) => loss.cause,
        Fault::Said(text) => panic!("not a loss: {text}"),
    }
}

#[test]
fn items_go_to_a_worker_and_back_in_order() {
    let bench = open(&["double"], json!({}));

    let answers = bench.map(0..1000);

    assert_eq!(answers, good((0..1000).map(|number| number * 2)));
    assert_eq!(bench.close(), []);
}

#[test]
fn neighbours_share_one_worker() {
    let bench = open(&["double", "odd", "sum"], json!({}));
    assert_eq!(bench.session.plan().stages().len(), 1);

    assert_eq!(bench.map([1, 2, 3]), good([0]));
    let bench = open(&["odd", "double", "sum"], json!({}));
    assert_eq!(bench.map([1, 2, 3]), good([2, 8, -8]));
}

#[test]
fn outputs_of_a_generator_come_one_by_one() {
    let bench = open(&["count"], json!({}));

    assert_eq!(bench.map([3, 0, 2]), good([1, 2, 3, 1, 2]));
    assert_eq!(bench.close(), []);
}

#[test]
fn large_buffers_are_read_in_place_and_come_back_unchanged() {
    let bench = open(&["pass"], json!({}));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();

    for _ in 0..5 {
        bench.put(Some(Thing::Bytes(bytes.clone())));
        let Ok(Thing::Seen(view)) = bench.next() else { panic!("bytes were expected") };
        assert_eq!(&*view, &bytes[..]);
        drop(view);
    }
    assert_eq!(bench.close(), []);
}

#[test]
fn a_view_outlives_its_session() {
    let bench = open(&["copy"], json!({}));
    bench.put(Some(Thing::Bytes(vec![7; 200_000])));
    let view = bench.next();

    bench.close();

    assert!(matches!(view, Ok(Thing::Seen(view)) if view.iter().all(|&byte| byte == 7)));
}

#[test]
fn a_failure_names_its_node_and_the_worker_goes_on() {
    let bench = open(&["double", "fail"], json!({}));

    bench.put(Some(Thing::Number(1)));
    assert_eq!(bench.number(), Ok(2));
    let bench = open(&["fail"], json!({}));
    let answers = bench.map([12, 13, 14]);
    assert_eq!(answers[0], Ok(12));
    assert_eq!(answers[1], Err(Fault::Said("fail in process: Said(\"thirteen\")".into())));
    assert_eq!(answers.get(2), Some(&Ok(14)));
}

#[test]
fn an_output_that_cannot_be_packed_is_a_failure_of_its_item() {
    let bench = open(&["unpackable"], json!({}));

    bench.put(Some(Thing::Number(1)));

    assert_eq!(bench.number(), Err(Fault::Said("unpackable in process: Said(\"cannot be packed\")".into())));
    assert_eq!(bench.close(), []);
}

#[test]
fn a_node_that_does_not_initialize_fails_as_itself() {
    let failed = try_open(&["double", "refuse"], json!({})).err();

    assert_eq!(failed, Some(Fault::Said("refuse in initialize: Said(\"not today\")".into())));
}

#[test]
fn a_worker_that_dies_in_initialize_is_named() {
    let failed = try_open(&["die early"], json!({})).err().expect("it cannot be opened");

    assert_eq!(cause(failed), LossCause::Killed(6));
}

#[test]
fn a_cleanup_that_fails_is_told() {
    let bench = open(&["fail late"], json!({}));

    assert_eq!(bench.close(), [Fault::Said("fail late in cleanup: Said(\"at the end\")".into())]);
}

#[test]
fn unfinished_items_are_given_again_when_a_worker_is_killed() {
    let bench = open(&["pid"], json!({"max_restarts": 100}));
    let mut killed = Vec::new();

    for number in 0..300 {
        bench.put(Some(Thing::Number(number)));
        let process = bench.number().unwrap();
        if number % 50 == 25 {
            killed.push(process);
            for extra in 0..10 {
                bench.put(Some(Thing::Number(extra)));
            }
            kill(process);
            for _ in 0..10 {
                bench.number().unwrap();
            }
        }
    }

    killed.dedup();
    assert_eq!(killed.len(), 6);
    assert_eq!(bench.close(), []);
}

fn kill(process: i64) {
    let process = rustix::process::Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).ok();
}

#[test]
fn an_item_that_kills_twice_is_set_aside_and_the_stream_goes_on() {
    let bench = open(&["abort"], json!({}));

    let mut answers = bench.map([11, 12, 13, 14, 15]);

    let fault = answers.remove(2).unwrap_err();
    assert_eq!(cause(fault), LossCause::Killed(6));
    assert_eq!(answers, good([11, 12, 14, 15]));
    assert_eq!(bench.close(), []);
}

#[test]
fn a_worker_that_always_dies_fails_its_session() {
    let bench = open(&["exit"], json!({"max_restarts": 1}));

    let answers = bench.map([13, 14]);

    assert!(matches!(&answers[0], Err(Fault::Lost(loss)) if loss.cause == LossCause::Exited(3) && loss.is_final));
}

#[test]
fn a_worker_that_takes_too_long_is_replaced() {
    let bench = open(&["hang for ever"], json!({"timeout": 0.5}));

    let mut answers = bench.map([12, 13, 14]);

    let fault = answers.remove(1).unwrap_err();
    assert_eq!(cause(fault), LossCause::TimedOut(Duration::from_millis(500)));
    assert_eq!(answers, good([12, 14]));
}

#[test]
fn a_state_is_brought_to_the_next_worker() {
    let bench = open(&["sum"], json!({"snapshot_every": 7, "max_restarts": 10}));
    let mut sum = 0;

    for number in 1..=100 {
        bench.put(Some(Thing::Number(number)));
        sum += number;
        assert_eq!(bench.number(), Ok(sum));
        if number % 30 == 5 {
            kill_worker(&bench);
        }
    }

    assert_eq!(bench.close(), []);
}

fn kill_worker(bench: &Bench) {
    let pid = bench.session.worker_processes().into_iter().next().expect("there is a worker");
    kill(i64::from(pid));
}

#[test]
fn replicas_work_side_by_side_and_order_is_kept() {
    let bench = open(&["double"], json!({"replicas": 3}));

    assert_eq!(bench.map(0..500), good((0..500).map(|number| number * 2)));
    assert_eq!(bench.session.worker_processes().len(), 3);
}

#[test]
fn a_batch_crosses_in_one_call() {
    let bench = open(&["double"], json!({"batch": 8}));

    assert_eq!(bench.map(0..20), good((0..20).map(|number| number * 2)));
}

#[test]
fn an_interruption_drops_what_is_under_way() {
    let bench = open(&["hang"], json!({}));
    for number in [1, 13, 14, 15] {
        bench.put(Some(Thing::Number(number)));
    }
    assert_eq!(bench.number(), Ok(1));

    let dropped = bench.session.interrupt(&|| {});

    // The end of the first one may not have been told yet.
    assert!((3..=4).contains(&dropped), "{dropped}");
    let outbox = Arc::new(Outbox::new(10, None));
    outbox.expect_input();
    bench.session.submit(Some(Thing::Number(5)), outbox.clone(), false, None);
    assert!(matches!(outbox.next(PATIENCE), Next::Output(Thing::Number(5))));
}

#[test]
fn a_worker_that_hangs_does_not_hold_up_the_end() {
    let bench = open(&["hang for ever"], json!({}));
    bench.put(Some(Thing::Number(13)));
    let begun = Instant::now();
    while bench.clerk.notes.lock().unwrap().is_empty() && begun.elapsed() < PATIENCE {
        std::thread::yield_now();
    }

    let closed = bench.session.close(Duration::from_millis(300), &|| {});

    assert!(begun.elapsed() < PATIENCE);
    let causes: Vec<LossCause> = closed.cleanups.into_iter().map(|failure| cause(failure.fault)).collect();
    assert_eq!(causes, [LossCause::LeftBehind]);
}

#[test]
fn what_a_worker_says_arrives() {
    let bench = open(&["note"], json!({}));

    assert_eq!(bench.map([1, 2]), good([1, 2]));

    let clerk = Arc::clone(&bench.clerk);
    bench.close();
    assert_eq!(clerk.notes.lock().unwrap().len(), 2);
    let lines = clerk.lines.lock().unwrap();
    assert!(lines.contains(&"Err: thing 1".to_owned()), "{lines:?}");
}
