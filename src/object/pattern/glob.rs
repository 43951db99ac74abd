//! One pattern with wildcards, over bytes.
//!
//! The language is that of Git's `wildmatch`. Matching takes time proportional to pattern times text, whatever the pattern:
//! the pattern becomes a list of tokens, and the set of tokens that can come next is carried along the text.

/// What a wildcard does about slashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slashes {
    /// A slash separates names: `*`, `?` and `[…]` never match one, `**` between slashes does. For paths.
    Separate,
    /// A slash is a character like any other. For names of branches, as Git has it.
    Ordinary,
}

/// A compiled pattern: `*`, `?`, `[a-z]`, `[!a-z]`, `[[:digit:]]`, `\` before a character that is meant as itself, and with
/// [`Slashes::Separate`] `**/`, `/**/` and `/**`, which stand for any number of directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    /// The bytes to match, when there is no wildcard at all.
    literal: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// One byte: any, or all but the slash.
    One {
        slash: bool,
    },
    /// Any bytes, among them slashes or not.
    Many {
        slash: bool,
    },
    /// At the beginning of a name: nothing, or names that each end with a slash. `Within` stands behind it.
    Directories,
    /// Within a name that [`Token::Directories`] passes over.
    Within,
    Class(Box<Class>),
    /// A pattern that is cut short matches nothing.
    Never,
}

/// A set of bytes as `[…]` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Class {
    members: [bool; 256],
}

impl Glob {
    /// Compiles a pattern. Any bytes are one; a `[` that is not closed or a `\` at the end makes one that matches nothing, as in Git.
    pub fn new(pattern: &[u8], slashes: Slashes) -> Self {
        let mut tokens = Vec::with_capacity(pattern.len());
        let separate = slashes == Slashes::Separate;
        let mut at = 0;
        while let Some(byte) = pattern.get(at) {
            let begins_name = at == 0 || pattern[at - 1] == b'/';
            at += 1;
            match byte {
                b'\\' => {
                    tokens.push(pattern.get(at).map_or(Token::Never, |byte| Token::Byte(*byte)));
                    at += 1;
                }
                b'?' => tokens.push(Token::One { slash: !separate }),
                b'*' => {
                    let first = at;
                    at += pattern[at..].iter().take_while(|byte| **byte == b'*').count();
                    let rest = &pattern[at..];
                    let whole = at > first && begins_name && separate;
                    if whole && rest.first() == Some(&b'/') {
                        at += 1;
                        tokens.extend([Token::Directories, Token::Within]);
                    } else {
                        let slash = !separate || (whole && (rest.is_empty() || rest.starts_with(b"\\/")));
                        tokens.push(Token::Many { slash });
                    }
                }
                b'[' => match Class::parse(&pattern[at..]) {
                    Some((mut class, len)) => {
                        class.members[usize::from(b'/')] &= !separate;
                        tokens.push(Token::Class(Box::new(class)));
                        at += len;
                    }
                    None => tokens.push(Token::Never),
                },
                byte => tokens.push(Token::Byte(*byte)),
            }
        }
        let byte = |token: &Token| match token {
            Token::Byte(byte) => Some(*byte),
            _ => None,
        };
        let literal = tokens.iter().map(byte).collect();
        Self { tokens, literal }
    }

    /// The bytes that alone match, when the pattern has no wildcard.
    pub fn literal(&self) -> Option<&[u8]> {
        self.literal.as_deref()
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        if let Some(literal) = &self.literal {
            return literal == text;
        }
        let end = self.tokens.len();
        let mut here = vec![false; end + 1];
        let mut next = vec![false; end + 1];
        self.reach(&mut here, 0);
        for byte in text {
            next.fill(false);
            let mut alive = false;
            for at in (0..end).filter(|at| here[*at]) {
                if let Some(to) = self.step(at, *byte) {
                    self.reach(&mut next, to);
                    alive = true;
                }
            }
            if !alive {
                return false;
            }
            std::mem::swap(&mut here, &mut next);
        }
        here[end]
    }

    /// Marks a token as one that can come next, and those that can when it matches nothing.
    fn reach(&self, set: &mut [bool], mut at: usize) {
        loop {
            set[at] = true;
            match self.tokens.get(at) {
                Some(Token::Many { .. }) => at += 1,
                Some(Token::Directories) => at += 2,
                _ => return,
            }
        }
    }

    /// Which token comes next when this one takes a byte.
    fn step(&self, at: usize, byte: u8) -> Option<usize> {
        let slash = byte == b'/';
        match &self.tokens[at] {
            Token::Byte(expected) => (*expected == byte).then_some(at + 1),
            Token::One { slash: takes } => (*takes || !slash).then_some(at + 1),
            Token::Many { slash: takes } => (*takes || !slash).then_some(at),
            Token::Directories => Some(if slash { at } else { at + 1 }),
            Token::Within => Some(if slash { at - 1 } else { at }),
            Token::Class(class) => class.members[usize::from(byte)].then_some(at + 1),
            Token::Never => None,
        }
    }
}

impl Class {
    /// Reads a class behind its `[`; with how many bytes it has, its `]` among them.
    fn parse(text: &[u8]) -> Option<(Self, usize)> {
        let negated = matches!(text.first(), Some(b'!' | b'^'));
        let mut members = [false; 256];
        let mut at = usize::from(negated);
        let mut first = true;
        // The byte before a `-`, which begins a range.
        let mut previous = None;
        loop {
            let byte = *text.get(at)?;
            at += 1;
            match byte {
                b']' if !first => break,
                b'-' if previous.is_some() && text.get(at).is_some_and(|byte| *byte != b']') => {
                    let mut last = text[at];
                    at += 1;
                    if last == b'\\' {
                        last = *text.get(at)?;
                        at += 1;
                    }
                    let from = previous.take().unwrap_or(last);
                    (from..=last).for_each(|byte| members[usize::from(byte)] = true);
                }
                b'[' if text.get(at) == Some(&b':') => {
                    let name = &text[at + 1..];
                    let len = name.iter().position(|byte| *byte == b']')?;
                    match name[..len].strip_suffix(b":") {
                        Some(name) => {
                            let holds = named(name)?;
                            (0..=255u8).filter(holds).for_each(|byte| members[usize::from(byte)] = true);
                            at += len + 2;
                            previous = None;
                        }
                        // Not one of those after all: a `[` that is meant as itself.
                        None => {
                            members[usize::from(b'[')] = true;
                            previous = Some(b'[');
                        }
                    }
                }
                byte => {
                    let byte = if byte == b'\\' { *text.get(at)? } else { byte };
                    at += usize::from(text[at - 1] == b'\\');
                    members[usize::from(byte)] = true;
                    previous = Some(byte);
                }
            }
            first = false;
        }
        if negated {
            members.iter_mut().for_each(|member| *member = !*member);
        }
        Some((Self { members }, at))
    }
}

/// The bytes of a class that has a name.
fn named(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| byte.is_ascii_graphic() || *byte == b' ',
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| byte.is_ascii_whitespace() || *byte == 0x0b,
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}
