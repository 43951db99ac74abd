//! What the fuzz targets do with any bytes that stand where a value of this room should: decode them, and hold the decoder to its promises.
//!
//! `fuzz/` calls these functions from libFuzzer, the tests below from changed seeds; other rooms have a module like this for their own bytes. No build but those two has
//! it.
//!
//! # Invariants
//! - No input makes a target panic or take more memory than in proportion to it. What is accepted encodes to the same bytes again.

use super::{CommandSpec, State, StateId, Tree};

/// A directory's tree, or a root tree.
pub fn tree(bytes: &[u8]) {
    if let Ok(tree) = Tree::decode(bytes) {
        // Sums of sizes may be more than a tree can say.
        if let Ok((_, encoded)) = tree.encode() {
            assert!(encoded == bytes, "a tree is written in one way");
        }
        let _ = tree.summary();
    }
    if let Ok(root) = Tree::decode_root(bytes) {
        assert!(Tree::encode_root(&root).1 == bytes, "a root tree is written in one way");
    }
}

/// A state.
pub fn state(bytes: &[u8]) {
    if let Ok(state) = State::decode(bytes) {
        assert!(state.encode().1 == bytes, "a state is written in one way");
    }
}

/// What a command depends on.
pub fn spec(bytes: &[u8]) {
    if let Ok(spec) = CommandSpec::decode(bytes) {
        assert!(spec.encode() == bytes, "a command is written in one way");
        let parent = StateId::from_bytes([1; 32]);
        assert_eq!(
            spec.run_key(&parent),
            CommandSpec::decode(bytes).expect("it was decoded").run_key(&parent)
        );
        let _ = spec.program.text();
    }
}

#[cfg(test)]
pub(crate) mod shaking {
    //! Runs a target on its corpus and on changed pieces of it.

    use std::io::Write as _;
    use std::path::PathBuf;

    /// What means something to one decoder or another.
    const WORDS: [&[u8]; 22] = [
        b"null",
        b"-1",
        b"18446744073709551615",
        b"{}",
        b"[]",
        b"\"\"",
        b"../",
        b"/",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\x01\0\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\n",
        b"\t",
        b" ",
        b"end\n",
        b"ref ",
        b"refs/heads/",
        b"ref: ",
        b"HEAD",
        b"0000000000000000000000000000000000000000",
        b"\x80\x80\x80\x80\x0f",
    ];

    /// Numbers that look random and are the same each time.
    pub(crate) struct Dice(pub(crate) u64);

    impl Dice {
        pub(crate) fn roll(&mut self, sides: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 13) as usize % sides.max(1)
        }
    }

    fn corpus(target: &str) -> PathBuf {
        let fixtures = std::env::var_os("TREEBOX_TEST_FIXTURES")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures"), PathBuf::from);
        fixtures.join("corpus").join(target)
    }

    fn change(bytes: &mut Vec<u8>, dice: &mut Dice) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + 1 + dice.roll(40)).min(bytes.len());
        let room = at < bytes.len();
        match dice.roll(8) {
            0..=2 if room => bytes[at] = dice.roll(256) as u8,
            3 if room => bytes[at] ^= 1 << dice.roll(8),
            4 if room => drop(bytes.drain(at..end)),
            5 if room => {
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            6 if room => {
                let word = WORDS[dice.roll(WORDS.len())];
                let end = (at + word.len()).min(bytes.len());
                drop(bytes.splice(at..end, word.iter().copied()));
            }
            7 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, WORDS[dice.roll(WORDS.len())].iter().copied())),
        }
    }

    /// Runs a target on what the code makes as seeds, on all files of its corpus, and on so many changes of both.
    ///
    /// `TREEBOX_FUZZ_TIMES` makes it so many times as many. `TREEBOX_WRITE_CORPUS` writes the seeds; what fuzzing found lies beside them as `found-WHAT`.
    pub(crate) fn shake(target: &str, run: impl Fn(&[u8]), seeds: Vec<Vec<u8>>, rounds: usize) {
        let dir = corpus(target);
        let name = |at: usize| format!("seed-{at:02}");
        if std::env::var_os("TREEBOX_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&dir).unwrap();
            for (at, seed) in seeds.iter().enumerate() {
                std::fs::write(dir.join(name(at)), seed).unwrap();
            }
        }
        let mut inputs: Vec<Vec<u8>> = Vec::new();
        let entries =
            std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{target} has no corpus: {error}"));
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let made: Vec<String> = (0..seeds.len()).map(name).collect();
        for file in files {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let bytes = std::fs::read(&file).unwrap();
            match made.iter().position(|made| *made == name) {
                Some(at) => {
                    assert!(bytes == seeds[at], "{target}/{name}: TREEBOX_WRITE_CORPUS=1 writes it anew")
                }
                None => assert!(name.starts_with("found-"), "{target}/{name} is no seed"),
            }
            inputs.push(bytes);
        }
        assert!(inputs.len() >= seeds.len() && !inputs.is_empty(), "{target}: seeds are missing");
        inputs.iter().for_each(|input| run(input));
        run(b"");
        run(&[0; 3000]);
        let times = std::env::var("TREEBOX_FUZZ_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        let rounds = rounds * times;
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for _ in 0..rounds {
            let mut bytes = inputs[dice.roll(inputs.len())].clone();
            for _ in 0..=dice.roll(4) {
                change(&mut bytes, &mut dice);
            }
            run(&bytes);
        }
        // Not by `println!`: the test program shows that of failures alone.
        let _ = writeln!(std::io::stderr(), "fuzz target {target}: {} inputs", inputs.len() + 2 + rounds);
    }

    /// The bytes of `fixtures/vectors/NAME.hex` that follow its head.
    pub(crate) fn vector(name: &str) -> Vec<u8> {
        let path = corpus("").join("../vectors").join(format!("{name}.hex"));
        let text = std::fs::read_to_string(&path).unwrap();
        let hex: String = text
            .lines()
            .filter(|line| line.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .flat_map(str::chars)
            .collect();
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::shaking::{shake, vector};

    fn vectors(names: &[&str]) -> Vec<Vec<u8>> {
        let vectors: Vec<_> = names.iter().map(|name| vector(name)).collect();
        assert!(vectors.iter().all(|bytes| bytes.starts_with(b"tb")));
        vectors
    }

    #[test]
    fn trees_states_and_commands_decode_to_what_encodes_to_the_same_bytes_or_not_at_all() {
        let trees = vectors(&["tree-empty", "tree-every-kind", "tree-linked", "tree-root"]);
        shake("tree", super::tree, trees, 12_000);
        shake("state", super::state, vectors(&["state-bare", "state-full"]), 12_000);
        shake("spec", super::spec, vectors(&["spec-allow", "spec-full", "spec-shell"]), 12_000);
    }
}
