use super::*;

#[test]
fn only_what_git_takes_is_a_branch_or_tag_name() {
    for good in ["main", "feature/a-b", "v1.0", "ü", "a@b", "a.lock.b", "@a"] {
        assert_eq!(BranchName::new(good).unwrap().as_str(), good);
        assert_eq!(good.parse::<TagName>().unwrap().to_string(), good);
        assert_eq!(RefName::from_full(&RefName::from(branch(good)).full()), Some(branch(good).into()));
    }
    let long = "x".repeat(251);
    let bad = [
        "",
        "HEAD",
        "@",
        "-a",
        "a b",
        "a\n",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "a..b",
        "a@{1}",
        "a.",
        ".a",
        "a/.b",
        "a.lock",
        "a.lock/b",
        "a//b",
        "/a",
        "a/",
        "refs/heads/a",
        &long,
    ];
    for bad in bad {
        let error = BranchName::new(bad).unwrap_err();
        assert!(error.to_string().contains("cannot be a branch name: "), "{error}");
        assert!(TagName::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn git_and_treebox_agree_on_names() {
    let fixture = Fixture::new();
    for name in
        ["a", "a/b", "a..b", ".a", "a.", "a.lock", "a@{b", "a b", "a\u{7f}", "ü/ö", "a//b", "a.b/c.d", "a~"]
    {
        let status =
            git_command(fixture.history.directory()).args(["check-ref-format", "--branch", name]).output();
        assert_eq!(BranchName::new(name).is_ok(), status.unwrap().status.success(), "{name}");
    }
}

#[test]
fn image_names_round_trip_through_git() {
    let names = [
        ("busybox", "busybox:latest", "refs/images/busybox%3alatest"),
        (
            "registry.example/library/busybox:1.36",
            "registry.example/library/busybox:1.36",
            "refs/images/registry.example/library/busybox%3a1.36",
        ),
        ("localhost:5000/x", "localhost:5000/x:latest", "refs/images/localhost%3a5000/x%3alatest"),
        ("a@sha256:0f", "a@sha256:0f", "refs/images/a%40sha256%3a0f"),
        (".hid/x.lock:v1.", ".hid/x.lock:v1.", "refs/images/%2ehid/x.lock%3av1%2e"),
        ("x.lock/y:z.lock", "x.lock/y:z.lock", "refs/images/x%2elock/y%3az%2elock"),
    ];
    for (given, name, full) in names {
        let image = ImageName::new(given).unwrap();
        assert_eq!(image.as_str(), name);
        assert_eq!(RefName::from(image.clone()).full(), full);
        assert_eq!(RefName::from_full(full), Some(RefName::Image(image)));
    }
    for bad in [
        "", "a b", "a~1", "a^", "ä", "a%3a", ":x", "a:", "a@", "x/:y", "-a", "a..b", "a//b", "/a", "a/",
        "a@{1}",
    ] {
        assert!(ImageName::new(bad).is_err(), "{bad}");
    }
    for foreign in [
        "refs/images/a%3Alatest",
        "refs/images/a%3",
        "refs/images/plain",
        "refs/images/%61%3ab",
        "refs/remotes/o/x",
    ] {
        assert_eq!(RefName::from_full(foreign), None, "{foreign}");
    }
    assert_eq!(RefName::from(ImageName::new("a").unwrap()).to_string(), "image `a:latest`");
}
