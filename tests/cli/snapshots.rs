//! What every verb says, in text and in JSON, as one reads it. New verbs have theirs beside their own tests.

use crate::support::TestEnv;

/// A small root file system whose every byte is known, as `base`, and a branch `main` there.
fn known() -> TestEnv {
    let env = TestEnv::empty();
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, path: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        tar.append_data(&mut header, path, content).unwrap();
    };
    add(tar::EntryType::Directory, "etc", 0o755, b"");
    add(tar::EntryType::Regular, "etc/motd", 0o644, b"hello\nworld\n");
    add(tar::EntryType::Regular, "etc/shadow", 0o4640, b"secret\n");
    add(tar::EntryType::Fifo, "fifo", 0o600, b"");
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_mode(0o777);
    link.set_mtime(1_700_000_000);
    tar.append_link(&mut link, "motd", "etc/motd").unwrap();
    env.file("base.tar", tar.into_inner().unwrap());
    env
}

#[test]
fn images_come_in_and_go_out() {
    let env = known();
    insta::assert_snapshot!(env.transcript(&[
        &["import", "tar:base.tar", "--name", "base:1"],
        &["import", "tar:base.tar", "--name", "base", "--json"],
        &["import", "-q", "tar:base.tar"],
        &["images"],
        &["images", "--json"],
        &["images", "rm", "base:1"],
        &["images", "rm", "base:1"],
        &["export", "base", "tar:out.tar"],
        &["export", "base", "oci:layout:v1"],
        &["export", "base", "docker-archive:out.docker", "--json"],
        &["export", "base", "nothing:x"],
        &["pull", "--offline", "127.0.0.1:1/x"],
        &["import", "none.tar"],
    ]), @r#"
    $ treebox import tar:base.tar --name base:1
    [ID]
    ! treebox: base:1: 5 entries, 19 B
    $ treebox import tar:base.tar --name base --json
    {"commit":"[ID]","entries":5,"name":"base:latest","size":19,"skipped":[],"state":"[ID]"}
    $ treebox import -q tar:base.tar
    [ID]
    $ treebox images
    NAME         STATE             SIZE  IMPORTED
    base:1       [ID]      19 B  [AGO]
    base:latest  [ID]      19 B  [AGO]
    $ treebox images --json
    {"commit":"[ID]","entries":5,"imported":"[DATE]","name":"base:1","size":19,"source":"tar:base.tar","state":"[ID]"}
    {"commit":"[ID]","entries":5,"imported":"[DATE]","name":"base:latest","size":19,"source":"tar:base.tar","state":"[ID]"}
    $ treebox images rm base:1
    ! treebox: forgot base:1
    $ treebox images rm base:1
    ! treebox: there is no image `base:1`
    (exit 125)
    $ treebox export base tar:out.tar
    ! treebox: tar:out.tar: root file system, 19 B
    $ treebox export base oci:layout:v1
    sha256:286054d7ce21a6d607ebad14249dcc05b2482114cbefd02a71a3b1aa9d46a913
    ! treebox: oci:layout:v1: 1 layer, 910 B
    $ treebox export base docker-archive:out.docker --json
    {"config":"sha256:0ba400b70e3cbe0ec18a80c156db8153d6bcd61f3f0a4a2418c28180901ea1f9","dest":"docker-archive:out.docker","digest":"sha256:0ba400b70e3cbe0ec18a80c156db8153d6bcd61f3f0a4a2418c28180901ea1f9","layers":1,"size":8704,"skipped":[],"state":"[ID]","unchanged":false}
    $ treebox export base nothing:x
    ! treebox: `nothing:x` names no place for an image: write oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], tar:FILE or dir:DIR
    (exit 125)
    $ treebox pull --offline 127.0.0.1:1/x
    ! treebox: there is no image `127.0.0.1:1/x:latest` here, and --offline asks nobody: `treebox images` lists what is here
    (exit 125)
    $ treebox import none.tar
    ! treebox: cannot look at none.tar: No such file or directory (os error 2)
    (exit 125)
    "#);
}

#[test]
fn refs_are_made_moved_and_told() {
    let env = known();
    env.ok(&["import", "-q", "tar:base.tar", "--name", "base"]);
    insta::assert_snapshot!(env.transcript(&[
        &["status"],
        &["switch", "-c", "main", "base"],
        &["status"],
        &["status", "--json"],
        &["branch", "dev"],
        &["branch", "dev"],
        &["branch"],
        &["branch", "-v"],
        &["branch", "--json"],
        &["branch", "-m", "dev", "work"],
        &["switch", "work"],
        &["switch", "none"],
        &["branch", "-d", "work"],
        &["tag", "v1"],
        &["tag"],
        &["tag", "--json"],
        &["tag", "-d", "v1"],
        &["checkout", "base"],
        &["checkout", "main", "--json"],
        &["branch", "-d", "work"],
        &["reset", "base"],
        &["reset", "nowhere"],
        &["reflog"],
        &["reflog", "main", "--json"],
    ]), @r#"
    $ treebox status
    on branch main
    nothing yet: begin with `treebox run --from IMAGE --branch main …` or `treebox switch -c main IMAGE`
    $ treebox switch -c main base
    ! treebox: on branch main at [ID]
    $ treebox status
    on branch main
    state   [ID]
    commit  [ID]
    from    import base:latest
    $ treebox status --json
    {"branch":"main","command":"import base:latest","commit":"[ID]","parents":[],"state":"[ID]"}
    $ treebox branch dev
    $ treebox branch dev
    ! treebox: branch `dev` is already there, at [ID]: choose another name or force it
    (exit 125)
    $ treebox branch
      dev
    * main
    $ treebox branch -v
      dev   [ID]  import base:latest
    * main  [ID]  import base:latest
    $ treebox branch --json
    {"commit":"[ID]","current":false,"name":"dev","state":"[ID]"}
    {"commit":"[ID]","current":true,"name":"main","state":"[ID]"}
    $ treebox branch -m dev work
    ! treebox: branch dev is now work
    $ treebox switch work
    ! treebox: on branch work at [ID]
    $ treebox switch none
    ! treebox: no branch is called `none`: `treebox switch -c none REV` makes it
    (exit 125)
    $ treebox branch -d work
    ! treebox: branch work is the current one: switch to another before deleting it
    (exit 125)
    $ treebox tag v1
    $ treebox tag
    v1
    $ treebox tag --json
    {"commit":"[ID]","current":false,"name":"v1","state":"[ID]"}
    $ treebox tag -d v1
    ! treebox: deleted tag v1 (was [ID])
    $ treebox checkout base
    ! treebox: HEAD is detached at [ID]
    $ treebox checkout main --json
    {"branch":"main","commit":"[ID]","state":"[ID]"}
    ! treebox: on branch main at [ID]
    $ treebox branch -d work
    ! treebox: deleted branch work (was [ID])
    $ treebox reset base
    ! treebox: on branch main at [ID]
    $ treebox reset nowhere
    ! treebox: no branch, tag, image or commit is called `nowhere`
    (exit 125)
    $ treebox reflog
    [ID] HEAD@{0}: checkout: moving from [ID] to main
    [ID] HEAD@{1}: checkout: moving from work to [ID]
    [ID] HEAD@{2}: checkout: moving from main to work
    [ID] HEAD@{3}: branch: created main and switched to it
    $ treebox reflog main --json
    {"commit":"[ID]","message":"branch: created main and switched to it","name":"main@{0}","old":null,"time":"[DATE]"}
    "#);
}

#[test]
fn commits_and_their_differences_are_told() {
    let env = known();
    env.ok(&["import", "-q", "tar:base.tar", "--name", "base"]);
    env.ok(&["switch", "-q", "-c", "main", "base"]);
    env.file("motd", "hello\nthere\nworld\n");
    env.file("binary", b"\x00\x01");
    env.ok(&["cp", "-q", "motd", "main:/etc/motd"]);
    env.ok(&["cp", "-q", "binary", "main:/binary"]);
    insta::assert_snapshot!(env.transcript(&[
        &["log"],
        &["log", "--oneline"],
        &["log", "--graph", "--oneline", "-n", "2"],
        &["log", "--json", "-n", "1"],
        &["log", "--oneline", "--", "/etc"],
        &["show"],
        &["show", "HEAD~1", "--json"],
        &["diff", "base"],
        &["diff", "base", "main", "--stat"],
        &["diff", "base", "main", "--patch"],
        &["diff", "base", "main", "--json"],
        &["diff", "base", "main", "--exit-code", "--name-status", "--", "/etc"],
        &["diff", "main", "main", "--exit-code"],
    ]), @r#"
    $ treebox log
    commit [ID] (HEAD -> main)
    state:   [ID]
    result:  (+1 ~0 -0)

        cp binary /binary

    commit [ID]
    state:   [ID]
    result:  (+0 ~1 -0)

        cp motd /etc/motd

    commit [ID] (base:latest)
    state:   [ID]

        import base:latest
    $ treebox log --oneline
    [ID] (HEAD -> main) cp binary /binary
    [ID] cp motd /etc/motd
    [ID] (base:latest) import base:latest
    $ treebox log --graph --oneline -n 2
    * [ID] (HEAD -> main) cp binary /binary
    * [ID] cp motd /etc/motd
    $ treebox log --json -n 1
    {"changes":{"added":1,"deleted":0,"modified":0},"command":"cp binary /binary","commit":"[ID]","duration_ms":null,"exit_code":null,"parents":["[ID]"],"refs":["HEAD -> main"],"started":null,"state":"[ID]","tree":"[ID]"}
    $ treebox log --oneline -- /etc
    [ID] cp motd /etc/motd
    [ID] (base:latest) import base:latest
    $ treebox show
    commit [ID] (HEAD -> main)
    state:   [ID]
    result:  (+1 ~0 -0)
    parent:  [ID]
    tree:    [ID]

        cp binary /binary

    A	/binary
    $ treebox show HEAD~1 --json
    {"changes":{"added":0,"deleted":0,"modified":1},"command":"cp motd /etc/motd","commit":"[ID]","duration_ms":null,"env":[],"exit_code":null,"key":null,"parents":["[ID]"],"paths":[{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","old":{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","size":12,"uid":0},"path":"/etc/motd","size":18,"status":"M","uid":0}],"refs":[],"resources":null,"started":null,"state":"[ID]","stderr":"","stdout":"","tree":"[ID]","user":null,"workdir":null}
    $ treebox diff base
    A	/binary
    M	/etc/motd
    $ treebox diff base main --stat
     /binary   | Bin 0 -> 2 bytes
     /etc/motd |   1 +
     2 paths changed: 1 added, 1 modified; 1 insertion(+); +8 B
    $ treebox diff base main --patch
    diff --git a/binary b/binary
    new file mode 100644
    index 000000000000..7b7015bb92cf
    Binary files /dev/null and b/binary (2 bytes, blake3 [ID]) differ
    diff --git a/etc/motd b/etc/motd
    index e55980c788fb..3c05fb58b54d 100644
    --- a/etc/motd
    +++ b/etc/motd
    @@ -1,2 +1,3 @@
     hello
    +there
     world
    $ treebox diff base main --json
    {"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/binary","size":2,"status":"A","uid":0}
    {"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","old":{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","size":12,"uid":0},"path":"/etc/motd","size":18,"status":"M","uid":0}
    $ treebox diff base main --exit-code --name-status -- /etc
    M	/etc/motd
    (exit 1)
    $ treebox diff main main --exit-code
    "#);
}

#[test]
fn files_are_read_and_copied() {
    let env = known();
    env.ok(&["import", "-q", "tar:base.tar", "--name", "base"]);
    env.ok(&["switch", "-q", "-c", "main", "base"]);
    env.file("new", "new\n");
    insta::assert_snapshot!(env.transcript(&[
        &["ls"],
        &["ls", "-l", "base:/"],
        &["ls", "-R", "base:/"],
        &["ls", "--json", "base:/etc"],
        &["ls", "base:/none"],
        &["cat", "base:/motd"],
        &["cat", "base:/etc"],
        &["cp", "base:/etc/motd", "out"],
        &["cp", "base:/etc", "etc-out", "--json"],
        &["checkout", "base", "--to", "files"],
        &["checkout", "base", "--to", "files2", "--path", "/etc", "--json"],
        &["checkout", "base", "--to", "files"],
    ]), @r#"
    $ treebox ls
    etc
    fifo
    motd
    $ treebox ls -l base:/
    drwxr-xr-x 1 0 0 0 [DATE] etc
    prw------- 1 0 0 0 [DATE] fifo
    lrwxrwxrwx 1 0 0 8 [DATE] motd -> etc/motd
    $ treebox ls -R base:/
    etc
    etc/motd
    etc/shadow
    fifo
    motd
    $ treebox ls --json base:/etc
    {"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/etc/motd","size":12,"uid":0}
    {"gid":0,"kind":"file","mode":"4640","mtime":"[DATE]","path":"/etc/shadow","size":7,"uid":0}
    $ treebox ls base:/none
    ! treebox: no such file or directory: /none
    (exit 125)
    $ treebox cat base:/motd
    hello
    world
    $ treebox cat base:/etc
    ! treebox: /etc is a directory: `treebox ls` lists it
    (exit 125)
    $ treebox cp base:/etc/motd out
    $ treebox cp base:/etc etc-out --json
    {"entries":2,"excluded":0,"path":"/etc","skipped":[],"state":"[ID]","to":"etc-out"}
    $ treebox checkout base --to files
    ! treebox: 5 entries to files
    $ treebox checkout base --to files2 --path /etc --json
    {"entries":2,"from":null,"kept":0,"left":[],"path":"/etc","removed":0,"skipped":[],"state":"[ID]","to":"files2","written":2}
    ! treebox: 2 entries to files2
    $ treebox checkout base --to files
    ! treebox: 0 written, 0 removed, 5 kept to files
    "#);
}

#[test]
fn commands_run_and_are_remembered() {
    let env = TestEnv::on_main();
    env.file("script", "echo from a shell > /shell\n");
    insta::assert_snapshot!(env.transcript(&[
        &["run", "-c", "echo out; echo err >&2; echo 1 > /one"],
        &["run", "--from", "host", "-c", "echo out; echo err >&2; echo 1 > /one"],
        &["run", "--json", "--disposable", "-c", "echo gone > /gone; echo done"],
        &["run", "--json", "--from", "host", "--branch", "other", "-c", "echo 2 > /two"],
        &["run", "-q", "-c", "exit 3"],
        &["run", "-c", "kill -9 $$"],
        &["run", "--", "/no/such/program"],
        &["run", "--timeout", "100ms", "-c", "sleep 5"],
        &["run", "--from", "nowhere", "-c", "true"],
        &["log", "--oneline", "main"],
    ]), @r#"
    $ treebox run -c echo out; echo err >&2; echo 1 > /one
    out
    ! err
    ! treebox: main [ID] (+1 ~0 -0) [TIME]
    $ treebox run --from host -c echo out; echo err >&2; echo 1 > /one
    out
    ! err
    ! treebox: [ID] (+1 ~0 -0) reused
    $ treebox run --json --disposable -c echo gone > /gone; echo done
    {"branch":null,"changed":false,"changes":{"added":0,"deleted":0,"modified":0},"commit":null,"duration_ms":"[MEASURED]","exit_code":0,"parent":"[ID]","resources":{"max_rss_kib":"[MEASURED]","read_bytes":"[MEASURED]","system_ms":"[MEASURED]","user_ms":"[MEASURED]","written_bytes":"[MEASURED]"},"reused":false,"signal":null,"state":null,"stderr":"","stdout":"done\n","timed_out":false,"tree":null,"truncated":false}
    $ treebox run --json --from host --branch other -c echo 2 > /two
    {"branch":"other","changed":true,"changes":{"added":1,"deleted":0,"modified":0},"commit":"[ID]","duration_ms":"[MEASURED]","exit_code":0,"parent":"[ID]","resources":{"max_rss_kib":"[MEASURED]","read_bytes":"[MEASURED]","system_ms":"[MEASURED]","user_ms":"[MEASURED]","written_bytes":"[MEASURED]"},"reused":false,"signal":null,"state":"[ID]","stderr":"","stdout":"","timed_out":false,"tree":"[ID]","truncated":false}
    $ treebox run -q -c exit 3
    (exit 3)
    $ treebox run -c kill -9 $$
    ! treebox: killed by signal 9; [ID] unchanged [TIME]
    (exit 137)
    $ treebox run -- /no/such/program
    ! treebox: /no/such/program: not found in the sandbox
    (exit 127)
    $ treebox run --timeout 100ms -c sleep 5
    ! treebox: timed out; [ID] unchanged [TIME]
    (exit 124)
    $ treebox run --from nowhere -c true
    ! treebox: no branch, tag, image or commit is called `nowhere`
    (exit 125)
    $ treebox log --oneline main
    [ID] (HEAD -> main) echo out; echo err >&2; echo 1 > /one
    [ID] (host:latest) import host:latest
    "#);
}

#[test]
fn what_is_typed_wrong_gets_one_line_and_the_way_to_help() {
    let env = TestEnv::empty();
    insta::assert_snapshot!(env.transcript(&[
        &["frobnicate"],
        &["run"],
        &["log", "-n", "many"],
        &["branch", "a", "b", "c"],
        &["--store"],
    ]), @"
    $ treebox frobnicate
    ! treebox: unrecognized subcommand 'frobnicate'
    ! hint: treebox [OPTIONS] <COMMAND>
    (exit 2)
    $ treebox run
    ! treebox: nothing to run: give -c TEXT, -- CMD or --commands FILE
    (exit 2)
    $ treebox log -n many
    ! treebox: invalid value 'many' for '--max-count <N>': invalid digit found in string
    (exit 2)
    $ treebox branch a b c
    ! treebox: too many names; see `treebox branch --help`
    (exit 2)
    $ treebox --store
    ! treebox: a value is required for '--store <DIR>' but none was supplied
    (exit 2)
    ");
}
