//! What the running kernel can do.

use std::sync::OnceLock;

/// Whether overlayfs takes the data of `user.overlay.redirect` files from a data-only lower (Linux ≥ 6.16).
pub fn follows_redirects() -> bool {
    static FOLLOWS: OnceLock<bool> = OnceLock::new();
    *FOLLOWS.get_or_init(|| {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        version(&release).is_some_and(|version| version >= (6, 16))
    })
}

/// Whether each pid namespace has a largest pid of its own (Linux ≥ 6.14). A system call and no allocation.
pub(crate) fn process_ids_are_per_namespace() -> bool {
    super::sys::kernel_release(|release| version(release).is_some_and(|version| version >= (6, 14)))
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
