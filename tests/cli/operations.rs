//! The operation log and taking back.

use crate::support::{TestEnv, masked};

#[test]
fn every_kind_of_change_is_one_operation_and_undo_takes_it_back() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "--tag", "built", "-c", "echo 1 > /one"]);
    env.ok(&["switch", "-q", "-c", "side"]);
    env.ok(&["run", "-q", "-c", "echo 2 > /two"]);
    env.ok(&["branch", "-q", "-m", "side", "feature"]);
    env.ok(&["tag", "-q", "-d", "built"]);
    env.ok(&["checkout", "-q", "main"]);
    env.ok(&["branch", "-q", "-d", "feature"]);
    env.ok(&["reset", "-q", "main~1"]);
    env.ok(&["images", "rm", "-q", "host"]);
    insta::assert_snapshot!(masked(&env.ok(&["op", "log"])), @"
    [ID] [DATE] image: deleted host:latest (image host:latest deleted)
    [ID] [DATE] reset: moving to [ID] (main [ID])
    [ID] [DATE] branch: deleted feature (feature deleted)
    [ID] [DATE] checkout: moving from feature to main (HEAD main)
    [ID] [DATE] tag: deleted built (tag built deleted)
    [ID] [DATE] Branch: renamed refs/heads/side to refs/heads/feature (feature [ID], side deleted, HEAD feature)
    [ID] [DATE] run: echo 2 > /two (side [ID])
    [ID] [DATE] branch: created side and switched to it (side [ID], HEAD side)
    [ID] [DATE] run: echo 1 > /one (main [ID], tag built [ID])
    [ID] [DATE] branch: created main and switched to it (main [ID])
    [ID] [DATE] import: host:latest (image host:latest [ID])
    ");

    let view =
        || (env.ok(&["branch", "-v"]), env.ok(&["tag", "-v"]), env.ok(&["images"]), env.json(&["status"]));
    let last = view();
    let newest = env.json_lines(&["op", "log", "-n", "1"])[0]["operation"].as_str().unwrap().to_owned();
    let count = env.json_lines(&["op", "log"]).len();
    for left in (0..count).rev() {
        let undone = env.json(&["undo"]);
        assert_eq!(undone["taken_back"].as_array().unwrap().len(), 1, "{left}");
        assert_eq!(undone["operation"]["purpose"], "undo");
    }
    assert_eq!(env.ok(&["branch"]) + &env.ok(&["tag"]) + &env.ok(&["images", "--json"]), "");
    insta::assert_snapshot!(env.fails(125, &["undo"]), @"treebox: there is nothing to take back");
    env.ok(&["undo", "-q", "--to", &newest[..12]]);
    assert_eq!(view(), last);
    env.ok(&["undo", "-q"]);
    env.ok(&["undo", "-q", "--to", &newest]);
    assert_eq!(view(), last);
}

#[test]
fn undo_tells_what_it_did_and_what_it_cannot_do() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo 1 > /one"]);
    let undone = env.run(&["undo"]);
    assert_eq!((undone.code, undone.text().as_str()), (0, ""));
    insta::assert_snapshot!(masked(&undone.stderr), @"treebox: took back [ID] `run: echo 1 > /one`: main [ID]");
    let shown = env.json_lines(&["op", "log", "-n", "1"]).remove(0);
    let id = shown["operation"].as_str().unwrap();
    insta::assert_snapshot!(masked(&env.ok(&["op", "show", &id[..8]])), @"
    operation [ID]
    date:    [DATE]
    undoes:  [ID]

        undo: run: echo 1 > /one

    refs/heads/main: [ID] -> [ID]
    ");
    insta::assert_snapshot!(masked(&env.run(&["undo", "--to", id]).stderr), @"treebox: everything is as it was then");
    insta::assert_snapshot!(env.fails(125, &["undo", "--to", "ffff"]), @"treebox: no operation ffff: `treebox op log` lists them");
    insta::assert_snapshot!(env.fails(125, &["op", "show", "main"]), @"treebox: no operation main: `treebox op log` lists them");
    assert_eq!(env.run(&["op"]).code, 2);
    // The work itself is not lost: the step is remembered, and comes at once.
    assert_eq!(env.json(&["run", "-c", "echo 1 > /one"])["reused"], true);
    assert_eq!(shown["refs"][0]["name"], "refs/heads/main");
    assert_eq!(shown["of"].as_str().map(str::len), Some(32));
}

#[test]
fn a_refused_or_failed_command_leaves_no_record() {
    let env = TestEnv::on_main();
    let before = env.ok(&["op", "log"]);
    env.fails(125, &["branch", "main"]);
    env.fails(125, &["branch", "-d", "main"]);
    env.fails(125, &["tag", "-d", "none"]);
    assert_eq!(env.run(&["run", "-q", "-c", "echo 1 > /one; false"]).code, 1);
    env.ok(&["run", "-q", "-c", "true"]);
    env.ok(&["switch", "-q", "main"]);
    env.ok(&["import", "-q", "host"]);
    assert_eq!(env.ok(&["op", "log"]), before);
}
