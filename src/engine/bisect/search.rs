//! Which commit to test next: pure, on numbers.
//!
//! As Git does it: the commit is tested whose verdict halves what is left, whichever it is. A commit's weight is how many of those left are
//! its ancestors or itself; found bad, these are left, found good, the others.

/// The commits among which the first bad one is, and what is known of them.
#[derive(Debug, Clone)]
pub(super) struct Search {
    /// The parents of each commit as far as they are in here. A commit comes after all its parents.
    parents: Vec<Vec<usize>>,
    /// Which may be the first bad one.
    left: Vec<bool>,
    skipped: Vec<bool>,
    bad: usize,
    skips_in_a_row: usize,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Test this one.
    Test(usize),
    /// This is the first bad one.
    Found(usize),
    /// It is one of these: all but the last, which is bad, cannot be tested.
    Undecided(Vec<usize>),
}

impl Search {
    /// A search among commits of which the last is known to be bad, and all are its ancestors.
    pub(super) fn new(parents: Vec<Vec<usize>>) -> Self {
        debug_assert!(
            parents.iter().enumerate().all(|(at, parents)| parents.iter().all(|parent| *parent < at))
        );
        let count = parents.len();
        let mut search = Self {
            parents,
            left: vec![true; count],
            skipped: vec![false; count],
            bad: count.saturating_sub(1),
            skips_in_a_row: 0,
        };
        if count > 0 {
            search.bad(count - 1);
        }
        search
    }

    /// How many may be the first bad one.
    pub(super) fn left(&self) -> usize {
        self.left.iter().filter(|left| **left).count()
    }

    /// About how many tests are to come.
    pub(super) fn steps_left(&self) -> u32 {
        self.left().max(1).next_power_of_two().trailing_zeros()
    }

    pub(super) fn next(&self) -> Next {
        let left = self.left();
        let weights = self.weights();
        // By how much is certain to be gone, best first; a stable sort leaves ties to the older commit.
        let mut ranked: Vec<(usize, usize)> = (0..self.parents.len())
            .filter(|at| self.left[*at] && *at != self.bad && !self.skipped[*at])
            .map(|at| (weights[at].min(left - weights[at]), at))
            .collect();
        ranked.sort_by_key(|(gain, _)| std::cmp::Reverse(*gain));
        if ranked.is_empty() {
            return match left {
                1 => Next::Found(self.bad),
                _ => Next::Undecided((0..self.parents.len()).filter(|at| self.left[*at]).collect()),
            };
        }
        // What cannot be tested often stands together: the longer the row, the further away the next try.
        let away = self.skips_in_a_row * self.skips_in_a_row.saturating_sub(1) / 2;
        Next::Test(ranked[away % ranked.len()].1)
    }

    /// It is bad: it, or one of its ancestors, is the first.
    pub(super) fn bad(&mut self, at: usize) {
        let ancestors = self.ancestors(at);
        self.left.iter_mut().zip(ancestors).for_each(|(left, ancestor)| *left &= ancestor);
        self.bad = at;
        self.skips_in_a_row = 0;
    }

    /// It is good, and so are all its ancestors.
    pub(super) fn good(&mut self, at: usize) {
        let ancestors = self.ancestors(at);
        self.left.iter_mut().zip(ancestors).for_each(|(left, ancestor)| *left &= !ancestor);
        self.skips_in_a_row = 0;
    }

    /// It cannot be tested.
    pub(super) fn skip(&mut self, at: usize) {
        self.skipped[at] = true;
        self.skips_in_a_row += 1;
    }

    /// Which commits are that one or ancestors of it.
    fn ancestors(&self, at: usize) -> Vec<bool> {
        let mut seen = vec![false; self.parents.len()];
        seen[at] = true;
        // Parents have smaller numbers, so one pass downwards sees all.
        for here in (0..=at).rev() {
            if seen[here] {
                self.parents[here].iter().for_each(|parent| seen[*parent] = true);
            }
        }
        seen
    }

    /// How many of those left are each commit's ancestors or itself. Only merges have to be counted; others have one more than their
    /// parent.
    fn weights(&self) -> Vec<usize> {
        let mut weights = vec![0; self.parents.len()];
        for at in (0..self.parents.len()).filter(|at| self.left[*at]) {
            let mut parents = self.parents[at].iter().filter(|parent| self.left[**parent]);
            weights[at] = match (parents.next(), parents.next()) {
                (None, _) => 1,
                (Some(parent), None) => weights[*parent] + 1,
                (Some(_), Some(_)) => {
                    self.ancestors(at).iter().zip(&self.left).filter(|(one, left)| **one && **left).count()
                }
            };
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    /// Searches with that test; gives the end and the tests it took.
    fn search(parents: &[Vec<usize>], mut test: impl FnMut(usize) -> Option<bool>) -> (Next, usize) {
        let mut search = Search::new(parents.to_vec());
        let mut tests = 0;
        loop {
            match search.next() {
                Next::Test(at) => {
                    assert!(search.left[at] && !search.skipped[at], "{at} is tested twice or in vain");
                    tests += 1;
                    match test(at) {
                        Some(true) => search.bad(at),
                        Some(false) => search.good(at),
                        None => search.skip(at),
                    }
                }
                end => return (end, tests),
            }
        }
    }

    fn line(count: usize) -> Vec<Vec<usize>> {
        (0..count).map(|at| at.checked_sub(1).into_iter().collect()).collect()
    }

    /// Commits with one or two parents, all ancestors of the last.
    fn history() -> impl Strategy<Value = Vec<Vec<usize>>> {
        prop::collection::vec(
            (any::<prop::sample::Index>(), prop::option::of(any::<prop::sample::Index>())),
            1..40,
        )
        .prop_map(|picks| {
            let mut parents: Vec<Vec<usize>> = vec![Vec::new()];
            for (first, second) in picks {
                let count = parents.len();
                // Mostly near, as in real histories.
                let mut mine = vec![count - 1 - first.index(count.min(4))];
                mine.extend(second.map(|second| second.index(count)));
                mine.sort_unstable();
                mine.dedup();
                parents.push(mine);
            }
            // A last one that joins every loose end.
            let is_parent = |at: &usize| parents.iter().any(|parents| parents.contains(at));
            let ends = (0..parents.len()).filter(|at| !is_parent(at)).collect();
            parents.push(ends);
            parents
        })
    }

    /// Which commits are bad when these brought something bad.
    fn bad(parents: &[Vec<usize>], culprits: &[usize]) -> Vec<bool> {
        let mut bad = vec![false; parents.len()];
        for at in 0..parents.len() {
            bad[at] = culprits.contains(&at) || parents[at].iter().any(|parent| bad[*parent]);
        }
        bad
    }

    #[test]
    fn a_line_of_commits_takes_log2_tests() {
        for count in [1, 2, 3, 10, 1000, 1024] {
            let most = usize::try_from(Search::new(line(count)).steps_left()).unwrap();
            for culprit in (0..count).step_by(count.div_ceil(50)) {
                let (end, tests) = search(&line(count), |at| Some(at >= culprit));
                assert_eq!(end, Next::Found(culprit));
                assert!(tests <= most, "{tests} tests for {count} commits");
            }
        }
    }

    #[test]
    fn what_cannot_be_tested_is_gone_around_or_named() {
        let broken = |at: usize| (30..=60).contains(&at);
        let (end, tests) = search(&line(100), |at| (!broken(at)).then_some(at >= 80));
        assert_eq!(end, Next::Found(80));
        assert!(tests < 20, "{tests}");
        let (end, _) = search(&line(100), |at| (!broken(at)).then_some(at >= 50));
        assert_eq!(end, Next::Undecided((30..=61).collect()));
        assert_eq!(search(&line(3), |_| None).0, Next::Undecided(vec![0, 1, 2]));
    }

    proptest! {
        #[test]
        fn what_is_found_is_bad_and_has_good_parents(
            parents in history(),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        ) {
            let culprits: Vec<_> = picks.iter().map(|pick| pick.index(parents.len())).collect();
            let bad = bad(&parents, &culprits);
            let (end, tests) = search(&parents, |at| Some(bad[at]));
            let Next::Found(found) = end else { return Err(TestCaseError::fail(format!("{end:?}"))) };
            prop_assert!(bad[found] && parents[found].iter().all(|parent| !bad[*parent]), "{} of {:?}", found, bad);
            prop_assert!(culprits.contains(&found));
            prop_assert!(tests < parents.len());
        }

        #[test]
        fn with_skips_the_culprit_is_found_or_among_what_is_named(
            parents in history(),
            pick in any::<prop::sample::Index>(),
            broken in prop::collection::vec(any::<bool>(), 45),
        ) {
            let culprit = pick.index(parents.len());
            let bad = bad(&parents, &[culprit]);
            let (end, _) = search(&parents, |at| (!broken[at]).then_some(bad[at]));
            match end {
                Next::Found(found) => prop_assert_eq!(found, culprit),
                Next::Undecided(these) => {
                    prop_assert!(these.contains(&culprit));
                    prop_assert!(these.iter().rev().skip(1).all(|at| broken[*at]));
                }
                Next::Test(_) => prop_assert!(false),
            }
        }

        #[test]
        fn the_weight_of_a_commit_is_the_number_of_its_ancestors_that_are_left(
            parents in history(),
            pick in any::<prop::sample::Index>(),
        ) {
            let mut search = Search::new(parents.clone());
            search.good(pick.index(parents.len() - 1));
            let weights = search.weights();
            for at in (0..parents.len()).filter(|at| search.left[*at]) {
                let mut ancestors = std::collections::BTreeSet::from([at]);
                for here in (0..=at).rev() {
                    if ancestors.contains(&here) {
                        ancestors.extend(parents[here].iter().copied());
                    }
                }
                ancestors.retain(|ancestor| search.left[*ancestor]);
                prop_assert_eq!(weights[at], ancestors.len());
            }
        }
    }

    #[test]
    fn git_bisect_finds_the_same_commit() {
        use proptest::strategy::ValueTree;
        let git = |dir: &std::path::Path, args: &[&str], input: &str| {
            let mut git = Command::new("git");
            git.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", dir).current_dir(dir);
            let mut child = git
                .args(args)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "git {args:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        for _ in 0..3 {
            let parents = history().new_tree(&mut runner).unwrap().current();
            let culprit = 1 + parents.len() / 2 % (parents.len() - 1);
            let bad = bad(&parents, &[culprit]);
            let (dir, mut input) = (tempfile::tempdir().unwrap(), String::new());
            for (at, mine) in parents.iter().enumerate() {
                let message = format!("{at} {}", if bad[at] { "bad" } else { "good" });
                input += &format!("commit refs/heads/{at}\nmark :{}\ncommitter A <a@a> {at} +0000\n", at + 1);
                input += &format!("data {}\n{message}\n", message.len());
                for (nth, parent) in mine.iter().enumerate() {
                    input += &format!("{} :{}\n", if nth == 0 { "from" } else { "merge" }, parent + 1);
                }
                input.push('\n');
            }
            git(dir.path(), &["init", "-q", "--bare", "."], "");
            git(dir.path(), &["fast-import", "--quiet"], &input);
            let last = (parents.len() - 1).to_string();
            git(dir.path(), &["symbolic-ref", "HEAD", &format!("refs/heads/{last}")], "");
            git(dir.path(), &["bisect", "start", "--no-checkout", &last, "0"], "");
            let test = "git log -1 --format=%s BISECT_HEAD | grep -q good";
            git(dir.path(), &["bisect", "run", "sh", "-c", test], "");
            let theirs = git(dir.path(), &["log", "-1", "--format=%s", "refs/bisect/bad"], "");
            // What is no ancestor of the good first commit.
            let among: Vec<Vec<usize>> = parents[1..]
                .iter()
                .map(|mine| mine.iter().filter_map(|parent| parent.checked_sub(1)).collect())
                .collect();
            let (ours, _) = search(&among, |at| Some(bad[at + 1]));
            assert_eq!(ours, Next::Found(culprit - 1), "{parents:?}");
            assert_eq!(theirs.trim(), format!("{culprit} bad"));
        }
    }
}
