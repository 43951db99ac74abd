//! The pinned values, made by code and compared with `fixtures/vectors/`.

use std::collections::BTreeMap;

use treebox::history::{Durability, History, NewCommit, Options};
use treebox::object::{
    BlobId, CommandSpec, Config, Draft, Entry, Feature, Injected, InjectedNode, LinkGroup, Meta,
    MountContent, MountSpec, Name, Network, NewNode, Node, Platform, Program, RootMode, SourceError, State,
    StateId, Summary, Timestamp, Tree, TreeId, TreePath, TreeSink, TreeSource,
};

use super::vector::Vector;

/// Trees in memory.
#[derive(Default)]
pub(super) struct Trees(pub(super) BTreeMap<TreeId, Vec<u8>>);

impl TreeSource for Trees {
    fn tree(&self, id: &TreeId) -> Result<Tree, SourceError> {
        let bytes = self.0.get(id).ok_or_else(|| SourceError(format!("no tree {id}").into()))?;
        Tree::decode(bytes).map_err(|error| SourceError(Box::new(error)))
    }
}

impl TreeSink for Trees {
    fn put_tree(&mut self, id: TreeId, bytes: Vec<u8>) -> Result<(), SourceError> {
        self.0.insert(id, bytes);
        Ok(())
    }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn meta(mode: u16, uid: u32, gid: u32, seconds: i64, nanoseconds: u32) -> Meta {
    Meta { uid, gid, ..Meta::root_owned(mode, Timestamp::new(seconds, nanoseconds).unwrap()) }
}

fn hello() -> Node {
    Node::File { blob: BlobId::of(b"hello\n"), size: 6, link: None }
}

/// A directory with an entry of every kind.
pub(super) fn every_kind() -> Tree {
    let mut labelled = meta(0o4755, 0, 0, 1_700_000_000, 999_999_999);
    labelled.xattrs.set(b"user.note".to_vec(), b"a\0b".to_vec()).unwrap();
    labelled.xattrs.set(b"security.capability".to_vec(), vec![1, 0, 0, 2]).unwrap();
    let link = LinkGroup::from_bytes([0xab; 16]);
    let entries = [
        ("block", meta(0o660, 0, 6, 0, 0), Node::Block { major: 8, minor: 1 }),
        ("char", meta(0o666, 0, 0, 0, 0), Node::Char { major: 1, minor: 3 }),
        (
            "directory",
            meta(0o1777, 0, 0, -1, 500_000_000),
            Node::Directory {
                tree: Tree::default().encode().unwrap().0,
                below: Summary { entries: 3, bytes: 1 << 33, links: 2 },
            },
        ),
        ("fifo", meta(0o600, 1000, 1000, 0, 1), Node::Fifo),
        ("file", labelled, hello()),
        ("linked", meta(0o644, 65_534, 4_294_967_294, 0, 0), {
            Node::File { blob: BlobId::of(b""), size: 0, link: Some(link) }
        }),
        ("socket", meta(0o755, 0, 0, i64::MIN, 0), Node::Socket),
        ("symlink", meta(0o777, 0, 0, i64::MAX, 0), Node::Symlink { target: b"../caf\xe9".to_vec() }),
    ];
    Tree::from_sorted(entries.map(|(text, meta, node)| (name(text), Entry { meta, node })).into())
}

/// Two paths of one file, in two directories.
fn linked(trees: &mut Trees) -> (TreeId, Entry) {
    let source = Trees::default();
    let mut draft = Draft::empty(&source, meta(0o755, 0, 0, 1_600_000_000, 0));
    draft.put_directory(&path("/bin"), meta(0o755, 0, 0, 1_600_000_000, 0)).unwrap();
    let file = NewNode::File { blob: BlobId::of(b"hello\n"), size: 6, link: None };
    draft.put(&path("/bin/first"), meta(0o755, 0, 0, 1_600_000_000, 0), file).unwrap();
    draft.hard_link(&path("/second"), &path("/bin/first")).unwrap();
    draft.finish(trees).unwrap()
}

pub(super) fn full_state() -> State {
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut trees = Trees::default();
    let config = Config {
        platform: Platform { os: "linux".into(), architecture: "arm64".into(), variant: "v8".into() },
        env: texts(&["PATH=/usr/bin:/bin", "LANG=C.UTF-8", "EMPTY="]),
        workdir: "/srv".into(),
        user: "daemon:1".into(),
        entrypoint: texts(&["/entry", "--flag"]),
        cmd: texts(&["serve"]),
        labels: [("a".into(), "1".into()), ("b".into(), "zwei ü".into())].into(),
        exposed_ports: texts(&["443/tcp", "80/tcp"]),
        volumes: texts(&["/data"]),
        stop_signal: "SIGINT".into(),
    };
    State { root: linked(&mut trees).0, config }
}

pub(super) fn full_spec() -> CommandSpec {
    let blob = BlobId::of(b"hello\n");
    CommandSpec {
        program: Program::Argv(vec![b"/bin/echo".to_vec(), b"caf\xe9".to_vec(), Vec::new()]),
        env: vec!["HOME=/root".into(), "PATH=/bin".into()],
        cwd: b"/srv".to_vec(),
        uid: 1000,
        gid: 100,
        groups: vec![4, 27],
        umask: 0o022,
        hostname: "treebox".into(),
        stdin: Some(blob),
        injected: vec![
            Injected { path: b"/in".to_vec(), mode: 0o755, node: InjectedNode::Directory },
            Injected { path: b"/in/file".to_vec(), mode: 0o644, node: InjectedNode::File(blob) },
            Injected {
                path: b"/in/link".to_vec(),
                mode: 0o777,
                node: InjectedNode::Symlink(b"file".to_vec()),
            },
        ],
        mounts: [
            ("/cache", MountContent::Cache),
            ("/data", MountContent::Directory(Tree::default().encode().unwrap().0)),
            ("/etc/tool.conf", MountContent::File { mode: 0o644, blob }),
            ("/run/agent", MountContent::Special),
            ("/run/secrets/key", MountContent::Secret { version: None }),
            ("/run/secrets/token", MountContent::Secret { version: Some("2".into()) }),
            ("/scratch", MountContent::Tmpfs { mode: 0o1777 }),
            ("/src", MountContent::Host),
        ]
        .map(|(path, content)| MountSpec { path: path.into(), content })
        .into(),
        network: Network::Host,
        root_mode: RootMode::Recorded,
        read_only: true,
        epoch: Some(-1),
        keep_env: true,
        keep_workdir: false,
        allow: Default::default(),
    }
}

fn small_spec() -> CommandSpec {
    CommandSpec {
        program: Program::Shell("echo $RANDOM > /random.txt".into()),
        env: vec!["HOME=/root".into(), "PATH=/bin".into()],
        cwd: b"/".to_vec(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        umask: 0o022,
        hostname: "treebox".into(),
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
    }
}

#[test]
fn an_empty_directory_has_its_pinned_bytes() {
    let (id, bytes) = Tree::default().encode().unwrap();
    assert_eq!(Tree::decode(&bytes).unwrap(), Tree::default());
    let ids = vec![("tree", id.to_string())];
    Vector { name: "tree-empty", about: "A directory without entries.", ids, bytes }.check();
}

#[test]
fn a_directory_with_every_kind_of_entry_has_its_pinned_bytes() {
    let tree = every_kind();
    let (id, bytes) = tree.encode().unwrap();
    assert_eq!(Tree::decode(&bytes).unwrap(), tree);
    let ids = vec![("tree", id.to_string())];
    let about =
        "A directory with every kind of entry, extended attributes, times before 1970 and at both ends.";
    Vector { name: "tree-every-kind", about, ids, bytes }.check();
}

#[test]
fn a_root_tree_has_its_pinned_bytes() {
    let entry = Entry {
        meta: meta(0o755, 0, 0, 1_700_000_000, 0),
        node: Node::Directory {
            tree: every_kind().encode().unwrap().0,
            below: every_kind().summary().unwrap(),
        },
    };
    let (id, bytes) = Tree::encode_root(&entry);
    assert_eq!(Tree::decode_root(&bytes).unwrap(), entry);
    let ids = vec![("root-tree", id.to_string())];
    let about = "A root tree: its one entry `/` is the directory of tree-every-kind.";
    Vector { name: "tree-root", about, ids, bytes }.check();
}

#[test]
fn hard_links_have_the_pinned_group() {
    let mut trees = Trees::default();
    let (root, entry) = linked(&mut trees);
    let Node::Directory { tree, below } = entry.node else { panic!("a root is a directory") };
    assert_eq!(below, Summary { entries: 3, bytes: 12, links: 2 });
    let Node::File { link: Some(group), .. } = trees.tree(&tree).unwrap().get(&name("second")).unwrap().node
    else {
        panic!("/second is in a group")
    };
    let bytes = trees.0[&tree].clone();
    let ids = vec![("tree", tree.to_string()), ("root-tree", root.to_string()), ("group", group.to_string())];
    let about = "The directory `/` of a file system where /bin/first and /second are one file.";
    Vector { name: "tree-linked", about, ids, bytes }.check();
}

#[test]
fn a_state_has_its_pinned_bytes() {
    let state = full_state();
    let (id, bytes) = state.encode();
    assert_eq!(State::decode(&bytes).unwrap(), state);
    let ids = vec![("state", id.to_string()), ("root-tree", state.root.to_string())];
    Vector { name: "state-full", about: "A state with everything in its config.", ids, bytes }.check();
}

#[test]
fn a_bare_state_has_its_pinned_bytes() {
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };
    let state = State { root: full_state().root, config: Config { platform, ..Config::default() } };
    let (id, bytes) = state.encode();
    let ids = vec![("state", id.to_string())];
    Vector { name: "state-bare", about: "A state with nothing in its config but the platform.", ids, bytes }
        .check();
}

#[test]
fn a_command_and_its_run_key_have_their_pinned_bytes() {
    for (name, about, spec) in [
        ("spec-full", "A command with everything in it.", full_spec()),
        ("spec-shell", "Shell text and the usual rest.", small_spec()),
        (
            "spec-allow",
            "As spec-shell, with what a sandbox may allow.",
            CommandSpec { allow: [Feature::Userns, Feature::Socketcall].into(), ..small_spec() },
        ),
    ] {
        let bytes = spec.encode();
        assert_eq!(CommandSpec::decode(&bytes).unwrap(), spec);
        let parent = full_state().id();
        let ids = vec![("parent-state", parent.to_string()), ("run-key", spec.run_key(&parent).to_string())];
        Vector { name, about, ids, bytes }.check();
    }
}

#[test]
fn every_field_of_a_command_and_its_parent_counts_in_the_run_key() {
    let parent = full_state().id();
    let base = full_spec();
    let other = BlobId::of(b"other");
    type Change = fn(&mut CommandSpec);
    let changes: [(&str, Change); 25] = [
        ("argv", |spec| spec.program = Program::Argv(vec![b"/bin/echo".to_vec()])),
        ("shell", |spec| spec.program = Program::Shell("/bin/echo".into())),
        ("env", |spec| spec.env[0].push('x')),
        ("cwd", |spec| spec.cwd = b"/".to_vec()),
        ("uid", |spec| spec.uid = 0),
        ("gid", |spec| spec.gid = 0),
        ("groups", |spec| spec.groups.clear()),
        ("umask", |spec| spec.umask = 0o077),
        ("hostname", |spec| spec.hostname.push('x')),
        ("stdin", |spec| spec.stdin = None),
        ("injected mode", |spec| spec.injected[1].mode = 0o600),
        ("injected path", |spec| spec.injected[1].path.push(b'x')),
        ("mounts", |spec| spec.mounts.clear()),
        ("mount path", |spec| spec.mounts[0].path.push(b'x')),
        ("mounted directory", |spec| {
            spec.mounts[1].content = MountContent::Directory(TreeId::from_bytes([0; 32]))
        }),
        ("mounted mode", |spec| {
            spec.mounts[2].content = MountContent::File { mode: 0o600, blob: BlobId::of(b"hello\n") };
        }),
        ("version of a secret", |spec| {
            spec.mounts[4].content = MountContent::Secret { version: Some("1".into()) }
        }),
        ("mode of a tmpfs", |spec| spec.mounts[6].content = MountContent::Tmpfs { mode: 0o700 }),
        ("network", |spec| spec.network = Network::None),
        ("root mode", |spec| spec.root_mode = RootMode::Plain),
        ("read-only", |spec| spec.read_only = false),
        ("epoch", |spec| spec.epoch = None),
        ("keeps", |spec| spec.keep_workdir = true),
        ("allow", |spec| spec.allow = [Feature::Keyring].into()),
        ("allow more", |spec| spec.allow = [Feature::Keyring, Feature::IoUring].into()),
    ];
    let mut keys = vec![base.run_key(&parent), base.run_key(&StateId::from_bytes([0; 32]))];
    let mut injected = base.clone();
    injected.injected[1].node = InjectedNode::File(other);
    keys.push(injected.run_key(&parent));
    for (what, change) in changes {
        let mut spec = base.clone();
        change(&mut spec);
        let key = spec.run_key(&parent);
        assert!(!keys.contains(&key), "{what} does not count");
        keys.push(key);
    }
}

#[test]
fn a_commit_has_its_pinned_id() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { durability: Durability::Batch };
    let history = History::open_or_init(&dir.path().join("history.git"), options).unwrap();
    let record = b"{\n  \"version\": 1\n}\n".to_vec();
    let first = NewCommit {
        parents: Vec::new(),
        message: "import busybox:latest\n\nTreebox-State: 00\n".into(),
        record: record.clone(),
        time_seconds: 0,
    };
    let first_id = history.write_commit(&first).unwrap();
    let second = NewCommit { parents: vec![first_id], message: "true".into(), record, time_seconds: 1 };
    let second_id = history.write_commit(&second).unwrap();
    let read = history.read_commit(&second_id).unwrap();
    assert_eq!((read.parents, read.time_seconds), (vec![first_id], 1));
    let ids = vec![("commit", first_id.to_string()), ("child", second_id.to_string())];
    let about = "The `state.json` of two commits, the second a child of the first; see the test for messages and dates.";
    Vector { name: "commit", about, ids, bytes: read.record }.check();
}
