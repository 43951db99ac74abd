//! Stacks stay short, whatever the history; layers are a cache.

use super::*;

#[test]
fn a_long_chain_shows_every_step_and_keeps_its_stack_short() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let mut state = engine.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
    for number in 0..40 {
        state = step(
            &state,
            &format!(
                "echo {number} > /f{number}; rm -f /f{}; mkdir -p /d/{number}; rm -rf /d/{}",
                number - 3,
                number - 2
            ),
        );
    }
    assert_eq!(stdout(&state, "ls -d /f* /d/* | tr '\\n' ' '"), "/d/38 /d/39 /f37 /f38 /f39 ");
    let lowers = stdout(&state, "head -1 /proc/self/mountinfo").matches("lowerdir").count();
    assert!((1..=8).contains(&lowers), "{lowers}");
}

#[test]
fn lost_layers_are_built_again_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let base = engine.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
    let first = step(
        &base,
        "mkdir /a; seq 5000 > /a/long; echo s > /a/short; ln /a/short /a/link; ln -s short /a/sym; mkfifo /a/p; touch /a/empty /a/empty2; chmod 640 /a/short",
    );
    let second = step(&first, "rm /a/empty; echo 2 > /two");
    let look = "cd /; find a two -printf '%p %m %U %G %s %T@ %l %n\\n' | grep -v '^a/p ' | sort; md5sum a/long a/short a/link";
    let before = stdout(&second, look);
    drop(engine);
    std::fs::remove_dir_all(dir.path().join("store/layers")).unwrap();
    std::fs::create_dir(dir.path().join("store/layers")).unwrap();
    let engine = open(dir.path());
    let second = engine.state(second.id()).unwrap();
    let mask = |text: &str| text.replace(" 1\n", " N\n").replace(" 2\n", " N\n").replace(" 3\n", " N\n");
    assert_eq!(mask(&stdout(&second, look)), mask(&before));
}

#[test]
fn a_lost_index_costs_memory_of_runs_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let base = engine.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
    let child = step(&base, "echo kept > /kept");
    engine.create_branch("main", &child, false).unwrap();
    drop(engine);
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = std::fs::remove_file(dir.path().join("store").join(name));
    }
    let engine = open(dir.path());
    let found = engine.resolve("main").unwrap();
    assert_eq!(found.id(), child.id());
    assert_eq!(stdout(&found, "cat /kept"), "kept\n");
    assert_eq!(
        engine.log(&treebox::LogQuery { revs: vec!["main".into()], ..Default::default() }).unwrap().len(),
        2
    );
}

#[test]
fn a_damaged_index_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let base = engine.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
    drop(engine);
    let _ = std::fs::remove_file(dir.path().join("store/index.db-wal"));
    std::fs::write(
        dir.path().join("store/index.db"),
        b"this is no database at all, but long enough to look at".repeat(50),
    )
    .unwrap();
    let engine = open(dir.path());
    assert_eq!(engine.resolve("host").unwrap().id(), base.id());
}

#[test]
fn what_a_killed_process_left_is_removed_also_when_it_belongs_to_mapped_ids() {
    let env = crate::support::TestEnv::new();
    let script = "mkdir -p /left/deep; echo x > /left/deep/f; chown -R 12:34 /left 2>/dev/null; chmod 700 /left; echo ready; sleep 600";
    let mut child = std::process::Command::new(crate::support::treebox())
        .args(["--store", env.store().to_str().unwrap(), "run", "--from", "host", "-c", script])
        .env_clear()
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!crate::support::names(&env.store().join("tmp")).is_empty());
    env.ok(&["run", "--from", "host", "-q", "-c", "true"]);
    assert_eq!(crate::support::names(&env.store().join("tmp")), Vec::<String>::new());
}

#[test]
fn a_copy_of_a_file_within_a_state_is_another_file() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let base = engine.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
    engine.create_branch("main", &base, false).unwrap();
    let path = |text: &str| treebox::TreePath::parse(text.as_bytes()).unwrap();
    let from = path("/usr/bin/env");
    let copied =
        engine.copy_in(treebox::CopySource::State(&base, &from), "main", &path("/usr/bin/env2")).unwrap();
    let seen =
        stdout(&copied.state, "cd /usr/bin; cmp env env2 && echo equal; test env -ef env2 || echo other");
    assert_eq!(seen, "equal\nother\n");
}

#[test]
fn a_blob_that_was_cut_short_is_told_and_healed_by_another_import() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let source = ImportSource::parse("host").unwrap();
    let base = engine.import(&source, None).unwrap().state;
    let path = treebox::TreePath::parse(b"/usr/bin/env").unwrap();
    let treebox::Node::File { blob, .. } = engine.entry(&base, &path).unwrap().entry.node else {
        panic!("no file")
    };
    let hex = blob.to_string();
    let file = dir.path().join("store/objects").join(&hex[..2]).join(&hex[2..]);
    std::fs::write(dir.path().join("short"), b"short").unwrap();
    std::fs::rename(dir.path().join("short"), &file).unwrap();
    assert!(engine.read_file(&base, &path).unwrap_err().to_string().contains("damaged"));
    let error = base.run(&Command::new("true").disposable(true)).unwrap_err().to_string();
    assert!(error.contains(&hex) && error.contains("/usr/bin/env"), "{error}");
    engine.import(&source, None).unwrap();
    assert_eq!(stdout(&base, "env -i echo healed"), "healed\n");
}
