//! Reading the repository's own files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository; `None`, said aloud, when the tests run away from it.
pub(super) fn repository() -> Option<PathBuf> {
    let root = std::env::var_os("TREEBOX_TEST_REPOSITORY")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    if root.join("src/lib.rs").is_file() {
        return Some(root);
    }
    eprintln!("not checked: the source is not at {}", root.display());
    None
}

/// A Rust file: its path below the repository and its text.
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    /// The lines that are code, with their numbers: comments, and the strings in `r"…"`, are not looked into further.
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Whether the file is only compiled for tests.
    pub(super) fn is_test(&self) -> bool {
        self.path
            .split('/')
            .any(|part| matches!(part, "tests" | "tests.rs" | "testing.rs" | "fixture.rs" | "made.rs"))
    }
}

/// Every Rust file below a directory of the repository.
pub(super) fn rust_files(root: &Path, below: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut todo = vec![root.join(below)];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.push(File { path, text });
            }
        }
    }
    assert!(!files.is_empty(), "{below} holds no Rust files");
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The paths that Git tracks; `None`, said aloud, where this is no checkout.
pub(super) fn tracked(root: &Path) -> Option<Vec<String>> {
    let listed = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output();
    match listed {
        Ok(listed) if listed.status.success() => {
            let text = String::from_utf8(listed.stdout).unwrap();
            Some(text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
        }
        _ => {
            eprintln!("not checked: {} is not a Git checkout", root.display());
            None
        }
    }
}
