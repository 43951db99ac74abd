use std::time::Instant;

use super::*;

fn time(name: &str, count: usize, mut body: impl FnMut(usize)) {
    let mut times: Vec<_> = (0..count)
        .map(|n| {
            let started = Instant::now();
            body(n);
            started.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name}: median {:.0} µs, 90 % {:.0} µs", times[count / 2], times[count * 9 / 10]);
}

#[test]
#[ignore = "prints times"]
fn times() {
    for durability in [Durability::Batch, Durability::Commit] {
        let root =
            tempfile::tempdir_in(std::env::var_os("TREEBOX_TEST_DIR").unwrap_or("/tmp".into())).unwrap();
        println!("{durability:?}");
        time("  create", 20, |n| {
            History::open_or_init(&root.path().join(format!("new{n}.git")), Options { durability }).unwrap();
        });
        let path = root.path().join("history.git");
        let history = History::open_or_init(&path, Options { durability }).unwrap();
        let mut tip = None;
        time("  write_commit + edit of the branch that is checked out", 300, |n| {
            let commit =
                NewCommit { time_seconds: n as i64, ..new_commit(&format!("step {n}"), tip.as_slice()) };
            let id = history.write_commit(&commit).unwrap();
            let expected = tip.map_or(Expected::Absent, Expected::Is);
            history.edit(&[set("main", expected, id)], "run", &who(n as i64)).unwrap();
            tip = Some(id);
        });
        let chain = (0..1000)
            .map(|n| NewCommit { time_seconds: n, ..new_commit(&format!("chain {n}"), &[]) })
            .collect();
        time("  write_chain of 1000 + edit", 1, |_| {
            let chain: &Vec<NewCommit> = &chain;
            let ids = history.write_chain(chain.clone()).unwrap();
            history.edit(&[set("chain", Expected::Absent, ids[999])], "run", &who(1)).unwrap();
        });
        time("  write_commit only", 100, |n| {
            history.write_commit(&new_commit(&format!("only {n}"), &[])).unwrap();
        });
        time("  sync", 1, |_| history.sync().unwrap());
        let id = tip.unwrap();
        time("  edit of another branch", 100, |n| {
            history.edit(&[set(&format!("b{n}"), Expected::Absent, id)], "run", &who(1)).unwrap();
        });
        time("  attach_head", 100, |n| {
            history.attach_head(&branch(if n % 2 == 0 { "b1" } else { "main" }), &who(n as i64)).unwrap();
        });
        if durability == Durability::Commit {
            continue;
        }
        time("  open", 200, |_| drop(History::open(&path, Options { durability }).unwrap()));
        time("  head", 200, |_| drop(history.head().unwrap()));
        time("  read_ref", 200, |_| assert!(history.read_ref(&branch("main").into()).unwrap().is_some()));
        time("  read_commit", 200, |_| drop(history.read_commit(&id).unwrap()));
        time("  refs, 102 branches", 20, |_| drop(history.refs(RefKind::Branch).unwrap()));
        let short = id.to_string()[..10].to_owned();
        for text in ["main", "HEAD~3", "main@{1}", "chain~900", &short] {
            time(&format!("  resolve {text}"), 100, |_| assert!(history.resolve(text).is_ok()));
        }
        let chain = history.resolve("chain").unwrap();
        let options = WalkOptions { tips: vec![chain], ..WalkOptions::default() };
        time("  walk of 1000", 20, |_| assert_eq!(history.walk(&options).unwrap().count(), 1000));
        let end = history.resolve("chain~900").unwrap();
        time("  is_ancestor over 900", 20, |_| assert!(history.is_ancestor(&end, &chain).unwrap()));
    }
}
