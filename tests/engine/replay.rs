//! Replays as a program drives them.

use proptest::prelude::*;
use treebox::{ReplayOptions, Reuse};

use super::{base, engine, step};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn commands_on_the_same_base_give_the_same_trees(words in prop::collection::vec(0..6u8, 1..4)) {
        let commands = [
            "echo 1 >> /replay-a", "mkdir -p /replay/d && ln -f /etc/passwd /replay/d/p", "ln -sf /x /replay-l", "chmod 700 /tmp",
            "rm -rf /replay-a /replay; touch /replay-t", "mkfifo /replay-f 2>/dev/null || rm /replay-f",
        ];
        let mut states = vec![base()];
        for word in &words {
            let next = step(states.last().unwrap(), commands[usize::from(*word)]);
            states.push(next);
        }
        let last = states.last().unwrap();
        let branch = format!("replay-{}", words.iter().map(u8::to_string).collect::<String>());
        let at = engine().create_branch(&branch, last, true).unwrap();
        let mut seen = Vec::new();
        let options = ReplayOptions { onto: Some(base().id().to_string()), ..ReplayOptions::default() };
        let replayed = engine().replay(Some(&branch), &options, &mut |step| seen.push(step.state.tree())).unwrap();
        prop_assert_eq!(replayed.commit, at.commit);
        prop_assert_eq!(replayed.state.tree(), last.tree());
        // Not only because it is remembered.
        let mut here = base();
        for state in states.iter().skip(1).filter(|state| state.commit().is_some()) {
            if state.id() == here.id() {
                continue;
            }
            let again = engine().run_again(&state.commit().unwrap().to_string(), &here, Reuse::Never).unwrap();
            prop_assert_eq!(again.state().tree(), state.tree());
            here = state.clone();
        }
    }
}
