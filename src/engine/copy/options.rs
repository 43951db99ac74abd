//! How files are copied.

use super::mode::ModeChange;
use crate::object::Patterns;

/// The file at the root of a copied host directory that lists what is not copied, in the language of `.gitignore`.
pub const IGNORE_FILE: &str = ".treeboxignore";

/// How files are copied; without a say everything is, as it is.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    pub(super) exclude: Patterns,
    pub(super) no_ignore: bool,
    pub(super) owner: Option<String>,
    pub(super) mode: Option<ModeChange>,
    pub(super) delete: bool,
    pub(super) delete_excluded: bool,
    pub(super) message: Option<String>,
    pub(super) dry_run: bool,
}

impl CopyOptions {
    /// Everything as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves out what matches, seen from each copied directory; behind [`IGNORE_FILE`] and earlier patterns, so that `!` takes those back.
    #[must_use]
    pub fn exclude(mut self, pattern: impl AsRef<[u8]>) -> Self {
        self.exclude.push(pattern.as_ref());
        self
    }

    /// Copies what an [`IGNORE_FILE`] leaves out too.
    #[must_use]
    pub fn no_ignore(mut self, on: bool) -> Self {
        self.no_ignore = on;
        self
    }

    /// Who owns what is copied into a state, as `chown` takes it: `user`, `user:group`, `user:`, `:group`, names or numbers. Names are those
    /// of the state.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Changes the permissions of what is copied into a state; symbolic links have none.
    #[must_use]
    pub fn mode(mut self, change: ModeChange) -> Self {
        self.mode = Some(change);
        self
    }

    /// Deletes in the destination what a copied directory does not have. What is excluded stays.
    #[must_use]
    pub fn delete(mut self, on: bool) -> Self {
        self.delete = on;
        self
    }

    /// With [`delete`](Self::delete): what is excluded does not stay.
    #[must_use]
    pub fn delete_excluded(mut self, on: bool) -> Self {
        self.delete_excluded = on;
        self
    }

    /// The message of the commit; without one it says what was copied where.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Says what would change and moves nothing.
    #[must_use]
    pub fn dry_run(mut self, on: bool) -> Self {
        self.dry_run = on;
        self
    }

    /// Whether entries are taken as they come, all of them.
    pub(super) fn takes_all(&self) -> bool {
        self.exclude.is_empty() && self.owner.is_none() && self.mode.is_none() && !self.delete
    }
}
