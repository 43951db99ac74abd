//! A file of commands, one a line.

use treebox::Command;

/// What stands on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// Shell text.
    Text(String),
    /// A program and its arguments.
    Argv(Vec<String>),
}

impl Line {
    pub(super) fn command(&self) -> Command {
        match self {
            Self::Text(text) => Command::shell(text),
            Self::Argv(argv) => {
                let (program, rest) = argv.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
                Command::new(program).args(rest.iter().map(String::as_str))
            }
        }
    }
}

/// Reads a file of commands. Blank lines and those that begin with `#` are skipped.
///
/// A line is shell text. A JSON string is shell text too, which may then have several lines; a JSON array of strings is a program and
/// its arguments. What only looks like JSON is shell text, such as `[ -e /x ] && …` or `"$A" b`; but `["` begins no sensible shell text.
pub(super) fn parse(text: &str) -> Result<Vec<Line>, String> {
    let mut commands = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: &str| Err(format!("line {}: {why}", number + 1));
        commands.push(match line.as_bytes()[0] {
            b'[' => match serde_json::from_str::<Vec<String>>(line) {
                Ok(argv) if argv.first().is_none_or(String::is_empty) => return wrong("names no program"),
                Ok(argv) => Line::Argv(argv),
                Err(error) if line.starts_with("[\"") => {
                    return wrong(&format!("is no JSON array of strings: {error}"));
                }
                Err(_) => Line::Text(line.to_owned()),
            },
            b'"' => Line::Text(serde_json::from_str(line).unwrap_or_else(|_| line.to_owned())),
            _ => Line::Text(line.to_owned()),
        });
    }
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Line {
        Line::Text(text.to_owned())
    }

    #[test]
    fn lines_are_shell_text_and_comments_are_skipped() {
        let read = parse("# how\n\n  echo 1 # not this\r\necho 2\n").unwrap();
        assert_eq!(read, [text("echo 1 # not this"), text("echo 2")]);
        assert_eq!(parse(" \n#\n").unwrap(), []);
    }

    #[test]
    fn json_is_read_and_what_only_looks_like_it_is_shell_text() {
        let read = parse("\"a\\nb\"\n[\"ls\",\"a b\"]\n[ -e /x ] && y\n\"$A\" b\n[a-z]*\n").unwrap();
        let argv = Line::Argv(vec!["ls".into(), "a b".into()]);
        assert_eq!(read, [text("a\nb"), argv, text("[ -e /x ] && y"), text("\"$A\" b"), text("[a-z]*")]);
    }

    #[test]
    fn broken_lines_are_named() {
        assert!(parse("true\n[\"ls\"").unwrap_err().starts_with("line 2: is no JSON array"));
        assert_eq!(parse("[]").unwrap_err(), "line 1: names no program");
        assert_eq!(parse("[\"\"]").unwrap_err(), "line 1: names no program");
    }
}
