use super::*;

#[test]
fn stock_git_reads_everything_and_everything_reads_after_gc() {
    let fixture = Fixture::new();
    let history = &fixture.history;
    let ids = fixture.chain(10);
    fixture.set(branch("main"), ids[8]);
    fixture.set(branch("main"), ids[9]);
    let side = fixture.commit("make test", &[ids[4]]);
    fixture.set(branch("side"), side);
    fixture.set(ImageName::new("registry.example/library/busybox:latest").unwrap(), ids[0]);
    fixture.set(TagName::new("v1").unwrap(), ids[5]);
    history.attach_head(&branch("side"), &who(20)).unwrap();
    let orphan = fixture.commit("only in a reflog", &[ids[0]]);
    fixture.set(branch("side"), orphan);
    fixture.set(branch("side"), side);

    assert_eq!(
        fixture
            .git(&["log", "--graph", "--all", "--oneline"])
            .lines()
            .filter(|line| line.contains('*'))
            .count(),
        11
    );
    assert!(fixture.git(&["show", "main"]).contains("+{\"command\":\"step 9\"}"));
    assert_eq!(fixture.git(&["show", "main:state.json"]), "{\"command\":\"step 9\"}");
    assert!(fixture.git(&["reflog", "main"]).contains("main@{1}: set"));
    assert_eq!(fixture.git(&["rev-parse", "main@{1}"]), ids[8].to_string());
    assert_eq!(fixture.git(&["rev-parse", "@{-1}"]), ids[9].to_string());
    assert_eq!(fixture.git(&["symbolic-ref", "HEAD"]), "refs/heads/side");
    let refs = "refs/heads/main\nrefs/heads/side\nrefs/images/registry.example/library/busybox%3alatest\nrefs/tags/v1\nrefs/treebox/operations";
    assert_eq!(fixture.git(&["for-each-ref", "--format=%(refname)"]), refs);
    assert_eq!(fixture.git(&["config", "core.logAllRefUpdates"]), "always");
    fixture.fsck();

    fixture.git(&["gc", "--quiet", "--prune=now"]);
    fixture.git(&["commit-graph", "write", "--reachable"]);
    for history in [history, &fixture.again()] {
        for id in &ids {
            assert_eq!(
                history.read_commit(id).unwrap().time_seconds,
                1_000 + ids.iter().position(|i| i == id).unwrap() as i64
            );
        }
        assert!(history.has_commit(&orphan), "what a reflog leads to stays");
        let all = WalkOptions { tips: vec![ids[9], side], ..WalkOptions::default() };
        assert_eq!(history.walk(&all).unwrap().count(), 11);
        assert_eq!(history.resolve("busybox").ok(), None);
        assert_eq!(history.resolve("registry.example/library/busybox").unwrap(), ids[0]);
        assert_eq!(history.resolve(&side.to_string()[..8]).unwrap(), side);
        assert_eq!(history.resolve("main~9").unwrap(), ids[0]);
        assert_eq!(history.merge_base(&ids[9], &side).unwrap(), Some(ids[4]));
    }
    // Refs are packed now; they move, and go, all the same.
    assert_eq!(history.write_commit(&new_commit("make test", &[ids[4]])).unwrap(), side);
    history.edit(&[set("main", Expected::Is(ids[9]), side)], "after gc", &who(30)).unwrap();
    history.delete(&TagName::new("v1").unwrap().into(), Expected::Is(ids[5]), &who(31)).unwrap();
    assert_eq!(fixture.git(&["rev-parse", "main", "main@{1}"]), format!("{side}\n{}", ids[9]));
    assert_eq!(fixture.again().refs(RefKind::Tag).unwrap(), []);
    fixture.fsck();
}

#[test]
fn what_git_does_is_seen() {
    let fixture = Fixture::new();
    let ids = fixture.chain(2);
    fixture.set(branch("main"), ids[0]);
    fixture.git(&["update-ref", "-m", "by git", "refs/heads/main", &ids[1].to_string()]);
    fixture.git(&["branch", "other", "main"]);
    assert_eq!(fixture.history.read_ref(&branch("other").into()).unwrap(), Some(ids[1]));
    assert_eq!(fixture.history.reflog(&branch("main").into()).unwrap()[0].message, "by git");
    fixture.git(&["symbolic-ref", "HEAD", "refs/heads/other"]);
    assert_eq!(fixture.history.head().unwrap(), Head::Branch { name: branch("other"), commit: Some(ids[1]) });
    fixture.git(&["symbolic-ref", "HEAD", "refs/images/x"]);
    assert!(
        matches!(fixture.history.head(), Err(HistoryError::StrangeHead(name)) if name == "refs/images/x")
    );
    fixture.history.attach_head(&branch("main"), &who(1)).unwrap();
    assert_eq!(fixture.history.head().unwrap().commit(), Some(ids[1]));
}

#[test]
fn a_clone_has_the_whole_history() {
    let fixture = Fixture::new();
    let ids = fixture.chain(3);
    fixture.set(branch("main"), ids[2]);
    fixture.set(ImageName::new("x").unwrap(), ids[0]);
    let copy = fixture.root.path().join("copy.git");
    let status = Command::new("git")
        .arg("clone")
        .args(["--quiet", "--mirror"])
        .arg(fixture.history.directory())
        .arg(&copy)
        .status();
    assert!(status.unwrap().success());
    let copy = History::open(&copy, Options::default()).unwrap();
    assert_eq!(copy.resolve("x").unwrap(), ids[0]);
    assert_eq!(copy.read_commit(&ids[2]).unwrap().message, "step 2");
}
