//! What is remembered and when it is used again.

use crate::support::TestEnv;

#[test]
fn a_random_number_written_to_a_file_gives_the_same_child_twice_and_three_commands_on_it_see_it_and_not_each_other()
 {
    let env = TestEnv::new();
    let write = "od -An -N8 -tu8 /dev/urandom > /random.txt";
    let first = env.shell("host", write);
    let second = env.shell("host", write);
    assert_eq!((&first["changed"], &first["reused"]), (&true.into(), &false.into()));
    assert_eq!((&second["changed"], &second["reused"]), (&true.into(), &true.into()));
    assert_eq!(first["state"], second["state"]);

    let child = first["state"].as_str().unwrap();
    let number = env.ok(&["cat", &format!("{child}:/random.txt")]);
    assert!(!number.trim().is_empty());
    let mut states = vec![child.to_owned()];
    for letter in ["A", "B", "C"] {
        let ran = env.shell(child, &format!("echo {letter} >> /random.txt; cat /random.txt"));
        assert_eq!(ran["stdout"], format!("{number}{letter}\n"));
        assert_eq!(ran["parent"], *child);
        states.push(ran["state"].as_str().unwrap().to_owned());
    }
    states.sort();
    states.dedup();
    assert_eq!(states.len(), 4, "every child is a state of its own");
}

#[test]
fn a_command_that_only_prints_random_bytes_prints_others_the_second_time_and_its_state_is_its_parents() {
    let env = TestEnv::new();
    let host = env.json_lines(&["images"])[0]["state"].clone();
    let print = "od -An -N16 -tx1 /dev/urandom";
    let (first, second) = (env.shell("host", print), env.shell("host", print));
    assert_ne!(first["stdout"], second["stdout"]);
    for ran in [&first, &second] {
        assert_eq!(ran["state"], host);
        assert_eq!(ran["parent"], host);
        assert_eq!((&ran["changed"], &ran["reused"]), (&false.into(), &false.into()));
    }
}

#[test]
fn reuse_always_gives_the_output_of_a_pure_observation_again() {
    let env = TestEnv::new();
    let run =
        ["run", "--from", "host", "--reuse", "always", "-c", "od -An -N16 -tx1 /dev/urandom; echo e >&2"];
    let (first, second) = (env.json(&run), env.json(&run));
    assert_eq!((&second["reused"], &second["stdout"]), (&true.into(), &first["stdout"]));
    let shown = env.run(&run);
    assert_eq!(shown.text(), first["stdout"].as_str().unwrap());
    assert!(shown.stderr.starts_with("e\ntreebox: "), "{}", shown.stderr);
    assert!(shown.stderr.ends_with(" reused\n"), "{}", shown.stderr);
}

#[test]
fn the_same_echo_twice_gives_the_same_state_with_fresh_too() {
    let env = TestEnv::new();
    for text in ["echo hi", "echo hi > /f"] {
        let plain = env.step("host", text);
        assert_eq!(env.step("host", text), plain, "{text}");
        let fresh = env.json(&["run", "--from", "host", "--fresh", "-c", text]);
        assert_eq!(fresh["reused"], false);
        assert_eq!(fresh["state"], *plain, "{text}");
    }
}

#[test]
fn sort_forwards_and_backwards_from_one_parent_give_two_states_that_each_chain_on() {
    let env = TestEnv::new();
    let base = env.step("host", "printf 'b\\nc\\na\\n' > /list");
    let up = env.step(&base, "sort /list > /sorted");
    let down = env.step(&base, "sort -r /list > /sorted");
    assert_ne!(up, down);
    assert_eq!(env.ok(&["cat", &format!("{up}:/sorted")]), "a\nb\nc\n");
    assert_eq!(env.ok(&["cat", &format!("{down}:/sorted")]), "c\nb\na\n");
    let last = env.step(&down, "head -n 1 /sorted > /first");
    assert_eq!(env.ok(&["cat", &format!("{last}:/first")]), "c\n");
    assert_eq!(env.step(&base, "sort /list > /sorted"), up);
}

#[test]
fn a_failed_command_is_never_replayed_and_its_state_is_kept() {
    let env = TestEnv::new();
    let text = "od -An -N8 -tx1 /dev/urandom > /f; exit 3";
    let (first, second) = (env.shell("host", text), env.shell("host", text));
    assert_eq!((&first["exit_code"], &second["exit_code"]), (&3.into(), &3.into()));
    assert_ne!(first["state"], second["state"]);
    env.ok(&["cat", &format!("{}:/f", first["state"].as_str().unwrap())]);
}

#[test]
fn environment_workdir_and_files_count_in_the_key_and_timeouts_do_not() {
    let env = TestEnv::new();
    let run = |more: &[&str]| env.json(&[&["run", "--from", "host"], more, &["-c", "env > /env"]].concat());
    assert_eq!(run(&[])["reused"], false);
    assert_eq!(run(&["--timeout", "1m"])["reused"], true);
    assert_eq!(run(&["-e", "A=1"])["reused"], false);
    assert_eq!(run(&["-e", "A=2"])["reused"], false);
    assert_eq!(run(&["-e", "A=1"])["reused"], true);
    assert_eq!(run(&["-w", "/tmp"])["reused"], false);
    env.file("in", "1");
    assert_eq!(run(&["--copy", "in:/in"])["reused"], false);
    env.file("in", "2");
    assert_eq!(run(&["--copy", "in:/in"])["reused"], false);
    env.file("in", "1");
    assert_eq!(run(&["--copy", "in:/in"])["reused"], true, "new times alone are no change");
}
