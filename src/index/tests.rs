#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::object::{BlobId, CommitId, IdPrefix, RunKey, StateId, TreeId};

fn hash(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

fn state(text: &str) -> StateId {
    StateId::from_bytes(hash(text))
}

fn run(key: &str, parent: &str, result: &str) -> Run {
    Run {
        key: RunKey::from_bytes(hash(key)),
        parent: state(parent),
        result: state(result),
        spec: b"canonical".to_vec(),
        command: "make install".to_owned(),
        changed: parent != result,
        exit_code: Some(0),
        signal: None,
        timed_out: false,
        stdout: OutputRecord::Inline(b"hello\n".to_vec()),
        stderr: OutputRecord::Blob(BlobId::of(b"long"), 5_000_000_000),
        truncated: true,
        usage: Usage {
            user_ms: 1.5,
            system_ms: 0.25,
            max_rss_kib: 9000,
            read_bytes: 7,
            written_bytes: u64::MAX,
        },
        duration_ms: 12.75,
        started_ms: 1_700_000_000_123,
        added: 1,
        modified: 2,
        deleted: 3,
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    index: Index,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let index = Index::open(&directory.path().join("index.db")).unwrap();
        Self { directory, index }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("index.db")
    }
}

fn sql(path: &Path, text: &str) {
    Connection::open(path).unwrap().execute_batch(text).unwrap();
}

#[test]
fn a_run_reads_back_as_it_was_given() {
    let Fixture { directory: _directory, index } = Fixture::new();
    let mut given = run("k", "a", "b");
    let seq = index.insert_run(&given).unwrap();
    // Counters that no machine reaches are kept as the largest that SQLite can hold.
    given.usage.written_bytes = i64::MAX as u64;
    assert_eq!(index.run(seq).unwrap().unwrap(), RunRecord { seq, run: given.clone() });
    assert_eq!(index.newest_run(&given.key).unwrap().unwrap().run, given);
    assert_eq!(index.runs_with_result(&given.result).unwrap().len(), 1);
    assert_eq!(index.runs_with_parent(&given.parent).unwrap().len(), 1);
    assert!(index.newest_run(&RunKey::from_bytes(hash("other"))).unwrap().is_none());
    assert!(index.check().unwrap().is_empty());
}

#[test]
fn the_newest_run_and_the_newest_that_succeeded_are_told_apart() {
    let Fixture { directory: _directory, index } = Fixture::new();
    let good = index.insert_run(&run("k", "a", "b")).unwrap();
    let better = index.insert_run(&run("k", "a", "c")).unwrap();
    let failures: [fn(&mut Run); 4] = [
        |run| run.exit_code = Some(1),
        |run| run.timed_out = true,
        |run| run.signal = Some(9),
        |run| run.exit_code = None,
    ];
    let mut last = 0;
    for fail in failures {
        let mut failed = run("k", "a", "d");
        fail(&mut failed);
        last = index.insert_run(&failed).unwrap();
    }
    let key = RunKey::from_bytes(hash("k"));
    assert!(good < better && better < last);
    assert_eq!(index.newest_run(&key).unwrap().unwrap().seq, last);
    assert_eq!(index.newest_successful_run(&key).unwrap().unwrap().seq, better);
    let seqs: Vec<_> = index.runs_with_parent(&state("a")).unwrap().iter().map(|run| run.seq).collect();
    assert!(seqs.is_sorted() && seqs.len() == 6);
    assert_eq!(index.runs_after(good, 2).unwrap().len(), 2);
}

#[test]
fn earlier_runs_of_a_key_and_of_a_command_come_newest_first_and_by_an_index() {
    let fixture = Fixture::new();
    let long = "x".repeat(100);
    let with = |key: &str, command: &str, exit_code| {
        let run = Run { command: command.to_owned(), exit_code: Some(exit_code), ..run(key, "base", key) };
        fixture.index.insert_run(&run).unwrap()
    };
    let (first, second) = (with("a", &long, 0), with("b", &long, 0));
    with("c", &long, 1);
    with("d", &format!("{long}y"), 0);
    let last = with("a", &long, 0);
    let numbers = |runs: Vec<RunRecord>| runs.iter().map(|run| run.seq).collect::<Vec<_>>();
    let of_command = |limit| fixture.index.runs_of_command_before(&long, last, limit).unwrap();
    assert_eq!(numbers(of_command(10)), [second, first], "neither failures nor other commands");
    assert_eq!(numbers(of_command(1)), [second]);
    let key = RunKey::from_bytes(hash("a"));
    assert_eq!(numbers(fixture.index.runs_of_key_before(&key, last, 10).unwrap()), [first]);

    let plan: String = fixture
        .index
        .read("explaining", |db| {
            let sql = "EXPLAIN QUERY PLAN SELECT seq FROM run
                       WHERE substr(command, 1, 48) = substr(?1, 1, 48) AND command = ?1";
            db.query_row(sql, [&long], |row| row.get(3))
        })
        .unwrap();
    assert!(plan.contains("run_by_command"), "{plan}");
}

#[test]
fn a_forgotten_run_leaves_its_commit_and_its_number_is_not_used_again() {
    let Fixture { directory: _directory, index } = Fixture::new();
    let seq = index.insert_run(&run("k", "a", "b")).unwrap();
    let commit = CommitId::from_bytes([7; 20]);
    index.record_commit(&commit, &state("b"), &[], Some(seq)).unwrap();
    index.forget_runs(&[seq]).unwrap();
    assert_eq!(index.run(seq).unwrap(), None);
    assert_eq!(index.commit_run(&commit).unwrap(), None);
    assert_eq!(index.commit_state(&commit).unwrap(), Some(state("b")));
    assert!(index.insert_run(&run("k", "a", "b")).unwrap() > seq);
}

#[test]
fn short_ids_find_states_wherever_they_are_known_from() {
    let Fixture { directory: _directory, index } = Fixture::new();
    index.insert_run(&run("k", "parent", "result")).unwrap();
    index.insert_run(&run("k2", "parent", "result")).unwrap();
    index.record_commit(&CommitId::from_bytes([1; 20]), &state("committed"), &[], None).unwrap();
    index.record_origin(&state("imported"), "import", "busybox", 1).unwrap();
    for text in ["parent", "result", "committed", "imported"] {
        let id = state(text);
        let prefix = IdPrefix::parse(&id.to_string()[..9]).unwrap();
        assert_eq!(index.states_with_prefix(&prefix, 10).unwrap(), [id], "{text}");
        assert!(index.states_with_prefix(&prefix, 0).unwrap().is_empty());
    }
}

#[test]
fn objects_are_found_where_they_were_last_recorded() {
    let Fixture { directory: _directory, index } = Fixture::new();
    let object = |text: &str, offset| NewObject { id: hash(text), kind: 3, offset, len: 10 };
    index.record_objects(1, 200, &[object("a", 0), object("b", 100)]).unwrap();
    index.record_objects(1, 150, &[]).unwrap();
    assert_eq!(index.indexed_until(1).unwrap(), 200);
    assert_eq!(index.indexed_until(2).unwrap(), 0);
    index.record_objects(2, 50, &[object("a", 7)]).unwrap();
    let found = index.locate(&hash("a")).unwrap().unwrap();
    assert_eq!(found, Location { kind: 3, segment: 2, offset: 7, len: 10 });
    let prefix = IdPrefix::parse(&state("a").to_string()[..8]).unwrap();
    assert_eq!(index.ids_with_prefix(3, &prefix, 5).unwrap(), [hash("a")]);
    assert!(index.ids_with_prefix(4, &prefix, 5).unwrap().is_empty());
    index.forget_segment(1).unwrap();
    assert_eq!(index.locate(&hash("b")).unwrap(), None);
    assert_eq!(index.indexed_until(1).unwrap(), 0);
    index.forget_objects(&[hash("a"), hash("unknown")]).unwrap();
    assert_eq!(index.locate(&hash("a")).unwrap(), None);
}

#[test]
fn commits_origins_images_and_settings_read_back() {
    let Fixture { directory: _directory, index } = Fixture::new();
    let [one, two, three] = [1, 2, 3].map(|n| CommitId::from_bytes([n; 20]));
    index.record_commit(&two, &state("s"), &[one], Some(5)).unwrap();
    index.record_commit(&one, &state("s"), &[], None).unwrap();
    index.record_commit(&two, &state("s"), &[one, three], None).unwrap();
    assert_eq!(index.commits_of(&state("s")).unwrap(), [two, one]);
    let fact = CommitFact { id: two, state: state("s"), parents: vec![one, three], run_seq: Some(5) };
    assert_eq!(index.commit(&two).unwrap(), Some(fact));
    assert_eq!(index.commit_state(&three).unwrap(), None);
    index.forget_commits(&[two]).unwrap();
    assert_eq!(index.commits_of(&state("s")).unwrap(), [one]);

    index.record_origin(&state("s"), "cp", "host:/etc", 20).unwrap();
    index.record_origin(&state("s"), "import", "busybox", 10).unwrap();
    index.record_origin(&state("s"), "cp", "host:/etc", 5).unwrap();
    let origins = index.origins_of(&state("s")).unwrap();
    assert_eq!(origins.iter().map(|origin| origin.at_ms).collect::<Vec<_>>(), [5, 10]);

    let image = ImageRecord {
        name: "busybox:latest".to_owned(),
        state: state("s"),
        size_bytes: 4_000_000,
        entries: 400,
        source: "registry.example/library/busybox".to_owned(),
        at_ms: 3,
    };
    index.record_image(&image).unwrap();
    index.record_image(&image).unwrap();
    assert_eq!(index.image("busybox:latest").unwrap().as_ref(), Some(&image));
    assert_eq!(index.images().unwrap(), [image]);

    assert_eq!(index.meta("a").unwrap(), None);
    index.set_meta("a", Some("1")).unwrap();
    index.set_meta("a", Some("2")).unwrap();
    assert_eq!(index.meta("a").unwrap().as_deref(), Some("2"));
    index.set_meta("a", None).unwrap();
    assert_eq!(index.meta("a").unwrap(), None);
}

#[test]
fn layers_know_what_is_below_them() {
    let Fixture { directory: _directory, index } = Fixture::new();
    let layer = |name: &str, tree: &str, below: &[&str], used_ms| LayerRecord {
        name: name.to_owned(),
        tree: TreeId::from_bytes(hash(tree)),
        identity: "mapped".to_owned(),
        below: below.iter().map(|&name| name.to_owned()).collect(),
        entries: 10,
        bytes: 4096,
        made_ms: 1,
        used_ms,
    };
    let (base, top) = (layer("base", "t", &[], 3), layer("top", "u", &["mid", "base"], 2));
    index.put_layer(&base).unwrap();
    index.put_layer(&top).unwrap();
    index.put_layer(&top).unwrap();
    assert_eq!(index.layer_for(&top.tree, "mapped").unwrap().as_ref(), Some(&top));
    assert_eq!(index.layer_for(&top.tree, "plain").unwrap(), None);
    assert_eq!(index.layers().unwrap(), [top.clone(), base.clone()]);
    index.touch_layer("top", 9).unwrap();
    index.touch_layer("top", 4).unwrap();
    assert_eq!(index.layers().unwrap().last().unwrap().used_ms, 9);
    assert_eq!(index.layers_on("base").unwrap()[0].name, "top");
    assert!(index.layers_on("top").unwrap().is_empty());
    assert!(index.forget_layer("top").unwrap());
    assert!(!index.forget_layer("top").unwrap());
    assert!(index.layers_on("base").unwrap().is_empty());
}

#[test]
fn a_newer_file_is_refused_with_both_versions() {
    let fixture = Fixture::new();
    let path = fixture.path();
    sql(&path, "PRAGMA user_version = 99");
    let error = Index::open(&path).unwrap_err();
    assert!(matches!(error, IndexError::Newer { found: 99, supported: schema::VERSION, .. }), "{error}");
    assert!(error.to_string().contains("version 99") && !error.is_damage());
    assert!(matches!(Index::open_read_only(&path), Err(IndexError::Newer { .. })));
}

#[test]
fn files_that_are_no_index_are_damage() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text.db");
    std::fs::write(
        &text,
        "this is not a database, but it is long enough to be looked at as if it were one ".repeat(20),
    )
    .unwrap();
    let foreign = directory.path().join("foreign.db");
    sql(&foreign, "CREATE TABLE somebody (name TEXT)");
    let other = directory.path().join("other.db");
    sql(&other, "PRAGMA application_id = 5; CREATE TABLE t (x)");
    for path in [text, foreign, other] {
        for opened in [Index::open(&path), Index::open_read_only(&path)] {
            let error = opened.unwrap_err();
            assert!(matches!(error, IndexError::Damaged { .. }) && error.is_damage(), "{error}");
        }
    }
}

#[test]
fn a_page_overwritten_later_is_damage_too() {
    let fixture = Fixture::new();
    for n in 0..200 {
        fixture.index.insert_run(&run(&n.to_string(), "a", "b")).unwrap();
    }
    let path = fixture.path();
    drop(fixture.index);
    sql(&path, "PRAGMA wal_checkpoint(TRUNCATE)");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xaa);
    std::fs::write(&path, bytes).unwrap();
    let opened = Index::open(&path).and_then(|index| index.newest_run(&RunKey::from_bytes(hash("1"))));
    assert!(opened.unwrap_err().is_damage());
}

#[test]
fn a_value_of_the_wrong_size_is_damage_and_no_panic() {
    let fixture = Fixture::new();
    let seq = fixture.index.insert_run(&run("k", "a", "b")).unwrap();
    sql(
        &fixture.path(),
        "UPDATE run SET parent = x'00'; INSERT INTO history VALUES (1, zeroblob(20), x'', x'01', NULL)",
    );
    assert!(fixture.index.run(seq).unwrap_err().is_damage());
    assert!(fixture.index.commit(&CommitId::from_bytes([0; 20])).unwrap_err().is_damage());
}

#[test]
fn a_read_only_index_reads_and_refuses_to_write() {
    let fixture = Fixture::new();
    let seq = fixture.index.insert_run(&run("k", "a", "b")).unwrap();
    let reader = Index::open_read_only(&fixture.path()).unwrap();
    assert!(reader.run(seq).unwrap().is_some());
    assert!(matches!(reader.insert_run(&run("k", "a", "b")), Err(IndexError::ReadOnly { .. })));
    let missing = fixture.directory.path().join("none.db");
    assert!(matches!(Index::open_read_only(&missing), Err(IndexError::Missing(_))));
    assert!(!missing.exists());
    let old = fixture.directory.path().join("old.db");
    sql(&old, &format!("PRAGMA application_id = {}; CREATE TABLE t (x)", schema::APPLICATION_ID));
    assert!(matches!(Index::open_read_only(&old), Err(IndexError::Older { found: 0, .. })));
}

#[test]
fn an_index_in_a_directory_that_cannot_be_written_is_read() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new();
    let seq = fixture.index.insert_run(&run("k", "a", "b")).unwrap();
    let path = fixture.path();
    drop(fixture.index);
    // For root, who may write anywhere, this is an ordinary directory; CI also runs the tests as somebody else.
    set_permissions(fixture.directory.path(), Permissions::from_mode(0o555)).unwrap();
    let reader = Index::open_read_only(&path).unwrap();
    assert!(reader.run(seq).unwrap().is_some());
    assert!(matches!(reader.set_meta("a", None), Err(IndexError::ReadOnly { .. })));
    drop(reader);
    set_permissions(fixture.directory.path(), Permissions::from_mode(0o755)).unwrap();

    // Without the files of the write-ahead log, only the frozen way is left.
    sql(&path, "PRAGMA wal_checkpoint(TRUNCATE)");
    set_permissions(fixture.directory.path(), Permissions::from_mode(0o555)).unwrap();
    assert!(Index::open_read_only(&path).unwrap().run(seq).unwrap().is_some());
    let frozen = connect::another(&path, connect::Access::Frozen).unwrap();
    let reader = Index::with(&path, connect::Access::Frozen, frozen);
    assert!(reader.run(seq).unwrap().is_some());
    assert!(matches!(reader.set_meta("a", None), Err(IndexError::ReadOnly { .. })));
    set_permissions(fixture.directory.path(), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn many_threads_and_handles_lose_nothing() {
    let fixture = Fixture::new();
    let shared = Arc::new(Index::open(&fixture.path()).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let own = Index::open(&fixture.path()).unwrap();
            let shared = Arc::clone(&shared);
            scope.spawn(move || {
                for n in 0..100 {
                    let index = if n % 2 == 0 { &own } else { &*shared };
                    let run = run(&format!("{thread}/{n}"), "a", "b");
                    let seq = index.insert_run(&run).unwrap();
                    assert_eq!(shared.newest_run(&run.key).unwrap().unwrap().seq, seq);
                }
            });
        }
    });
    assert_eq!(fixture.index.runs_with_result(&state("b")).unwrap().len(), 800);
}

#[test]
fn handles_that_create_the_file_at_once_agree() {
    for _ in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index.db");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| Index::open(&path).unwrap().insert_run(&run("k", "a", "b")).unwrap());
            }
        });
        assert_eq!(Index::open(&path).unwrap().runs_with_result(&state("b")).unwrap().len(), 4);
    }
}

#[test]
fn a_long_write_makes_others_wait_and_a_failed_one_leaves_nothing() {
    let fixture = Fixture::new();
    let failed = fixture.index.write("failing", |db| {
        db.execute("INSERT INTO meta VALUES ('half', 'done')", [])?;
        db.execute("INSERT INTO nowhere VALUES (1)", [])
    });
    assert!(matches!(failed, Err(IndexError::Sqlite { doing: "failing", .. })));
    assert_eq!(fixture.index.meta("half").unwrap(), None);

    let holder = connect::another(&fixture.path(), connect::Access::Writable).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let impatient = connect::another(&fixture.path(), connect::Access::Writable).unwrap();
    impatient.busy_timeout(std::time::Duration::from_millis(5)).unwrap();
    let index = Index::with(&fixture.path(), connect::Access::Writable, impatient);
    assert!(matches!(index.set_meta("a", Some("b")), Err(IndexError::Busy { .. })));
    assert_eq!(index.meta("a").unwrap(), None, "readers do not wait for a writer");
}

#[test]
fn a_file_without_space_says_so() {
    let fixture = Fixture::new();
    fixture.index.read("limiting", |db| db.execute_batch("PRAGMA max_page_count = 1")).unwrap();
    let mut big = run("k", "a", "b");
    big.spec = vec![0; 1 << 20];
    assert!(matches!(fixture.index.insert_run(&big), Err(IndexError::Full { .. })));
}

#[test]
#[ignore = "prints times"]
fn times() {
    let fixture = Fixture::new();
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let time = |name: &str, count: usize, body: &mut dyn FnMut(usize)| {
        let times = (0..count)
            .map(|n| {
                let started = Instant::now();
                body(n);
                started.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        println!("{name}: median {:.1} µs", median(times));
    };
    let runs: Vec<_> = (0..20_000)
        .map(|n| {
            let mut run = run(&format!("k{n}"), &format!("p{n}"), &format!("r{n}"));
            run.spec = vec![7; 600];
            run
        })
        .collect();
    let index = &fixture.index;
    time("insert_run", runs.len(), &mut |n| {
        index.insert_run(&runs[n]).unwrap();
    });
    time("newest_run, hit", runs.len(), &mut |n| {
        index.newest_run(&runs[n * 7919 % runs.len()].key).unwrap().unwrap();
    });
    time("newest_successful_run, hit", runs.len(), &mut |n| {
        index.newest_successful_run(&runs[n * 7919 % runs.len()].key).unwrap().unwrap();
    });
    let keys: Vec<_> = (0..1000).map(|n| RunKey::from_bytes(hash(&format!("miss{n}")))).collect();
    time("newest_run, miss", keys.len(), &mut |n| assert!(index.newest_run(&keys[n]).unwrap().is_none()));
    let objects: Vec<_> = (0..20_000)
        .map(|n| NewObject { id: hash(&n.to_string()), kind: 1, offset: n * 100, len: 100 })
        .collect();
    let started = Instant::now();
    index.record_objects(1, 1, &objects).unwrap();
    println!("record_objects: {:.1} µs each of 20000", started.elapsed().as_secs_f64() * 1e6 / 20_000.0);
    time("record_objects of 1", 1000, &mut |n| index.record_objects(1, 1, &objects[n..=n]).unwrap());
    time("locate", objects.len(), &mut |n| {
        index.locate(&objects[n * 7919 % objects.len()].id).unwrap().unwrap();
    });
    time("open", 200, &mut |_| {
        Index::open(&fixture.path()).unwrap();
    });
    time("open + first lookup", 200, &mut |n| {
        Index::open(&fixture.path()).unwrap().newest_run(&runs[n].key).unwrap().unwrap();
    });
    time("create", 20, &mut |n| {
        Index::open(&fixture.directory.path().join(format!("new{n}.db"))).unwrap();
    });
}

#[test]
fn a_use_is_noted_once_an_hour_and_decides_what_is_old() {
    let Fixture { directory: _directory, index } = Fixture::new();
    let given = run("k", "a", "b");
    let seq = index.insert_run(&given).unwrap();
    let used = |index: &Index| index.run_holds_after(0, 10).unwrap()[0].used_ms;
    assert_eq!(used(&index), given.started_ms);
    for (later_ms, noted_ms) in [(60_000, 0), (3_600_000, 3_600_000), (7_000_000, 3_600_000), (0, 3_600_000)]
    {
        index.touch_run(seq, given.started_ms + later_ms).unwrap();
        assert_eq!(used(&index), given.started_ms + noted_ms, "{later_ms}");
    }
    let hold = &index.run_holds_after(0, 10).unwrap()[0];
    assert_eq!((hold.output.as_slice(), hold.changed), (&[BlobId::of(b"long")][..], true));
    assert!(index.run_holds_after(seq, 10).unwrap().is_empty());
    index.touch_run(999, 1).unwrap();
}

#[test]
fn what_is_forgotten_together_takes_its_traces_along() {
    let Fixture { directory: _directory, index } = Fixture::new();
    let placed = |text: &str, offset| NewObject { id: hash(text), kind: 1, offset, len: 10 };
    index.record_objects(1, 100, &[placed("stays", 8), placed("goes", 55)]).unwrap();
    index.record_origin(&state("goes"), "import", "x", 1).unwrap();
    let chain = |text: &str| ChainRecord {
        chain: text.to_owned(),
        rules: 1,
        tree: TreeId::from_bytes(hash(text)),
        digest: String::new(),
        diff_id: String::new(),
        size_bytes: 1,
        media_type: String::new(),
    };
    index.record_chains(&[chain("stays"), chain("goes")]).unwrap();
    let seq = index.insert_run(&run("k", "a", "goes")).unwrap();
    index.touch_run(seq, i64::MAX).unwrap();
    let commit = CommitId::from_bytes([7; 20]);
    index.record_commit(&commit, &state("goes"), &[], Some(seq)).unwrap();
    index.forget(&Forgotten { objects: vec![hash("goes")], runs: vec![seq] }).unwrap();
    let left: Vec<_> = index.objects_after(None, 10).unwrap().iter().map(|object| object.id).collect();
    assert_eq!(left, [hash("stays")]);
    assert_eq!(index.objects_in(1).unwrap().len(), 1);
    assert!(index.origins_of(&state("goes")).unwrap().is_empty());
    assert_eq!(index.chain_trees().unwrap(), [TreeId::from_bytes(hash("stays"))]);
    assert!(index.run(seq).unwrap().is_none());
    let mut commits = Vec::new();
    index.each_commit(&mut |id, _, run| commits.push((id, run))).unwrap();
    assert_eq!(commits, [(commit, None)]);
}
