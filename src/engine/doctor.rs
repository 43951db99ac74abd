//! What this machine allows.

use super::core::Core;
use super::error::Result;
use super::types::{Finding, Verdict};
use crate::disk::{Features, Scratch, features};
use crate::object::RootMode;
use crate::sandbox::{IdentityChoice, probe};

/// Below this many free bytes a store is about to be full.
const LITTLE_SPACE_BYTES: u64 = 256 * 1024 * 1024;

/// Below this many free inodes a store is about to be full: an image has tens of thousands of files.
const FEW_INODES: u64 = 100_000;

impl Core {
    pub(super) fn doctor(&self) -> Result<Vec<Finding>> {
        let scratch = Scratch::new(&self.layout().tmp())?;
        let store = store_finding(&features(scratch.path())?);
        let findings = probe::all(scratch.path());
        let stuck = findings.iter().any(|finding| finding.outcome == probe::Outcome::Failed);
        // Where nothing can run the reason stands there already.
        let identity = (!stuck).then(|| self.identity_finding());
        Ok([store]
            .into_iter()
            .chain(identity)
            .chain(findings.into_iter().map(|finding| Finding {
                name: finding.name.to_string(),
                outcome: match finding.outcome {
                    probe::Outcome::Ok => Verdict::Ok,
                    probe::Outcome::Degraded => Verdict::Degraded,
                    probe::Outcome::Failed => Verdict::Failed,
                },
                detail: finding.detail,
                cause: text(finding.cause),
                fix: text(finding.fix),
            }))
            .collect())
    }
}

impl Core {
    /// Why no sandbox can stand on the store's file system, when that is so.
    pub(super) fn unfit_for_runs(&self) -> Option<String> {
        let scratch = Scratch::new(&self.layout().tmp()).ok()?;
        let worst = shortcoming(&features(scratch.path()).ok()?)?;
        let Shortcoming { verdict, cause, fix } = worst;
        (verdict == Verdict::Failed).then(|| format!("{cause}: {fix}"))
    }

    /// Starts the worker, as a run would, and tells as whom commands run.
    fn identity_finding(&self) -> Finding {
        let finding = |outcome, detail: String, cause, fix| Finding {
            name: "identity".to_owned(),
            outcome,
            detail,
            cause,
            fix,
        };
        let mode = match self.learn_root_mode() {
            Ok(mode) => mode,
            Err(error) => return finding(Verdict::Failed, error.to_string(), None, None),
        };
        let choice = match self.options.identity {
            IdentityChoice::Auto => "",
            _ => ", as was asked for",
        };
        match mode {
            RootMode::Mapped => {
                finding(Verdict::Ok, format!("mapped: root inside has many ids{choice}"), None, None)
            }
            RootMode::Recorded => {
                let detail = format!("recorded: there is one id, and the rest of root is emulated{choice}");
                finding(Verdict::Ok, detail, None, None)
            }
            RootMode::Plain => finding(
                Verdict::Degraded,
                format!("plain: there is one id and nothing else{choice}"),
                Some("changes of owner fail inside".to_owned()),
                Some("give yourself subordinate ids, or leave out `--identity plain`".to_owned()),
            ),
        }
    }
}

fn text(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

/// What is wanting of a store's file system.
struct Shortcoming {
    verdict: Verdict,
    cause: &'static str,
    fix: &'static str,
}

const ELSEWHERE: &str = "put the store on ext4, XFS, btrfs or tmpfs: set TREEBOX_STORE, or use --store";

/// The worst that is wanting of a store's file system.
fn shortcoming(found: &Features) -> Option<Shortcoming> {
    use Verdict::{Degraded, Failed};
    let wanting = [
        (found.unfit().is_some(), Failed, found.unfit().unwrap_or_default(), ELSEWHERE),
        (
            found.kind == "overlay",
            Failed,
            "the store is on an overlay, as inside a container, and an overlay cannot take another's changes",
            "mount a volume or a tmpfs there and put the store on it: set TREEBOX_STORE, or use --store",
        ),
        (
            !found.user_xattrs,
            Failed,
            "the file system holds no user attributes, which overlays mark directories with",
            ELSEWHERE,
        ),
        (
            !found.listed_kinds,
            Failed,
            "directory listings do not tell kinds (d_type), which overlays need",
            ELSEWHERE,
        ),
        (
            !found.case_sensitive,
            Degraded,
            "names that differ in case alone are one name there: images that hold such names cannot be shown",
            ELSEWHERE,
        ),
        (
            found.free_bytes < LITTLE_SPACE_BYTES,
            Degraded,
            "the disk is nearly full",
            "free some space, or put the store elsewhere: set TREEBOX_STORE, or use --store",
        ),
        (
            found.free_inodes.is_some_and(|free| free < FEW_INODES),
            Degraded,
            "few inodes are left: an image can need tens of thousands",
            "free some files, or put the store elsewhere: set TREEBOX_STORE, or use --store",
        ),
        (
            !found.exact_times,
            Degraded,
            "times are not kept to the nanosecond: trees made from layers there differ from their images",
            ELSEWHERE,
        ),
    ];
    let worst =
        wanting.into_iter().filter(|(holds, ..)| *holds).max_by_key(|(_, verdict, ..)| *verdict == Failed);
    worst.map(|(_, verdict, cause, fix)| Shortcoming { verdict, cause, fix })
}

/// What the store's file system can do, and the worst of what it cannot.
fn store_finding(found: &Features) -> Finding {
    let (outcome, cause, fix) = match shortcoming(found) {
        None => (Verdict::Ok, None, None),
        Some(worst) => (worst.verdict, Some(worst.cause.to_owned()), Some(worst.fix.to_owned())),
    };
    let mut detail = format!("{}, {} MiB free", found.kind, found.free_bytes >> 20);
    for (has, word) in [
        (found.user_xattrs, "user attributes"),
        (found.hard_links, "hard links"),
        (found.reflinks, "shared blocks (reflinks)"),
    ] {
        detail.push_str(if has { ", " } else { ", no " });
        detail.push_str(word);
    }
    Finding { name: "store".to_owned(), outcome, detail, cause, fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ext4() -> Features {
        Features {
            kind: "ext4".into(),
            hard_links: true,
            user_xattrs: true,
            listed_kinds: true,
            case_sensitive: true,
            reflinks: false,
            exact_times: true,
            free_bytes: 1 << 40,
            free_inodes: Some(1 << 30),
        }
    }

    #[test]
    fn a_store_is_judged_by_the_worst_of_its_file_system() {
        let fine = store_finding(&ext4());
        assert_eq!((fine.outcome, fine.cause), (Verdict::Ok, None));
        assert_eq!(
            fine.detail,
            "ext4, 1048576 MiB free, user attributes, hard links, no shared blocks (reflinks)"
        );
        let nested = store_finding(&Features { kind: "overlay".into(), free_bytes: 1, ..ext4() });
        assert_eq!(nested.outcome, Verdict::Failed);
        assert!(nested.fix.unwrap().contains("volume"));
        assert_eq!(store_finding(&Features { kind: "nfs".into(), ..ext4() }).outcome, Verdict::Failed);
        assert_eq!(store_finding(&Features { user_xattrs: false, ..ext4() }).outcome, Verdict::Failed);
        assert_eq!(store_finding(&Features { hard_links: false, ..ext4() }).outcome, Verdict::Failed);
        for lesser in [
            Features { free_inodes: Some(5), ..ext4() },
            Features { free_bytes: 5, ..ext4() },
            Features { case_sensitive: false, ..ext4() },
        ] {
            let found = store_finding(&lesser);
            assert!(found.outcome == Verdict::Degraded && found.fix.is_some(), "{found:?}");
        }
        assert_eq!(store_finding(&Features { free_inodes: None, ..ext4() }).outcome, Verdict::Ok);
    }
}
