//! Text and JSON lines, in and out.

use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use crate::program::Desk;

#[test]
fn stdin_is_text_and_stdout_is_json_lines() {
    let stdout = Desk::new().run_with_input("run echo --input -", "one\ntwo \"2\"\r\n\nend".as_bytes()).good();

    assert_eq!(stdout, "\"one\"\n\"two \\\"2\\\"\"\n\"\"\n\"end\"\n");
}

#[test]
fn text_comes_out_as_it_went_in() {
    let stdout = Desk::new().run_with_input("run echo -i - --output-format text", "größe\n日本\n".as_bytes()).good();

    assert_eq!(stdout, "größe\n日本\n");
}

#[test]
fn json_comes_out_as_it_went_in() {
    let desk = Desk::new();
    let lines = "{\"b\":1,\"a\":[true,null,-2.5]}\n9223372036854775807\n1.0\n\"ü\\n\"\n";
    desk.file("in.jsonl", lines);

    assert_eq!(desk.run("run echo --input in.jsonl").good(), lines);
}

#[test]
fn inputs_are_read_one_after_the_other() {
    let desk = Desk::new();
    desk.file("a.txt", "1\n");
    desk.file("b.jsonl", "2\n\n  \n3");

    assert_eq!(desk.run("run echo -i a.txt -i b.jsonl -i a.txt").good(), "\"1\"\n2\n3\n\"1\"\n");
}

#[test]
fn a_byte_order_mark_is_not_text() {
    let desk = Desk::new();
    desk.file("in.txt", "\u{feff}a\n");

    assert_eq!(desk.run("run echo --input in.txt").good(), "\"a\"\n");
}

#[test]
fn without_input_one_empty_item_goes_in() {
    assert_eq!(Desk::new().run("run echo").good(), "null\n");
}

#[test]
fn an_empty_input_gives_no_output() {
    assert_eq!(Desk::new().run("run echo --input -").good(), "");
}

#[test]
fn outputs_go_to_a_file_in_the_format_of_its_name() {
    let desk = Desk::new();

    desk.run_with_input("run echo -i - --format jsonl --output out.txt", b"\"a\"\n{\"b\":1}\n").good();

    assert_eq!(std::fs::read_to_string(desk.path("out.txt")).unwrap(), "a\n{\"b\":1}\n");
}

#[test]
fn a_pipe_that_stays_open_gets_its_outputs_at_once() {
    let mut child = Desk::new().start("run echo --input -");
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());

    for word in ["a", "b"] {
        writeln!(stdin, "{word}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, format!("\"{word}\"\n"));
    }

    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_partial_file_is_up_to_date_while_the_input_pauses() {
    let desk = Desk::new();
    let mut child = desk.start("run echo --input - --output out.jsonl");
    let mut stdin = child.stdin.take().unwrap();

    writeln!(stdin, "a").unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let is_written = || std::fs::read_to_string(desk.path("out.jsonl.partial")).is_ok_and(|text| text == "\"a\"\n");
    while !is_written() {
        assert!(Instant::now() < deadline, "the output is still not in the file");
        std::thread::yield_now();
    }

    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_closed_stdout_ends_an_endless_run_quietly() {
    let mut child = Desk::new().start("run numbers");
    let mut line = String::new();

    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();

    let rest = child.wait_with_output().unwrap();
    assert_eq!((line.as_str(), rest.status.code(), rest.stderr.as_slice()), ("0\n", Some(0), &b""[..]));
}

#[test]
fn a_broken_line_is_named_after_the_outputs_of_those_before() {
    let desk = Desk::new();
    desk.file("in.jsonl", "1\n\n{\"a\": }\n4\n");

    let ran = desk.run("run echo --input in.jsonl");

    assert_eq!(ran.stdout, "1\n");
    assert_eq!(ran.bad(1), "native: in.jsonl, line 3: not JSON: expected value at column 7\n");
}

#[test]
fn a_value_over_several_lines_gets_a_hint() {
    let desk = Desk::new();
    desk.file("in.json", "{\n  \"a\": 1\n}\n");

    let stderr = desk.run("run echo --input in.json").bad(1);

    assert!(stderr.contains("in.json, line 1: not JSON: EOF while parsing"), "{stderr}");
    assert!(
        stderr.contains("each line must contain one complete JSON value (convert the file with jq -c .)"),
        "{stderr}"
    );
}

#[test]
fn integers_of_any_size_pass_unchanged() {
    let lines = format!("18446744073709551616\n[-{}]\n0\n", "9".repeat(5000));

    assert_eq!(Desk::new().run_with_input("run echo -i - --format jsonl", lines.as_bytes()).good(), lines);
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    let stderr = Desk::new().run_with_input("run echo --input -", b"ok\nab\xffc\n").bad(1);

    assert_eq!(
        stderr,
        "native: stdin, line 2: not UTF-8 text (at byte 3 of the line); convert the file with iconv, or set --format\n"
    );
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_the_memory() {
    let endless = vec![b'x'; 65 * 1024 * 1024];

    let stderr = Desk::new().run_with_input("run echo --input -", &endless).bad(1);

    assert_eq!(stderr, "native: stdin, line 1: longer than 64 MiB; is this a text file?\n");
}

#[test]
fn what_json_cannot_hold_is_refused_with_its_place() {
    let desk = Desk::new();

    assert_eq!(
        desk.run("run nan").bad(1),
        "native: output 1 cannot be written as JSON: .score is NaN, which JSON cannot represent; replace it in the node\n"
    );
    assert_eq!(desk.run("run bytes").good(), "\"AQID\"\n");
}
