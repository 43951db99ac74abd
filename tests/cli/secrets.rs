//! Secrets are seen by a run and by nobody else.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{TestEnv, names};

const TOKEN: &str = "tok-9f8e7d6c5b4a";

fn with_token() -> TestEnv {
    let env = TestEnv::new();
    env.file("token", format!("{TOKEN}\n"));
    env
}

fn run(env: &TestEnv, options: &[&str], text: &str) -> Value {
    env.json(&[&["run", "--from", "host", "--secret", "id=token,src=token"], options, &["-c", text]].concat())
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.clone());
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                todo.push(path);
            }
        }
    }
    found
}

/// The paths of the store in whose name, target or bytes the token is, as it is or in base64.
fn traces(env: &TestEnv) -> Vec<PathBuf> {
    // `printf tok-9f8e7d6c5b4a | base64`, without its last digits.
    let forms: [&[u8]; 2] = [TOKEN.as_bytes(), b"dG9rLTlmOGU3ZDZjNWI0"];
    let holds = |bytes: &[u8]| forms.iter().any(|form| memchr::memmem::find(bytes, form).is_some());
    let traced = |path: &PathBuf| {
        let link = fs::read_link(path).map(|target| holds(target.as_os_str().as_bytes())).unwrap_or(false);
        let is_file = fs::symlink_metadata(path).unwrap().is_file();
        link || holds(path.as_os_str().as_bytes()) || is_file && holds(&fs::read(path).unwrap())
    };
    files_below(&env.store()).into_iter().filter(traced).collect()
}

#[test]
fn a_secret_is_a_file_in_memory_that_the_user_may_read() {
    let env = with_token();
    let text = "stat -c '%a %u %g' /run/secrets/token; stat -f -c %T /run/secrets/token; wc -c < /run/secrets/token; \
                echo x > /run/secrets/token 2>/dev/null || echo refused; rm /run/secrets/token 2>/dev/null || echo refused";
    let ran = run(&env, &["--disposable"], text);
    assert_eq!(ran["stdout"], "400 0 0\nramfs\n17\nrefused\nrefused\n", "{ran}");
    let elsewhere = [
        "run",
        "--from",
        "host",
        "--disposable",
        "--mount",
        "type=secret,id=t,src=token,dst=/root/.token,mode=0440",
    ];
    let ran = env.json(&[&elsewhere[..], &["-c", "stat -c %a ~/.token; cat ~/.token"]].concat());
    assert_eq!(ran["stdout"], format!("440\n{TOKEN}\n"));
    let mut from_env = env.command(&[
        "run",
        "--from",
        "host",
        "--disposable",
        "-q",
        "--secret",
        "id=t,env=TOKEN",
        "-c",
        "cat /run/secrets/t",
    ]);
    assert_eq!(from_env.env("TOKEN", "from env").output().unwrap().stdout, b"from env");
}

#[test]
fn a_secret_is_in_no_file_of_the_store_and_in_nothing_that_is_told() {
    let env = with_token();
    let base = ["run", "--from", "host", "--branch", "main", "--secret", "id=token,src=token"];
    let ran = env.json(
        &[
            &base[..],
            &[
                "-c",
                "wc -c < /run/secrets/token > /used; cat /run/secrets/token; base64 /run/secrets/token >&2",
            ],
        ]
        .concat(),
    );
    assert_eq!((&ran["exit_code"], &ran["changed"]), (&0.into(), &true.into()), "{ran}");
    assert_eq!(ran["stdout"], "***\n");
    assert!(!ran["stderr"].as_str().unwrap().contains("OGU3ZDZj"), "{ran}");
    assert_eq!(traces(&env), Vec::<PathBuf>::new());
    for args in
        [&["show", "main"][..], &["log", "main"], &["--json", "show", "main"], &["ls", "-R", "main:/"]]
    {
        assert!(!env.ok(args).contains(TOKEN), "{args:?}");
    }
    // A mount point of the secret's is no part of the state either.
    assert_eq!(env.ok(&["diff", "--name-status", "host", "main"]), "A\t/used\n");
}

#[test]
fn a_secret_in_what_a_run_leaves_keeps_all_of_it_from_being_kept() {
    let env = with_token();
    let before = files_below(&env.store().join("objects")).len();
    let copy = "cat /run/secrets/token";
    for (text, told) in [
        (format!("mkdir -p /a/b; {copy} > /a/b/copy; echo harmless > /harmless"), "/a/b/copy"),
        (format!("{{ head -c 300000 /dev/zero; {copy}; head -c 300000 /dev/zero; }} > /middle"), "/middle"),
        (format!("head -c 262137 /dev/zero > /across; {copy} >> /across"), "/across"),
        (format!("printf 'user:%s' $({copy}) | base64 -w 0 > /auth"), "/auth"),
        (format!("touch /$({copy})"), "the name of /***"),
        (format!("ln -s /x/$({copy}) /link"), "the target of /link"),
        (format!("{copy} > /first; {copy} > /second"), "/first, /second"),
        (format!("{copy} > /gone; exit 5"), "/gone"),
    ] {
        let args = ["run", "--from", "host", "--secret", "id=token,src=token", "-c", &text];
        let line = env.fails(125, &args);
        assert!(line.contains(told) && line.contains("secret `token`"), "{text}: {line}");
        assert!(!line.contains(TOKEN), "{line}");
        assert_eq!(traces(&env), Vec::<PathBuf>::new(), "{text}");
        assert_eq!(names(&env.store().join("tmp")), Vec::<String>::new());
    }
    assert_eq!(files_below(&env.store().join("objects")).len(), before, "objects were left");
    assert_eq!(names(&env.store().join("layers")).len(), 1, "only the base's");
    let again = run(&env, &[], "echo fine > /fine");
    assert_eq!((&again["exit_code"], &again["reused"]), (&0.into(), &false.into()));
}

#[test]
fn a_disposable_run_may_do_with_a_secret_what_it_likes() {
    let env = with_token();
    let ran = run(&env, &["--disposable"], "cp /run/secrets/token /copy; cat /copy");
    assert_eq!((&ran["exit_code"], &ran["stdout"]), (&0.into(), &format!("{TOKEN}\n").into()));
    assert_eq!(traces(&env), Vec::<PathBuf>::new());
}

#[test]
fn bytes_that_the_state_had_before_are_not_taken_for_a_leak() {
    let env = with_token();
    let had = env.json(&["run", "--from", "host", "--copy", "token:/had", "-c", "touch /x"]);
    let had = had["state"].as_str().unwrap();
    let mount = ["--secret", "id=token,src=token"];
    let ran = env.json(&[&["run", "--from", had], &mount[..], &["-c", "chmod 600 /had"]].concat());
    assert_eq!((&ran["exit_code"], &ran["changed"]), (&0.into(), &true.into()), "{ran}");
    env.fails(125, &[&["run", "--from", had], &mount[..], &["-c", "cp /had /other"]].concat());
}

#[test]
fn a_command_that_holds_a_secret_itself_is_not_run() {
    let env = with_token();
    let base = ["run", "--from", "host", "--secret", "id=token,src=token"];
    let text = format!("echo {TOKEN} > /dev/null");
    for more in [&["-c", &text][..], &["-e", &format!("T={TOKEN}"), "-c", "true"]] {
        let line = env.fails(125, &[&base[..], more].concat());
        assert!(line.contains("secret `token`") && !line.contains(TOKEN), "{line}");
    }
    assert_eq!(traces(&env), Vec::<PathBuf>::new());
}

#[test]
fn a_secrets_bytes_are_not_in_the_key_and_its_version_is() {
    let env = with_token();
    let step = |version: &str| {
        let mount = format!("type=secret,id=token,src=token{version}");
        env.json(&["run", "--from", "host", "--mount", &mount, "-c", "wc -c < /run/secrets/token > /n"])["reused"].clone()
    };
    assert_eq!((step(""), step("")), (false.into(), true.into()));
    env.file("token", "another secret altogether");
    assert_eq!(step(""), true);
    assert_eq!(
        (step(",version=2"), step(",version=2"), step(",version=3")),
        (false.into(), true.into(), false.into())
    );
    // What is remembered needs no secret.
    fs::remove_file(env.path("token")).unwrap();
    assert_eq!(step(""), true);
}

#[test]
fn a_secret_that_is_missing_large_or_short_is_told() {
    let env = with_token();
    let line = env.fails(125, &["run", "--from", "host", "--secret", "id=x,src=nowhere", "-c", "true"]);
    assert!(line.contains("secret `x`") && line.contains("nowhere"), "{line}");
    let optional =
        ["run", "--from", "host", "--secret", "id=x,src=nowhere,required=false", "-c", "ls /run/secrets"];
    assert_ne!(env.json(&optional)["exit_code"], 0);
    env.file("large", vec![b'x'; 600_000]);
    let line = env.fails(125, &["run", "--from", "host", "--secret", "id=x,src=large", "-c", "true"]);
    assert!(line.contains("larger than 524288 bytes"), "{line}");
    env.file("short", "1234");
    let ran =
        env.run(&["run", "--from", "host", "--secret", "id=x,src=short", "-c", "cat /run/secrets/x > /out"]);
    assert!(ran.code == 0 && ran.stderr.contains("secret `x` is shorter than 8 bytes"), "{}", ran.stderr);
}

#[test]
fn kept_output_is_masked_also_where_it_was_cut() {
    let env = with_token();
    let ran = run(&env, &["--max-output", "12"], "printf '%s' \"xx$(cat /run/secrets/token)yy\"");
    assert_eq!((&ran["stdout"], &ran["truncated"]), (&"xx***".into(), &true.into()));
    // What passes through to the caller is the caller's own.
    let passed = env.ok(&[
        "run",
        "--from",
        "host",
        "-q",
        "--secret",
        "id=token,src=token",
        "-c",
        "cat /run/secrets/token",
    ]);
    assert_eq!(passed, format!("{TOKEN}\n"));
}
