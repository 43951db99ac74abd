//! Everything that Git's library does for this room, in this room's own types. Only this file and what is below it name it.
//!
//! The repository is opened isolated: no file of the user's configuration and no environment variable is read.

mod check;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use gix::bstr::{BStr, ByteSlice as _};
use gix::lock::acquire::Fail;
use gix::objs::{Kind as GitKind, Write as _};
use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};
use gix::refs::{FullName, Target};
use gix::revision::spec::parse as revision;

pub(super) use super::values::{
    CommitObject, HeadTarget, Kind, Revision, RevisionError, TransactionError, TreeEntry, Written,
};
use super::{GitError, HistoryError, Order, RefKind, WalkOptions, Walked};
use crate::object::CommitId;

/// How long a Git lock file is waited for, as stock git does.
const LOCK_PATIENCE: Fail = Fail::AfterDurationWithBackoff(Duration::from_millis(100));

/// Enough for the commits that wait for their turn in any history with fewer than some ten thousand branches.
const WALK_CACHE_BYTES: usize = 8 << 20;

/// The longest commit that is packed without compression.
const MAX_STORED_COMMIT_BYTES: usize = 1024;

/// How often writing an object is tried.
const MAX_WRITE_TRIES: usize = 8;

/// An opened repository, shared by threads.
pub(super) struct Git {
    directory: PathBuf,
    opened: Mutex<Opened>,
}

/// The repository as it was when its packs were last looked at.
struct Opened {
    repository: gix::ThreadSafeRepository,
    packs: Option<SystemTime>,
}

/// What one thread works with.
pub(super) struct Local(gix::Repository);

/// What an object that was read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectKind {
    Blob,
    Tree,
    Commit,
    Tag,
}

/// Whether what the ref names may be a tag object; a branch's is always a commit, and looking costs more than the ref.
fn may_be_annotated(full: &str) -> bool {
    full.starts_with(RefKind::Tag.prefix())
}

/// Where a ref is.
#[derive(Debug, Clone)]
pub(super) struct RefValue {
    /// The commit, behind annotated tags.
    pub(super) commit: CommitId,
    /// What the ref itself says.
    target: Target,
}

/// What a ref was found to be.
#[derive(Debug, Clone)]
pub(super) enum OldValue {
    Absent,
    Is(RefValue),
    /// There is a file, but no commit can be read from it.
    Broken,
}

impl OldValue {
    pub(super) fn commit(&self) -> Option<CommitId> {
        match self {
            Self::Is(value) => Some(value.commit),
            Self::Absent | Self::Broken => None,
        }
    }

    /// What the ref itself said: a tag object where one stands before the commit.
    pub(super) fn object(&self) -> Option<CommitId> {
        match self {
            Self::Is(value) => value.target.try_id().map(ours),
            Self::Absent | Self::Broken => None,
        }
    }
}

/// One ref to move, checked.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) full: String,
    pub(super) old: OldValue,
    pub(super) new: Option<CommitId>,
}

/// The commits of a walk.
pub(super) type Steps = Box<dyn Iterator<Item = Result<Walked, GitError>> + Send>;

fn wrong(error: gix::Error) -> GitError {
    // The library's errors are trees of causes; one line with the last of them says what a person can use.
    let (first, cause) = (error.to_string(), error.probable_cause().to_string());
    GitError(if first.contains(&cause) { first } else { format!("{first}: {cause}") })
}

fn ours(id: impl AsRef<gix::oid>) -> CommitId {
    let bytes = id.as_ref().as_bytes().try_into();
    CommitId::from_bytes(bytes.expect("the repository's ids are SHA-1: only that is compiled in"))
}

fn theirs(id: &CommitId) -> gix::ObjectId {
    gix::ObjectId::Sha1(*id.as_bytes())
}

/// A commit of its bytes.
pub(super) fn parse_commit(bytes: &[u8]) -> Result<CommitObject, GitError> {
    let commit = gix::objs::CommitRef::from_bytes(bytes, gix::hash::Kind::Sha1).map_err(wrong)?;
    Ok(CommitObject {
        tree: ours(commit.tree()),
        parents: commit.parents().map(ours).collect(),
        message: commit.message.to_str_lossy().into_owned(),
        time_seconds: commit.committer().map_err(wrong)?.seconds(),
    })
}

/// What an object of these bytes leads to directly.
fn links(kind: GitKind, bytes: &[u8]) -> Result<Vec<CommitId>, GitError> {
    let hash = gix::hash::Kind::Sha1;
    Ok(match kind {
        GitKind::Blob => Vec::new(),
        GitKind::Tree => {
            let tree = gix::objs::TreeRef::from_bytes(bytes, hash).map_err(wrong)?;
            // A submodule's commit is in another repository.
            let entries = tree.entries.iter().filter(|entry| !entry.mode.is_commit());
            entries.map(|entry| ours(entry.oid)).collect()
        }
        GitKind::Commit => {
            let commit = gix::objs::CommitRef::from_bytes(bytes, hash).map_err(wrong)?;
            std::iter::once(ours(commit.tree())).chain(commit.parents().map(ours)).collect()
        }
        GitKind::Tag => vec![ours(gix::objs::TagRef::from_bytes(bytes, hash).map_err(wrong)?.target())],
    })
}

impl Git {
    pub(super) fn open(directory: &Path) -> Result<Self, GitError> {
        let packs = packs_changed(directory);
        let opened = Opened { repository: Self::open_repository(directory)?, packs };
        Ok(Self { directory: directory.to_owned(), opened: Mutex::new(opened) })
    }

    fn open_repository(directory: &Path) -> Result<gix::ThreadSafeRepository, GitError> {
        let options = gix::open::Options::isolated()
            .open_path_as_is(true)
            .with(gix::sec::Trust::Full)
            .lossy_config(true);
        options.open(directory).map_err(wrong)
    }

    /// The library keeps packs open that were removed, and takes what is in them for there. So it is opened anew when packs came or went.
    pub(super) fn local(&self) -> Local {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let packs = packs_changed(&self.directory);
        if packs != opened.packs
            && let Ok(repository) = Self::open_repository(&self.directory)
        {
            *opened = Opened { repository, packs };
        }
        Local(opened.repository.to_thread_local())
    }
}

/// When a pack last came or went.
fn packs_changed(directory: &Path) -> Option<SystemTime> {
    std::fs::metadata(directory.join("objects/pack")).and_then(|found| found.modified()).ok()
}

impl Local {
    /// Every ref with what it names itself, which may be a tag.
    pub(super) fn all_refs(&self) -> Result<Vec<(String, CommitId)>, GitError> {
        let platform = self.0.references().map_err(wrong)?;
        let found = platform.all().map_err(wrong)?.filter_map(Result::ok);
        Ok(found
            .filter_map(|found| Some((found.name().as_bstr().to_string(), ours(found.try_id()?))))
            .collect())
    }

    /// The commit behind an object; `None` when it is missing or leads to none.
    pub(super) fn commit_behind(&self, id: &CommitId) -> Option<CommitId> {
        let object = self.0.try_find_object(theirs(id)).ok().flatten()?;
        object.peel_to_kind(GitKind::Commit).ok().map(|commit| ours(commit.id))
    }

    /// What an object leads to directly; nothing when it is missing.
    pub(super) fn below(&self, id: &CommitId) -> Result<Vec<CommitId>, GitError> {
        let Some(object) = self.0.try_find_object(theirs(id)).map_err(wrong)? else { return Ok(Vec::new()) };
        links(object.kind, &object.data)
    }

    pub(super) fn head(&self) -> Result<HeadTarget, GitError> {
        let head = self.0.refs.find("HEAD").map_err(wrong)?;
        Ok(match head.target {
            Target::Symbolic(name) => HeadTarget::Ref(name.as_bstr().to_string()),
            Target::Object(id) => HeadTarget::Commit(ours(id)),
        })
    }

    /// Where a ref is, by its full name.
    pub(super) fn find(&self, full: &str) -> Result<Option<RefValue>, GitError> {
        // By full name only: the library would otherwise also try `refs/heads/refs/heads/…`.
        let name = FullName::try_from(full).map_err(|error| GitError(error.to_string()))?;
        let Some(mut found) = self.0.try_find_reference(name.as_ref()).map_err(wrong)? else {
            return Ok(None);
        };
        if found.name().as_bstr() != full {
            return Ok(None);
        }
        let target = found.inner.target.clone();
        let commit = match found.try_id() {
            Some(id) if !may_be_annotated(full) => ours(id.detach()),
            _ => ours(found.peel_to_id().map_err(wrong)?),
        };
        Ok(Some(RefValue { commit, target }))
    }

    /// Every ref below a prefix that ends with a slash.
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<(String, CommitId)>, GitError> {
        let platform = self.0.references().map_err(wrong)?;
        let mut found = platform.prefixed(prefix.as_bytes()).map_err(wrong)?;
        if may_be_annotated(prefix) {
            found = found.peeled().map_err(wrong)?;
        }
        // A ref that leads nowhere must not hide the others; `fsck` names it.
        let found = found.filter_map(Result::ok);
        Ok(found
            .filter_map(|found| Some((found.name().as_bstr().to_string(), ours(found.try_id()?))))
            .collect())
    }

    /// Moves refs. `before_commit` runs when all of Git's locks are held and filled, before the first ref moves.
    pub(super) fn transact(
        &self,
        steps: &[Step],
        before_commit: impl FnOnce() -> Result<(), HistoryError>,
    ) -> Result<(), TransactionError> {
        let mut refs = self.0.refs.clone();
        // The library writes a log's line in nine pieces; who is killed in between would leave a part of it. The caller writes it.
        refs.write_reflog = gix::refs::store::WriteReflog::Disable;
        let edits: Vec<_> = steps.iter().map(edit).collect();
        let git = |error| TransactionError::Git(wrong(error));
        let prepared = refs.transaction().prepare(edits, LOCK_PATIENCE, LOCK_PATIENCE).map_err(git)?;
        before_commit().map_err(TransactionError::Sync)?;
        prepared.commit(None).map_err(|error| TransactionError::Half(wrong(error)))?;
        Ok(())
    }

    /// Writes refs, which stay where they are, into `packed-refs`; with `only` their own files go.
    pub(super) fn pack_refs(&self, refs: &[Step], only: bool) -> Result<(), GitError> {
        use gix::refs::file::transaction::PackedRefs;
        let objects = Box::new(self.0.objects.clone());
        let packed = match only {
            true => PackedRefs::DeletionsAndNonSymbolicUpdatesRemoveLooseSourceReference(objects),
            false => PackedRefs::DeletionsAndNonSymbolicUpdates(objects),
        };
        // A tag's own value may be a tag object, which an edit of it would replace by the commit.
        let stay = |step: &Step| match &step.old {
            OldValue::Is(value) => {
                let mut edit = edit(step);
                if let Change::Update { new, .. } = &mut edit.change {
                    *new = value.target.clone();
                }
                Some(edit)
            }
            OldValue::Absent | OldValue::Broken => None,
        };
        let mut store = self.0.refs.clone();
        store.write_reflog = gix::refs::store::WriteReflog::Disable;
        let transaction = store.transaction().packed_refs(packed);
        let edits: Vec<_> = refs.iter().filter_map(stay).collect();
        let prepared = transaction.prepare(edits, LOCK_PATIENCE, LOCK_PATIENCE).map_err(wrong)?;
        prepared.commit(None).map(drop).map_err(wrong)
    }

    /// Writes an object unless it exists.
    pub(super) fn write(&self, kind: Kind, bytes: &[u8]) -> Result<Written, GitError> {
        let kind = match kind {
            Kind::Blob => GitKind::Blob,
            Kind::Tree => GitKind::Tree,
            Kind::Commit => GitKind::Commit,
        };
        let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, bytes).map_err(wrong)?;
        let hex = id.to_string();
        let objects = self.0.objects.store_ref().path().to_owned();
        let shard = objects.join(&hex[..2]);
        let path = shard.join(&hex[2..]);
        // An empty file is what a power cut leaves of an object that was not synced; it is written again.
        let loose = path.metadata().is_ok_and(|metadata| metadata.len() > 0);
        if !loose && self.0.objects.exists_without_refresh(&id) && !path.exists() {
            return Ok(Written { id: ours(id), unsynced: Vec::new() });
        }
        let mut unsynced = Vec::with_capacity(3);
        if !shard.exists() {
            unsynced.push(objects);
        }
        if !loose {
            // A `git gc` removes directories that are empty, also one that was made just now for this object.
            let mut tries = 0;
            while let Err(error) = self.0.objects.write_buf_with_known_id(kind, bytes, id) {
                tries += 1;
                if tries >= MAX_WRITE_TRIES {
                    return Err(wrong(error));
                }
            }
        }
        // Also when another process wrote it: it may not have synced it yet, and syncing twice costs little.
        unsynced.extend([shard, path]);
        Ok(Written { id: ours(id), unsynced })
    }

    /// What a loose object leads to; `None` when its file does not hold what its name says.
    pub(super) fn sound_links(&self, id: &CommitId) -> Option<Vec<CommitId>> {
        let kind = gix::hash::Kind::Sha1;
        let loose = gix::odb::loose::Store::at(self.0.objects.store_ref().path(), kind);
        let mut bytes = Vec::new();
        let found = loose.try_find(&theirs(id), &mut bytes).ok().flatten()?;
        let hash = gix::objs::compute_hash(kind, found.kind, found.data).ok()?;
        match found.kind {
            _ if hash != theirs(id) => None,
            // What a tag was made of by another program is not judged here.
            GitKind::Tag => Some(Vec::new()),
            kind => links(kind, found.data).ok(),
        }
    }

    pub(super) fn has_object(&self, id: &CommitId) -> bool {
        self.0.has_object(theirs(id))
    }

    pub(super) fn has_commit(&self, id: &CommitId) -> bool {
        let header = self.0.try_find_header(theirs(id));
        header.is_ok_and(|header| header.is_some_and(|header| header.kind() == GitKind::Commit))
    }

    pub(super) fn commit(&self, id: &CommitId) -> Result<Option<CommitObject>, GitError> {
        let Some(object) = self.0.try_find_object(theirs(id)).map_err(wrong)? else {
            return Ok(None);
        };
        if object.kind != GitKind::Commit {
            return Ok(None);
        }
        parse_commit(&object.data).map(Some)
    }

    /// A file of a Git tree, when it has one of that name.
    pub(super) fn file(&self, tree: &CommitId, name: &str) -> Result<Option<Vec<u8>>, GitError> {
        let tree = self.0.find_tree(theirs(tree)).map_err(wrong)?;
        let Some(entry) = tree.find_entry(name) else {
            return Ok(None);
        };
        if !entry.mode().is_blob() {
            return Ok(None);
        }
        let mut blob = self.0.find_blob(entry.oid()).map_err(wrong)?;
        Ok(Some(std::mem::take(&mut blob.data)))
    }

    /// The entries of a Git tree, in Git's order: mode, name, id.
    pub(super) fn entries(&self, tree: &CommitId) -> Result<Vec<TreeEntry>, GitError> {
        let tree = self.0.find_tree(theirs(tree)).map_err(wrong)?;
        let entries = tree.iter().map(|entry| {
            let entry = entry.map_err(wrong)?;
            Ok(TreeEntry {
                mode: entry.mode().value(),
                name: entry.filename().to_vec(),
                id: ours(entry.oid()),
            })
        });
        entries.collect()
    }

    /// The bytes of a blob.
    pub(super) fn blob(&self, id: &CommitId) -> Result<Vec<u8>, GitError> {
        let mut blob = self.0.find_blob(theirs(id)).map_err(wrong)?;
        Ok(std::mem::take(&mut blob.data))
    }

    pub(super) fn merge_bases(&self, a: &CommitId, b: &CommitId) -> Result<Vec<CommitId>, GitError> {
        let bases = self.0.merge_bases_many(theirs(a), &[theirs(b)]).map_err(wrong)?;
        Ok(bases.into_iter().map(|id| ours(id.detach())).collect())
    }

    pub(super) fn walk(&self, options: &WalkOptions) -> Result<Steps, GitError> {
        use gix::traverse::commit::{Parents, Simple, simple, topo};
        let tips = options.tips.iter().map(theirs);
        let hidden = options.hidden.iter().map(theirs);
        let parents = if options.first_parent { Parents::First } else { Parents::All };
        let graph = self.0.commit_graph_if_enabled().map_err(wrong)?;
        // A walk by time reads every commit twice: when it is found, and when its turn comes.
        let mut cached = self.0.clone();
        cached.object_cache_size(WALK_CACHE_BYTES);
        let objects = cached.objects.clone();
        let walked = |info: gix::Result<gix::traverse::commit::Info>| {
            let info = info.map_err(wrong)?;
            let parents = info.parent_ids.iter().map(ours).collect();
            Ok(Walked { id: ours(info.id), parents, time_seconds: info.commit_time.unwrap_or_default() })
        };
        Ok(match options.order {
            Order::Time => {
                let order = simple::CommitTimeOrder::NewestFirst;
                let walk = Simple::new(tips, objects).sorting(simple::Sorting::ByCommitTime(order));
                let walk = walk.map_err(wrong)?.parents(parents).commit_graph(graph);
                Box::new(walk.hide(hidden).map_err(wrong)?.map(walked))
            }
            Order::Topological => {
                let walk = topo::Builder::new(objects).with_tips(tips).with_ends(hidden).parents(parents);
                let walk = walk.sorting(topo::Sorting::TopoOrder).with_commit_graph(graph);
                Box::new(walk.build().map_err(wrong)?.map(walked))
            }
        })
    }

    /// The objects of a pack, by its index.
    pub(super) fn packed_objects(&self, index: &Path) -> Result<Vec<CommitId>, GitError> {
        let index = gix::odb::pack::index::File::at(index, gix::hash::Kind::Sha1).map_err(wrong)?;
        Ok(index.iter().map(|entry| ours(entry.oid)).collect())
    }

    /// Writes objects as one pack with its index; says which files they are. No deltas: records are small and unlike each other.
    pub(super) fn write_pack(&self, ids: &[CommitId], directory: &Path) -> Result<Vec<PathBuf>, GitError> {
        use gix::odb::pack::{Bundle, bundle, data};
        use gix::zlib::Compression;
        let entry = |id: &CommitId| {
            let object = self.0.find_object(theirs(id))?;
            // Walks read every commit, and to inflate a small one costs more than all else: only long ones are compressed.
            let is_walked = object.kind == GitKind::Commit && object.data.len() <= MAX_STORED_COMMIT_BYTES;
            let level = if is_walked { Compression::NONE } else { Compression::DEFAULT };
            let count = data::output::Count::from_data(object.id, None);
            let found = gix::objs::Data::new(&object.data, object.kind, gix::hash::Kind::Sha1);
            Ok(vec![data::output::Entry::from_data(&count, &found, level)?])
        };
        let count =
            u32::try_from(ids.len()).map_err(|_| GitError("too many objects for one pack".to_owned()))?;
        let mut bytes = Vec::new();
        let entries = ids.iter().map(entry);
        let kind = gix::hash::Kind::Sha1;
        let mut written =
            data::output::bytes::FromEntriesIter::new(entries, &mut bytes, count, data::Version::V2, kind);
        written.try_for_each(|piece| piece.map(drop)).map_err(wrong)?;
        let never = std::sync::atomic::AtomicBool::new(false);
        let (mut bytes, mut silent) = (bytes.as_slice(), gix::progress::Discard);
        let base = None::<gix::OdbHandle>;
        let options = bundle::write::Options::default();
        let made =
            Bundle::write_to_directory(&mut bytes, Some(directory), &mut silent, &never, base, kind, options);
        let made = made.map_err(wrong)?;
        // It keeps a `git gc` away until refs lead to the pack; they do already.
        if let Some(keep) = made.keep_path {
            std::fs::remove_file(keep).map_err(|error| GitError(error.to_string()))?;
        }
        Ok(made.data_path.into_iter().chain(made.index_path).collect())
    }

    /// Reads a revision.
    pub(super) fn parse(&self, text: &str) -> Result<Revision, RevisionError> {
        use gix::revision::plumbing::Spec;
        let hint = revision::Options {
            refs_hint: revision::RefsHint::default(),
            object_kind_hint: Some(revision::ObjectKindHint::Committish),
        };
        let spec = gix::revision::Spec::from_bstr(BStr::new(text), &self.0, hint).map_err(revision_error)?;
        Ok(match spec.detach() {
            Spec::Include(id) => Revision::Include(self.peel(id)?),
            Spec::IncludeOnlyParents(id) => Revision::ParentsOf(self.peel(id)?),
            Spec::ExcludeParents(id) => Revision::WithoutParents(self.peel(id)?),
            _ => Revision::Other,
        })
    }

    fn peel(&self, id: gix::ObjectId) -> Result<CommitId, RevisionError> {
        let object = match self.0.try_find_object(id) {
            Ok(Some(object)) => object,
            Ok(None) => return Err(RevisionError::NotFound(format!("object {id} does not exist"))),
            Err(error) => return Err(RevisionError::Git(wrong(error))),
        };
        let kind = object.kind;
        let commit = object.peel_to_kind(GitKind::Commit);
        commit.map(|commit| ours(commit.id)).map_err(|_| RevisionError::NoCommit(kind.to_string()))
    }
}

fn edit(step: &Step) -> RefEdit {
    // The library compares again under Git's own lock: stock git does not know of ours.
    let expected = match &step.old {
        OldValue::Is(value) => PreviousValue::MustExistAndMatch(value.target.clone()),
        OldValue::Absent => PreviousValue::MustNotExist,
        OldValue::Broken => PreviousValue::Any,
    };
    let change = match step.new {
        Some(new) => {
            Change::Update { log: LogChange::default(), expected, new: Target::Object(theirs(&new)) }
        }
        None => Change::Delete { expected, log: RefLog::AndReference },
    };
    let name = FullName::try_from(step.full.as_str()).expect("a validated name is a full ref name");
    RefEdit { change, name, deref: false }
}

fn revision_error(error: gix::Error) -> RevisionError {
    if let Some(revision::Error::AmbiguousPrefix { candidates, .. }) = error.downcast_any_ref() {
        return RevisionError::Ambiguous(
            candidates.iter().map(|(id, info)| format!("{id} ({info})")).collect(),
        );
    }
    if error.is_corrupted() || error.is_permission_denied() {
        return RevisionError::Git(wrong(error));
    }
    // The library has one class for a text that it cannot read and one that it read but that leads nowhere. Only
    // the latter has causes, the last of which says where it ended.
    let texts: Vec<_> = error.iter_errors().map(ToString::to_string).collect();
    let plain = |text: &str| text.split(", input=").next().unwrap_or_default().to_owned();
    match texts.as_slice() {
        [] => RevisionError::Unsupported(String::new()),
        [only] => RevisionError::Unsupported(plain(only)),
        [first, .., last] if first.starts_with("delegate.peel_until") => {
            RevisionError::Unsupported(plain(last))
        }
        [.., last] if last.contains("could not be found") || last.contains("invalid byte") => {
            RevisionError::NotFound(String::new())
        }
        [.., last] => RevisionError::NotFound(plain(last)),
    }
}
