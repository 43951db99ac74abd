//! From what a person types to commits.

use super::git::{Local, Revision, RevisionError};
use super::{Head, History, HistoryError, ImageName, RefName};
use crate::object::CommitId;

/// Why a revision means no commit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Nothing has that name or id.
    #[error("no branch, tag, image or commit is called `{}`{}", what.escape_debug(), because(reason))]
    NotFound {
        /// What was looked for.
        what: String,
        /// Where looking for it ended, when that says more.
        reason: String,
    },
    /// A short id fits more than one commit.
    #[error("`{what}` fits several commits, type more digits: {}", candidates.join(", "))]
    Ambiguous {
        /// The short id.
        what: String,
        /// What it fits.
        candidates: Vec<String>,
    },
    /// It is a revision, but not of one commit, or not of a commit.
    #[error("`{}` {reason}", what.escape_debug())]
    Unsupported {
        /// What was typed.
        what: String,
        /// Why it is of no use here.
        reason: String,
    },
    /// The history could not be read.
    #[error(transparent)]
    History(#[from] HistoryError),
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

/// Commits to show: all ancestors of some, without the ancestors of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevisionSet {
    /// Shown, with their ancestors.
    pub include: Vec<CommitId>,
    /// Not shown, with their ancestors.
    pub exclude: Vec<CommitId>,
}

impl History {
    /// The commit that a revision means, in Git's grammar: `main`, `HEAD~3`, `main@{1}`, `@{-1}`, `v1^2`, `1a2b3c4`.
    ///
    /// A name of an image is one too, and goes before a branch of the same name: `busybox`, `busybox:1.36~1`.
    pub fn resolve(&self, text: &str) -> Result<CommitId, ResolveError> {
        match self.parse(&self.git.local(), text)? {
            Revision::Include(commit) => Ok(commit),
            _ => Err(ResolveError::Unsupported {
                what: text.to_owned(),
                reason: "is a set of commits, and one commit is needed here".to_owned(),
            }),
        }
    }

    /// The commits that a revision or range means: `a`, `^a`, `a..b`, `a...b`, `a^!`, `a^@`. An end left out is HEAD.
    pub fn resolve_range(&self, text: &str) -> Result<RevisionSet, ResolveError> {
        let git = self.git.local();
        let end = |text: &str| self.resolve(if text.is_empty() { "HEAD" } else { text });
        // Cut here and not by Git's library, since the ends may be images.
        if let Some((a, b)) = text.split_once("...") {
            let (a, b) = (end(a)?, end(b)?);
            return Ok(RevisionSet { include: vec![a, b], exclude: self.merge_bases(&a, &b)? });
        }
        if let Some((a, b)) = text.split_once("..") {
            return Ok(RevisionSet { include: vec![end(b)?], exclude: vec![end(a)?] });
        }
        if let Some(text) = text.strip_prefix('^') {
            return Ok(RevisionSet { include: Vec::new(), exclude: vec![self.resolve(text)?] });
        }
        let parents = |commit: &CommitId| -> Result<Vec<CommitId>, ResolveError> {
            let found = git.commit(commit).map_err(|source| self.git_error("reading a commit", source))?;
            Ok(found.ok_or(HistoryError::MissingCommit(*commit))?.parents)
        };
        match self.parse(&git, text)? {
            Revision::Include(commit) => Ok(RevisionSet { include: vec![commit], exclude: Vec::new() }),
            Revision::ParentsOf(commit) => {
                Ok(RevisionSet { include: parents(&commit)?, exclude: Vec::new() })
            }
            Revision::WithoutParents(commit) => {
                Ok(RevisionSet { include: vec![commit], exclude: parents(&commit)? })
            }
            Revision::Other => Err(ResolveError::Unsupported {
                what: text.to_owned(),
                reason: "is a kind of range that is not known here".to_owned(),
            }),
        }
    }

    fn parse(&self, git: &Local, text: &str) -> Result<Revision, ResolveError> {
        if text.is_empty() {
            return Err(ResolveError::NotFound { what: String::new(), reason: String::new() });
        }
        let spec = self.with_image(git, text)?;
        git.parse(spec.as_deref().unwrap_or(text)).map_err(|error| match error {
            RevisionError::NotFound(reason) => {
                ResolveError::NotFound { what: text.to_owned(), reason: self.unborn(text).unwrap_or(reason) }
            }
            RevisionError::Ambiguous(candidates) => {
                ResolveError::Ambiguous { what: text.to_owned(), candidates }
            }
            RevisionError::NoCommit(kind) => ResolveError::Unsupported {
                what: text.to_owned(),
                reason: format!("is a {kind} of the Git repository, not a commit"),
            },
            RevisionError::Unsupported(reason) => ResolveError::Unsupported {
                what: text.to_owned(),
                reason: format!("is no revision that is understood here: {reason}"),
            },
            RevisionError::Git(source) => self.git_error("resolving a revision", source).into(),
        })
    }

    /// Says so when the revision starts from HEAD and nothing has been committed there.
    fn unborn(&self, text: &str) -> Option<String> {
        let base = text.split(['~', '^', '@']).next().unwrap_or_default();
        match self.head() {
            Ok(Head::Branch { name, commit: None }) if matches!(base, "" | "HEAD") => {
                Some(format!("branch `{name}` has no commit yet"))
            }
            _ => None,
        }
    }

    /// The revision with an image at its beginning replaced by the image's ref, when there is one.
    fn with_image(&self, git: &Local, text: &str) -> Result<Option<String>, ResolveError> {
        let suffix = text.find(['~', '^']).into_iter().chain(text.find("@{")).min().unwrap_or(text.len());
        let (base, suffix) = text.split_at(suffix);
        // What is checked out is never hidden by an image.
        if matches!(base, "" | "@" | "HEAD") {
            return Ok(None);
        }
        let Ok(image) = ImageName::new(base) else {
            return Ok(None);
        };
        let full = RefName::Image(image).full();
        let found = git.find(&full).map_err(|source| self.git_error("reading a ref", source))?;
        Ok(found.map(|_| format!("{full}{suffix}")))
    }
}
