//! No thread outlives its session.

use serde_json::json;

use crate::support::{Pipe, SessionUse, options, pass, source, spread, stream, thread};

/// Other tests have threads of their own, so this one is run alone in a process of its own.
const ALONE: &str = "REMOTEMEDIA_TEST_ALONE";

fn count_threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("the system lists the threads of a process").count()
}

/// All kinds of stages and threads at once.
fn open_and_close() {
    let pipe = Pipe::default()
        .node("a", &[], spread(|number| vec![number; 3]))
        .node("b", &["a"], pass())
        .with(options(&json!({"placement": "thread", "replicas": 3})))
        .replica(pass())
        .replica(pass())
        .node("c", &["b"], pass())
        .with(options(&json!({"batch": {"size": 3, "max_wait": 1}, "timeout": 100})))
        .node("d", &["c"], pass())
        .with(options(&json!({"concurrency": 2, "queue_size": 1, "when_full": "drop_newest"})));
    let session = pipe.open();
    stream(&session, &[1, 2, 3]);
    let _pending = [session.call(1), session.call(2)];
    session.interrupt(&|| {});
    let _pending = [session.call(3), session.call(4)];
    session.shut();
}

fn open_and_drop() {
    let session = Pipe::chain([source(|| Ok(crate::support::Returned::many(&[1; 100]))), pass()]).with(thread()).open();
    let outbox = std::sync::Arc::new(remotemedia_runtime::Outbox::new(2, None));
    session.start_source(outbox, (), Box::new(|| {}));
}

#[test]
fn no_thread_is_left() {
    if std::env::var_os(ALONE).is_none() {
        let program = std::env::current_exe().expect("a test has a program");
        let test = "sessions::threads::no_thread_is_left";
        let mut again = std::process::Command::new(program);
        let output = again.args([test, "--exact", "--test-threads=1"]).env(ALONE, "1").output();
        let output = output.expect("the test runs again");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let before = count_threads();

    for _ in 0..50 {
        open_and_close();
        open_and_drop();
    }

    assert_eq!(count_threads(), before);
}
