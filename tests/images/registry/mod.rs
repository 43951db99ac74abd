//! Pull and push, against Debian's `docker-registry`, against registries that misbehave, and with images of other tools.

mod access;
mod fake;
mod faults;
mod image;
mod peers;
mod proxies;
mod pulling;
mod pushing;
mod server;

use crate::support::{Ran, TestEnv};

/// Plain HTTP, which every registry of these tests but one speaks.
const PLAIN: &str = "--tls-verify=false";

/// Must fail with 125 and one line that has these words, whatever was told before that line.
fn refused(env: &TestEnv, args: &[&str], words: &[&str]) -> String {
    let Ran { code, stderr, stdout } = env.run(&[args, &["-q"]].concat());
    assert_eq!((code, stdout.len()), (125, 0), "{args:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: `{word}` in {stderr}");
    }
    stderr
}

/// What is kept of images, as paths below `originals/`.
fn kept(env: &TestEnv) -> Vec<String> {
    let root = env.store().join("originals");
    let mut kept = Vec::new();
    for kind in crate::support::names(&root) {
        kept.extend(
            crate::support::names(&root.join(&kind)).into_iter().map(|name| format!("{kind}/{name}")),
        );
    }
    kept
}
