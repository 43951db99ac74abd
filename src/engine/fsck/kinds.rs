//! Every kind of damage by name: the same table as in `store-format.md`.

use std::fmt;

/// How bad a damage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Left by a process that is dead, or not needed by anything. Normal, and no finding for an exit code.
    Info,
    /// Something that can be made again, or that nothing named needs.
    Warning,
    /// Something that a user named is lost or wrong.
    Error,
}

impl Severity {
    /// The word used in text and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes the enumeration and its table in one place, so that no kind lacks a row.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal, $severity:ident, $fix:literal;)+) => {
        /// What kind of damage it is. Names are a contract with scripts: kinds may be added, none renamed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum DamageKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl DamageKind {
            /// Every kind, in the order of the table in `store-format.md`.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            /// Its name, such as `blob-flipped`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// How bad it is at worst. Of objects it is less when no ref leads to them.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$kind => Severity::$severity,)+ }
            }

            /// What a person can do about it.
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$kind => $fix,)+ }
            }
        }
    };
}

kinds! {
    /// The `format` file is missing or not understood.
    FormatDamaged = "format-damaged", Error, "`treebox fsck --repair` writes it again";
    /// A blob that a tree names is not there.
    BlobMissing = "blob-missing", Error, "`--repair` looks for the bytes elsewhere; else import the image or run the step again";
    /// A blob has fewer bytes than the trees say.
    BlobTruncated = "blob-truncated", Error, "`--repair` looks for the bytes elsewhere; else import the image or run the step again";
    /// A blob has more bytes than the trees say.
    BlobLonger = "blob-longer", Error, "`--repair` looks for the bytes elsewhere; else import the image or run the step again";
    /// A blob's bytes have another hash than its name.
    BlobFlipped = "blob-flipped", Error, "`--repair` looks for the bytes elsewhere; else import the image or run the step again";
    /// A blob cannot be read.
    BlobUnreadable = "blob-unreadable", Error, "make it readable for the store's owner; if the disk fails, save the store first";
    /// Blobs that nothing names.
    BlobExtra = "blob-extra", Info, "`treebox gc` removes them";
    /// A tree that another tree or a state names is not there.
    TreeMissing = "tree-missing", Error, "import the image or run the step again; a ref to it can be deleted or reset";
    /// A tree's bytes have another hash than its name.
    TreeFlipped = "tree-flipped", Error, "import the image or run the step again; a ref to it can be deleted or reset";
    /// A tree's bytes have the right hash and are no tree.
    TreeMalformed = "tree-malformed", Error, "a program with a fault wrote it: delete or reset the refs to it";
    /// A directory's sums are not those of what is below it.
    TreeSums = "tree-sums", Error, "a program with a fault wrote it: delete or reset the refs to it";
    /// A group of hard links has one member, unequal members, or a value that does not follow from its paths.
    TreeLinks = "tree-links", Error, "a program with a fault wrote it: delete or reset the refs to it";
    /// Trees that nothing names.
    TreeExtra = "tree-extra", Info, "`treebox gc` removes them";
    /// A state that a commit names is not there.
    StateMissing = "state-missing", Error, "import the image or run the step again; a ref to it can be deleted or reset";
    /// A state's bytes have another hash than its name.
    StateFlipped = "state-flipped", Error, "import the image or run the step again; a ref to it can be deleted or reset";
    /// A state's bytes have the right hash and are no state.
    StateMalformed = "state-malformed", Error, "a program with a fault wrote it: delete or reset the refs to it";
    /// States that nothing names.
    StateExtra = "state-extra", Info, "`treebox gc` removes them";
    /// A segment does not begin as one.
    SegmentMagic = "segment-magic", Error, "`treebox fsck --repair` writes its sound records to another segment";
    /// Bytes in a segment that are no record.
    SegmentGarbage = "segment-garbage", Warning, "`treebox fsck --repair` writes its sound records to another segment";
    /// A segment ends with a record that was not written whole.
    SegmentTorn = "segment-torn", Info, "the next writer cuts it off";
    /// A segment cannot be read.
    SegmentUnreadable = "segment-unreadable", Error, "make it readable for the store's owner; if the disk fails, save the store first";
    /// A file among the objects that is none.
    ObjectStray = "object-stray", Info, "look what it is; `--repair` moves it to `damaged/`";
    /// The history is no repository that can be used.
    HistoryUnusable = "history-unusable", Error, "`git fsck` there may say more; restore it from a copy";
    /// There is no history, and the index knows commits.
    HistoryMissing = "history-missing", Error, "restore it from a copy; states stay readable by id";
    /// A ref from which no commit can be read.
    RefTorn = "ref-torn", Error, "`treebox fsck --repair` takes the newest commit that its log or the operation log knows";
    /// A ref to a commit that is not there.
    RefDangling = "ref-dangling", Error, "`treebox fsck --repair` takes the newest commit that its log or the operation log knows";
    /// A line of `packed-refs` that is no ref.
    PackedRefsTorn = "packed-refs-torn", Error, "`treebox fsck --repair` takes the line out and brings back what logs know";
    /// HEAD names neither a branch nor a commit that is there.
    HeadTorn = "head-torn", Error, "`treebox fsck --repair` takes what its log knows; else `treebox switch` to a branch";
    /// A line of a ref's log that is none.
    ReflogTorn = "reflog-torn", Warning, "`treebox fsck --repair` takes the line out";
    /// A line of the operation log that is none, or a record that is not complete.
    OplogTorn = "oplog-torn", Warning, "`treebox fsck --repair` takes the lines out";
    /// A log names commits that are not there.
    ReflogDangling = "reflog-dangling", Info, "nothing: `git gc` may have removed them";
    /// An edit of refs that a process which is dead has begun.
    EditUnfinished = "edit-unfinished", Info, "the next command finishes it or takes it back";
    /// A commit that a ref leads to is not there.
    CommitMissing = "commit-missing", Error, "fetch it from a copy of the history; a ref to it can be deleted or reset";
    /// A commit, its Git tree or its `state.json` cannot be read.
    CommitDamaged = "commit-damaged", Error, "fetch it from a copy of the history; a ref to it can be deleted or reset";
    /// A commit's `state.json` names no state, or another tree than its state has.
    CommitRecord = "commit-record", Error, "a ref to it can be deleted or reset";
    /// A Git object that no ref needs, or one of several copies, is not what its name says.
    GitObjectDamaged = "git-object-damaged", Warning, "`treebox fsck --repair` moves it to `damaged/`";
    /// The lock file of a process that is dead.
    LockStale = "lock-stale", Info, "`treebox fsck --repair` removes it; else the next command that needs it";
    /// The index is no index, or SQLite finds damage in it.
    IndexDamaged = "index-damaged", Warning, "the next command or `treebox fsck --repair` makes it anew; remembered runs are lost";
    /// There is no index.
    IndexMissing = "index-missing", Info, "the next command makes it anew";
    /// A row says that an object is where it is not, or the row of an object is missing.
    IndexRowObject = "index-row-object", Warning, "`treebox fsck --repair` reads the segments again";
    /// A row says that a commit holds another state than it does.
    IndexRowCommit = "index-row-commit", Warning, "`treebox fsck --repair` corrects it";
    /// A remembered run whose command cannot be read, or does not have its key.
    IndexRowRun = "index-row-run", Warning, "`treebox fsck --repair` forgets it";
    /// A row says that layers of an image give a tree that is not there.
    IndexRowChain = "index-row-chain", Warning, "`treebox fsck --repair` forgets it; the image's layers are read again";
    /// A row names a layer whose directory is gone.
    IndexRowLayer = "index-row-layer", Info, "the layer is made again when it is needed";
    /// A file in a layer is not what the tree says.
    LayerFileChanged = "layer-file-changed", Warning, "`treebox fsck --repair` drops the layer; it is made again when it is needed";
    /// A file or whiteout that a layer should have is not there.
    LayerFileMissing = "layer-file-missing", Warning, "`treebox fsck --repair` drops the layer; it is made again when it is needed";
    /// A file in a layer that the tree lacks.
    LayerFileExtra = "layer-file-extra", Warning, "`treebox fsck --repair` drops the layer; it is made again when it is needed";
    /// A directory in `layers/` that no row names.
    LayerExtra = "layer-extra", Info, "`treebox gc` removes it";
    /// A layer that cannot be read from here.
    LayerUnreadable = "layer-unreadable", Info, "check the store as who runs commands in it, where sandboxes work";
    /// A blob's file has a name that is no layer's: who writes there changes the blob.
    LinkCount = "link-count", Warning, "find the other name with `find -inum` and replace it by a copy";
    /// Bytes of an image are not what their digest says.
    OriginalDamaged = "original-damaged", Warning, "`treebox fsck --repair` moves it to `damaged/`; importing or pulling the image again brings it back";
    /// Bytes that an image had are not here.
    OriginalMissing = "original-missing", Info, "importing or pulling the image again brings it back";
    /// A list of owners that cannot be read or is not its tree's.
    OwnersDamaged = "owners-damaged", Warning, "`treebox fsck --repair` removes it; it is made again when it is needed";
    /// A record of a checkout that cannot be read.
    CheckoutRecordDamaged = "checkout-record-damaged", Warning, "`treebox fsck --repair` moves it to `damaged/`; check out to a new directory";
    /// What is kept of a replay cannot be read.
    ReplayDamaged = "replay-damaged", Warning, "`treebox fsck --repair` moves it to `damaged/`; begin the replay anew";
    /// A directory in `tmp/` whose owner is dead.
    LeftoverScratch = "leftover-scratch", Info, "the next command removes it";
    /// A file that a process which is dead left half-made, or that treebox moved aside.
    LeftoverFile = "leftover-file", Info, "`treebox fsck --repair` removes what is half-made; what was moved aside is yours to remove";
    /// Something in the store that no treebox makes.
    Stray = "stray", Info, "look what it is: nothing here needs it";
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
