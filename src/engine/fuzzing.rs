//! What the fuzz targets do with any bytes that stand where this room's own files should; see `object::fuzzing`.

use super::image_record;
use super::owned::{read_list, write_list};
use super::pull::pulled_from;

/// A record below `checkouts/`.
pub fn checkout(bytes: &[u8]) {
    super::checkout::fuzz_record(bytes);
}

/// The file `replay`.
pub fn replay(bytes: &[u8]) {
    super::replay::fuzz_progress(bytes);
}

/// A list below `owners/`.
pub fn owners(bytes: &[u8]) {
    if let Some(list) = read_list(bytes) {
        let again = write_list(&list).expect("a list is written");
        assert!(read_list(&again).is_some_and(|read| read == list), "what was written is read");
    }
}

/// A commit's `state.json`: what it says of an image, and of a command; and the same bytes as where an image came from, and what a mounted path is.
pub fn state_json(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) {
        if let Some(image) = value.get("image").and_then(image_record::read) {
            let again = image_record::read(&image_record::write(&image));
            assert!(again.is_some_and(|again| again == image), "what was written is read");
        }
        if let Some(command) = value.get("command") {
            super::recall::fuzz_said(command);
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = pulled_from(text);
        super::mounts::fuzz_known(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::fuzzing::shaking::shake;
    use crate::sandbox::{Device, Owned, Recorded};

    const COMMIT: &str = "b3a1c0ffee00112233445566778899aabbccddee";

    fn hex(byte: &str) -> String {
        byte.repeat(32)
    }

    #[test]
    fn lists_of_owners_take_any_bytes() {
        let device = Some(Device { char: true, major: 1, minor: 300 });
        let xattrs = vec![(b"trusted.x".to_vec(), vec![1, 2, 3])];
        let list = vec![
            Owned {
                path: Vec::new(),
                recorded: Recorded { uid: 0, gid: 5, device: None, xattrs: Vec::new() },
                gives_group: true,
            },
            Owned {
                path: b"dev/null".to_vec(),
                recorded: Recorded { uid: 70_000, gid: 5, device, xattrs },
                gives_group: false,
            },
        ];
        shake("owners", owners, vec![write_list(&list).unwrap()], 12_000);
    }

    #[test]
    fn records_of_checkouts_and_replays_take_any_bytes() {
        let shown = format!(r#"{{"state":"{}","tree":"{}","path":"/etc"}}"#, hex("0a"), hex("0b"));
        let record = format!(
            r#"{{"version":1,"directory":"/a/host/dir","device":5,"inode":77,"shows":{shown},"next":[{shown}]}}"#
        );
        shake("checkout", checkout, vec![record.into_bytes()], 12_000);
        let progress = format!(
            r#"{{"version":1,"branch":"main","was":"{COMMIT}","onto":"{COMMIT}","message":"replay","steps":[{{"number":1,"commit":"{COMMIT}","command":null}},{{"number":2,"commit":null,"command":"make"}}],"done":[{{"state":"{}","run":3,"skipped":false}}],"failed":{{"reason":"exit 1","state":null}}}}"#,
            hex("0c")
        );
        shake("replay", replay, vec![progress.into_bytes()], 12_000);
    }

    #[test]
    fn what_a_commit_says_takes_any_bytes() {
        let document =
            |byte| format!(r#"{{"digest":"sha256:{}","media_type":"application/json","size":7}}"#, hex(byte));
        let layer = format!(
            r#"{{"diff_id":"sha256:{}","digest":"sha256:{}","media_type":"tar","size":9}}"#,
            hex("03"),
            hex("04")
        );
        let image = format!(
            r#"{{"image":{{"config":{},"layers":[{layer}],"manifest":{}}},"kind":"import","version":1}}"#,
            document("01"),
            document("02")
        );
        let run = format!(
            r#"{{"command":{{"copied":["/x"],"cwd":"/","env":["A=1"],"epoch":5,"gid":0,"groups":[1],"hostname":"treebox","mounts":[{{"path":"/c","type":"cache"}}],"program":{{"argv":["ls","-l"]}},"stdin":"{}","uid":0,"umask":"0022"}},"kind":"run","run_key":"{}","version":1}}"#,
            hex("05"),
            hex("06")
        );
        let pulled = format!("docker.io/library/alpine:latest@sha256:{} (linux/arm64)", hex("07"));
        let mounted = format!("1 2 3 file 644 {}", hex("08"));
        let seeds = [image, run, pulled, mounted].map(String::into_bytes).to_vec();
        shake("state_json", state_json, seeds, 6_000);
    }
}
