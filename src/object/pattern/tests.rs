//! What patterns match, by examples, by a slow reference and by Git itself.

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::{Glob, Patterns, Slashes};

fn path(pattern: &str, text: &str) -> bool {
    Glob::new(pattern.as_bytes(), Slashes::Separate).matches(text.as_bytes())
}

fn name(pattern: &str, text: &str) -> bool {
    Glob::new(pattern.as_bytes(), Slashes::Ordinary).matches(text.as_bytes())
}

#[test]
fn wildcards_stop_at_slashes_in_paths_and_not_in_names() {
    for (pattern, text, as_path, as_name) in [
        ("a*", "abc", true, true),
        ("a*", "a/b", false, true),
        ("a?c", "a/c", false, true),
        ("a[!x]c", "a/c", false, true),
        ("*", "", true, true),
        ("**", "a/b", true, true),
        ("a**", "a/b", false, true),
        ("**/c", "c", true, false),
        ("**/c", "a/b/c", true, true),
        ("**/c", "a/bc", false, false),
        ("a/**", "a/b/c", true, true),
        ("a/**", "a", false, false),
        ("a/**/c", "a/c", true, false),
        ("a/**/c", "a/x/y/c", true, true),
        ("a/**/c", "axc", false, false),
        ("a/*/c", "a/x/y/c", false, true),
        ("feature/*", "feature/a/b", false, true),
    ] {
        assert_eq!((path(pattern, text), name(pattern, text)), (as_path, as_name), "{pattern} {text}");
    }
}

#[test]
fn classes_and_escapes_mean_what_they_mean_in_git() {
    for (pattern, text, matches) in [
        ("[a-c]x", "bx", true),
        ("[!a-c]x", "bx", false),
        ("[^a-c]x", "dx", true),
        ("[]a]", "]", true),
        ("[a-]", "-", true),
        ("[\\]]", "]", true),
        ("[[:digit:]]z", "7z", true),
        ("[[:upper:][:digit:]_]", "q", false),
        ("[[:nonsense:]]", "n", false),
        ("[abc", "a", false),
        ("a\\", "a", false),
        ("a\\", "a\\", false),
        ("\\*", "*", true),
        ("\\*", "x", false),
    ] {
        assert_eq!(path(pattern, text), matches, "{pattern} {text}");
    }
    assert!(Glob::new(b"\xff*[\x80-\x90]", Slashes::Separate).matches(b"\xffmiddle\x85"));
}

#[test]
fn a_pattern_made_to_be_slow_is_not() {
    let pattern = "*a".repeat(200);
    let text = "a".repeat(4000) + "b";
    let before = std::time::Instant::now();
    assert!(!path(&pattern, &text));
    assert!(before.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn the_last_line_that_matches_decides_and_a_directory_takes_what_is_below_with_it() {
    let patterns = Patterns::parse(
        b"# comment\r\n*.log\n!keep.log\nbuild/\n!build/kept\n/top\nsub/deep/x\n\\#hash\n\\!bang\ntrailing  \nkept\\ \n",
    );
    for (path, directory, out) in [
        ("a.log", false, true),
        ("d/a.log", false, true),
        ("d/keep.log", false, false),
        ("build", false, false),
        ("build", true, true),
        ("build/kept", false, true),
        ("d/build/x", false, true),
        ("top", false, true),
        ("d/top", false, false),
        ("sub/deep/x", false, true),
        ("d/sub/deep/x", false, false),
        ("#hash", false, true),
        ("!bang", false, true),
        ("trailing", false, true),
        ("kept ", false, true),
        ("kept", false, false),
        ("comment", false, false),
    ] {
        assert_eq!(patterns.excludes_below(path.as_bytes(), directory), out, "{path}");
    }
    assert!(Patterns::parse(b"\n# nothing\n!x\n/\n").is_empty());
    assert!(!patterns.is_empty());
}

/// The pattern's meaning by trying every way, for patterns without classes and escapes.
fn slow(pattern: &[u8], text: &[u8], begins_name: bool) -> bool {
    let Some(first) = pattern.first() else { return text.is_empty() };
    let any = |rest: &[u8], slash: bool| {
        let ends = (0..=text.len()).take_while(|at| slash || !text[..*at].contains(&b'/'));
        ends.into_iter().any(|at| slow(rest, &text[at..], false))
    };
    match first {
        b'*' => {
            let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
            let rest = &pattern[stars..];
            if stars == 1 || !begins_name || !(rest.is_empty() || rest[0] == b'/') {
                return any(rest, false);
            }
            (!rest.is_empty() && slow(&rest[1..], text, true)) || any(rest, true)
        }
        b'?' => text.first().is_some_and(|byte| *byte != b'/') && slow(&pattern[1..], &text[1..], false),
        byte => text.first() == Some(byte) && slow(&pattern[1..], &text[1..], *byte == b'/'),
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_pattern(pattern in prop::collection::vec(any::<u8>(), 0..40), text in prop::collection::vec(any::<u8>(), 0..40)) {
        for slashes in [Slashes::Separate, Slashes::Ordinary] {
            Glob::new(&pattern, slashes).matches(&text);
        }
        Patterns::parse(&pattern).excludes_below(&text, true);
    }

    #[test]
    fn a_pattern_matches_what_a_slow_reading_of_it_does(pattern in "[ab/*?]{0,8}", text in "[ab/]{0,8}") {
        prop_assert_eq!(path(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes(), true));
    }

    #[test]
    fn a_text_with_every_byte_escaped_matches_itself_alone(text in prop::collection::vec(any::<u8>(), 0..12), other in prop::collection::vec(any::<u8>(), 0..12)) {
        let escaped: Vec<u8> = text.iter().flat_map(|byte| [b'\\', *byte]).collect();
        let glob = Glob::new(&escaped, Slashes::Separate);
        prop_assert!(glob.matches(&text));
        prop_assert_eq!(glob.matches(&other), text == other);
    }
}

/// What Git leaves out, by `git check-ignore` in an empty repository: none of the paths exists, so each counts as a file.
fn by_git(repository: &std::path::Path, lines: &[String], paths: &[&str]) -> Vec<bool> {
    std::fs::write(repository.join(".gitignore"), lines.join("\n")).unwrap();
    let mut git = Command::new("git")
        .args(["check-ignore", "--no-index", "--stdin", "-z", "-v", "-n"])
        .current_dir(repository)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    git.stdin.take().unwrap().write_all(paths.join("\0").as_bytes()).unwrap();
    let output = git.wait_with_output().unwrap();
    // Four fields a path: file, line, pattern, path. A pattern with `!` is one that does not leave out.
    let text = String::from_utf8(output.stdout).unwrap();
    let fields: Vec<&str> = text.split('\0').collect();
    fields.chunks_exact(4).map(|of| !of[2].is_empty() && !of[2].starts_with('!')).collect()
}

#[test]
fn patterns_leave_out_what_git_leaves_out() {
    let repository = tempfile::tempdir().unwrap();
    let made = Command::new("git").args(["init", "-q"]).current_dir(repository.path()).status().unwrap();
    assert!(made.success());
    let paths =
        ["a", "b", "ab", "a/b", "b/a", "a/ab", "a/b/a", "b/a/b", "ab/ba/a", "a/b/a/b", "ba", "a b", "b/ba/b"];
    // Not `x**`: Git compares what is before the first wildcard by itself, and then takes `**` for one that begins a name.
    let part = prop_oneof!["[ab]{1,2}", "[ab]?[*][ab]?", "[?]", "\\[!?[ab]-?[ab]?\\]", "\\*\\*"];
    let pattern = (any::<bool>(), prop::collection::vec(part, 1..4), any::<bool>(), any::<bool>());
    let line = pattern.prop_map(|(root, parts, directory, negated)| {
        let text = |on: bool, text: &'static str| if on { text } else { "" };
        format!("{}{}{}{}", text(negated, "!"), text(root, "/"), parts.join("/"), text(directory, "/"))
    });
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 150, ..ProptestConfig::default() });
    let lines = prop::collection::vec(line, 1..5);
    let compared = runner.run(&lines, |lines| {
        let patterns = Patterns::parse(lines.join("\n").as_bytes());
        let ours: Vec<bool> =
            paths.iter().map(|path| patterns.excludes_below(path.as_bytes(), false)).collect();
        prop_assert_eq!(ours, by_git(repository.path(), &lines, &paths), "{:?} over {:?}", lines, paths);
        Ok(())
    });
    compared.unwrap();
}
