//! The programs of a default base.

/// Tools that a default base has when the host has them.
///
/// Nothing that only works with real root's rights, such as `su` or `mount`, and no language runtimes.
#[rustfmt::skip] // One line a tool would be a page.
pub const DEFAULT_PROGRAMS: &[&str] = &[
    // Shells.
    "sh", "bash",
    // coreutils.
    "[", "base64", "basename", "cat", "chgrp", "chmod", "chown", "cksum", "comm", "cp", "cut", "date",
    "dd", "df", "dirname", "du", "echo", "env", "expand", "expr", "factor", "false", "fold", "groups",
    "head", "id", "install", "join", "link", "ln", "ls", "md5sum", "mkdir", "mkfifo", "mknod", "mktemp",
    "mv", "nice", "nl", "nohup", "nproc", "od", "paste", "printenv", "printf", "pwd", "readlink",
    "realpath", "rm", "rmdir", "seq", "sha1sum", "sha256sum", "sha512sum", "shuf", "sleep", "sort",
    "split", "stat", "stty", "sync", "tac", "tail", "tee", "test", "timeout", "touch", "tr", "true",
    "truncate", "tsort", "tty", "uname", "uniq", "unlink", "wc", "who", "whoami", "yes",
    // Text, files, archives.
    "awk", "bzip2", "cmp", "diff", "egrep", "fgrep", "find", "grep", "gunzip", "gzip", "mawk", "sed",
    "tar", "xargs", "xz", "zcat",
    // System.
    "clear", "free", "getent", "getopt", "hostname", "kill", "pgrep", "ps", "setpriv", "tput", "which",
];

/// Where programs are looked for unless the caller says otherwise, and the `PATH` inside.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Libraries that the C library opens by itself, which no program names: user databases before glibc 2.34, and cancelling threads.
pub(super) const OPENED_LIBRARIES: &[&str] = &["libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1"];

/// Files and directories that are taken along when the host has them.
pub(super) const DATA: &[&str] = &["/etc/os-release", "/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8"];

/// Where terminal descriptions are kept, and which are taken.
pub(super) const TERMINFO: &[&str] =
    &["/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/share/terminfo"];

/// The terminals whose descriptions are taken.
pub(super) const TERMINALS: &[&str] =
    &["dumb", "linux", "screen", "screen-256color", "tmux-256color", "vt100", "xterm", "xterm-256color"];
