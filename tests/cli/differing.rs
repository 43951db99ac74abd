//! `diff` in all its forms, and what `log` and `show` share with it.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::{TestEnv, masked};

/// Two images, `old` and `new`, of two directories made by these.
fn two(old: impl Fn(&Path), new: impl Fn(&Path)) -> TestEnv {
    let env = TestEnv::empty();
    for (name, make) in [("old", &old as &dyn Fn(&Path)), ("new", &new)] {
        let dir = env.path(name);
        std::fs::create_dir(&dir).unwrap();
        make(&dir);
        set_times(&dir);
        env.ok(&["import", "-q", &format!("dir:{name}"), "--name", name]);
    }
    env
}

/// Gives everything the same time, so that only what is meant differs.
fn set_times(dir: &Path) {
    let touched = Command::new("find")
        .arg(dir)
        .args(["-exec", "touch", "-h", "-d", "@86400", "{}", "+"])
        .status()
        .unwrap();
    assert!(touched.success());
}

fn put(dir: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn numbers(count: usize) -> String {
    (1..=count).map(|n| format!("line {n}\n")).collect()
}

/// Every kind of change that Git has words for.
fn everything_git_knows() -> TestEnv {
    two(
        |dir| {
            put(dir, "etc/conf", numbers(40));
            put(dir, "etc/gone", "bye\n");
            put(dir, "etc/ended", "no newline");
            put(dir, "etc/with blank", "a\n");
            put(dir, "etc/\"quoted\"\t", "a\n");
            put(dir, "run.sh", "#!/bin/sh\n");
            put(dir, "moved/deep/file", numbers(3));
            put(dir, "moved/empty", "");
            put(dir, "single", "alone\n");
            put(dir, "kind", "a file\n");
            symlink("conf", dir.join("etc/link")).unwrap();
        },
        |dir| {
            put(dir, "etc/conf", numbers(40).replace("line 3\n", "line three\n").replace("line 30\n", ""));
            put(dir, "etc/ended", "no newline\nnow two");
            put(dir, "etc/with blank", "b\n");
            put(dir, "etc/\"quoted\"\t", "b\n");
            put(dir, "etc/fresh", "hello\n");
            put(dir, "run.sh", "#!/bin/sh\n");
            std::fs::set_permissions(dir.join("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
            put(dir, "to/here/deep/file", numbers(3));
            put(dir, "to/here/empty", "");
            put(dir, "lonely", "alone\n");
            symlink("etc/conf", dir.join("kind")).unwrap();
            symlink("fresh", dir.join("etc/link")).unwrap();
        },
    )
}

/// Files with mode and content, symlinks with target.
fn files(dir: &Path) -> BTreeMap<String, (bool, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir_here) = todo.pop() {
        for entry in std::fs::read_dir(dir_here).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if meta.is_dir() {
                todo.push(path);
            } else if meta.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                found.insert(name, (false, target.to_str().unwrap().as_bytes().to_vec()));
            } else {
                found.insert(name, (meta.permissions().mode() & 0o100 != 0, std::fs::read(&path).unwrap()));
            }
        }
    }
    found
}

fn applied(env: &TestEnv, tool: &[&str], diff: &[&str]) -> (bool, String) {
    let patch = env.file("the.patch", env.run(diff).stdout);
    let dir = env.path("work");
    let _ = std::fs::remove_dir_all(&dir);
    assert!(Command::new("cp").arg("-a").arg(env.path("old")).arg(&dir).status().unwrap().success());
    let mut command = Command::new(tool[0]);
    env.isolate(&mut command);
    let done = command
        .args(&tool[1..])
        .current_dir(&dir)
        .stdin(std::fs::File::open(&patch).unwrap())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (done.status.success(), said)
}

#[test]
fn a_path_in_a_revisions_place_is_told_where_it_belongs() {
    let env = TestEnv::new();
    let told = env.fails(2, &["diff", "host:/etc", "host"]);
    assert_eq!(told, "treebox: diff compares whole revisions: write `host`, and `-- /etc` behind them\n");
}

#[test]
fn git_apply_and_gnu_patch_make_the_newer_files_from_a_patch() {
    let env = everything_git_knows();
    for diff in
        [&["diff", "-p", "old", "new"][..], &["diff", "-U", "0", "old..new", "--no-renames", "--times"]]
    {
        let zero = if diff.contains(&"0") { "--unidiff-zero" } else { "--whitespace=nowarn" };
        let (ok, said) = applied(&env, &["git", "apply", zero, "-"], diff);
        assert!(ok, "{said}");
        assert_eq!(files(&env.path("work")), files(&env.path("new")), "git apply {diff:?}");
    }
    let (ok, said) = applied(
        &env,
        &["patch", "-p1", "-s", "-f", "-E", "--no-backup-if-mismatch"],
        &["diff", "-p", "--no-renames", "old", "new"],
    );
    assert!(ok, "{said}");
    let (mut made, mut wanted) = (files(&env.path("work")), files(&env.path("new")));
    // GNU patch makes no empty files of a header alone where -E takes them away.
    made.remove("to/here/empty");
    wanted.remove("to/here/empty");
    assert_eq!(made, wanted, "patch");
}

#[test]
fn a_patch_is_in_gits_format() {
    let env = everything_git_knows();
    insta::assert_snapshot!(env.ok(&["diff", "-p", "old", "new"]), @r#"
diff --git "a/etc/\"quoted\"\t" "b/etc/\"quoted\"\t"
index 81c4b7f7e054..9d902f9864f3 100644
--- "a/etc/\"quoted\"\t"
+++ "b/etc/\"quoted\"\t"
@@ -1 +1 @@
-a
+b
diff --git a/etc/conf b/etc/conf
index 6fefa8453fdb..703d6a4c05aa 100644
--- a/etc/conf
+++ b/etc/conf
@@ -1,6 +1,6 @@
 line 1
 line 2
-line 3
+line three
 line 4
 line 5
 line 6
@@ -27,7 +27,6 @@ line 26
 line 27
 line 28
 line 29
-line 30
 line 31
 line 32
 line 33
diff --git a/etc/ended b/etc/ended
index 2b7ecc22b460..c5f70aa6ac36 100644
--- a/etc/ended
+++ b/etc/ended
@@ -1 +1,2 @@
-no newline
\ No newline at end of file
+no newline
+now two
\ No newline at end of file
diff --git a/etc/fresh b/etc/fresh
new file mode 100644
index 000000000000..8e4c7c1b99db
--- /dev/null
+++ b/etc/fresh
@@ -0,0 +1 @@
+hello
diff --git a/etc/gone b/etc/gone
deleted file mode 100644
index cb0fa91be247..000000000000
--- a/etc/gone
+++ /dev/null
@@ -1 +0,0 @@
-bye
diff --git a/etc/link b/etc/link
index 58399c5e26be..cf7ca2378119 120000
--- a/etc/link
+++ b/etc/link
@@ -1 +1 @@
-conf
\ No newline at end of file
+fresh
\ No newline at end of file
diff --git a/etc/with blank b/etc/with blank
index 81c4b7f7e054..9d902f9864f3 100644
--- a/etc/with blank	
+++ b/etc/with blank	
@@ -1 +1 @@
-a
+b
diff --git a/kind b/kind
deleted file mode 100644
index b05cc66b2df1..000000000000
--- a/kind
+++ /dev/null
@@ -1 +0,0 @@
-a file
diff --git a/kind b/kind
new file mode 120000
index 000000000000..ba670b6b6e1f
--- /dev/null
+++ b/kind
@@ -0,0 +1 @@
+etc/conf
\ No newline at end of file
diff --git a/single b/lonely
similarity index 100%
rename from single
rename to lonely
diff --git a/run.sh b/run.sh
old mode 100644
new mode 100755
# /to: new directory, mode 0755
# /to/here: directory moved from /moved
# /to/here/deep: directory moved from /moved/deep
diff --git a/moved/deep/file b/to/here/deep/file
similarity index 100%
rename from moved/deep/file
rename to to/here/deep/file
diff --git a/moved/empty b/to/here/empty
similarity index 100%
rename from moved/empty
rename to to/here/empty
"#);
}

#[test]
fn renames_are_found_by_content_and_directories_move_as_a_whole() {
    let env = everything_git_knows();
    insta::assert_snapshot!(env.ok(&["diff", "old", "new"]), @r#"
M	/etc/"quoted"	
M	/etc/conf
M	/etc/ended
A	/etc/fresh
D	/etc/gone
M	/etc/link
M	/etc/with blank
M	/kind
R100	/single	/lonely
M	/run.sh
A	/to
R100	/moved	/to/here
"#);
    insta::assert_snapshot!(env.ok(&["diff", "--stat", "old", "new"]), @r#"
/etc/"quoted"\x09  | 2 +-
/etc/conf          | 3 +--
/etc/ended         | 3 ++-
/etc/fresh         | 1 +
/etc/gone          | 1 -
/etc/link          | 2 +-
/etc/with blank    | 2 +-
/kind              | 2 +-
/single => /lonely | 0
/run.sh            | mode 0644 -> 0755
/to                | new directory
/moved => /to/here | 0
12 paths changed: 2 added, 7 modified, 1 deleted, 2 renamed; 8 insertions(+), 8 deletions(-); +8 B
"#);
    insta::assert_snapshot!(env.ok(&["diff", "--numstat", "old", "new"]), @r#"
1	1	/etc/"quoted"	
1	2	/etc/conf
2	1	/etc/ended
1	0	/etc/fresh
0	1	/etc/gone
1	1	/etc/link
1	1	/etc/with blank
1	1	/kind
0	0	/single => /lonely
0	0	/run.sh
0	0	/to
0	0	/moved => /to/here
0	0	/moved/deep => /to/here/deep
0	0	/moved/deep/file => /to/here/deep/file
0	0	/moved/empty => /to/here/empty
"#);
    assert!(!env.ok(&["diff", "--no-renames", "--name-only", "old", "new"]).contains("=>"));
    let json = env.json_lines(&["diff", "old", "new"]);
    let moved: Vec<_> = json.iter().filter(|line| line["status"] == "R").collect();
    let pairs: Vec<_> = moved.iter().map(|line| (&line["renamed_from"], &line["path"])).collect();
    assert_eq!(pairs, [(&"/single".into(), &"/lonely".into()), (&"/moved".into(), &"/to/here".into())]);
    assert_eq!(moved[1]["kind"], "directory");
    let plain = env.json_lines(&["diff", "--no-renames", "old", "new"]);
    assert!(plain.iter().all(|line| line["status"] != "R" && line.get("renamed_from").is_none()));
}

#[test]
fn what_git_has_no_words_for_stands_before_a_files_own_lines() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "--epoch", "0", "-c", "mkdir /d; echo a > /f; echo b > /t; ln -s x /l; mkfifo /p"]);
    let change = "chmod 2750 /d; chmod 4755 /f; ln /f /g; touch -d @5 /t; rm /p; mkdir /p; chown 7:8 /d; echo c > /o; chown 5:6 /o";
    env.ok(&["run", "-q", "-c", change]);
    let text = env.ok(&["diff", "-p", "HEAD~1"]);
    for part in [
        "# /d: mode 0755 -> 2750\n",
        "# /f: now the same file as another path\ndiff --git a/f b/f\nold mode 100644\nnew mode 104755\n",
        "# /p: deleted fifo, mode 0644\n# /p: new directory, mode 0755\n",
        "# /t: time 1970-01-01T00:00:00.000000000Z -> 1970-01-01T00:00:05.000000000Z\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    if !text.contains("# /d: owner 0:0 -> 7:8\n") {
        // Where one id is mapped and nothing is recorded there are no other owners.
        assert!(env.run(&["cat", ":/nothing"]).code == 125 && !text.contains("owner"), "{text}");
    }
    assert!(!text.contains("diff --git a/t b/t"), "nothing but its time differs: {text}");
}

#[test]
fn binaries_are_told_by_size_and_digest() {
    let env = two(|dir| put(dir, "b", b"a\0b"), |dir| put(dir, "b", b"a\0bc"));
    let text = env.ok(&["diff", "-p", "old", "new"]);
    insta::assert_snapshot!(text, @r#"
diff --git a/b b/b
index fdeb88a4c6f0..d534e7c8f3e5 100644
Binary files a/b (3 bytes, blake3 fdeb88a4c6f022465eedaf052a322770e2875b1052f697e5dd3b6ac7722deea5) and b/b (4 bytes, blake3 d534e7c8f3e570e9547f899d5880dcd38ee0054ff7877549b8982df745c8495a) differ
"#);
    insta::assert_snapshot!(env.ok(&["diff", "--stat", "old", "new"]), @r#"
/b | Bin 3 -> 4 bytes
1 path changed: 1 modified; +1 B
"#);
    assert_eq!(env.ok(&["diff", "--numstat", "old", "new"]), "-\t-\t/b\n");
    let json = env.json(&["diff", "--stat", "old", "new"]);
    assert_eq!((&json["binary"], json.get("lines_added")), (&true.into(), None));
    let (ok, said) = applied(&env, &["git", "apply", "-"], &["diff", "-p", "old", "new"]);
    assert!(!ok && said.contains("cannot apply binary patch"), "it says so rather than leave it out: {said}");
}

#[test]
fn a_text_that_is_too_long_for_lines_is_told_as_binary() {
    let long = vec![b'\n'; treebox::object::MAX_TEXT_BYTES + 1];
    let env = two(|dir| put(dir, "t", "x\n"), |dir| put(dir, "t", &long));
    let text = env.ok(&["diff", "-p", "old", "new"]);
    assert!(text.contains("Binary (too long for lines) files a/t (2 bytes, blake3 "), "{text}");
}

#[test]
fn a_patch_is_safe_on_a_terminal_and_raw_in_a_pipe() {
    let env = two(|_| (), |dir| put(dir, "a\x1b[31m", "red \x1b[31m\n"));
    let raw = env.run(&["diff", "-p", "old", "new"]).stdout;
    assert!(raw.windows(10).any(|part| part == b"+red \x1b[31m"), "contents are as they are");
    assert!(String::from_utf8(raw).unwrap().contains(r#""b/a\033[31m""#), "names are quoted");
}

#[test]
fn three_dots_compare_with_the_common_ancestor() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo 1 > /one"]);
    env.ok(&["run", "--branch", "dev", "--from", "main~1", "-q", "-c", "echo 2 > /two"]);
    assert_eq!(env.ok(&["diff", "main...dev"]), "A\t/two\n");
    assert_eq!(env.ok(&["diff", "dev..."]), "A\t/one\n");
    assert_eq!(env.ok(&["diff", "main..dev"]), "D\t/one\nA\t/two\n");
    env.file("other/x", "x");
    env.ok(&["import", "-q", "dir:other", "--name", "other"]);
    assert!(env.fails(125, &["diff", "main...other"]).contains("no common ancestor"));
    env.fails(2, &["diff", "--stat", "-p", "main", "dev"]);
}

#[test]
fn stat_fits_the_columns() {
    let long = "usr/share/".to_owned() + &"deep/".repeat(30) + "file";
    let env = two(|_| (), |dir| put(dir, &long, numbers(500)));
    for columns in ["40", "80", "200"] {
        let mut command = env.command(&["diff", "--stat", "old", "new", "--", "usr/share/deep"]);
        let text = String::from_utf8(command.env("COLUMNS", columns).output().unwrap().stdout).unwrap();
        let row = text.lines().find(|line| line.contains("500 +")).unwrap_or_else(|| panic!("{text}"));
        assert!(row.chars().count() <= columns.parse().unwrap(), "{columns}: {row}");
    }
}

#[test]
fn log_and_show_tell_what_a_commit_changed_in_every_form() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "--epoch", "0", "-c", "echo 1 > /one"]);
    env.ok(&["run", "-q", "--epoch", "0", "-c", "mv /one /uno; echo out; echo 2 > /two"]);
    env.ok(&["tag", "v1"]);
    insta::assert_snapshot!(masked(&env.ok(&["log", "--oneline", "--graph", "--name-status"])), @r#"
* [ID] (HEAD -> main, tag: v1) mv /one /uno; echo out; echo 2 > /two
| A	/two
| R100	/one	/uno
* [ID] echo 1 > /one
| A	/one
* [ID] (host:latest) import host:latest
"#);
    insta::assert_snapshot!(masked(&env.ok(&["log", "-n1", "--stat"])), @r#"
commit [ID] (HEAD -> main, tag: v1)
state:   [ID]
date:    [DATE]
result:  exit 0 in [TIME] (+2 ~0 -1)

    mv /one /uno; echo out; echo 2 > /two

 /two         | 1 +
 /one => /uno | 0
 2 paths changed: 1 added, 1 renamed; 1 insertion(+); +2 B
"#);
    insta::assert_snapshot!(masked(&env.ok(&["log", "-n1", "--oneline", "-p", "--", "/two"])), @r#"
[ID] (HEAD -> main, tag: v1) mv /one /uno; echo out; echo 2 > /two
diff --git a/two b/two
new file mode 100644
index 000000000000..b9a1a3183dd3
--- /dev/null
+++ b/two
@@ -0,0 +1 @@
+2
"#);
    let json = &env.json_lines(&["log", "-n1", "--name-status"])[0];
    assert_eq!(
        (&json["paths"][1]["status"], &json["paths"][1]["renamed_from"]),
        (&"R".into(), &"/one".into())
    );
    assert!(env.json_lines(&["log"]).iter().all(|line| line.get("paths").is_none()));
    let shown = masked(&env.ok(&["show", "v1", "--patch"]));
    assert!(shown.contains("(HEAD -> main, tag: v1)\n"), "{shown}");
    assert!(
        shown.contains("rename from one\nrename to uno\n") && shown.contains("\nstdout:\n    out\n"),
        "{shown}"
    );
    assert_eq!(env.json_lines(&["show", "v1", "v1~1"]).len(), 2);
    env.ok(&["run", "-q", "--branch", "dev", "--from", "host", "-c", "echo 3 > /three"]);
    assert_eq!(env.json_lines(&["log"]).len(), 3);
    assert_eq!(env.json_lines(&["log", "--all"]).len(), 4);
}

#[test]
fn show_gives_what_is_at_a_path() {
    let env = TestEnv::on_main();
    env.ok(&[
        "run",
        "-q",
        "-c",
        "mkdir -p /d/sub; printf 'a\\0' > /d/file; ln -s d /link; echo x > /d/sub/only",
    ]);
    assert_eq!(env.run(&["show", "main:/d/file"]).stdout, b"a\0");
    assert_eq!(env.ok(&["show", ":/link"]), "tree :/link\n\nfile\nsub/\n");
    assert_eq!(env.ok(&["show", ":/link/sub"]), "tree :/link/sub\n\nonly\n");
    assert_eq!(env.json_lines(&["show", ":/d"]).len(), 2);
    assert_eq!(env.json(&["show", ":/d/sub/only"])["content"], "x\n");
    env.fails(125, &["show", ":/none"]);
}

#[test]
fn a_log_of_a_path_passes_over_commits_that_only_touched_its_directory() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "mkdir /d; echo 1 > /d/f"]);
    env.ok(&["run", "-q", "-c", "touch /d/x; rm /d/x; echo 2 > /e"]);
    let commands: Vec<_> = env.json_lines(&["log", "--", "/d"]);
    assert_eq!(commands.len(), 1, "{commands:?}");
    assert_eq!(commands[0]["command"], "mkdir /d; echo 1 > /d/f");
}

#[test]
fn what_differs_in_json() {
    let env = two(
        |dir| {
            put(dir, "a", "1\n2\n");
            put(dir, "b", b"x\0");
            put(dir, "from", "moved\n");
        },
        |dir| {
            put(dir, "a", "1\n3\n");
            put(dir, "b", b"y\0");
            put(dir, "to", "moved\n");
            put(dir, "new/empty", "");
        },
    );
    insta::assert_snapshot!(env.transcript(&[
        &["diff", "old", "new", "--json"],
        &["diff", "--numstat", "old", "new", "--json", "--", "a", "b"],
        &["diff", "-p", "old", "new", "--json", "--", "/a"],
        &["show", "new:/", "--json"],
        &["show", "new:/a", "--json"],
    ]), @r#"
    $ treebox diff old new --json
    {"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","old":{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","size":4,"uid":0},"path":"/a","size":4,"status":"M","uid":0}
    {"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","old":{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","size":2,"uid":0},"path":"/b","size":2,"status":"M","uid":0}
    {"gid":0,"kind":"directory","mode":"0755","mtime":"[DATE]","path":"/new","size":0,"status":"A","uid":0}
    {"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/new/empty","size":0,"status":"A","uid":0}
    {"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","old":{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","size":6,"uid":0},"path":"/to","renamed_from":"/from","size":6,"status":"R","uid":0}
    $ treebox diff --numstat old new --json -- a b
    {"gid":0,"kind":"file","lines_added":1,"lines_deleted":1,"mode":"0644","mtime":"[DATE]","old":{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","size":4,"uid":0},"path":"/a","size":4,"status":"M","uid":0}
    {"binary":true,"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","old":{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","size":2,"uid":0},"path":"/b","size":2,"status":"M","uid":0}
    $ treebox diff -p old new --json -- /a
    {"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","old":{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","size":4,"uid":0},"patch":"diff --git a/a b/a\nindex a37d46d908a5..4d35f9e942dd 100644\n--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@\n 1\n-2\n+3\n","path":"/a","size":4,"status":"M","uid":0}
    $ treebox show new:/ --json
    {"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/a","size":4,"uid":0}
    {"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/b","size":2,"uid":0}
    {"gid":0,"kind":"directory","mode":"0755","mtime":"[DATE]","path":"/new","size":0,"uid":0}
    {"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/to","size":6,"uid":0}
    $ treebox show new:/a --json
    {"content":"1\n3\n","path":"/a","size":4,"state":"[ID]"}
    "#);
}
