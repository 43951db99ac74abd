//! Root over one id, emulated and recorded: what a step leaves is what it leaves where ids are mapped.

use serde_json::Value;

use crate::support::TestEnv;

/// Runs shell text with that kind of identity, so that times cannot differ.
fn run(env: &TestEnv, kind: &str, from: &str, text: &str) -> Value {
    let ran = env.json(&["--identity", kind, "run", "--from", from, "--fresh", "--epoch", "0", "-c", text]);
    assert_eq!(ran["exit_code"], 0, "{kind}: {text}: {ran}");
    ran
}

/// What a step prints with emulated root. Where real root or subordinate ids can be had too, it prints the same there and leaves the
/// same tree.
fn same_everywhere(env: &TestEnv, from: &str, text: &str) -> String {
    let recorded = run(env, "recorded", from, text);
    let mapped = if nix::unistd::geteuid().is_root() { "auto" } else { "mapped" };
    let probe = env.run(&["--identity", mapped, "run", "--from", from, "--disposable", "-c", "true"]);
    if probe.code == 0 {
        let mapped = run(env, mapped, from, text);
        assert_eq!(recorded["stdout"], mapped["stdout"], "{text}");
        assert_eq!(recorded["tree"], mapped["tree"], "{text}");
    } else {
        // Loud, and no failure: an ordinary user may have no subordinate ids. CI runs these tests as root as well.
        eprintln!("NOT COMPARED with mapped ids, which this user cannot have: {}", probe.stderr);
        assert!(!nix::unistd::geteuid().is_root(), "real root has every id");
    }
    recorded["stdout"].as_str().unwrap().to_owned()
}

#[test]
fn owners_of_every_kind_of_file_come_out_as_with_mapped_ids() {
    let env = TestEnv::new();
    let said = same_everywhere(
        &env,
        "host",
        "mkdir -p /d/e; cd /d; touch f; ln -s f l; mkfifo p; chown 3:4 f; chown -h 5:6 l; chown 7 p; chgrp 8 e
         chmod u+s f; chown 9 f; ln f h; install -o 10 -g 11 -m 4755 /bin/true t; install -d -o 12 -g 13 -m 2775 s
         touch s/x; mkdir s/y; chown -R 14:15 e; stat -c '%u:%g %a %h %n' f h l p e t s s/x s/y",
    );
    assert_eq!(
        said,
        "9:4 644 2 f\n9:4 644 2 h\n5:6 777 1 l\n7:0 644 1 p\n14:15 755 2 e\n10:11 4755 1 t\n12:13 2775 3 s\n\
         0:13 644 1 s/x\n0:13 2755 2 s/y\n"
    );
}

#[test]
fn an_archive_unpacked_by_root_keeps_its_owners() {
    let env = TestEnv::new();
    let said = same_everywhere(
        &env,
        "host",
        "mkdir /a /b; cd /a; for i in 1 2 3 4; do echo $i > $i; chown $i:1$i $i; done; ln 1 one; ln -s 2 two; chown -h 6:7 two
         tar cf /a.tar .; tar xpf /a.tar -C /b; rm /a.tar; cd /b; stat -c '%u:%g %n' *",
    );
    assert_eq!(said, "1:11 1\n2:12 2\n3:13 3\n4:14 4\n1:11 one\n6:7 two\n");
}

#[test]
fn what_an_earlier_state_says_of_a_path_stays_with_that_file() {
    let env = TestEnv::new();
    let first = "mkdir /d; cd /d; for f in a b c e g; do echo $f > $f; chown 5:6 $f; done; ln -s a l; chown -h 5:6 l; chmod 4755 b
                 mkdir m; chown 7:8 m";
    let from = run(&env, "recorded", "host", first)["state"].as_str().unwrap().to_owned();
    let said = same_everywhere(
        &env,
        &from,
        "cd /d; echo more >> a; mv b b2; ln c c2; rm e; echo new > e; echo x > n; mv n g; mv l l2; rmdir m; mkdir m; chgrp 9 a
         exec 3<> c; stat -c '%u:%g open' - <&3; stat -c '%u:%g %a %n' *",
    );
    assert_eq!(
        said,
        "5:6 open\n5:9 644 a\n5:6 4755 b2\n5:6 644 c\n5:6 644 c2\n0:0 644 e\n0:0 644 g\n5:6 777 l2\n0:0 755 m\n"
    );
}

#[test]
fn a_new_file_in_a_deleted_ones_place_has_no_owner_from_it() {
    let env = TestEnv::new();
    let said = same_everywhere(
        &env,
        "host",
        "cd /; i=0; while [ $i -lt 50 ]; do touch f; chown 5 f; rm f; touch f; [ $(stat -c %u f) = 0 ] || echo $i; i=$((i+1)); done
         mkdir d; chown 6 d; rmdir d; mkdir d; stat -c %u f d",
    );
    assert_eq!(said, "0\n0\n");
}

#[test]
fn who_gave_up_root_makes_files_of_its_own_and_does_not_get_it_back() {
    let env = TestEnv::new();
    let said = same_everywhere(
        &env,
        "host",
        "mkdir -m 1777 /t; setpriv --reuid=7 --regid=9 --groups=11,12 sh -c 'id -u; id -g; id -G; cd /t; umask 027; touch f; mkdir d
         ln -s f l; mkfifo p; echo again >> f; chgrp 11 d; chown 8 f 2>&1 || echo refused; setpriv --reuid=0 true 2>&1 || echo refused
         touch /bin/new 2>&1 || echo refused'; id -u; stat -c '%u:%g %a %n' /t/*",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(&lines[..3], ["7", "9", "9 11 12"]);
    assert_eq!(lines.iter().filter(|line| **line == "refused").count(), 3, "{said}");
    assert!(said.ends_with("0\n7:11 750 /t/d\n7:9 640 /t/f\n7:9 777 /t/l\n7:9 640 /t/p\n"), "{said}");
}

#[test]
fn a_command_runs_as_any_user_and_devices_are_in_the_tree() {
    let env = TestEnv::new();
    let text = "id -u; id -g; touch /tmp/mine; stat -c %u:%g /tmp/mine; touch /mine 2>&1 || echo refused";
    let open = env.json(&["--identity", "recorded", "run", "--from", "host", "-c", "mkdir -p -m 1777 /tmp"]);
    let from = open["state"].as_str().unwrap_or_else(|| panic!("{open}")).to_owned();
    let ran = env.json(&["--identity", "recorded", "run", "--from", &from, "-u", "1234:77", "-c", text]);
    let said = ran["stdout"].as_str().unwrap();
    assert!(said.starts_with("1234\n77\n1234:77\n") && said.ends_with("refused\n"), "{ran}");

    let made = run(
        &env,
        "recorded",
        &from,
        "mknod /n c 1 3; mknod /b b 8 300; chown 3:4 /b; mknod /w c 0 0 || true; cat /n || true",
    );
    let stderr = made["stderr"].as_str().unwrap();
    assert!(stderr.contains("/w: Operation not permitted"), "{stderr}");
    assert!(stderr.contains("/n: No such device or address"), "{stderr}");
    let state = made["state"].as_str().unwrap();
    let moved = run(
        &env,
        "recorded",
        state,
        "stat -c '%F %t:%T %u:%g %n' /n /b; mv /n /null; chmod 600 /b; rm -f /w",
    );
    assert_eq!(moved["stdout"], "character special file 1:3 0:0 /n\nblock special file 8:12c 3:4 /b\n");
    let listed = env.ok(&["ls", "-l", &format!("{}:/", moved["state"].as_str().unwrap())]);
    let line = |name: &str| listed.lines().find(|line| line.ends_with(name)).unwrap_or_default().to_owned();
    assert!(line(" null").starts_with('c') && line(" null").contains("1, 3"), "{listed}");
    assert!(line(" b").starts_with("brw-------") && line(" b").contains("8, 300"), "{listed}");
}

#[test]
fn a_file_that_is_there_is_written_by_whom_its_mode_lets_though_its_directory_does_not() {
    let env = TestEnv::new();
    let from = env.step("host", "touch /told; chmod 666 /told; mkdir /there");
    for kind in ["recorded", "auto"] {
        let text = "echo x > /told; cat /told; mkdir /there 2>&1 | grep -c exists; touch /made 2>/dev/null || echo refused";
        let ran = env.json(&["--identity", kind, "run", "--from", &from, "-u", "7:8", "-c", text]);
        assert_eq!(ran["stdout"], "x\n1\nrefused\n", "{kind}: {ran}");
    }
}

#[test]
fn the_kind_of_identity_is_part_of_the_key() {
    let env = TestEnv::new();
    let first = env.json(&["--identity", "recorded", "run", "--from", "host", "-c", "echo > /x"]);
    let again = env.json(&["--identity", "recorded", "run", "--from", "host", "-c", "echo > /x"]);
    let plain = env.json(&["--identity", "plain", "run", "--from", "host", "-c", "echo > /x"]);
    assert_eq!(
        (&first["reused"], &again["reused"], &plain["reused"]),
        (&false.into(), &true.into(), &false.into())
    );
    let refused = env.json(&["--identity", "plain", "run", "--from", "host", "-c", "touch /y; chown 5 /y"]);
    assert_ne!(refused["exit_code"], 0);
}
