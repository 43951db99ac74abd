//! Debian's image tools, run in a place of their own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory for one test. Other users' tools keep away from the caller's home and from each other.
pub(super) struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a tool in the directory; gives what it said, or that it failed and how.
    pub(super) fn attempt<A: AsRef<OsStr>>(&self, program: &str, args: &[A]) -> Result<Vec<u8>, String> {
        let output = Command::new(program)
            .args(args)
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path())
            .env("TMPDIR", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .env("BUILDAH_ISOLATION", "chroot")
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env_remove("TREEBOX_STORE")
            .output()
            .unwrap_or_else(|error| panic!("{program} cannot be started ({error}): .ci/test installs it"));
        match output.status.success() {
            true => Ok(output.stdout),
            false => {
                Err(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
            }
        }
    }

    /// Runs a tool that must succeed.
    pub(super) fn run<A: AsRef<OsStr> + std::fmt::Debug>(&self, program: &str, args: &[A]) -> Vec<u8> {
        self.attempt(program, args).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// Runs shell text that must succeed.
    pub(super) fn shell(&self, text: &str) -> Vec<u8> {
        self.run("sh", &["-ec", text])
    }

    /// `skopeo copy`, which needs no registry for files.
    pub(super) fn skopeo_copy(&self, options: &[&str], from: &str, to: &str) {
        let args = [&["--insecure-policy", "copy", "--quiet"], options, &[from, to]].concat();
        self.run("skopeo", &args);
    }

    /// buildah with its storage here. Without privileges it needs subordinate ids.
    pub(super) fn buildah(&self, args: &[&str]) -> Result<String, String> {
        self.with_storage("buildah", args)
    }

    /// podman with the same storage.
    pub(super) fn podman(&self, args: &[&str]) -> Result<String, String> {
        self.with_storage("podman", args)
    }

    fn with_storage(&self, program: &str, args: &[&str]) -> Result<String, String> {
        // podman refuses a place for what runs of more than 50 bytes.
        let (root, run_root) = (self.path("containers"), self.path("run"));
        let places = ["--root", root.to_str().unwrap(), "--runroot", run_root.to_str().unwrap()];
        let said = self.attempt(program, &[&places[..], &["--storage-driver", "vfs"], args].concat())?;
        Ok(String::from_utf8(said).unwrap().trim().to_owned())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What an unprivileged tool left may belong to subordinate ids or be closed to its owner.
        let dir: &Path = self.dir.path();
        if is_root() {
            return;
        }
        // Without privileges podman leaves a process behind, which keeps its namespaces for the next call.
        let pause = std::fs::read_to_string(dir.join("libpod/tmp/pause.pid")).ok();
        if let Some(pid) = pause.and_then(|pid| rustix::process::Pid::from_raw(pid.trim().parse().ok()?)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let cleaned = Command::new("unshare")
            .args(["--map-auto", "--map-root-user", "--", "rm", "-rf", "--"])
            .args(std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()))
            .output();
        if !cleaned.is_ok_and(|output| output.status.success()) {
            let _ = Command::new("chmod").args(["-R", "u+rwX", "--"]).arg(dir).output();
        }
    }
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
