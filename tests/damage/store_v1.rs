//! `fixtures/store-v1`: a store of format version 1 with a bit of everything, which every later version must open.
//!
//! It is made anew by `cargo test --test treebox the_store_of_version_1_is_made -- --ignored`, as long as version 1 is not released: by real
//! root, for blobs that layers link to must be root's. What it holds is pinned in `store-v1.txt`, what treebox shows of it in `store-v1-shown.txt`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use treebox::blocking::{Engine, State};
use treebox::history::{BranchName, Expected, History, NewCommit, Options, RefEdit, RefName, Who};
use treebox::index::{CommitFact, Index, LayerRecord, OutputRecord, Run, Usage};
use treebox::object::{
    CommandSpec, Entry, Meta, Network, Node, Program, RootMode, Timestamp, TreePath, TreeSource as _,
};
use treebox::store::{Layout, Store, check::Segments};
use treebox::worktree::layer::{
    BuildOptions, LayerBuilder, LayerEntry, LayerNode, Linking, plan_delta, plan_whole,
};
use treebox::{Durability, EngineOptions};

use super::{archive, fixtures, known};
use crate::images::made::archive::TarMaker;
use crate::images::made::layout::{OciImage, sha256};
use crate::images::made::stored::gzip;
use crate::support::TestEnv;

/// Longer than what is kept in the index, and nothing that compresses to nothing.
fn long_output() -> Vec<u8> {
    (0..900).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}

fn tool() -> Vec<u8> {
    (0..1500u32).flat_map(|number| blake3::hash(&number.to_le_bytes()).as_bytes()[..4].to_vec()).collect()
}

fn base_layers() -> [Vec<u8>; 2] {
    let header = |path: &str, mode: u32, uid: u64, gid: u64| {
        let mut header = TarMaker::header(b'0', path.as_bytes());
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header
    };
    let lower = TarMaker::new()
        .dir("etc/")
        .file("etc/greeting", "hello\n")
        .file("etc/empty", "")
        .dir("usr/")
        .dir("usr/bin/")
        .bytes("usr/bin/tool", &tool())
        .hard_link("usr/bin/link", "usr/bin/tool")
        .symlink("bin", "usr/bin")
        .dir_mode("tmp/", 0o1777)
        .device(b'3', "null", 1, 3)
        // An archive of the store has no nanoseconds, and of FIFOs in layers nobody compares times.
        .pax(b'x', &[("mtime", b"1000.123456789")])
        .add(TarMaker::header(b'6', b"fifo"), b"")
        .pax(b'x', &[("SCHILY.xattr.user.note", b"kept")])
        .add(header("annotated", 0o4711, 7, 8), b"")
        .add(TarMaker::header(b'0', b"odd\nname"), b"")
        .add(TarMaker::header(b'0', b"not utf-8 \xff"), b"");
    let upper = TarMaker::new().file("etc/second", "second layer\n").file("etc/.wh.empty", "");
    [lower.end(), upper.end()]
}

fn import(env: &TestEnv) {
    let [lower, upper] = base_layers();
    let mut image = OciImage::of_stored(&[(lower.clone(), gzip(&lower)), (upper.clone(), upper)]);
    image.config["architecture"] = json!("amd64");
    image.config["created"] = json!("2020-09-13T12:26:40Z");
    image.write_layout(&env.path("base"));
    env.ok(&["import", "oci:base", "--name", "base:1", "-q"]);
    env.ok(&["switch", "-c", "main", "base:1"]);
}

fn put(env: &TestEnv, to: &str, tar: TarMaker) {
    let ran = env.run_with_input(&["cp", "-m", "put files", "-", to], &tar.end());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn at_1700000000() -> Who {
    Who::treebox(1_700_000_000)
}

/// Writes the run of a command that made `main` what `work` is, with its commit.
fn remember_a_run(env: &TestEnv, engine: &Engine) {
    let (parent, result) = (engine.resolve("main").unwrap(), engine.resolve("work").unwrap());
    let commit = engine.show("main").unwrap().info.commit;
    let spec = CommandSpec {
        program: Program::Shell("make -C /src".to_owned()),
        env: vec!["PATH=/bin".to_owned()],
        cwd: b"/".to_vec(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        umask: 0o022,
        hostname: "treebox".to_owned(),
        stdin: None,
        injected: Vec::new(),
        mounts: Vec::new(),
        network: Network::None,
        root_mode: RootMode::Mapped,
        read_only: false,
        epoch: None,
        keep_env: false,
        keep_workdir: false,
        allow: Default::default(),
    };
    let key = spec.run_key(&parent.id());
    let store = store_of(env);
    let batch = store.batch().unwrap();
    let output = long_output();
    let blob = batch.put_blob(&output, None).unwrap();
    batch.commit().unwrap();
    let index = Index::open(&env.store().join("index.db")).unwrap();
    let seq = index
        .insert_run(&Run {
            key,
            parent: parent.id(),
            result: result.id(),
            spec: spec.encode(),
            command: "make -C /src".to_owned(),
            changed: true,
            exit_code: Some(0),
            signal: None,
            timed_out: false,
            stdout: OutputRecord::Blob(blob, output.len() as u64),
            stderr: OutputRecord::Inline(b"a warning\n".to_vec()),
            truncated: false,
            usage: Usage { user_ms: 1.5, system_ms: 0.5, max_rss_kib: 2048, read_bytes: 1, written_bytes: 2 },
            duration_ms: 2.5,
            started_ms: 1_700_000_000_000,
            added: 1,
            modified: 0,
            deleted: 0,
        })
        .unwrap();
    let record = json!({
        "version": 1, "kind": "run", "state": result.id().to_string(), "tree": result.tree().to_string(),
        "parent_state": parent.id().to_string(), "run_key": key.to_string(), "exit_code": 0, "signal": null,
        "changes": {"added": 1, "modified": 0, "deleted": 0, "paths": [["A", "/out"]], "complete": true},
        "command": {"program": {"shell": "make -C /src"}, "env": ["PATH=/bin"], "cwd": "/", "uid": 0, "gid": 0,
            "groups": [], "umask": "0022", "hostname": "treebox", "stdin": null, "copied": [], "epoch": null},
    });
    let history = History::open(&env.store().join("history.git"), Options::default()).unwrap();
    let time_seconds = history.read_commit(&commit).unwrap().time_seconds + 1;
    let message =
        format!("make -C /src\n\nTreebox-State: {}\nTreebox-Run-Key: {key}\nTreebox-Exit: 0\n", result.id());
    let record = serde_json::to_vec_pretty(&record).unwrap();
    let made =
        history.write_commit(&NewCommit { parents: vec![commit], message, record, time_seconds }).unwrap();
    let fact = CommitFact { id: made, state: result.id(), parents: vec![commit], run_seq: Some(seq) };
    index.record_commits(&[fact]).unwrap();
    let name = RefName::Branch(BranchName::new("main").unwrap());
    let edit = RefEdit { name, expected: Expected::Is(commit), new: Some(made) };
    history.edit(&[edit], "run: make -C /src", &at_1700000000()).unwrap();
}

fn store_of(env: &TestEnv) -> Store {
    let layout = Layout::inspect(&env.store()).unwrap();
    let segments = Arc::new(Segments::read(&layout));
    Store::found_by(layout, segments)
}

/// Makes a layer of `base:1` and one of `v2` on it, as runs with one id would leave them.
fn make_layers(env: &TestEnv, engine: &Engine) {
    let store = store_of(env);
    let index = Index::open(&env.store().join("index.db")).unwrap();
    let options = BuildOptions {
        objects: store.layout().objects(),
        mapped_ids: 1,
        stand_ins: false,
        redirects: false,
        linking: Linking::Always,
        exact: false,
    };
    let (base, next) = (engine.resolve("base:1").unwrap(), engine.resolve("v2").unwrap());
    let make = |name: &str, state: &State, below: Option<(&str, &State)>| {
        let dir = store.layout().layers().join(name);
        std::fs::create_dir(&dir).unwrap();
        let mut builder = LayerBuilder::new(&dir, options.clone()).unwrap();
        let root = store.root(&state.tree()).unwrap();
        let mut emit = |entry: LayerEntry| {
            builder.add(&entry).unwrap();
            Ok(())
        };
        match below {
            Some((_, below)) => {
                plan_delta(&store, &store.root(&below.tree()).unwrap(), &root, &mut emit).unwrap()
            }
            None => {
                plan_whole(&store, &root, &mut emit).unwrap();
                for path in [b"dev".as_slice(), b"proc", b"sys"] {
                    let meta = Meta::root_owned(0o755, Timestamp::default());
                    let node = LayerNode::Directory { opaque: false };
                    emit(LayerEntry { path: path.to_vec(), meta, node }).unwrap();
                }
            }
        }
        let built = builder.finish().unwrap();
        let record = LayerRecord {
            name: name.to_owned(),
            tree: state.tree(),
            identity: "single 0 0".to_owned(),
            below: below.iter().map(|(name, _)| (*name).to_owned()).collect(),
            entries: built.entries,
            bytes: built.bytes,
            made_ms: 1_700_000_000_000,
            used_ms: 1_700_000_000_000,
        };
        index.put_layer(&record).unwrap();
    };
    make("base.1-0.1", &base, None);
    make("next.1-0.2", &next, Some(("base.1-0.1", &base)));
}

/// Everything that the recipes of damage, and whoever reads the fixture, name.
fn names(engine: &Engine) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for rev in ["base:1", "main", "v1", "v2", "side", "main~1"] {
        let state = engine.resolve(rev).unwrap();
        let label = rev.replace([':', '~'], "-");
        names.insert(format!("commit-{label}"), engine.show(rev).unwrap().info.commit.to_string());
        names.insert(format!("state-{label}"), state.id().to_string());
        names.insert(format!("root-{label}"), state.tree().to_string());
    }
    for (name, rev, path) in [
        ("greeting", "base:1", "/etc/greeting"),
        ("tool", "base:1", "/usr/bin/tool"),
        ("motd", "main", "/etc/motd"),
        ("out", "main", "/out"),
        ("etc", "main", "/etc"),
        ("usr", "main", "/usr"),
    ] {
        let state = engine.resolve(rev).unwrap();
        let entry = engine.entry(&state, &TreePath::parse(path.as_bytes()).unwrap()).unwrap().entry;
        let id = match &entry.node {
            Node::File { blob, .. } => blob.to_string(),
            Node::Directory { tree, .. } => tree.to_string(),
            other => panic!("{path} is {other:?}"),
        };
        names.insert(name.to_owned(), id);
    }
    names.insert("output".to_owned(), blake3::hash(&long_output()).to_string());
    names.insert("original".to_owned(), sha256(&gzip(&base_layers()[0])).replace("sha256:", ""));
    names
}

#[test]
#[ignore = "it writes fixtures/store-v1*, which are not made anew once version 1 is released"]
fn the_store_of_version_1_is_made() {
    let env = TestEnv::empty();
    import(&env);
    put(&env, "main:/", TarMaker::new().file("etc/motd", "be careful\n").file("src", "int main;\n"));
    env.ok(&["tag", "v1"]);
    env.ok(&["branch", "work"]);
    put(&env, "work:/", TarMaker::new().file("out", "what make made\n"));
    let engine = Engine::open(EngineOptions::at(env.store()).durability(Durability::Commit)).unwrap();
    remember_a_run(&env, &engine);
    env.ok(&["branch", "-d", "work"]);
    env.ok(&["branch", "side", "v1"]);
    put(&env, "side:/", TarMaker::new().file("side", "on the side\n"));
    env.ok(&["merge", "-q", "side"]);
    env.ok(&["note", "main~1", "made by hand"]);
    env.ok(&["tag", "v2", "main~1"]);
    make_layers(&env, &engine);
    let history = History::open(&env.store().join("history.git"), Options::default()).unwrap();
    history.pack().unwrap();
    put(&env, "main:/", TarMaker::new().file("etc/motd", "be very careful\n").dir("home/"));
    env.ok(&["undo"]);
    put(&env, "main:/", TarMaker::new().file("etc/motd", "be bold\n"));
    let store = env.store();
    let checkout = json!({
        "version": 1, "directory": "/srv/site", "device": 1, "inode": 2, "next": [],
        "shows": {"state": engine.resolve("v1").unwrap().id().to_string(),
            "tree": engine.resolve("v1").unwrap().tree().to_string(), "path": "/"},
    });
    let cache = store.join("caches/0123456789abcdef0123456789abcdef");
    std::fs::create_dir_all(cache.join("0")).unwrap();
    std::fs::write(cache.join("about"), "id cargo\nids single 0 0\n").unwrap();
    std::fs::write(cache.join("0/kept"), "by a command\n").unwrap();
    std::fs::create_dir_all(store.join("checkouts")).unwrap();
    std::fs::write(store.join("checkouts/00112233445566778899aabbccddeeff"), checkout.to_string()).unwrap();

    let mut text = String::from("# What is in store-v1.tar.zst, by the names that recipes of damage use.\n");
    text.extend(names(&engine).iter().map(|(name, id)| format!("{name} {id}\n")));
    drop((engine, history));
    let db = rusqlite::Connection::open(store.join("index.db")).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    db.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
    drop(db);
    for left in ["index.db-wal", "index.db-shm", "gc.lock", "history.lock", "objects/pack/lock"] {
        drop(std::fs::remove_file(store.join(left)));
    }
    for left in ["leases", "flights"] {
        drop(std::fs::remove_dir_all(store.join(left)));
    }
    archive::pack(&store, &fixtures().join("store-v1.tar.zst"));
    std::fs::write(fixtures().join("store-v1.txt"), text).unwrap();
    std::fs::write(fixtures().join("store-v1-shown.txt"), shown()).unwrap();
}

/// What treebox shows of the store.
fn shown() -> String {
    let env = TestEnv::empty();
    archive::unpack_store(&env.store());
    let mut text = String::new();
    for args in [
        &["images", "--json"][..],
        &["branch", "--json"],
        &["tag", "--json"],
        &["status", "--json"],
        &["log", "--json", "main"],
        &["log", "--graph", "--oneline", "main"],
        &["show", "--json", "main~2"],
        &["show", "main~2"],
        &["note"],
        &["reflog", "--json", "main"],
        &["op", "log", "--json"],
        &["ls", "-lR", "main:/"],
        &["ls", "-lR", "base:1:/"],
        &["cat", "main:/etc/motd"],
        &["cat", "v2:/out"],
        &["diff", "base:1", "main"],
        &["diff", "--patch", "v1", "main"],
        &["export", "base:1", "oci:again"],
    ] {
        let ran = env.run(args);
        text +=
            &format!("$ treebox {}\n{}{}", args.join(" "), String::from_utf8_lossy(&ran.stdout), ran.stderr);
        text += &format!("(exit {})\n", ran.code);
    }
    text
}

#[test]
fn the_store_of_version_1_is_opened_and_reads_as_ever() {
    let expected = std::fs::read_to_string(fixtures().join("store-v1-shown.txt")).unwrap();
    for (now, then) in shown().lines().zip(expected.lines()) {
        assert_eq!(now, then);
    }
    assert_eq!(shown().lines().count(), expected.lines().count());
}

#[test]
fn the_store_of_version_1_holds_what_is_pinned_and_nothing_of_it_is_damaged() {
    let env = TestEnv::empty();
    archive::unpack_store(&env.store());
    let lines = env.json_lines(&["fsck", "--full"]);
    let bad: Vec<_> =
        lines.iter().filter(|line| line["severity"] == "error" || line["severity"] == "warning").collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(lines.last().unwrap()["clean"], true);
    let engine = Engine::open(EngineOptions::at(env.store())).unwrap();
    let known = known();
    for (name, id) in &names(&engine) {
        assert_eq!(known.get(name), Some(id), "{name}");
    }
    let store = store_of(&env);
    let root: Entry = store.root(&engine.resolve("main").unwrap().tree()).unwrap();
    assert!(matches!(root.node, Node::Directory { tree, .. } if store.tree(&tree).is_ok()));
}

#[test]
fn an_older_index_is_brought_up_to_date_and_knows_what_it_knew() {
    for version in [1, 2, 3] {
        let env = TestEnv::empty();
        archive::unpack_store(&env.store());
        let path = env.store().join("index.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        take_back(&db, version);
        drop(db);
        let shown = env.ok(&["show", "main~2"]);
        assert!(shown.contains("make -C /src") && shown.contains("line 0"), "{version}: {shown}");
        let found: i64 = rusqlite::Connection::open(&path)
            .unwrap()
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert!(found > 3, "{version}: {found}");
        assert_eq!(env.run(&["fsck"]).code, 0, "{version}");
    }
}

/// Takes back what migrations after that version did to the tables.
fn take_back(db: &rusqlite::Connection, version: i64) {
    if version < 4 {
        db.execute_batch("DROP TABLE run_use").unwrap();
    }
    if version < 3 {
        db.execute_batch("DROP INDEX run_by_command").unwrap();
    }
    if version < 2 {
        db.execute_batch("DROP TABLE chain").unwrap();
    }
    db.pragma_update(None, "user_version", version).unwrap();
}
