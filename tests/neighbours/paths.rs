//! Where a store lies, where the caller stands, and which language the caller has.

use std::os::unix::ffi::OsStrExt as _;

use super::*;

#[test]
fn a_stores_path_may_have_any_text_in_it() {
    let env = TestEnv::empty();
    let length = 399 - env.path("").as_os_str().len();
    let long = ["n".repeat(length / 2), "m".repeat(length - length / 2)].join("/");
    for name in
        ["a b", "quote'\"", "line\nbreak", "-dash", "colon:comma,back\\slash", "ünï", "%41", "a/../b", &long]
    {
        let store = env.path(name);
        let store = store.to_str().unwrap();
        env.ok(&["--store", store, "import", "host", "-q"]);
        env.ok(&["--store", store, "run", "--from", "host", "--branch", "main", "-c", "echo ok > /f"]);
        assert_eq!(env.ok(&["--store", store, "cat", "main:/f"]), "ok\n", "{name:?}");
        // A layer that is made from the tree goes another way than one that a run left.
        std::fs::remove_dir_all(env.path(name).join("layers")).unwrap();
        std::fs::create_dir(env.path(name).join("layers")).unwrap();
        assert_eq!(env.ok(&["--store", store, "run", "--from", "main", "-c", "cat /f"]), "ok\n", "{name:?}");
    }
}

#[test]
fn a_path_that_no_store_can_have_is_refused_in_one_line() {
    let env = TestEnv::empty();
    let file = env.file("file", "");
    let dangling = env.path("dangling");
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    let long = env.path(&"long/".repeat(100));
    let strange = env.path("").join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    for (store, why) in
        [(&file, "exists"), (&dangling, "exists"), (&long, "at most 400 bytes"), (&strange, "not utf-8")]
    {
        let mut command = env.command(&["images"]);
        let output = command.env("TREEBOX_STORE", store).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.to_lowercase().contains(why) && said.lines().count() == 1, "{said}");
    }
    assert!(!env.path("long").exists() && !env.path("nowhere").exists());
}

#[test]
fn a_caller_in_a_deleted_directory_is_told_so() {
    let env = TestEnv::on_main();
    let ran = script(
        &env,
        &format!(
            "mkdir gone && cd gone && rmdir ../gone && $TB --store {} log; echo $?",
            env.store().display()
        ),
    );
    assert_eq!(ran.text(), "125\n");
    assert_eq!(
        ran.stderr,
        "treebox: finding the working directory .: No such file or directory (os error 2)\n"
    );
}

#[test]
fn no_locale_changes_anything() {
    let env = TestEnv::on_main();
    let outcome = |locale: &str| {
        let mut command =
            env.command(&["run", "--fresh", "--epoch", "5", "-c", "echo Iıİ > /ünï; ls /; ls /no/such"]);
        command.env("LC_ALL", locale).env("LANG", locale).env("LANGUAGE", locale);
        let output = command.output().unwrap();
        let mut command = env.command(&["grep", "-i", "iı", ":/"]);
        let found = command.env("LC_ALL", locale).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            String::from_utf8(output.stdout).unwrap(),
            said.replace(|c: char| c.is_ascii_digit(), ""),
            found.stdout,
        )
    };
    let usual = outcome("C.UTF-8");
    for locale in ["C", "POSIX", "tr_TR.UTF-8", "zh_CN.GB18030", "xx_YY", ""] {
        assert_eq!(outcome(locale), usual, "{locale}");
    }
}
