//! Random values of the format.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use treebox::object::{
    BlobId, CommandSpec, Config, Entry, Feature, Injected, InjectedNode, LinkGroup, Meta, MountContent,
    MountSpec, Name, Network, Node, Platform, Program, RootMode, State, Summary, Timestamp, Tree, TreeId,
    Xattrs,
};

fn name() -> impl Strategy<Value = Name> {
    vec(any::<u8>(), 1..24).prop_filter_map("not a name", |bytes| Name::new(&bytes).ok())
}

fn meta() -> impl Strategy<Value = Meta> {
    let xattrs = btree_map(vec(1u8.., 1..12), vec(any::<u8>(), 0..12), 0..3);
    (0u16..=0o7777, any::<u32>(), any::<u32>(), any::<i64>(), 0u32..1_000_000_000, xattrs).prop_map(
        |(mode, uid, gid, seconds, nanoseconds, pairs)| {
            let mut xattrs = Xattrs::none();
            for (name, value) in pairs {
                xattrs.set(name, value).unwrap();
            }
            Meta { mode, uid, gid, mtime: Timestamp::new(seconds, nanoseconds).unwrap(), xattrs }
        },
    )
}

fn blob() -> impl Strategy<Value = BlobId> {
    any::<[u8; 32]>().prop_map(BlobId::from_bytes)
}

fn tree_id() -> impl Strategy<Value = TreeId> {
    any::<[u8; 32]>().prop_map(TreeId::from_bytes)
}

fn directory() -> impl Strategy<Value = Node> {
    (tree_id(), any::<[u32; 3]>()).prop_map(|(tree, [entries, bytes, links])| Node::Directory {
        tree,
        below: Summary { entries: entries.into(), bytes: bytes.into(), links: links.into() },
    })
}

fn node() -> impl Strategy<Value = Node> {
    let link = option::of(any::<[u8; 16]>().prop_map(LinkGroup::from_bytes));
    prop_oneof![
        (blob(), any::<u32>(), link).prop_map(|(blob, size, link)| Node::File {
            blob,
            size: size.into(),
            link
        }),
        directory(),
        vec(1u8.., 1..40).prop_map(|target| Node::Symlink { target }),
        Just(Node::Fifo),
        Just(Node::Socket),
        any::<[u32; 2]>().prop_map(|[major, minor]| Node::Char { major, minor }),
        any::<[u32; 2]>().prop_map(|[major, minor]| Node::Block { major, minor }),
    ]
}

pub(super) fn tree() -> impl Strategy<Value = Tree> {
    let entry = (meta(), node()).prop_map(|(meta, node)| Entry { meta, node });
    btree_map(name(), entry, 0..8).prop_map(|entries| Tree::from_sorted(entries.into_iter().collect()))
}

pub(super) fn root() -> impl Strategy<Value = Entry> {
    (meta(), directory()).prop_map(|(meta, node)| Entry { meta, node })
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(".{0,12}", 0..4)
}

pub(super) fn state() -> impl Strategy<Value = State> {
    let platform = (".{0,6}", ".{0,6}", ".{0,4}").prop_map(|(os, architecture, variant)| Platform {
        os,
        architecture,
        variant,
    });
    let words = (".{0,12}", ".{0,12}", ".{0,8}");
    let lists = [texts(), texts(), texts(), texts(), texts()];
    (tree_id(), platform, words, lists, btree_map(".{0,8}", ".{0,8}", 0..4)).prop_map(
        |(
            root,
            platform,
            (workdir, user, stop_signal),
            [env, entrypoint, cmd, exposed_ports, volumes],
            labels,
        )| {
            let config = Config {
                platform,
                env,
                workdir,
                user,
                entrypoint,
                cmd,
                labels,
                exposed_ports,
                volumes,
                stop_signal,
            };
            State { root, config }
        },
    )
}

pub(super) fn spec() -> impl Strategy<Value = CommandSpec> {
    let bytes = || vec(any::<u8>(), 0..16);
    let program = prop_oneof![
        ".{0,40}".prop_map(Program::Shell),
        vec(vec(any::<u8>(), 0..16), 0..4).prop_map(Program::Argv)
    ];
    let injected = (
        bytes(),
        any::<u16>(),
        prop_oneof![
            blob().prop_map(InjectedNode::File),
            bytes().prop_map(InjectedNode::Symlink),
            Just(InjectedNode::Directory),
        ],
    )
        .prop_map(|(path, mode, node)| Injected { path, mode, node });
    let content = prop_oneof![
        tree_id().prop_map(MountContent::Directory),
        (any::<u16>(), blob()).prop_map(|(mode, blob)| MountContent::File { mode, blob }),
        Just(MountContent::Special),
        Just(MountContent::Host),
        any::<u16>().prop_map(|mode| MountContent::Tmpfs { mode }),
        Just(MountContent::Cache),
        option::of(".{0,8}").prop_map(|version| MountContent::Secret { version }),
    ];
    let mount = (bytes(), content).prop_map(|(path, content)| MountSpec { path, content });
    let ids = (any::<u32>(), any::<u32>(), vec(any::<u32>(), 0..4), any::<u16>());
    let network = prop_oneof![Just(Network::None), Just(Network::Host), Just(Network::Private)];
    let mode = prop_oneof![Just(RootMode::Mapped), Just(RootMode::Recorded), Just(RootMode::Plain)];
    let brought = (option::of(blob()), vec(injected, 0..3), vec(mount, 0..3));
    let feature = prop_oneof![
        Just(Feature::Userns),
        Just(Feature::IoUring),
        Just(Feature::Keyring),
        Just(Feature::Socketcall)
    ];
    let features = proptest::collection::btree_set(feature, 0..4);
    let rest = (network, mode, any::<[bool; 3]>(), option::of(any::<i64>()), ".{0,8}", features);
    (program, texts(), bytes(), ids, brought, rest).prop_map(
        |(program, env, cwd, (uid, gid, groups, umask), (stdin, injected, mounts), rest)| {
            let (network, root_mode, [read_only, keep_env, keep_workdir], epoch, hostname, allow) = rest;
            CommandSpec {
                program,
                env,
                cwd,
                uid,
                gid,
                groups,
                umask,
                hostname,
                stdin,
                injected,
                mounts,
                network,
                root_mode,
                read_only,
                epoch,
                keep_env,
                keep_workdir,
                allow,
            }
        },
    )
}

/// The usual number of cases, and no file of failures: the tests also run away from the source, where none can be written.
pub(super) fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}
