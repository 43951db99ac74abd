//! Several commands on one state at once.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use treebox::{ErrorKind, Fate, Mount, Reuse};

use super::*;
use crate::support::{nap, sleepers, wait_for_sleepers};

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn all_outcomes_come_in_the_order_of_the_commands_and_one_error_loses_no_other() {
    let commands = [
        Command::shell("sleep 0.2; echo slow; echo a > /a"),
        Command::new("no-such-program"),
        Command::shell("echo quick; exit 3"),
        Command::shell("echo d > /d").workdir("/not/there"),
        Command::shell("echo e > /e"),
    ];
    let all = base().all(&commands, 3);
    assert_eq!(all.len(), 5);
    let slow = all[0].as_ref().unwrap();
    assert_eq!(
        (slow.stdout.as_slice(), changes(&base(), slow.state())),
        (&b"slow\n"[..], vec!["A /a".into()])
    );
    assert_eq!(all[1].as_ref().unwrap_err().kind(), ErrorKind::CommandNotFound);
    assert_eq!(all[2].as_ref().unwrap().exit_code, Some(3));
    assert_eq!(all[3].as_ref().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(changes(&base(), all[4].as_ref().unwrap().state()), ["A /e"]);
    assert!(base().all(&commands, 2)[0].as_ref().unwrap().reused);
    assert!(base().all(&[], 2).is_empty());
}

#[test]
fn no_more_commands_run_at_once_than_there_are_jobs() {
    let shared = tempfile::tempdir().unwrap();
    // Each leaves a mark while it runs and counts the marks.
    let commands: Vec<_> = (0..8)
        .map(|number| {
            let text = format!("touch /marks/{number}; sleep 0.2; ls /marks | wc -l; rm /marks/{number}");
            Command::shell(text).mount(Mount::bind_writable(shared.path(), "/marks")).disposable(true)
        })
        .collect();
    for jobs in [1, 3] {
        let seen = base().all(&commands, jobs).into_iter().map(|outcome| {
            let outcome = outcome.unwrap();
            assert!(outcome.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
            String::from_utf8(outcome.stdout).unwrap().trim().parse::<usize>().unwrap()
        });
        let most = seen.max().unwrap();
        // That several run at once is the scheduler's to say on a busy machine; that no more do is ours.
        assert!(most <= jobs && (jobs == 1 || most > 1), "{most} at once with {jobs} jobs");
    }
}

#[test]
fn the_first_success_wins_a_race_and_the_losers_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let base = engine.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
    let nap = nap(1077);
    let sleeper = format!("(sleep {nap} &); echo left > /left; sleep {nap}");
    let commands = [
        Command::shell("echo no > /no; exit 4"),
        Command::shell(&sleeper),
        Command::new("no-such-program"),
        Command::shell("sleep 0.8; echo won > /won"),
        Command::shell(format!("{sleeper}; echo second")),
        Command::shell("echo never > /never"),
    ];
    let race = base.race(&commands, 3);
    assert_eq!(race.winner, Some(3), "{race:?}");
    assert_eq!(engine.read_file(race.won().unwrap().state(), &path("/won")).unwrap(), b"won\n");
    assert!(matches!(&race.fates[0], Fate::Failed(outcome) if outcome.exit_code == Some(4)), "{race:?}");
    assert!(matches!(&race.fates[1], Fate::Cancelled), "{race:?}");
    assert!(matches!(&race.fates[2], Fate::Broken(error) if error.kind() == ErrorKind::CommandNotFound));
    assert!(matches!(&race.fates[4], Fate::Cancelled), "{race:?}");
    assert!(matches!(&race.fates[5], Fate::NeverStarted), "{race:?}");
    // They are gone when the race is over, not some time later.
    assert_eq!(sleepers(&nap), 0);
    assert_eq!(crate::support::names(&dir.path().join("store/tmp")), Vec::<String>::new());
    for loser in [1, 5] {
        let again = commands[loser].clone().timeout(Duration::from_millis(300)).reuse(Reuse::Always);
        assert!(!base.run(&again).unwrap().reused, "a loser is remembered");
    }
}

fn path(text: &str) -> treebox::TreePath {
    treebox::TreePath::parse(text.as_bytes()).unwrap()
}

#[test]
fn a_remembered_success_wins_a_race_at_once() {
    let known = Command::shell("date +%N > /known-racer");
    let before = base().run(&known).unwrap();
    let commands = [Command::shell("sleep 1078.1"), Command::shell("sleep 1078.2"), known];
    let began = Instant::now();
    let race = base().race(&commands, 1);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!((race.winner, race.won().unwrap().reused), (Some(2), true));
    assert_eq!(race.won().unwrap().state(), before.state());
    assert!(race.fates[..2].iter().all(|fate| matches!(fate, Fate::NeverStarted)));
}

#[test]
fn a_race_that_nobody_can_win_has_no_winner() {
    let race =
        base().race(&[Command::shell("exit 1"), Command::shell("kill -9 $$"), Command::new("/nothing")], 2);
    assert!(race.winner.is_none() && race.won().is_none());
    assert!(matches!(race.fates[..], [Fate::Failed(_), Fate::Failed(_), Fate::Broken(_)]), "{race:?}");
    assert!(base().race(&[], 2).winner.is_none());
}

#[test]
fn a_winner_whose_files_cannot_be_kept_has_not_won() {
    let commands = [
        Command::shell("head -c 3000000 /dev/zero > /big").disk(1_000_000),
        Command::shell("sleep 0.8; echo small > /small"),
    ];
    let race = base().race(&commands, 2);
    assert_eq!(race.winner, Some(1), "{race:?}");
    assert!(!race.fates[0].succeeded());
}

#[test]
fn work_that_is_cancelled_ends_whole() {
    let nap = nap(1079);
    let cancel = treebox::Cancel::new();
    let options = treebox::ExploreOptions::new().jobs(2).cancel(cancel.clone());
    let target = treebox::Target { from: Some(base().id().to_string()), ..Default::default() };
    let commands: Vec<_> = (0..4).map(|at| Command::shell(format!("touch /{at}; sleep {nap}"))).collect();
    let explored = std::thread::scope(|scope| {
        let work = scope.spawn(|| engine().explore(&target, &commands, &options, &|_, _| {}).unwrap());
        wait_for_sleepers(&nap, 2);
        cancel.cancel();
        work.join().unwrap()
    });
    assert_eq!(sleepers(&nap), 0);
    let fates = &explored.race.fates;
    let count = |test: fn(&Fate) -> bool| fates.iter().filter(|fate| test(fate)).count();
    assert_eq!(
        count(|fate| matches!(fate, Fate::Cancelled)) + count(|fate| matches!(fate, Fate::NeverStarted)),
        4
    );
    assert!(count(|fate| matches!(fate, Fate::Cancelled)) >= 1, "{fates:?}");
}

#[test]
fn dropping_the_future_of_a_race_kills_it() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = EngineOptions::at(dir.path().join("store")).worker(crate::support::treebox());
        let engine = treebox::Engine::open(options).await.unwrap();
        let base = engine.import(&ImportSource::parse("host").unwrap(), None).await.unwrap().state;
        let quick = base.race(vec![Command::shell("sleep 1080.2"), Command::shell("echo q > /q")], 2).await;
        assert_eq!(quick.won().unwrap().state().read_file("/q").await.unwrap(), b"q\n");
        let all = base.all(vec![Command::shell("exit 2"), Command::shell("echo hi")], 2).await;
        assert_eq!(all[0].as_ref().unwrap().exit_code, Some(2));
        assert_eq!(all[1].as_ref().unwrap().stdout, b"hi\n");

        let nap = nap(1080);
        let commands =
            (0..3).map(|at| Command::new("sleep").arg(nap.as_str()).env("AT", at.to_string())).collect();
        let begun = async {
            while sleepers(&nap) < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            race = base.race(commands, 2) => panic!("it ended by itself: {race:?}"),
            () = begun => {}
        }
        wait_for_sleepers(&nap, 0);
        let tmp = dir.path().join("store/tmp");
        wait_for("an empty tmp/", || crate::support::names(&tmp).is_empty());
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..Default::default() })]

    #[test]
    fn exactly_one_success_wins_if_there_is_any(
        codes in prop::collection::vec(prop_oneof![Just(0), 1..5], 1..7),
        jobs in 1..4_usize,
    ) {
        // Unlike any other race: a remembered winner would be no race.
        static RACE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let race_number = RACE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let commands: Vec<_> = codes
            .iter()
            .enumerate()
            .map(|(at, code)| Command::shell(format!("echo {at} > /race-{race_number}; exit {code}")))
            .collect();
        let race = base().race(&commands, jobs);
        prop_assert_eq!(race.winner.is_some(), codes.contains(&0));
        for (at, (fate, code)) in race.fates.iter().zip(&codes).enumerate() {
            match fate {
                Fate::Succeeded(_) => prop_assert!(race.winner == Some(at) && *code == 0),
                Fate::Failed(outcome) => prop_assert_eq!(outcome.exit_code, Some(*code)),
                Fate::Lost => prop_assert!(*code == 0 && race.winner.is_some()),
                Fate::Cancelled | Fate::NeverStarted => prop_assert!(race.winner.is_some()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        let all = base().all(&commands, jobs);
        let ended: Vec<_> = all.iter().map(|outcome| outcome.as_ref().unwrap().exit_code.unwrap()).collect();
        prop_assert_eq!(ended, codes);
    }
}
