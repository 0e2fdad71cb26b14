//! Worker processes: this test program itself, started again.
#![allow(clippy::print_stderr, reason = "what a worker writes there is looked at")]

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::worker::{
    Arrived, ExitCause, ItemCodec, Message, Notes, Opened, StdStream, View, WorkerExit, WorkerHost, WorkerSpec,
    remote_nodes, serve,
};
use remotemedia_runtime::{
    CancelFlag, Next, Node, NodeSpec, Options, Outbox, Outputs, Payload, Phase, Plan, Replicas, RunError, Session,
    SessionSettings, Snapshot, Stream,
};
use serde_json::json;

mod crossing;
mod ends;
mod exits;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Unpacking this number panics.
const STUMBLE: i64 = 1_000_002;

/// Unpacking this number waits for the test.
const HOLD_UP: i64 = 1_000_004;

/// An item of these tests.
#[derive(Debug, Clone)]
enum Thing {
    Number(i64),
    Bytes(Vec<u8>),
    Seen(View),
}

#[derive(Debug, Clone, PartialEq)]
enum Fault {
    StdStream(String),
    Lost(WorkerExit),
}

impl Payload for Thing {
    type Fault = Fault;
    type Context = ();

    fn duplicate(&self) -> Self {
        self.clone()
    }

    fn duplicate_fault(fault: &Fault) -> Fault {
        fault.clone()
    }

    fn join(_branches: Vec<(&str, Vec<Self>)>) -> Result<Self, Fault> {
        Err(Fault::StdStream("nothing is joined here".into()))
    }
}

/// Writes things down, and remembers what workers say.
#[derive(Default)]
struct Clerk {
    lines: Mutex<Vec<String>>,
    notes: Mutex<Vec<Vec<u8>>>,
    /// Held by a test that wants unpacking to wait.
    hold: Mutex<()>,
    is_held_up: AtomicBool,
}

impl ItemCodec<Thing> for Clerk {
    fn pack(&self, item: &Thing, message: &mut Message<'_>) -> Result<(), Fault> {
        match item {
            Thing::Number(i64::MIN) => return Err(Fault::StdStream("cannot be packed".into())),
            Thing::Number(number) => message.write(&number.to_le_bytes()),
            Thing::Bytes(bytes) => message.add_buffer(bytes),
            Thing::Seen(view) => message.add_buffer(view),
        }
        Ok(())
    }

    fn unpack(&self, mut message: Arrived) -> Result<Thing, Fault> {
        Ok(match message.buffers.pop() {
            Some(buffer) => Thing::Seen(buffer),
            None => Thing::Number(match i64::from_le_bytes(message.body[..8].try_into().expect("eight bytes")) {
                STUMBLE => panic!("a test wants this thread to panic"),
                HOLD_UP => {
                    self.is_held_up.store(true, Ordering::Release);
                    drop(self.hold.lock());
                    HOLD_UP
                }
                number => number,
            }),
        })
    }

    fn no_memory(&self, bytes: usize) -> Fault {
        Fault::StdStream(format!("no memory for {bytes} bytes"))
    }

    fn pack_fault(&self, fault: &Fault) -> Vec<u8> {
        format!("{fault:?}").into_bytes()
    }

    fn unpack_fault(&self, node_id: &str, phase: Phase, bytes: &[u8]) -> Fault {
        Fault::StdStream(format!("{node_id} in {}: {}", phase.name(), String::from_utf8_lossy(bytes)))
    }

    fn lost(&self, exit: &WorkerExit) -> Fault {
        Fault::Lost(exit.clone())
    }

    fn write_line(&self, _node_ids: &[String], stream: StdStream, line: &str) {
        self.lines.lock().push(format!("{stream:?}: {line}"));
    }

    fn noted(&self, _node_ids: &[String], note: &[u8]) {
        self.notes.lock().push(note.to_vec());
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
            "refuse" => Err(Fault::StdStream("not today".into())),
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
            "fail" if number == 13 => return Err(Fault::StdStream("thirteen".into())),
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
        if self.word == "fail late" { Err(Fault::StdStream("at the end".into())) } else { Ok(()) }
    }

    fn as_snapshot(&mut self) -> Option<&mut dyn Snapshot<Thing>> {
        if self.word == "sum" { Some(self) } else { None }
    }
}

impl Snapshot<Thing> for Worker {
    fn snapshot(&mut self) -> Result<Thing, Fault> {
        Ok(Thing::Number(self.sum))
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

impl WorkerHost<Thing> for Shop {
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
        options: options.clone().into(),
        ..NodeSpec::default()
    };
    (0..ids.len()).map(spec).collect()
}

/// Not a test: what the others start.
#[test]
#[ignore = "it is a worker, and needs a parent"]
fn worker_process() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input is open");
    let clerk: Arc<dyn ItemCodec<Thing>> = Arc::new(Clerk::default());
    serve(socket, &clerk, &mut Shop(CancelFlag::default())).expect("the parent behaves");
}

/// A session over workers under test.
struct WorkerLoop {
    session: Session<Thing>,
    clerk: Arc<Clerk>,
    outbox: Arc<Outbox<Thing>>,
}

fn options(json: serde_json::Value) -> Options {
    let mut written = json;
    written["placement"] = json!("process");
    Options::from_json(written.as_object().expect("options are an object")).expect("the options are good")
}

fn try_open(words: &[&str], json: serde_json::Value) -> Result<WorkerLoop, Fault> {
    let options = options(json);
    let plan = Arc::new(Plan::new("test", &chain(words, &options)).expect("the plan is good"));
    let clerk = Arc::new(Clerk::default());
    let mut replicas: Vec<Replicas<Thing>> = words.iter().map(|_| Replicas { nodes: Vec::new() }).collect();
    for stage in plan.stages() {
        for _ in 0..options.replicas {
            let ids: Vec<String> = stage.nodes.iter().map(|&node| plan.nodes()[node].id.clone()).collect();
            let nodes = remote_nodes(spec(ids, &options), Arc::clone(&clerk) as Arc<dyn ItemCodec<Thing>>);
            for (&number, node) in stage.nodes.iter().zip(nodes.expect("there are files left")) {
                replicas[number].nodes.push(node);
            }
        }
    }
    let settings = SessionSettings { with_metrics: true, ..SessionSettings::default() };
    let session = Session::open(plan, replicas, &settings, &|_, _| None).map_err(|failure| match failure.first {
        Some(RunError::Node(failure)) => failure.fault,
        other => Fault::StdStream(format!("{other:?}")),
    })?;
    Ok(WorkerLoop { session, clerk, outbox: Arc::new(Outbox::new(1000, None)) })
}

fn open(words: &[&str], json: serde_json::Value) -> WorkerLoop {
    try_open(words, json).expect("the nodes initialize")
}

fn spec(node_ids: Vec<String>, options: &Options) -> WorkerSpec<Thing> {
    let setup = node_ids.join(",");
    WorkerSpec {
        node_ids,
        program: std::env::current_exe().expect("the test has a program").into(),
        arguments: ["--ignored", "--exact", "workers::worker_process", "--nocapture"].map(Into::into).to_vec(),
        setup: Arc::new(move |message| {
            message.write(setup.as_bytes());
            Ok(())
        }),
        options: options.clone(),
        cancel: CancelFlag::default(),
        timeout: options.timeout,
        with_metrics: true,
        passes_on: false,
    }
}

impl WorkerLoop {
    fn put(&self, thing: Option<Thing>) {
        self.outbox.expect_input();
        let (sender, admitted) = std::sync::mpsc::sync_channel(1);
        let notify = Box::new(move |is_in| sender.send(is_in).expect("somebody waits"));
        if self.session.submit(thing, self.outbox.clone(), false, Some(notify)) == remotemedia_runtime::Admission::Later
        {
            admitted.recv_timeout(TIMEOUT).expect("there is room after all");
        }
    }

    fn next(&self) -> Result<Thing, Fault> {
        match self.outbox.next(TIMEOUT) {
            Next::Output(thing) => Ok(thing),
            Next::Failed(RunError::Node(failure)) => Err(failure.fault),
            Next::Failed(other) => Err(Fault::StdStream(format!("{other:?}"))),
            _ => Err(Fault::StdStream("nothing".into())),
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
        let mut outputs = Vec::new();
        loop {
            match self.outbox.next(TIMEOUT) {
                Next::Output(Thing::Number(number)) => outputs.push(Ok(number)),
                Next::Failed(RunError::Node(failure)) => outputs.push(Err(failure.fault)),
                Next::End => return outputs,
                other => panic!("neither a number nor the end: {other:?}"),
            }
        }
    }

    fn close(self) -> Vec<Fault> {
        let closed = self.session.close(TIMEOUT, &|| {});
        closed.cleanups.into_iter().map(|failure| failure.fault).collect()
    }
}

fn good(numbers: impl IntoIterator<Item = i64>) -> Vec<Result<i64, Fault>> {
    numbers.into_iter().map(Ok).collect()
}

fn cause(fault: Fault) -> ExitCause {
    match fault {
        Fault::Lost(exit) => exit.cause,
        Fault::StdStream(text) => panic!("not an exit: {text}"),
    }
}
