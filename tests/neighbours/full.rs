//! Disks that are full.

use super::*;

/// Room in MiB: from less than the store's own files to enough for everything.
const ROOM: &[u32] = &[1, 3, 6, 10, 20, 60];

/// Fills a disk of a given size, then gives it room and does the same again.
const FILL: &str = r#"
    mount -t tmpfs -o size=$((ROOM + 200))m none $DISK && fallocate -l 200M $DISK/ballast || exit 99
    treebox() {
        echo "\$ $*"
        $TB "$@" 2>err >out; code=$?
        echo "code $code, $(grep -c '^treebox: ' err) line"
        if [ $code -ne 0 ]; then cat err; fi
    }
    all() {
        treebox import dir:base --name base -q
        treebox switch -c main base -q
        treebox run -q --epoch 5 -c 'head -c 3000000 /dev/zero | tr "\0" x > /big'
        treebox run -q --epoch 5 -c 'echo small > /small'
        treebox branch other main
        treebox cp base :/copy -q
        treebox merge other -q
        treebox undo -q
    }
    all
    head -c 100000000 /dev/zero > $DISK/fill 2>/dev/null
    echo FULL
    all
    for verb in "log --oneline" status "ls base:/" images branch reflog; do $TB $verb >/dev/null 2>err || { grep -q "HEAD names\|no branch, tag\|has no log" err || { echo "BROKEN $verb"; cat err; }; }; done
    rm $DISK/fill $DISK/ballast
    echo ROOM
    all
    git -C $DISK/store/history.git fsck --strict --no-dangling 2>&1
    echo "left: $(ls -A $DISK/store/tmp)"
"#;

#[test]
fn a_full_disk_gives_one_line_and_nothing_is_lost() {
    let mut refused = 0;
    for room in ROOM {
        let env = TestEnv::empty();
        let shell = env.path("base/bin/busybox");
        std::fs::create_dir_all(shell.parent().unwrap()).unwrap();
        std::fs::copy("/bin/busybox", &shell).expect("/bin/busybox of the package busybox-static is needed");
        for applet in ["sh", "head", "tr"] {
            std::os::unix::fs::symlink("busybox", env.path("base/bin").join(applet)).unwrap();
        }
        let ran = script(&env, &format!("ROOM={room}\n{FILL}"));
        let text = ran.text();
        assert_eq!(ran.code, 0, "{room} MiB: {text}\n{}", ran.stderr);
        assert!(!text.contains("BROKEN"), "{room} MiB: {text}");
        let (full, roomy) = text.split_once("\nROOM\n").unwrap();
        let codes = full.lines().filter(|line| line.starts_with("code "));
        for line in codes {
            assert!(line.starts_with("code 0,") || line == "code 125, 1 line", "{room} MiB: {line}\n{full}");
        }
        refused += full.matches("code 125").count();
        // What it was about shows, unless it is about something that was not made before.
        for line in full.lines().filter(|line| line.starts_with("treebox: ")) {
            let said = [
                "No space left",
                "no storage space",
                "no space left",
                "nothing yet",
                "no branch",
                "names nothing",
                "nothing to take back",
                "there is no",
                "already there",
            ];
            assert!(said.iter().any(|words| line.contains(words)), "{room} MiB: {line}\n{full}");
        }
        // With room everything works, but for what was done before.
        for line in roomy.lines().filter(|line| line.starts_with("treebox: ")) {
            assert!(line.contains("exists") || line.contains("already"), "{room} MiB: {line}\n{roomy}");
        }
        assert!(roomy.ends_with("left: \n"), "{room} MiB: {roomy}");
    }
    assert!(refused > 12, "the disks were never full: {refused}");
}
