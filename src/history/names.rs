//! Names of branches, tags and images.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a branch's, tag's or image's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot be {what} name: {reason}", text.escape_debug())]
pub struct NameError {
    text: String,
    what: &'static str,
    reason: &'static str,
}

/// The longest name in bytes: as a path with `.lock` it must stay under `PATH_MAX` together with the store's own path.
const MAX_NAME_BYTES: usize = 1024;
/// The longest part between slashes: `NAME_MAX` less `.lock`.
const MAX_PART_BYTES: usize = 250;

/// What kind of ref a name is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefKind {
    /// Moves along as work goes on.
    Branch,
    /// Stays.
    Tag,
    /// Something imported.
    Image,
    /// The notes on commits, of which there is one ref.
    Notes,
}

impl RefKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Branch, Self::Tag, Self::Image, Self::Notes];
    /// The kinds whose refs name states: all but notes.
    pub const OF_STATES: [Self; 3] = [Self::Branch, Self::Tag, Self::Image];

    /// Where Git keeps refs of that kind, with a slash at the end.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Branch => "refs/heads/",
            Self::Tag => "refs/tags/",
            Self::Image => "refs/images/",
            Self::Notes => "refs/notes/",
        }
    }

    /// The word used in text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Branch => "branch",
            Self::Tag => "tag",
            Self::Image => "image",
            Self::Notes => "notes",
        }
    }
}

/// What Git forbids in a ref's name, as `git check-ref-format` has it.
fn refused(name: &str) -> Option<&'static str> {
    let part = |part: &str| {
        if part.is_empty() {
            Some("a slash begins or ends it or follows another")
        } else if part.starts_with('.') {
            Some("it or a part after a slash begins with a dot")
        } else if part.ends_with(".lock") {
            Some("it or a part before a slash ends with `.lock`")
        } else if part.len() > MAX_PART_BYTES {
            Some("it or a part between slashes is longer than 250 bytes")
        } else {
            None
        }
    };
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > MAX_NAME_BYTES {
        Some("it is longer than 1024 bytes")
    } else if name.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        Some("it contains a space or a control character")
    } else if name.contains(['~', '^', ':', '?', '*', '[', '\\']) {
        Some("it contains one of ~ ^ : ? * [ \\")
    } else if name.contains("..") {
        Some("it contains two dots in a row")
    } else if name.contains("@{") {
        Some("it contains `@{`")
    } else if name.ends_with('.') {
        Some("it ends with a dot")
    } else if name == "@" {
        Some("`@` means HEAD")
    } else if name.starts_with('-') {
        Some("it begins with a dash, which commands take for an option")
    } else {
        name.split('/').find_map(part)
    }
}

macro_rules! git_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $reserved:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks and takes a name.
            pub fn new(text: &str) -> Result<Self, NameError> {
                let reserved: fn(&str) -> Option<&'static str> = $reserved;
                match refused(text).or_else(|| reserved(text)) {
                    Some(reason) => Err(NameError { text: text.to_owned(), what: $what, reason }),
                    None => Ok(Self(text.to_owned())),
                }
            }

            /// The name, without `refs/` and so on.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    };
}

git_name!(
    /// A branch's name.
    BranchName,
    "a branch",
    |name| match name {
        "HEAD" => Some("HEAD is what is checked out"),
        _ if name.starts_with("refs/") => Some("leave out `refs/heads/`"),
        _ => None,
    }
);
git_name!(
    /// A tag's name.
    TagName,
    "a tag",
    |name| match name {
        "HEAD" => Some("HEAD is what is checked out"),
        _ if name.starts_with("refs/") => Some("leave out `refs/tags/`"),
        _ => None,
    }
);

/// An image's name, always with a tag or a digest: `busybox:latest`, `registry.example/library/alpine@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName(String);

impl ImageName {
    /// Checks and takes a name; one without tag and digest gets `:latest`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let last = text.rsplit('/').next().unwrap_or(text);
        let name =
            if last.contains(':') || text.contains('@') { text.to_owned() } else { format!("{text}:latest") };
        let reason = if text.is_empty() {
            Some("it is empty")
        } else if text.bytes().any(|byte| !byte.is_ascii_alphanumeric() && !b"._-/:@+".contains(&byte)) {
            Some("only letters, digits and . _ - / : @ + may be in it")
        } else if text.starts_with('-') {
            Some("it begins with a dash, which commands take for an option")
        } else if last.is_empty() || last.starts_with(':') || text.ends_with([':', '@']) {
            Some("the name or the tag is empty")
        } else if text.contains("..") {
            Some("it contains two dots in a row")
        } else {
            refused(&escaped(&name))
        };
        match reason {
            Some(reason) => Err(NameError { text: text.to_owned(), what: "an image", reason }),
            None => Ok(Self(name)),
        }
    }

    /// The name with its tag or digest.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads back what [`escaped`] made; `None` for what it never makes.
    fn from_escaped(text: &str) -> Option<Self> {
        let mut name = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            name.push_str(&rest[..at]);
            let byte = u8::from_str_radix(rest.get(at + 1..at + 3)?, 16).ok()?;
            name.push(char::from(byte));
            rest = &rest[at + 3..];
        }
        name.push_str(rest);
        let name = Self::new(&name).ok()?;
        (escaped(&name.0) == text).then_some(name)
    }
}

/// An image's name as Git takes it: what Git refuses becomes `%` and two hex digits.
fn escaped(name: &str) -> String {
    let escape = |part: &str| {
        let dotted = part.strip_prefix('.').map_or_else(|| part.to_owned(), |rest| format!("%2e{rest}"));
        let dotted = match dotted.strip_suffix(".lock") {
            Some(rest) => format!("{rest}%2elock"),
            None => dotted,
        };
        match dotted.strip_suffix('.') {
            Some(rest) => format!("{rest}%2e"),
            None => dotted,
        }
    };
    name.split('/').map(escape).collect::<Vec<_>>().join("/").replace(':', "%3a").replace('@', "%40")
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

/// The name of a ref of any kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefName {
    /// A branch.
    Branch(BranchName),
    /// A tag.
    Tag(TagName),
    /// An image.
    Image(ImageName),
    /// The notes on commits, where stock git looks for them: `refs/notes/commits`.
    Notes,
}

/// The one name of [`RefKind::Notes`].
const NOTES: &str = "commits";

impl RefName {
    /// What kind it is.
    pub const fn kind(&self) -> RefKind {
        match self {
            Self::Branch(_) => RefKind::Branch,
            Self::Tag(_) => RefKind::Tag,
            Self::Image(_) => RefKind::Image,
            Self::Notes => RefKind::Notes,
        }
    }

    /// The name that people use, without `refs/` and unescaped.
    pub fn short(&self) -> &str {
        match self {
            Self::Branch(name) => name.as_str(),
            Self::Tag(name) => name.as_str(),
            Self::Image(name) => name.as_str(),
            Self::Notes => NOTES,
        }
    }

    /// The name in Git: `refs/heads/main`, `refs/images/busybox%3alatest`.
    pub fn full(&self) -> String {
        let name = match self {
            Self::Image(name) => escaped(name.as_str()),
            other => other.short().to_owned(),
        };
        format!("{}{name}", self.kind().prefix())
    }

    /// Reads a name in Git; `None` for refs that treebox does not have, such as remotes.
    pub fn from_full(full: &str) -> Option<Self> {
        if let Some(name) = full.strip_prefix(RefKind::Branch.prefix()) {
            BranchName::new(name).ok().map(Self::Branch)
        } else if let Some(name) = full.strip_prefix(RefKind::Tag.prefix()) {
            TagName::new(name).ok().map(Self::Tag)
        } else if let Some(name) = full.strip_prefix(RefKind::Notes.prefix()) {
            (name == NOTES).then_some(Self::Notes)
        } else {
            let name = full.strip_prefix(RefKind::Image.prefix())?;
            ImageName::from_escaped(name).map(Self::Image)
        }
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind().as_str(), self.short())
    }
}

impl From<BranchName> for RefName {
    fn from(name: BranchName) -> Self {
        Self::Branch(name)
    }
}

impl From<TagName> for RefName {
    fn from(name: TagName) -> Self {
        Self::Tag(name)
    }
}

impl From<ImageName> for RefName {
    fn from(name: ImageName) -> Self {
        Self::Image(name)
    }
}
