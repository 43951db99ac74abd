//! Long names, long paths, deep trees, few open files.

use super::*;

/// Makes directories one in the other, with a file in the last; no path is ever longer than one name.
const DEEPEN: &str = r#"my ($n, $len) = @ARGV; my $d = "d" x $len;
    for (1..$n) { mkdir $d, 0755 or die "mkdir: $!"; chdir $d or die "chdir: $!" }
    open F, ">file" or die $!; print F "deep\n"; close F"#;

fn with_perl() -> TestEnv {
    let env = TestEnv::empty();
    env.ok(&["import", "host:perl,sh,cat,rm,find,ls", "--name", "host", "-q"]);
    env.ok(&["switch", "-c", "main", "host"]);
    env
}

#[test]
fn names_have_up_to_255_bytes_and_paths_any_length() {
    let env = with_perl();
    let (long, umlauts) = ("n".repeat(255), "é".repeat(127));
    env.ok(&["run", "-c", &format!("echo x > /{long}; mkdir /{umlauts}; ln -s {long} /{umlauts}/link")]);
    assert_eq!(env.ok(&["cat", &format!(":/{umlauts}/../{long}")]), "x\n");
    // 30 directories of 200 bytes: the whole path has 6 035.
    env.ok(&["run", "--", "perl", "-e", DEEPEN, "30", "200"]);
    let deep = format!("{}/file", format!("/{}", "d".repeat(200)).repeat(30));
    assert!(env.ok(&["ls", "-R", ":/"]).contains(&deep[1..]));
    assert_eq!(env.ok(&["cat", &format!(":{deep}")]), "deep\n");
    assert!(env.ok(&["diff", "host", "main", "--name-status"]).contains(&format!("A\t{deep}\n")));
    let out = env.path("out");
    env.ok(&["checkout", "main", "--to", out.to_str().unwrap()]);
    env.ok(&["import", &format!("dir:{}", out.display()), "--name", "again", "-q"]);
    env.ok(&["diff", "main", "again", "--exit-code"]);
    env.ok(&["run", "-c", "rm -r /dddd*"]);
    // Made from the tree, not what a run left.
    std::fs::remove_dir_all(env.store().join("layers")).unwrap();
    std::fs::create_dir(env.store().join("layers")).unwrap();
    assert_eq!(
        env.ok(&["run", "--from", "again", "--", "find", "/", "-xdev", "-name", "file"]).trim_end(),
        deep
    );
    let archive = env.path("deep.tar");
    env.ok(&["export", "again", &format!("tar:{}", archive.display())]);
    let said = env.fails(125, &["import", &format!("tar:{}", archive.display())]);
    assert!(said.contains("above the limit 4096 of `path_bytes`"), "{said}");
    env.ok(&[
        "import",
        &format!("tar:{}", archive.display()),
        "--limit",
        "path_bytes=10000",
        "--name",
        "tar",
        "-q",
    ]);
    env.ok(&["diff", "again", "tar", "--exit-code"]);
}

#[test]
fn a_tree_that_is_too_deep_is_refused_in_one_readable_line() {
    let env = with_perl();
    env.ok(&["run", "--", "perl", "-e", DEEPEN, "1000", "1"]);
    env.ok(&["run", "-c", "rm -r /d"]);
    let said = env.fails(125, &["run", "--", "perl", "-e", DEEPEN, "1100", "20"]);
    assert!(said.contains("…") && said.contains("deeper than 1024 directories"), "{said}");
    assert!(said.len() < 600 && said.lines().count() == 1, "{said}");
    assert_eq!(env.ok(&["ls", ":/"]).matches('d').count(), env.ok(&["ls", "host:/"]).matches('d').count());
}

#[test]
fn too_few_open_files_are_named_with_the_way_out() {
    let env = with_perl();
    let run = |limit: &str| {
        let store = env.store();
        script(
            &env,
            &format!(
                "ulimit {limit}; export TREEBOX_STORE={}
                 $TB run -q --from host --branch deep --force -- perl -e '{DEEPEN}' 600 1; echo $?",
                store.display()
            ),
        )
    };
    let few = run("-n 200");
    assert_eq!(few.text(), "125\n", "{}", few.stderr);
    assert!(
        few.stderr.contains("Too many open files") && few.stderr.contains("hint: allow more open files"),
        "{}",
        few.stderr
    );
    // A soft limit is the caller's own to raise.
    assert_eq!(run("-S -n 200").text(), "0\n");
}
