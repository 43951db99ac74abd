//! Images that wait until they are run: links where something is mounted or entered, user databases that are none, labels.

use serde_json::{Value, json};

use super::made::archive::TarMaker;
use super::*;

/// An image of busybox, further entries and a runtime config.
fn image(env: &TestEnv, name: &str, more: impl FnOnce(TarMaker) -> TarMaker, config: Value) {
    let busybox = std::fs::read("/bin/busybox").or_else(|_| std::fs::read("/usr/bin/busybox"));
    let busybox = busybox.expect("these tests need the package busybox-static");
    let mut header = TarMaker::header(b'0', b"bin/busybox");
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    let mut maker = TarMaker::new().dir("bin").dir("etc").dir("tmp").dir("elsewhere").add(header, &busybox);
    for tool in ["sh", "id", "cat", "ls", "pwd", "stat", "echo", "touch", "readlink"] {
        maker = maker.hard_link(&format!("bin/{tool}"), "bin/busybox");
    }
    let mut made = OciImage::of(&[more(maker).end()]);
    made.config["config"] = config;
    let source = layout(env, name, made);
    env.ok(&["import", &source, "--name", name, "-q"]);
}

fn say(env: &TestEnv, from: &str, text: &str) -> String {
    env.ok(&["run", "--from", from, "-q", "--disposable", "-c", text])
}

#[test]
fn item_5_what_a_layer_hides_is_neither_listed_nor_there() {
    let env = TestEnv::empty();
    image(
        &env,
        "five",
        |maker| maker.dir("d").file("d/new", "").file("d/.wh.old", "").file("d/.wh..wh..opq", ""),
        json!({}),
    );
    assert_eq!(
        say(&env, "five", "ls -a /d; for f in /d/* /d/.wh*; do [ -e $f ] && echo $f; done; true"),
        ".\n..\nnew\n/d/new\n"
    );
}

#[test]
fn item_14_devices_and_fifos_of_an_image_are_still_there_after_a_run() {
    let env = TestEnv::empty();
    let more = |maker: TarMaker| {
        maker
            .dir("n")
            .device(b'3', "n/null", 1, 3)
            .device(b'4', "n/disk", 8, 1)
            .add(TarMaker::header(b'6', b"n/pipe"), b"")
    };
    image(&env, "fourteen", more, json!({}));
    let after = env.step("fourteen", "touch /n/new && [ -p /n/pipe ]");
    let listed = env.json_lines(&["ls", &format!("{after}:/n")]);
    let kinds: Vec<_> = listed
        .iter()
        .map(|one| format!("{} {}", one["path"].as_str().unwrap(), one["kind"].as_str().unwrap()))
        .collect();
    assert_eq!(kinds, ["/n/disk block", "/n/new file", "/n/null char", "/n/pipe fifo"]);
}

#[test]
fn item_22_a_user_is_looked_up_inside_and_a_database_that_is_none_holds_nobody() {
    let env = TestEnv::empty();
    image(
        &env,
        "user",
        |maker| {
            maker
                .file("etc/passwd", "app:x:1000:1001::/srv:/bin/sh\n")
                .file("etc/group", "app:x:1001:\nmore:x:1002:app\n")
        },
        json!({"User": "app"}),
    );
    let ran = env.run(&["run", "--from", "user", "-q", "--disposable", "-c", "id -u; id -g; echo $HOME"]);
    // With one id there is no other user to be.
    assert!(ran.text() == "1000\n1001\n/srv\n" || ran.code == 125 && ran.stderr.contains("1000"), "{ran:?}");
    // The host's user of that name is not meant (CVE-2024-9676: links and FIFOs in the place of /etc/passwd).
    type More = fn(TarMaker) -> TarMaker;
    let cases: [(&str, More); 5] = [
        ("link-out", |maker| maker.symlink("etc/passwd", "../../../../../../etc/passwd")),
        ("fifo", |maker| maker.add(TarMaker::header(b'6', b"etc/passwd"), b"")),
        ("device", |maker| maker.device(b'3', "etc/passwd", 1, 5)),
        ("directory", |maker| maker.dir("etc/passwd")),
        ("loop", |maker| maker.symlink("etc/passwd", "group").symlink("etc/group", "passwd")),
    ];
    for (name, more) in cases {
        image(&env, name, more, json!({"User": "daemon"}));
        let said = env.fails(125, &["run", "--from", name, "-q", "--disposable", "-c", "id"]);
        assert!(said.contains("has no user daemon"), "{name}: {said}");
        // By number it runs, and root is root without a database.
        assert_eq!(
            env.ok(&["run", "--from", name, "-q", "--disposable", "-u", "0", "-c", "echo done"]),
            "done\n"
        );
    }
}

#[test]
fn a_user_database_without_end_is_not_read() {
    // GO-2026-5475: groups without number took all memory.
    let env = TestEnv::empty();
    let groups: String = (0..250_000).map(|group| format!("g{group}:x:{group}:app\n")).collect();
    let huge: String = "x".repeat(5 << 20);
    let passwd = "app:x:0:0::/:/bin/sh\n";
    image(
        &env,
        "groups",
        |maker| maker.file("etc/passwd", passwd).file("etc/group", &groups[..(4 << 20) - 100]),
        json!({}),
    );
    image(&env, "huge", |maker| maker.file("etc/passwd", &huge), json!({"User": "app"}));
    let said = env.fails(125, &["run", "--from", "huge", "-q", "--disposable", "-c", "id"]);
    assert!(said.contains("more than the 4194304 that are searched"), "{said}");
    // Root of a name has no further groups; asking for a group reads the file, to its bound.
    assert_eq!(
        env.ok(&["run", "--from", "groups", "-q", "--disposable", "-u", "app:g0", "-c", "id -g"]),
        "0\n"
    );
}

#[test]
fn item_22_a_working_directory_is_entered_inside_whatever_it_is() {
    // GHSA-q6r4-3wmg-fwcq: a link; CVE-2024-21626: /proc/self/fd/N, by which a leaked directory of the host is entered.
    let env = TestEnv::empty();
    let canary = canary(&env);
    let before = photographed(&canary);
    for (name, target) in
        [("up", "../../../../../../../.."), ("absolute", "/elsewhere"), ("host", canary.to_str().unwrap())]
    {
        image(&env, name, |maker| maker.symlink("work", target), json!({"WorkingDir": "/work"}));
        let ran = env.run(&[
            "run",
            "--from",
            name,
            "-q",
            "--disposable",
            "-c",
            "pwd -P; ls /proc/1/cwd/secret secret; touch secret",
        ]);
        if ran.code != 125 {
            let said = ran.text();
            assert!(said.starts_with('/') && !said.contains("secret\n"), "{name}: {ran:?}");
        }
    }
    for number in 3..24 {
        let name = format!("fd{number}");
        let directory = format!("/proc/self/fd/{number}");
        if number == 3 {
            image(&env, "fd", |maker| maker, json!({"WorkingDir": directory.clone()}));
        }
        let ran = env.run(&[
            "run",
            "--from",
            "fd",
            "-q",
            "--disposable",
            "-w",
            &directory,
            "-c",
            "pwd -P; ls -a . ../../../../etc/shadow",
        ]);
        assert!(ran.code == 125 || !ran.text().contains("shadow"), "{name}: {ran:?}");
    }
    let said = env.fails(125, &["run", "--from", "fd", "-q", "--disposable", "-c", "pwd"]);
    assert!(said.contains("/proc/self/fd/3"), "{said}");
    assert_eq!(photographed(&canary), before);
}

#[test]
fn links_where_devices_and_processes_belong_lead_nowhere_outside() {
    // CVE-2026-41579: an image ships /dev as a link.
    let env = TestEnv::empty();
    let canary = canary(&env);
    let before = photographed(&canary);
    for place in ["dev", "proc", "sys", "etc/resolv.conf", "etc/hosts", "etc/hostname"] {
        for target in [canary.to_str().unwrap(), "/elsewhere", "../../../../../../.."] {
            let name = format!("{}-{}", place.replace('/', "-"), target.len());
            image(&env, &name, |maker| maker.symlink(place, target), json!({}));
            let ran = env.run(&[
                "run",
                "--from",
                &name,
                "-q",
                "--disposable",
                "-c",
                "echo x > /dev/null; readlink /proc/self >&2; echo done",
            ]);
            assert!(ran.text() == "done\n" || ran.code == 125, "{place} -> {target}: {ran:?}");
        }
    }
    assert_eq!(photographed(&canary), before);
}

#[test]
fn labels_are_kept_and_never_acted_on() {
    // GO-2026-5758: a label reached a command of the host.
    let env = TestEnv::empty();
    let evil = format!("touch {}", env.path("acted").display());
    let labels = json!({
        "io.containers.autoupdate": "registry", "RUN": evil.clone(), "run": evil.clone(), "install": evil.clone(), "treebox.run": evil.clone(),
        "com.docker.log-uri": format!("binary:///bin/touch?{}", env.path("acted").display()), "containerd.io/restart.loguri": format!("binary:///bin/sh?-c={evil}"),
    });
    image(
        &env,
        "labels",
        |maker| maker,
        json!({"Labels": labels, "Healthcheck": {"Test": ["CMD-SHELL", evil]}, "OnBuild": [format!("RUN {evil}")]}),
    );
    assert_eq!(say(&env, "labels", "echo done"), "done\n");
    assert!(!env.path("acted").exists());
    let state = engine(&env).resolve("labels").unwrap();
    assert_eq!(state.config().labels["install"], evil);
}
