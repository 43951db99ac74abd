//! Encoding and decoding are each other's inverse, on both sides.

use proptest::prelude::*;
use treebox::object::{CommandSpec, State, Tree};

use super::strategy;

proptest! {
    #![proptest_config(strategy::config())]

    #[test]
    fn a_tree_reads_back_as_it_was(tree in strategy::tree()) {
        let (_, bytes) = tree.encode().unwrap();
        prop_assert_eq!(Tree::decode(&bytes).unwrap(), tree);
    }

    #[test]
    fn a_root_reads_back_as_it_was(root in strategy::root()) {
        let (_, bytes) = Tree::encode_root(&root);
        prop_assert_eq!(Tree::decode_root(&bytes).unwrap(), root);
        prop_assert!(Tree::decode(&bytes).is_err(), "a root tree is no directory");
    }

    #[test]
    fn a_state_reads_back_as_it_was(state in strategy::state()) {
        let (_, bytes) = state.encode();
        prop_assert_eq!(State::decode(&bytes).unwrap(), state);
    }

    #[test]
    fn a_command_reads_back_as_it_was(spec in strategy::spec()) {
        prop_assert_eq!(CommandSpec::decode(&spec.encode()).unwrap(), spec);
    }
}
