//! File systems of other kinds.

use super::*;

/// A round through the verbs that touch the disk. It prints ids, which are the same on every disk.
const ROUND: &str = "
    set -e
    $TB import -q dir:base --name base
    $TB switch -q -c main base
    $TB run -q --epoch 5 -- /bin/busybox sh -c 'echo one > /one; ln /one /two; mkdir /d; ln -s /one /d/three; chmod 640 /one'
    $TB run -q --epoch 5 -- /bin/busybox sh -c 'rm /two; echo more >> /one; touch -d @5 /d/four'
    $TB run -q -- /bin/busybox cat /one
    $TB status --json
    $TB ls -R --json :/
    $TB branch other base
    $TB undo -q
    $TB checkout main --to \"$DISK/out\" -q
    cat \"$DISK/out/one\"
    $TB export -q main tar:- | sha256sum
    git -C \"$DISK/store/history.git\" fsck --strict --no-dangling
    ls -A \"$DISK/store/tmp\"
";

/// A directory with a shell, for times and ids that are the same everywhere.
fn with_base() -> TestEnv {
    let env = TestEnv::empty();
    let shell = env.path("base/bin/busybox");
    std::fs::create_dir_all(shell.parent().unwrap()).unwrap();
    std::fs::copy("/bin/busybox", &shell).expect("/bin/busybox of the package busybox-static is needed");
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for path in [shell, env.path("base/bin"), env.path("base")] {
        std::fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    }
    env
}

fn round_on(mount: &str) -> String {
    let ran = script(&with_base(), &format!("{mount}\n{ROUND}"));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{mount}");
    // The root directory's own time is that of the disk's.
    ran.text()
}

#[test]
fn every_local_disk_gives_the_same_states() {
    let usual = round_on("");
    assert!(usual.contains("\"/d/four\""), "{usual}");
    assert_eq!(round_on("mount -t tmpfs none $DISK"), usual);
    if !is_root() {
        eprintln!("NOT RUN as this user: XFS, btrfs and ext4 on loop devices, which take real root");
        return;
    }
    for make in
        ["mkfs.xfs -q", "mkfs.btrfs -q", "mkfs.ext4 -q -O ^has_journal", "mkfs.ext4 -q -b 1024 -I 128"]
    {
        let mount = format!(
            "truncate -s 400M image && {make} image >/dev/null 2>&1 && mount -o loop image $DISK && chmod 755 $DISK || exit 99"
        );
        if make.contains("-I 128") {
            // Its inodes have no room for nanoseconds; that is all that differs.
            let ran = script(&with_base(), &format!("{mount}\n{ROUND}"));
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{make}");
            continue;
        }
        assert_eq!(round_on(&mount), usual, "{make}");
    }
}

#[test]
fn on_an_overlay_a_store_is_read_and_filled_and_a_run_is_refused() {
    let ran = script(
        &with_base(),
        "mount -t tmpfs none $DISK && mkdir $DISK/{lower,upper,work} &&
         mount -t overlay none -o userxattr,lowerdir=$DISK/lower,upperdir=$DISK/upper,workdir=$DISK/work $DISK || exit 99
         $TB import dir:base --name base -q >/dev/null && $TB switch -q -c main base && $TB cp base :/new -q && $TB ls :/
         $TB run -- /bin/busybox true; echo $?
         ls -A $DISK/store/tmp",
    );
    assert_eq!(ran.text(), "bin\nnew\n125\n", "{}", ran.stderr);
    let complaints = complaints(&ran);
    assert!(complaints.len() == 1 && complaints[0].contains("the store is on an overlay"), "{complaints:?}");
}

#[test]
fn a_disk_without_hard_links_is_refused_and_left_as_it_was() {
    if !is_root() {
        eprintln!("NOT RUN as this user: FUSE takes real root here");
        return;
    }
    let ran = script(
        &TestEnv::empty(),
        "truncate -s 64M image && mkfs.vfat image >/dev/null && fusefat -o rw+ image $DISK >/dev/null 2>&1 || exit 99
         mkdir $DISK/made
         for store in store made; do $TB --store $DISK/$store images; echo $?; done
         (cd $DISK && find . -mindepth 1); umount $DISK",
    );
    assert_eq!(ran.text(), "125\n125\n./made\n", "{}", ran.stderr);
    for complaint in complaints(&ran) {
        assert!(complaint.contains("a store needs hard links"), "{complaint}");
    }
}
