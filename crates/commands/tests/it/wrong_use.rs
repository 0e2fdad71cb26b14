//! Every way to use `run` wrongly, and what the user reads.

use crate::program::Desk;

#[track_caller]
fn refused(desk: &Desk, line: &str, text: &str) {
    assert_eq!(desk.run(line).bad(2), format!("native: {text}\n"));
}

#[test]
fn a_target_that_does_not_exist_is_refused() {
    refused(&Desk::new(), "run ehco", "there is no pipeline 'ehco'; did you mean 'echo'?");
}

#[test]
fn an_input_that_does_not_exist_is_refused() {
    refused(&Desk::new(), "run echo --input none.txt", "input 'none.txt' does not exist");
}

#[test]
fn a_directory_is_not_an_input() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("d")).unwrap();

    refused(&desk, "run echo --input d", "input 'd' is a directory; pass each of its files with --input");
}

#[test]
fn stdin_is_read_once() {
    refused(&Desk::new(), "run echo -i - -i -", "stdin (--input -) can be read only once");
}

#[test]
fn a_name_without_a_format_is_refused() {
    let desk = Desk::new();

    refused(
        &desk,
        "run echo --input in.csv",
        "the name of input 'in.csv' has no known extension; add --format wav, raw, jsonl or text",
    );
    refused(
        &desk,
        "graph echo --output out.png",
        "the name of output 'out.png' has no known extension; add --format text, mermaid, dot or svg",
    );
}

#[test]
fn a_media_file_gets_the_way_to_decode_it() {
    refused(
        &Desk::new(),
        "run echo --input talk.MP3",
        "input 'talk.MP3' is compressed or in another media format; decode it before it is read:\n  \
         ffmpeg -i 'talk.MP3' -f wav - | … --input - --format wav",
    );
    refused(
        &Desk::new(),
        "run echo --output talk.opus",
        "output 'talk.opus' is compressed or in another media format; encode it after it is written:\n  \
         … --output-format wav | ffmpeg -i - 'talk.opus'",
    );
}

#[test]
fn raw_input_needs_a_rate() {
    refused(
        &Desk::new(),
        "run echo --input in.raw",
        "raw audio does not contain its sample rate; add --rate, such as --rate 16000, for in.raw",
    );
}

#[test]
fn options_that_would_change_nothing_are_refused() {
    let desk = Desk::new();
    desk.file("in.txt", "a\n");

    for (option, text) in [
        ("--rate 8000", "--rate applies only to raw input; add --format raw if the input is raw"),
        ("--channels 2", "--channels applies only to raw input; add --format raw if the input is raw"),
        ("--chunk-ms 10", "--chunk-ms applies only to audio input; add --format wav or raw if the input is audio"),
        ("--sample-format u8", "--sample-format applies only to raw input and audio output"),
    ] {
        refused(&desk, &format!("run echo --input in.txt {option}"), text);
    }
}

#[test]
fn an_output_that_cannot_be_created_is_refused() {
    let stderr = Desk::new().run("run echo --output none/out.txt").bad(2);

    assert!(stderr.starts_with("native: cannot write to none/out.txt: No such file"), "{stderr}");
}

#[test]
fn a_mistyped_command_option_or_value_gets_a_suggestion() {
    let desk = Desk::new();

    for (line, suggestion) in
        [("rum echo", "'run'"), ("run echo --ouptut x", "'--output'"), ("graph echo --format svgg", "'svg'")]
    {
        let stderr = desk.run(line).bad(2);
        assert!(stderr.contains("similar") && stderr.contains(suggestion), "{stderr}");
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let stderr = Desk::new().run("run echo --input - --chunk-ms 0").bad(2);

    assert!(stderr.contains("0 is not in 1..=60000"), "{stderr}");
}

#[test]
fn without_a_command_the_help_is_shown() {
    assert!(Desk::new().run("").bad(2).contains("Commands:\n  run "));
}

#[test]
fn only_the_host_knows_the_python_option() {
    assert!(Desk::new().run("doctor --python x").bad(2).contains("unexpected argument '--python'"));
}
