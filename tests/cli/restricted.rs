//! Machines that allow less: what still works there, and what is said of the rest.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{TestEnv, treebox};

/// Shell text in a user namespace of its own, where this user may take things away from himself. `$T` is treebox.
fn in_own_namespace(env: &TestEnv, text: &str) -> Output {
    let mut command = Command::new("unshare");
    env.isolate(&mut command);
    command.env("T", treebox()).args(["--user", "--map-root-user", "--mount", "sh", "-c", text]);
    command.output().expect("these tests need unshare of util-linux")
}

/// The documents on stdout, and the exit code.
fn findings(output: &Output) -> (Vec<Value>, Option<i32>) {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let parsed = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    let stderr = String::from_utf8_lossy(&output.stderr);
    (parsed.unwrap_or_else(|error| panic!("{error}: {text}{stderr}")), output.status.code())
}

fn named<'f>(findings: &'f [Value], name: &str) -> &'f Value {
    let found = findings.iter().find(|finding| finding["name"] == name);
    found.unwrap_or_else(|| panic!("no finding named {name} in {findings:#?}"))
}

/// In a namespace that may have none below it.
const FORBID: &str = "echo 0 >/proc/sys/user/max_user_namespaces || exit 99\n";

#[test]
fn without_user_namespaces_everything_but_run_works() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo one >/one"]);
    env.file("brought", "two\n");
    let text = format!(
        "{FORBID}
        set -eu
        $T import host --name again -q >/dev/null
        $T images >/dev/null
        $T status >/dev/null
        $T branch other HEAD~1
        $T tag kept
        $T log --oneline >/dev/null
        $T show HEAD >/dev/null
        $T ls -R HEAD:/ >/dev/null
        test \"$($T cat HEAD:/one)\" = one
        $T cp -q brought main:/brought
        test \"$($T cat main:/brought)\" = two
        $T cp HEAD:/one copied && test \"$(cat copied)\" = one
        $T diff HEAD~1 HEAD | grep -q /brought
        $T checkout HEAD --to out -q && test \"$(cat out/one)\" = one
        $T switch -q other
        $T reset -q main
        $T reflog >/dev/null
        echo all done"
    );
    let done = in_own_namespace(&env, &text);
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "all done\n",
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn without_user_namespaces_run_says_what_is_wrong_in_one_line_and_doctor_how_to_change_it() {
    let env = TestEnv::on_main();
    let refused = in_own_namespace(&env, &format!("{FORBID} exec $T run -c true"));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(125), "{stderr}");
    assert!(stderr.lines().count() == 2 && stderr.contains("user.max_"), "{stderr}");
    assert!(
        stderr.lines().all(|line| line.starts_with("treebox: ") || line.starts_with("hint: ")),
        "{stderr}"
    );

    let (found, code) = findings(&in_own_namespace(&env, &format!("{FORBID} exec $T --json doctor")));
    let spaces = named(&found, "user namespaces");
    assert_eq!((code, &spaces["outcome"]), (Some(1), &Value::from("failed")), "{found:#?}");
    assert!(spaces["fix"].as_str().unwrap().contains("sysctl -w user.max_user_namespaces="), "{spaces}");
    assert_eq!(named(&found, "store")["outcome"], "ok");
}

#[test]
fn a_step_that_is_remembered_needs_no_user_namespaces() {
    let env = TestEnv::on_main();
    // The ids of the namespace that `unshare` makes are the mode that the step is remembered under.
    let ran = in_own_namespace(&env, "$T run -q -c 'echo one >/one' && $T reset -q HEAD~1");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let again = in_own_namespace(&env, &format!("{FORBID} exec $T --json run -c 'echo one >/one'"));
    let (outcome, code) = findings(&again);
    assert_eq!((code, &outcome[0]["reused"]), (Some(0), &Value::from(true)), "{outcome:?}");
}

#[test]
fn a_covered_proc_is_named_with_what_covers_it() {
    let env = TestEnv::on_main();
    let cover =
        "mount --bind /dev/null /proc/timer_list || mount --bind /dev/null /proc/version || exit 99\n";
    let (found, code) = findings(&in_own_namespace(&env, &format!("{cover} exec $T --json doctor")));
    let proc = named(&found, "proc");
    assert_eq!((code, &proc["outcome"]), (Some(1), &Value::from("failed")), "{found:#?}");
    let cause = proc["cause"].as_str().unwrap();
    assert!(cause.contains("/proc/timer_list") || cause.contains("/proc/version"), "{proc}");
    let refused = in_own_namespace(&env, &format!("{cover} exec $T run -c true"));
    assert_eq!(refused.status.code(), Some(125));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("a fresh /proc"), "{stderr}");
}

#[test]
fn a_store_on_an_overlay_is_told_before_anything_is_run() {
    let env = TestEnv::empty();
    let text =
        "mkdir l u w m && mount -t overlay overlay -o userxattr,lowerdir=l,upperdir=u,workdir=w m || exit 99
        TREEBOX_STORE=m/store exec $T --json doctor";
    let (found, code) = findings(&in_own_namespace(&env, text));
    let store = named(&found, "store");
    assert_eq!((code, &store["outcome"]), (Some(1), &Value::from("failed")), "{found:#?}");
    assert!(store["cause"].as_str().unwrap().contains("overlay"), "{store}");
    assert!(store["fix"].as_str().unwrap().contains("TREEBOX_STORE"), "{store}");
}

#[test]
fn the_apparmor_profile_names_this_program() {
    let env = TestEnv::empty();
    let profile = env.ok(&["doctor", "--apparmor-profile"]);
    let program = treebox().canonicalize().unwrap();
    assert!(
        profile.contains(&format!("profile treebox \"{}\" flags=(unconfined)", program.display())),
        "{profile}"
    );
    assert!(profile.contains("\n  userns,\n"));
    // It is shipped as it stands, for a treebox where packages put it.
    assert!(!env.store().exists(), "printing a text made a store");
}
