//! Failures, metrics, help, and the commands that only print.

use crate::program::Desk;

const USERS_TRACEBACK: &str =
    "Traceback (most recent call last):\n  File \"app.py\", line 7, in process\nValueError: bad value\n";
const SENTENCE: &str = "native: node 'a' failed in process() on item 2: ValueError: bad value (app.py, line 7)\n";

#[test]
fn a_failure_shows_the_users_frames_and_one_sentence() {
    let stderr = Desk::new().run_with_input("run fail --input -", b"1\n2\n3\n").bad(1);

    assert_eq!(stderr, format!("{USERS_TRACEBACK}{SENTENCE}(use --traceback to show the full traceback)\n"));
}

#[test]
fn the_whole_traceback_is_shown_when_asked() {
    let stderr = Desk::new().run_with_input("run fail --input - --traceback", b"1\n2\n3\n").bad(1);

    assert!(stderr.contains("File \"engine.py\", line 1, in run\n"), "{stderr}");
    assert!(stderr.ends_with(SENTENCE), "{stderr}");
}

#[test]
fn a_target_that_does_not_load_is_a_failure() {
    for command in ["run", "check", "graph"] {
        let stderr = Desk::new().run(&format!("{command} broken")).bad(1);

        assert_eq!(stderr, "native: broken.py, line 3: cannot import 'nothing'\n");
    }
}

#[test]
fn metrics_are_a_table_on_stderr() {
    let ran = Desk::new().run_with_input("run echo --input - --metrics", b"a\nb\n");

    assert_eq!(ran.stdout, "\"a\"\n\"b\"\n");
    assert_eq!(
        ran.bad(0),
        "\n\
         echo: 2 items in, 2 out, 2.00 ms in total, 25% outside the nodes\n\n  \
         NODE  TYPE   IN  OUT  ERRORS     AVG   P50   P95   P99  INIT    TOTAL  SHARE\n  \
         a     ANode   2    2       0  500 µs  0 µs  0 µs  0 µs  0 µs  1.50 ms    75%\n"
    );
}

#[test]
fn advice_follows_the_table_of_metrics() {
    let stderr = Desk::new().run_with_input("run echo --input - --metrics", b"a\nb\nc\n").bad(0);

    assert!(stderr.ends_with("75%\n\nadvice: Node 'a' has three items\n"), "{stderr}");
}

#[test]
fn advice_is_one_of_the_keys_of_json() {
    let desk = Desk::new();
    let advised = desk.run_with_input("run echo --input - --metrics=json", b"a\nb\nc\n").bad(0);
    let plain = desk.run_with_input("run echo --input - --metrics=json", b"a\n").bad(0);

    assert!(advised.ends_with(",\"advice\":[\"Node 'a' has three items\"]}\n"), "{advised}");
    assert!(plain.ends_with(",\"advice\":[]}\n"), "{plain}");
}

#[test]
fn check_gives_advice_about_measured_times() {
    let desk = Desk::new();
    desk.file("metrics.json", b"{\"items_in\":3}");

    let stdout = desk.run("check echo --metrics metrics.json").good();

    assert!(stdout.ends_with("\nnote: Node 'a' has three items\n"), "{stdout}");
}

#[test]
fn check_refuses_other_files_than_metrics() {
    let desk = Desk::new();
    desk.file("speech.txt", b"hello");

    assert_eq!(desk.run("check echo --metrics speech.txt").bad(2), "native: 'speech.txt': not metrics\n");
    assert_eq!(
        desk.run("check echo --metrics absent.json").bad(2),
        "native: cannot read metrics 'absent.json': No such file or directory\n"
    );
}

#[test]
fn metrics_are_json_when_asked() {
    let stderr = Desk::new().run_with_input("run echo --input - --metrics=json", b"a\n").bad(0);

    assert_eq!(stderr.lines().count(), 1);
    assert!(stderr.starts_with("{\"pipeline\":\"echo\",\"total_duration_us\":2000,\"overhead_us\":500,"), "{stderr}");
}

#[test]
fn check_prints_what_would_run_where() {
    assert_eq!(
        Desk::new().run("check diamond").good(),
        "diamond can run: 4 nodes in 1 stage\n\n\
         stage 1, inline: on the caller's thread, one item at a time\n  \
         a  ANode  reads the input\n  \
         b  BNode  after a\n  \
         c  CNode  after a\n  \
         d  DNode  joins b, c       writes the output\n"
    );
}

#[test]
fn check_fails_if_there_is_a_problem() {
    let ran = Desk::new().run("check doubtful");

    assert!(ran.stdout.starts_with("doubtful has 1 problem: 1 node in 1 stage\n"), "{}", ran.stdout);
    assert!(
        ran.stdout.ends_with("\nnote: 'version' has no effect\nproblem: node 'a' cannot be sent to a worker\n"),
        "{}",
        ran.stdout
    );
    assert_eq!(ran.code, 1);
}

#[test]
fn nodes_are_listed_with_their_parameters() {
    assert_eq!(
        Desk::new().run("nodes").good(),
        "CalculatorNode(operation, operand)  Calculates with numbers.\n\
         PassThroughNode()                   Passes items on.\n"
    );
}

#[test]
fn one_node_is_described_under_any_of_its_names() {
    let desk = Desk::new();

    let described = desk.run("nodes Calculator").good();

    assert_eq!(described, desk.run("nodes CalculatorNode").good());
    assert_eq!(
        described,
        "CalculatorNode(operation, operand: float = 1)\n  Calculates with numbers.\n\n  Answers a number.\n\n\
         parameters\n  operation\n  operand    The second number.\n\nalso known as Calculator\n"
    );
}

#[test]
fn an_unknown_node_gets_the_nearest_name() {
    let desk = Desk::new();

    assert_eq!(
        desk.run("nodes PassTrough").bad(2),
        "native: no node 'PassTrough' is registered; did you mean 'PassThroughNode'?\n"
    );
    assert_eq!(
        desk.run("nodes zebra").bad(2),
        "native: no node 'zebra' is registered; the command `nodes` lists all nodes\n"
    );
}

#[test]
fn nodes_are_json_when_asked() {
    let desk = Desk::new();

    let all: serde_json::Value = serde_json::from_str(&desk.run("nodes --json").good()).unwrap();
    let one: serde_json::Value = serde_json::from_str(&desk.run("nodes Calculator --json").good()).unwrap();

    assert_eq!(all[0], one);
    assert_eq!(one["parameters"][1]["default"], "1");
    assert_eq!(one["parameters"][0]["default"], serde_json::Value::Null);
}

#[test]
fn doctor_marks_what_is_wrong() {
    let ran = Desk::new().run("doctor");

    assert_eq!(ran.stdout, "✓  Nodes   native\n✗  Python  not found\n           install it\n\n1 problem found\n");
    assert_eq!(ran.code, 1);
}

#[test]
fn the_version_is_printed() {
    assert_eq!(Desk::new().run("--version").good(), format!("native {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_help_ends_with_examples_under_the_name_of_the_program() {
    let desk = Desk::new();
    for command in ["", "run ", "check ", "graph ", "nodes "] {
        let help = desk.run(&format!("{command}--help")).good();

        let examples = help.split("Examples:").nth(1).unwrap();
        assert!(examples.contains("native ") && !examples.contains("PROGRAM"), "{help}");
    }
}
