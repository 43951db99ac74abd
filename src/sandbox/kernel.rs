//! What the running kernel can do.

use std::sync::OnceLock;

/// Whether overlayfs takes the data of `user.overlay.redirect` files from a data-only lower (Linux ≥ 6.16).
pub fn follows_redirects() -> bool {
    kernel_at_least(6, 16)
}

/// Whether the running kernel's version is at least this one.
pub fn kernel_at_least(major: u32, minor: u32) -> bool {
    static VERSION: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    let known = VERSION
        .get_or_init(|| version(&std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()));
    known.is_some_and(|version| version >= (major, minor))
}

/// Whether each pid namespace has a largest pid of its own (Linux ≥ 6.14). A system call and no allocation.
pub(crate) fn process_ids_are_per_namespace() -> bool {
    running((6, 14))
}

/// Whether processes are counted for each user namespace and not for the user's whole machine (Linux ≥ 5.14). A system call and no
/// allocation.
pub(crate) fn processes_are_counted_per_namespace() -> bool {
    running((5, 14))
}

/// Whether overlayfs takes layers from mounts that are attached nowhere (Linux ≥ 6.15). A system call and no allocation.
pub(crate) fn layers_may_be_detached() -> bool {
    running((6, 15))
}

fn running(least: (u32, u32)) -> bool {
    super::sys::kernel_release(|release| version(release).is_some_and(|version| version >= least))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_up_to_its_second_number() {
        assert_eq!(version("6.18.44-fc-v595\n"), Some((6, 18)));
        assert_eq!(version("5.10"), Some((5, 10)));
        assert_eq!(version(""), None);
    }
}
