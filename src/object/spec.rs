//! What a run depends on, and the key under which its result is remembered.

use std::collections::BTreeSet;

use super::codec::{DecodeError, Reader, Writer};
use super::id::{BlobId, RunKey, StateId};
use super::mount::MountSpec;

const MAGIC: &[u8; 8] = b"tbspec\0\x01";
const KEY_MAGIC: &[u8; 8] = b"tbrunk\0\x01";

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Program {
    /// Text for `/bin/sh -c`.
    Shell(String),
    /// A program and its arguments, bytes as given.
    Argv(Vec<Vec<u8>>),
}

/// What a sandbox can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub enum Network {
    /// A loopback interface and nothing else.
    #[default]
    None,
    /// The host's network.
    Host,
    /// An own network with a way out through a user-space helper.
    Private,
}

/// How ids inside relate to ids on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum RootMode {
    /// A range of ids is mapped: root inside can give files to others.
    Mapped,
    /// One id is mapped; a supervisor records the owners that root inside asks for.
    Recorded,
    /// One id is mapped and nothing else is emulated.
    Plain,
}

/// Something that a sandbox refuses unless it is allowed; the sandbox says what each lifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Feature {
    /// Namespaces and mounts of the payload's own.
    Userns,
    /// Asynchronous system calls by io_uring.
    IoUring,
    /// The kernel's keyrings.
    Keyring,
    /// Sockets of old 32-bit x86 programs.
    Socketcall,
}

impl Feature {
    /// Every feature; its place is the number of its bit.
    const ALL: [Self; 4] = [Self::Userns, Self::IoUring, Self::Keyring, Self::Socketcall];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What an injected path is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum InjectedNode {
    /// A regular file.
    File(BlobId),
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A directory.
    Directory,
}

/// One host file placed in the state before a run: content and mode count, times do not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Injected {
    /// Where it is placed, as an absolute path's bytes.
    pub path: Vec<u8>,
    /// Permission bits.
    pub mode: u16,
    /// What it is.
    pub node: InjectedNode,
}

/// Everything besides the parent state that a run's result may depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommandSpec {
    /// What is executed.
    pub program: Program,
    /// The whole environment of the command, sorted `KEY=VALUE`.
    pub env: Vec<String>,
    /// Working directory, an absolute path's bytes.
    pub cwd: Vec<u8>,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Supplementary group ids inside, sorted.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: u16,
    /// Host name inside.
    pub hostname: String,
    /// The bytes on standard input; `None` when it is empty.
    pub stdin: Option<BlobId>,
    /// Host files placed before the run, sorted by path.
    pub injected: Vec<Injected>,
    /// Mounts, sorted by path.
    pub mounts: Vec<MountSpec>,
    /// What the sandbox can reach.
    pub network: Network,
    /// How ids inside relate to ids on disk.
    pub root_mode: RootMode,
    /// Whether the root file system is mounted read-only.
    pub read_only: bool,
    /// Modification times later than this many seconds since 1970 are set to it.
    pub epoch: Option<i64>,
    /// Whether the environment given for this run is kept in the resulting state.
    pub keep_env: bool,
    /// Whether the working directory given for this run is kept in the resulting state.
    pub keep_workdir: bool,
    /// What the sandbox allows besides the usual.
    pub allow: BTreeSet<Feature>,
}

impl Program {
    /// The command as a person would type it: shell text, or arguments quoted where a shell needs it.
    pub fn text(&self) -> String {
        match self {
            Self::Shell(text) => text.clone(),
            Self::Argv(argv) => argv.iter().map(|arg| shell_quoted(arg)).collect::<Vec<_>>().join(" "),
        }
    }
}

impl CommandSpec {
    /// The blobs that the command is given: standard input and files.
    pub fn blobs(&self) -> impl Iterator<Item = BlobId> {
        let files = self.injected.iter().filter_map(|file| match file.node {
            InjectedNode::File(blob) => Some(blob),
            _ => None,
        });
        self.stdin.into_iter().chain(files)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(MAGIC);
        match &self.program {
            Program::Shell(text) => {
                out.u8(1);
                out.bytes32(text.as_bytes());
            }
            Program::Argv(argv) => {
                out.u8(2);
                out.count32(argv.len());
                for arg in argv {
                    out.bytes32(arg);
                }
            }
        }
        out.texts(self.env.iter());
        out.bytes32(&self.cwd);
        out.u32(self.uid);
        out.u32(self.gid);
        out.count32(self.groups.len());
        for group in &self.groups {
            out.u32(*group);
        }
        out.u16(self.umask);
        out.bytes32(self.hostname.as_bytes());
        out.option(self.stdin.as_ref(), |out, stdin| out.raw(stdin.as_bytes()));
        out.count32(self.injected.len());
        for injected in &self.injected {
            out.bytes32(&injected.path);
            out.u16(injected.mode);
            match &injected.node {
                InjectedNode::File(blob) => {
                    out.u8(1);
                    out.raw(blob.as_bytes());
                }
                InjectedNode::Directory => out.u8(2),
                InjectedNode::Symlink(target) => {
                    out.u8(3);
                    out.bytes32(target);
                }
            }
        }
        out.count32(self.mounts.len());
        self.mounts.iter().for_each(|mount| mount.encode(&mut out));
        out.u8(match self.network {
            Network::None => 1,
            Network::Host => 2,
            Network::Private => 3,
        });
        out.u8(match self.root_mode {
            RootMode::Mapped => 1,
            RootMode::Recorded => 2,
            RootMode::Plain => 3,
        });
        out.u8(u8::from(self.read_only));
        out.option(self.epoch, |out, epoch| out.raw(&epoch.to_le_bytes()));
        out.u8(u8::from(self.keep_env));
        out.u8(u8::from(self.keep_workdir));
        // Absent where there is nothing to say, so that specs of older versions keep their bytes.
        if !self.allow.is_empty() {
            out.u8(self.allow.iter().fold(0, |bits, feature| bits | feature.bit()));
        }
        out.finish()
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new("command spec", MAGIC, bytes)?;
        let program = match input.u8()? {
            1 => Program::Shell(input.text()?),
            2 => {
                let count = input.count32(4)?;
                let argv: Result<_, _> = (0..count).map(|_| input.bytes32().map(<[u8]>::to_vec)).collect();
                Program::Argv(argv?)
            }
            _ => return Err(input.error("an unknown kind of program")),
        };
        let env = input.texts()?;
        let cwd = input.bytes32()?.to_vec();
        let (uid, gid) = (input.u32()?, input.u32()?);
        let count = input.count32(4)?;
        let groups = (0..count).map(|_| input.u32()).collect::<Result<_, _>>()?;
        let umask = input.u16()?;
        let hostname = input.text()?;
        let stdin = input.option(|input| input.array().map(BlobId::from_bytes))?;
        let count = input.count32(7)?;
        let mut injected = Vec::with_capacity(count);
        for _ in 0..count {
            let path = input.bytes32()?.to_vec();
            let mode = input.u16()?;
            let node = match input.u8()? {
                1 => InjectedNode::File(BlobId::from_bytes(input.array()?)),
                2 => InjectedNode::Directory,
                3 => InjectedNode::Symlink(input.bytes32()?.to_vec()),
                _ => return Err(input.error("an unknown kind of injected file")),
            };
            injected.push(Injected { path, mode, node });
        }
        let count = input.count32(MountSpec::MIN_BYTES)?;
        let mounts = (0..count).map(|_| MountSpec::decode(&mut input)).collect::<Result<_, _>>()?;
        let network = match input.u8()? {
            1 => Network::None,
            2 => Network::Host,
            3 => Network::Private,
            _ => return Err(input.error("an unknown network policy")),
        };
        let root_mode = match input.u8()? {
            1 => RootMode::Mapped,
            2 => RootMode::Recorded,
            3 => RootMode::Plain,
            _ => return Err(input.error("an unknown root mode")),
        };
        let read_only = flag(&mut input)?;
        let epoch = input.option(Reader::i64)?;
        let keep_env = flag(&mut input)?;
        let keep_workdir = flag(&mut input)?;
        let allow = if input.remaining() > 0 { features(&mut input)? } else { BTreeSet::new() };
        input.end()?;
        Ok(Self {
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
        })
    }

    /// The key of this command run on that parent.
    pub fn run_key(&self, parent: &StateId) -> RunKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(KEY_MAGIC);
        hasher.update(parent.as_bytes());
        hasher.update(&self.encode());
        RunKey::from_bytes(*hasher.finalize().as_bytes())
    }
}

fn flag(input: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match input.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(input.error("a flag that is neither 0 nor 1")),
    }
}

fn features(input: &mut Reader<'_>) -> Result<BTreeSet<Feature>, DecodeError> {
    let bits = input.u8()?;
    let known = Feature::ALL.iter().fold(0, |bits, feature| bits | feature.bit());
    if bits == 0 || bits & !known != 0 {
        return Err(input.error("features that are none or unknown"));
    }
    Ok(Feature::ALL.into_iter().filter(|feature| bits & feature.bit() != 0).collect())
}

fn shell_quoted(arg: &[u8]) -> String {
    let text = String::from_utf8_lossy(arg);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
