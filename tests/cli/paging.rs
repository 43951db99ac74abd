//! Long results on a terminal go through a pager.

use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;

use crate::support::TestEnv;

/// What a terminal shows of a call, and its exit code.
fn on_terminal(env: &TestEnv, args: &[&str], vars: &[(&str, &str)]) -> (i32, String) {
    let pty = nix::pty::openpty(None, None).unwrap();
    rustix::termios::tcsetwinsize(
        &pty.master,
        rustix::termios::Winsize { ws_row: 24, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 },
    )
    .unwrap();
    let mut command = env.command(args);
    command.env("TERM", "vt100").env_remove("COLUMNS").envs(vars.iter().copied());
    let stream = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = command.stdin(Stdio::null()).stdout(stream()).stderr(stream()).spawn().unwrap();
    drop(command);
    drop(pty.slave);
    let mut master = File::from(pty.master);
    let reader = std::thread::spawn(move || {
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
        // Once nobody has the other side open, reading fails.
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            seen.extend_from_slice(&buffer[..count]);
        }
        seen
    });
    let code = child.wait().unwrap().code().unwrap_or(-1);
    (code, String::from_utf8(reader.join().unwrap()).unwrap().replace("\r\n", "\n"))
}

const MARK: &str = "sed s/^/paged:/";

#[test]
fn a_terminal_gets_long_results_through_the_pager_that_is_named() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo 1 > /f"]);
    for args in [&["log", "--oneline"][..], &["show"], &["diff", "HEAD~1"]] {
        let (code, seen) = on_terminal(&env, args, &[("TREEBOX_PAGER", MARK), ("PAGER", "false")]);
        assert_eq!(code, 0);
        assert!(seen.lines().all(|line| line.starts_with("paged:")), "{args:?}: {seen}");
    }
    let (_, seen) = on_terminal(&env, &["log", "--oneline"], &[("PAGER", MARK)]);
    assert!(seen.starts_with("paged:\x1b["), "with colours: {seen}");
    let (_, seen) = on_terminal(&env, &["log"], &[("PAGER", "echo $LESS $LV; cat >&2")]);
    assert!(seen.starts_with("FRX -c\n"), "{seen}");
    let (_, seen) = on_terminal(&env, &["log"], &[("PAGER", "echo $LESS"), ("LESS", "mine")]);
    assert_eq!(seen, "mine\n");
}

#[test]
fn there_is_no_pager_where_none_is_wanted() {
    let env = TestEnv::on_main();
    let marked = [("TREEBOX_PAGER", MARK)];
    for args in [&["--no-pager", "log"][..], &["log", "--json"], &["status"]] {
        let (code, seen) = on_terminal(&env, args, &marked);
        assert!(code == 0 && !seen.contains("paged:"), "{args:?}: {seen}");
    }
    for none in ["", "cat", "no-such-pager-anywhere"] {
        let (code, seen) = on_terminal(&env, &["log", "--oneline"], &[("TREEBOX_PAGER", none)]);
        assert!(code == 0 && seen.contains("import host"), "{none:?}: {seen}");
    }
    let mut command = env.command(&["log", "--oneline"]);
    let piped = String::from_utf8(command.env("TREEBOX_PAGER", MARK).output().unwrap().stdout).unwrap();
    assert!(!piped.contains("paged:"), "{piped}");
}

#[test]
fn a_pager_that_ends_early_is_quiet_and_an_error_starts_none() {
    let env = TestEnv::on_main();
    // More than a pipe holds.
    env.file("empty/x", "");
    env.ok(&["import", "-q", "dir:empty", "--name", "nothing"]);
    let (code, seen) = on_terminal(&env, &["diff", "-p", "nothing:latest", "host"], &[("PAGER", "true")]);
    assert_eq!((code, seen.as_str()), (0, ""));
    let (code, seen) = on_terminal(&env, &["show", ":/usr/bin/sh"], &[("PAGER", "true")]);
    assert_eq!((code, seen.as_str()), (0, ""));
    let (code, seen) = on_terminal(&env, &["log", "no-such"], &[("PAGER", "echo started")]);
    assert!(code == 125 && !seen.contains("started"), "{seen}");
}

#[test]
fn stat_is_as_wide_as_the_terminal_and_names_are_safe_on_it() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "seq 1 500 > /f; touch \"$(printf '/a\\033b')\""]);
    let (_, seen) = on_terminal(&env, &["diff", "--stat", "--color=never", "HEAD~1"], &[("PAGER", "cat")]);
    let row = seen.lines().find(|line| line.contains("500 ")).unwrap();
    assert!(row.len() > 50 && row.len() <= 60, "{row}");
    assert!(seen.contains(r"/a\x1bb") && !seen.contains('\x1b'), "{seen}");
}
