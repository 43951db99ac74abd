//! Changes of permissions as `chmod` takes them.

use std::str::FromStr;

/// A change of permissions: `755`, `u+x,go-w`, `a=rX`; with `D` or `F` before a part for directories or other files alone, as rsync has it.
///
/// A part that names nobody means all: there is no umask here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeChange(Vec<Part>);

/// Why a text is no change of permissions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` is no change of permissions: give octal digits such as 755, or such as u+x,go-w,a=rX")]
pub struct InvalidMode {
    part: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    only: Only,
    change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    Any,
    Directories,
    Others,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Exact(u16),
    Steps {
        /// The bits of whom it is about: those of the owner, the group, others; with the special bit that is theirs.
        whom: u16,
        steps: Vec<(Step, Vec<u8>)>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Add,
    Remove,
    Set,
}

const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;
const STICKY: u16 = 0o1000;

impl FromStr for ModeChange {
    type Err = InvalidMode;

    fn from_str(text: &str) -> Result<Self, InvalidMode> {
        let part = |text: &str| Part::parse(text).ok_or_else(|| InvalidMode { part: text.to_owned() });
        text.split(',').map(part).collect::<Result<_, _>>().map(Self)
    }
}

impl ModeChange {
    /// The mode after the change.
    pub fn apply(&self, mode: u16, directory: bool) -> u16 {
        self.0.iter().fold(mode, |mode, part| match (part.only, directory) {
            (Only::Directories, false) | (Only::Others, true) => mode,
            _ => part.change.apply(mode, directory),
        })
    }
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let (only, rest) = match text.as_bytes().first()? {
            b'D' => (Only::Directories, &text[1..]),
            b'F' => (Only::Others, &text[1..]),
            _ => (Only::Any, text),
        };
        if !rest.is_empty() && rest.len() <= 5 && rest.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
            let exact = u16::from_str_radix(rest, 8).ok().filter(|mode| *mode <= 0o7777)?;
            return Some(Self { only, change: Change::Exact(exact) });
        }
        let whom_len = rest.bytes().take_while(|byte| b"ugoa".contains(byte)).count();
        let bits = |who: u8| match who {
            b'u' => SETUID | 0o700,
            b'g' => SETGID | 0o070,
            b'o' => STICKY | 0o007,
            _ => 0o7777,
        };
        let whom = match &rest.as_bytes()[..whom_len] {
            [] => 0o7777,
            who => who.iter().fold(0, |all, who| all | bits(*who)),
        };
        let mut steps: Vec<(Step, Vec<u8>)> = Vec::new();
        for byte in rest.bytes().skip(whom_len) {
            let step = match byte {
                b'+' => Step::Add,
                b'-' => Step::Remove,
                b'=' => Step::Set,
                b'r' | b'w' | b'x' | b'X' | b's' | b't' | b'u' | b'g' | b'o' => {
                    steps.last_mut()?.1.push(byte);
                    continue;
                }
                _ => return None,
            };
            steps.push((step, Vec::new()));
        }
        (!steps.is_empty()).then_some(Self { only, change: Change::Steps { whom, steps } })
    }
}

impl Change {
    fn apply(&self, mode: u16, directory: bool) -> u16 {
        let (whom, steps) = match self {
            Self::Exact(exact) => return *exact,
            Self::Steps { whom, steps } => (*whom, steps),
        };
        steps.iter().fold(mode, |mode, (step, letters)| {
            let spread = |three: u16| three << 6 | three << 3 | three;
            let bits = letters.iter().fold(0, |bits, letter| {
                bits | match letter {
                    b'r' => 0o444,
                    b'w' => 0o222,
                    b'x' => 0o111,
                    b'X' if directory || mode & 0o111 != 0 => 0o111,
                    b's' => SETUID | SETGID,
                    b't' => STICKY,
                    b'u' => spread(mode >> 6 & 7),
                    b'g' => spread(mode >> 3 & 7),
                    b'o' => spread(mode & 7),
                    _ => 0,
                }
            }) & whom;
            match step {
                Step::Add => mode | bits,
                Step::Remove => mode & !bits,
                // As chmod has it, a directory keeps setuid and setgid unless they are named.
                Step::Set if directory => mode & !(whom & !(SETUID | SETGID)) | bits,
                Step::Set => mode & !whom | bits,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_do_what_chmod_does() {
        for (text, mode, directory, after) in [
            ("755", 0o644, false, 0o755),
            ("4755", 0, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("go-w", 0o666, false, 0o644),
            ("a=rX", 0o640, false, 0o444),
            ("a=rX", 0o700, false, 0o555),
            ("a=rX", 0o700, true, 0o555),
            ("g=u", 0o740, false, 0o770),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, true, 0o2755),
            ("u=rw", 0o4755, false, 0o655),
            ("u=rwx", 0o4755, true, 0o4755),
            ("+t", 0o777, true, 0o1777),
            ("u+x-w", 0o644, false, 0o544),
            ("u+x,go-r", 0o644, false, 0o700),
            ("D755,F644", 0o600, true, 0o755),
            ("D755,F644", 0o600, false, 0o644),
            ("Du+x", 0o600, false, 0o600),
        ] {
            let change: ModeChange = text.parse().unwrap();
            let found = change.apply(mode, directory);
            assert_eq!(found, after, "{text} on {mode:o}: {found:o}");
        }
        for wrong in ["", "8", "77777", "u", "x+u+y", "u+x,", "q+x", "rw", "Z755", "10000"] {
            assert!(wrong.parse::<ModeChange>().is_err(), "{wrong}");
        }
    }
}
