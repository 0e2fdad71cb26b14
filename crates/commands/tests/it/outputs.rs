//! What becomes of the file that `--output` names: it appears whole or not at all.

use std::fs::{Permissions, hard_link, read_to_string, set_permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::program::Desk;

const FAILS_AT_THE_THIRD: &str = "run fail --input - --output out.txt";

fn names(desk: &Desk) -> Vec<String> {
    let entries = std::fs::read_dir(desk.path(".")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn outputs_before_a_failure_lie_beside_the_old_file() {
    let desk = Desk::new();
    desk.file("out.txt", "old\n");

    let stderr = desk.run_with_input(FAILS_AT_THE_THIRD, b"a\nb\nc\nd\n").bad(1);

    assert!(
        stderr.contains("The outputs before the failure are in 'out.txt.partial'; 'out.txt' is unchanged\n"),
        "{stderr}"
    );
    assert_eq!(read_to_string(desk.path("out.txt.partial")).unwrap(), "a\nb\n");
    assert_eq!(read_to_string(desk.path("out.txt")).unwrap(), "old\n");
}

#[test]
fn the_next_run_takes_over_what_a_failure_has_left() {
    let desk = Desk::new();
    desk.run_with_input(FAILS_AT_THE_THIRD, b"a\nb\nc\nd\n").bad(1);

    desk.run_with_input(FAILS_AT_THE_THIRD, b"1\n").good();

    assert_eq!((names(&desk), read_to_string(desk.path("out.txt")).unwrap()), (vec!["out.txt".into()], "1\n".into()));
}

#[test]
fn a_failure_before_the_first_output_leaves_nothing() {
    let desk = Desk::new();

    let stderr = desk.run("run nan --output out.jsonl").bad(1);

    assert_eq!((stderr.contains("partial"), names(&desk)), (false, Vec::new()));
}

#[test]
fn two_runs_at_a_time_do_not_mix() {
    let desk = Desk::new();
    let mut first = desk.start("run echo --input - --output out.txt");
    while !desk.path("out.txt.partial").exists() {
        assert!(first.try_wait().unwrap().is_none());
    }

    desk.run_with_input("run echo --input - --output out.txt", b"second\n").good();
    assert_eq!(read_to_string(desk.path("out.txt")).unwrap(), "second\n");

    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());
    assert_eq!((names(&desk), read_to_string(desk.path("out.txt")).unwrap()), (vec!["out.txt".into()], String::new()));
}

#[test]
fn a_symbolic_link_stays_one() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("d")).unwrap();
    desk.file("d/old.txt", "old\n");
    symlink("d/old.txt", desk.path("link.txt")).unwrap();
    symlink("d/new.txt", desk.path("dangling.txt")).unwrap();

    for (link, file) in [("link.txt", "d/old.txt"), ("dangling.txt", "d/new.txt")] {
        desk.run_with_input(&format!("run echo --input - --output {link}"), b"a\n").good();

        assert!(desk.path(link).is_symlink());
        assert_eq!(read_to_string(desk.path(file)).unwrap(), "a\n");
    }
}

#[test]
fn permissions_stay_as_they_were() {
    let desk = Desk::new();
    let file = desk.file("out.txt", "old\n");
    set_permissions(&file, Permissions::from_mode(0o640)).unwrap();

    desk.run_with_input("run echo --input - --output out.txt", b"a\n").good();

    assert_eq!(
        (file.metadata().unwrap().permissions().mode() & 0o777, read_to_string(file).unwrap()),
        (0o640, "a\n".into())
    );
}

#[test]
fn pipes_and_devices_are_written_to_directly() {
    let desk = Desk::new();

    assert_eq!(desk.run_with_input("run echo --input - --output /dev/stdout", b"a\n").good(), "\"a\"\n");
    assert_eq!(desk.run_with_input("run echo --input - --output /dev/fd/1", b"a\n").good(), "\"a\"\n");
    assert_eq!(desk.run_with_input("run echo --input - --output /dev/null", b"a\n").good(), "");
    assert_eq!(names(&desk), Vec::<String>::new());
}

#[test]
fn an_input_is_not_overwritten_under_any_name() {
    let desk = Desk::new();
    let file = desk.file("a.txt", "precious\n");
    symlink("a.txt", desk.path("link.txt")).unwrap();
    hard_link(&file, desk.path("hard.txt")).unwrap();

    for output in ["a.txt", "./a.txt", "link.txt", "hard.txt"] {
        let stderr = desk.run(&format!("run echo --input a.txt --output {output}")).bad(2);

        assert_eq!(
            stderr,
            "native: 'a.txt' is both input and output; write to another file, and rename it after the run\n"
        );
        assert_eq!(read_to_string(&file).unwrap(), "precious\n");
    }
}

#[test]
fn a_redirected_input_is_not_overwritten_either() {
    let desk = Desk::new();
    let file = desk.file("a.txt", "precious\n");
    let shell = |line: &str| desk.shell(line).bad(2);

    for line in
        ["run echo -i - -o a.txt < a.txt", "run echo -i a.txt >> a.txt", "run echo -i - -o /dev/fd/3 < a.txt 3>> a.txt"]
    {
        assert!(shell(line).contains("is both input and output"));
        assert_eq!(read_to_string(&file).unwrap(), "precious\n");
    }
}

#[test]
fn the_target_is_not_overwritten() {
    let desk = Desk::new();
    let file = desk.file("app.py", "precious\n");

    for line in ["run app.py:pipeline -o app.py", "run app.py -o ./app.py", "graph app.py --format dot -o app.py"] {
        assert_eq!(desk.run(line).bad(2), "native: 'app.py' is both TARGET and output; name another output\n");
        assert_eq!(read_to_string(&file).unwrap(), "precious\n");
    }
}

#[test]
fn a_name_without_a_format_gets_json_lines() {
    let desk = Desk::new();
    for name in ["result.out", "result", "result.x.1"] {
        desk.run_with_input(&format!("run echo --input - --output {name}"), b"a\n").good();

        assert_eq!(read_to_string(desk.path(name)).unwrap(), "\"a\"\n");
    }
}
