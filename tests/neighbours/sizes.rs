//! Many links, many entries, large files with holes.

use std::os::unix::fs::MetadataExt as _;

use super::*;

fn allocated(path: &std::path::Path) -> u64 {
    let output = Command::new("du").arg("-sk").arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn holes_stay_holes_everywhere() {
    let env = TestEnv::empty();
    env.ok(&["import", "host:sh,truncate,stat", "--name", "host", "-q"]);
    env.ok(&["switch", "-c", "main", "host"]);
    env.ok(&["run", "-c", "truncate -s 64M /sparse; printf end >> /sparse"]);
    let (out, copy, layout) = (env.path("out"), env.path("copy"), env.path("layout"));
    env.ok(&["checkout", "main", "--to", out.to_str().unwrap()]);
    env.ok(&["cp", ":/sparse", copy.to_str().unwrap()]);
    env.ok(&["export", "main", &format!("oci:{}", layout.display())]);
    let other = env.path("other");
    let other_store = other.to_str().unwrap();
    env.ok(&["--store", other_store, "import", &format!("oci:{}", layout.display()), "--name", "back", "-q"]);
    env.ok(&["--store", other_store, "run", "--from", "back", "-c", "stat /sparse > /stat"]);
    for file in [&out.join("sparse"), &copy] {
        let meta = std::fs::metadata(file).unwrap();
        assert_eq!(meta.len(), (64 << 20) + 3);
        assert!(meta.blocks() * 512 < 4 << 20, "{} has {} blocks", file.display(), meta.blocks());
    }
    for store in [&env.store(), &other] {
        assert!(allocated(store) < 60 << 20, "{} has {} bytes", store.display(), allocated(store));
    }
    assert_eq!(env.ok(&["--store", other_store, "cat", "back:/sparse"]).len(), (64 << 20) + 3);
}
