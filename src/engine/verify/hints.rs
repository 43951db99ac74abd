//! What a difference is likely to come from, and what helps: pure.

use super::DiffersIn;
use super::content::{Form, Likeness};

/// Suspects by path: how the path ends or what stands in it, and what to say.
const PATHS: [(Place, &str); 14] = [
    (Place::Ends("/etc/ld.so.cache"), LDCONFIG),
    (Place::Ends("/var/cache/ldconfig/aux-cache"), LDCONFIG),
    (
        Place::Ends(".pyc"),
        "Python writes the source's time into .pyc files: set PYTHONDONTWRITEBYTECODE=1, or compile with --invalidation-mode unchecked-hash",
    ),
    (
        Place::Holds("/__pycache__"),
        "Python writes the source's time into .pyc files: set PYTHONDONTWRITEBYTECODE=1, or remove __pycache__ in the same step",
    ),
    (Place::Holds("/var/log/"), "logs hold times: remove /var/log/* at the end of the step"),
    (Place::Ends("/etc/machine-id"), MACHINE_ID),
    (Place::Ends("/var/lib/dbus/machine-id"), MACHINE_ID),
    (
        Place::Holds("/etc/ssh/ssh_host_"),
        "host keys are random: remove them in this step and make them when the system first starts",
    ),
    (Place::Ends("/random-seed"), "a random seed is random: remove it at the end of the step"),
    (Place::Ends("/.rnd"), "a random seed is random: remove it at the end of the step"),
    (
        Place::Holds("/var/cache/"),
        "a cache is made again when it is needed: remove it at the end of the step",
    ),
    (Place::Ends("/etc/shadow"), PASSWORDS),
    (Place::Ends("/etc/shadow-"), PASSWORDS),
    (
        Place::Holds("/tmp/"),
        "temporary files are left: remove them at the end of the step, or mount a tmpfs there",
    ),
];

const LDCONFIG: &str = "ldconfig's caches hold inode numbers and times: remove /var/cache/ldconfig/aux-cache, and run ldconfig last with -X";
const MACHINE_ID: &str = "a machine id is random: truncate it at the end of the step";
const PASSWORDS: &str = "the day of the last password change is in it: set it with chage -d";
const TIME: &str = "a time or number differs: many tools take SOURCE_DATE_EPOCH from their environment";
const CLAMP: &str = "only times differ: --epoch SECONDS clamps them, here and in run";

/// Where a suspect is.
#[derive(Clone, Copy)]
enum Place {
    /// The path ends so.
    Ends(&'static str),
    /// This stands in the path.
    Holds(&'static str),
}

impl Place {
    fn fits(self, path: &str) -> bool {
        match self {
            Self::Ends(end) => path.ends_with(end),
            Self::Holds(part) => path.contains(part),
        }
    }
}

/// The likeliest cause of a difference at a path; `form` is that of its content, where that differs.
pub(super) fn hint(path: &str, how: &[DiffersIn], form: Option<Form>) -> Option<&'static str> {
    if how == [DiffersIn::Mtime] {
        return Some(CLAMP);
    }
    if let Some((_, text)) = PATHS.iter().find(|(place, _)| place.fits(path)) {
        return Some(text);
    }
    if how.contains(&DiffersIn::Order) && !matches!(form, Some(Form::Archive)) {
        return Some(
            "the order of a directory's entries is the file system's: sort what is read from it, such as find | sort",
        );
    }
    Some(match form? {
        Form::GzipHeader => "gzip writes the time into its header: gzip -n leaves it out",
        Form::Archive => {
            "archives hold times, owners and an order: tar --sort=name --mtime=@0 --owner=0 --group=0, ar D, zip -X"
        }
        Form::Elf => {
            "programs may hold build paths, times and build ids: -ffile-prefix-map=OLD=NEW, no __DATE__, SOURCE_DATE_EPOCH"
        }
        Form::Sqlite => {
            "a data base depends on the order of its writes: keep a sorted dump, or VACUUM it at the end"
        }
        Form::Time | Form::Text(Likeness::Digits) => TIME,
        Form::Text(Likeness::Path) => {
            "the path of a temporary or build directory is in it: give that a fixed name"
        }
        Form::Text(Likeness::Random) => "something random is in it: give its maker a fixed seed or name",
        Form::Text(Likeness::None) | Form::Other => return None,
    })
}

/// What is said of a path that only one side has, when the other side has its content under another name beside it.
pub(super) fn random_name(other: &str) -> String {
    format!("the same is at {other} on the other side: a random name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_suspects_are_known() {
        let by_path = |path: &str| hint(path, &[DiffersIn::Content], Some(Form::Other));
        for (path, word) in [
            ("/etc/ld.so.cache", "ldconfig"),
            ("/usr/lib/python3/__pycache__/a.cpython-311.pyc", "PYTHONDONTWRITEBYTECODE"),
            ("/var/log/dpkg.log", "logs hold times"),
            ("/etc/machine-id", "machine id"),
            ("/etc/ssh/ssh_host_rsa_key", "host keys"),
            ("/tmp/x", "temporary"),
        ] {
            assert!(by_path(path).is_some_and(|hint| hint.contains(word)), "{path}: {:?}", by_path(path));
        }
        assert_eq!(by_path("/usr/bin/x"), None);
    }

    #[test]
    fn contents_and_times_have_hints_of_their_own() {
        let of = |form| hint("/x", &[DiffersIn::Content, DiffersIn::Mtime], Some(form)).unwrap_or_default();
        assert!(of(Form::GzipHeader).contains("gzip -n"));
        assert!(of(Form::Text(Likeness::Digits)).contains("SOURCE_DATE_EPOCH"));
        assert!(of(Form::Elf).contains("-ffile-prefix-map"));
        assert!(hint("/var/log/x", &[DiffersIn::Mtime], None).is_some_and(|hint| hint.contains("--epoch")));
        assert!(
            hint("/x", &[DiffersIn::Order], Some(Form::Text(Likeness::None)))
                .is_some_and(|hint| hint.contains("sort"))
        );
        assert_eq!(hint("/x", &[DiffersIn::Mode], None), None);
    }
}
