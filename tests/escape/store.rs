//! The store on the host's disk, as others see it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;

use super::*;

/// An id that no account should have.
const SOMEBODY: u32 = 64_999;

#[test]
fn setuid_files_and_objects_in_the_store_are_behind_a_door_for_the_owner_alone() {
    // CVE-2021-41103: set-uid programs in containerd's directories could be run by every user of the host.
    let state = shared().base.run(&Command::shell("cp /attack /setuid; chmod 6755 /setuid")).unwrap();
    assert!(state.changed);
    let store = shared().dir.path().join("store");
    let door = std::fs::metadata(&store).unwrap();
    assert_eq!(door.permissions().mode() & 0o7777, 0o700);
    assert_eq!(door.uid(), nix::unistd::geteuid().as_raw());
    let found = find_setuid(&store.join("layers")).expect("the layer holds the program");
    if !real_root() {
        // Only root can become somebody else; the door's mode is what the kernel goes by.
        return;
    }
    // The temporary directory lets nobody in either; of the store's own door something is shown when that is open.
    std::fs::set_permissions(shared().dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for args in [vec!["cat", found.to_str().unwrap()], vec!["ls", store.to_str().unwrap()]] {
        let tried = Process::new(args[0]).args(&args[1..]).uid(SOMEBODY).gid(SOMEBODY).output().unwrap();
        assert!(!tried.status.success(), "{args:?}");
        let said = String::from_utf8_lossy(&tried.stderr);
        assert!(said.contains("Permission denied"), "{said}");
    }
    let run = Process::new(&found).arg(attack::ARGUMENT).uid(SOMEBODY).gid(SOMEBODY).output();
    assert_eq!(run.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    // The way to the door is open: somebody sees it standing there.
    let seen = Process::new("stat").arg(&store).uid(SOMEBODY).gid(SOMEBODY).output().unwrap();
    assert!(seen.status.success());
}

fn find_setuid(dir: &std::path::Path) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            if let Some(found) = find_setuid(&entry.path()) {
                return Some(found);
            }
        } else if metadata.is_file() && metadata.mode() & 0o4000 != 0 {
            return Some(entry.path());
        }
    }
    None
}

#[test]
fn the_worker_leaves_no_core_dump() {
    // It passes on everything that a command says.
    let script = "sleep 2";
    let running = std::thread::spawn(move || {
        let _ = shared().base.run(&Command::shell(script).disposable(true));
    });
    std::thread::sleep(std::time::Duration::from_millis(700));
    let mut seen = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if !line.starts_with("treebox-worker\0") {
            continue;
        }
        let Ok(limits) = std::fs::read_to_string(entry.path().join("limits")) else { continue };
        let Some(core) = limits.lines().find(|line| line.starts_with("Max core file size")) else { continue };
        let soft = core.trim_start_matches("Max core file size").split_ascii_whitespace().next();
        // Other tests start workers at the same time, which may not have come so far yet.
        seen += u32::from(soft == Some("1") || soft == Some("0"));
    }
    running.join().unwrap();
    assert!(seen >= 2, "no worker with its session was seen");
}
