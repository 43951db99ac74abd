//! A pinned value: `fixtures/vectors/NAME.hex`, with what it is, its name and its bytes.

use std::fmt::Write as _;
use std::path::PathBuf;

/// One value with its canonical bytes.
pub(super) struct Vector {
    /// The file's name without `.hex`.
    pub(super) name: &'static str,
    /// What it is, for a reader of the file.
    pub(super) about: &'static str,
    /// Names that follow from it, such as `tree` and its id.
    pub(super) ids: Vec<(&'static str, String)>,
    /// The bytes as they are on disk.
    pub(super) bytes: Vec<u8>,
}

/// The directory of the pinned values: `TREEBOX_TEST_FIXTURES` when the tests run away from the source.
pub(super) fn directory() -> PathBuf {
    let fixtures = std::env::var_os("TREEBOX_TEST_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures"), PathBuf::from);
    fixtures.join("vectors")
}

impl Vector {
    fn text(&self) -> String {
        let mut text = format!("# {}\n", self.about);
        for (what, id) in &self.ids {
            writeln!(text, "{what} {id}").unwrap();
        }
        writeln!(text, "bytes {}", self.bytes.len()).unwrap();
        for line in self.bytes.chunks(32) {
            for byte in line {
                write!(text, "{byte:02x}").unwrap();
            }
            text.push('\n');
        }
        text
    }

    /// Compares with the pinned file. `TREEBOX_WRITE_VECTORS=1` writes it instead, which is only right for a new
    /// value: one that was released is never changed.
    pub(super) fn check(&self) {
        let path = directory().join(format!("{}.hex", self.name));
        if std::env::var_os("TREEBOX_WRITE_VECTORS").is_some() {
            std::fs::write(&path, self.text()).unwrap();
        }
        let pinned =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(
            self.text(),
            pinned,
            "{} is not what was released: stores that exist hold the pinned bytes",
            path.display()
        );
    }
}

/// The bytes of a pinned file, for tests that start from what is on disk.
pub(super) fn pinned(name: &str) -> Vec<u8> {
    let path = directory().join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digits: String = text.lines().skip_while(|line| !line.starts_with("bytes ")).skip(1).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    digits.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
