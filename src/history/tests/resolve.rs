use super::*;

fn image(name: &str) -> ImageName {
    ImageName::new(name).unwrap()
}

#[test]
fn revisions_mean_what_git_says() {
    let fixture = Fixture::new();
    let ids = fixture.chain(5);
    let side = fixture.commit("side", &[ids[1]]);
    let merge = fixture.commit("merge", &[ids[4], side]);
    for id in [ids[0], ids[4], merge] {
        fixture.set(branch("main"), id);
    }
    fixture.set(branch("feature/x"), side);
    fixture.set(TagName::new("v1").unwrap(), ids[2]);
    fixture.git(&["tag", "-a", "-m", "annotated", "v2", &ids[3].to_string()]);
    let texts = [
        "HEAD",
        "@",
        "main",
        "heads/main",
        "refs/heads/main",
        "feature/x",
        "v1",
        "v2",
        "v2^0",
        "v2~1",
        "HEAD~3",
        "main^",
        "main^2",
        "main^2~1",
        "main@{0}",
        "main@{1}",
        "main@{2}",
        "HEAD@{1}",
        "@{1}",
        "main^{commit}",
        "main^{/step 2}",
        "v2^{}",
    ];
    for text in texts {
        let commit = fixture.git(&["rev-parse", &format!("{text}^{{commit}}")]);
        assert_eq!(fixture.history.resolve(text).unwrap().to_string(), commit, "{text}");
    }
    assert_eq!(fixture.history.resolve(":/side").unwrap(), side);
    for len in [4, 7, 12, 40] {
        let text = merge.to_string()[..len].to_owned();
        assert_eq!(fixture.history.resolve(&text).unwrap(), merge, "{text}");
        assert_eq!(fixture.history.resolve(&format!("{text}~1")).unwrap(), ids[4]);
    }
    for text in [
        "main..feature/x",
        "feature/x..main",
        "main...feature/x",
        "..feature/x",
        "v1..",
        "^main",
        "main^!",
        "main^@",
        "main",
    ] {
        let set = fixture.history.resolve_range(text).unwrap();
        let include = set.include.iter().map(ToString::to_string);
        let mut ours: Vec<_> = include.chain(set.exclude.iter().map(|id| format!("^{id}"))).collect();
        let mut theirs: Vec<_> = fixture.git(&["rev-parse", text]).lines().map(str::to_owned).collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{text}");
    }
}

#[test]
fn images_are_revisions_too() {
    let fixture = Fixture::new();
    let ids = fixture.chain(3);
    fixture.set(image("busybox"), ids[2]);
    fixture.set(image("registry.example/library/alpine:3.20"), ids[1]);
    fixture.set(image("localhost:5000/x@sha256:ab"), ids[0]);
    let texts = [
        ("busybox", 2),
        ("busybox:latest", 2),
        ("busybox:latest~1", 1),
        ("busybox^^", 0),
        ("busybox:latest@{0}", 2),
        ("registry.example/library/alpine:3.20", 1),
        ("registry.example/library/alpine:3.20^", 0),
        ("localhost:5000/x@sha256:ab", 0),
    ];
    for (text, n) in texts {
        assert_eq!(fixture.history.resolve(text).unwrap(), ids[n], "{text}");
    }
    let range =
        fixture.history.resolve_range("registry.example/library/alpine:3.20..busybox:latest").unwrap();
    assert_eq!(range, RevisionSet { include: vec![ids[2]], exclude: vec![ids[1]] });
    fixture.set(image("HEAD"), ids[0]);
    fixture.set(branch("main"), ids[2]);
    assert_eq!(fixture.history.resolve("HEAD").unwrap(), ids[2], "HEAD is never an image");
}

#[test]
fn what_means_no_commit_says_why() {
    let fixture = Fixture::new();
    let unborn = fixture.history.resolve("HEAD").unwrap_err();
    assert!(matches!(&unborn, ResolveError::NotFound { .. }), "{unborn:?}");
    assert!(unborn.to_string().ends_with("(branch `main` has no commit yet)"), "{unborn}");
    let ids = fixture.chain(2);
    fixture.set(branch("main"), ids[1]);
    let absent = [
        "nothing",
        "no/such",
        "busybox:latest",
        "0123abcd",
        "main~5",
        "main^3",
        "main@{7}",
        "@{-1}",
        "",
        "main^{/zzz}",
        "a b",
        "0000000000000000000000000000000000000000",
        "ab",
    ];
    for text in absent {
        let error = fixture.history.resolve(text).unwrap_err();
        assert!(matches!(&error, ResolveError::NotFound { what, .. } if what == text), "{text}: {error:?}");
        assert!(
            error.to_string().starts_with(&format!("no branch, tag, image or commit is called `{text}`"))
        );
    }
    for text in [
        "main^{tree}",
        "main:state.json",
        "main^{blob}",
        "main..main",
        "^main",
        "main^@",
        "main^{nonsense}",
        "main~x",
    ] {
        let error = fixture.history.resolve(text).unwrap_err();
        assert!(
            matches!(&error, ResolveError::Unsupported { what, .. } if what == text),
            "{text}: {error:?}"
        );
    }
    for text in ["nothing..main", "main..nothing", "^nothing", "nothing"] {
        assert!(matches!(fixture.history.resolve_range(text), Err(ResolveError::NotFound { .. })), "{text}");
    }
}

#[test]
fn a_short_id_of_several_commits_lists_them() {
    let fixture = Fixture::new();
    let mut seen = std::collections::HashMap::new();
    let (prefix, pair) = (0..)
        .find_map(|n| {
            let id = fixture.commit(&format!("commit {n}"), &[]);
            let prefix = id.to_string()[..4].to_owned();
            seen.insert(prefix.clone(), id).map(|other| (prefix, [id, other]))
        })
        .unwrap();
    let error = fixture.history.resolve(&prefix).unwrap_err();
    let ResolveError::Ambiguous { what, candidates } = &error else { panic!("{error:?}") };
    assert_eq!(*what, prefix);
    for id in pair {
        assert!(
            candidates.iter().any(|candidate| candidate.starts_with(&id.to_string()[..7])),
            "{candidates:?}"
        );
    }
}
