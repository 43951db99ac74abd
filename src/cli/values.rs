//! Values that are typed as text: durations, sizes, pairs.

use std::path::PathBuf;
use std::time::Duration;

/// `90`, `1.5s`, `500ms`, `1h30m`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 30s, 500ms or 1h30m");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            // A bare number stands alone.
            "" if digits == text.len() => 1.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    if total.is_zero() {
        return Err(if text.is_empty() { wrong() } else { "it must be longer than zero".to_owned() });
    }
    Ok(total)
}

/// `4096`, `64k`, `16M`, `1GiB`; units are powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size such as 4096, 64k or 16M");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// `NAME=NUMBER`: a bound on what an image may demand; the number may have a unit as sizes have.
pub(super) fn limit(text: &str) -> Result<(String, u64), String> {
    let (name, number) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=NUMBER"))?;
    if !treebox::Limits::NAMES.contains(&name) {
        return Err(format!("there is no limit `{name}`; there are: {}", treebox::Limits::NAMES.join(", ")));
    }
    Ok((name.to_owned(), size(number)?))
}

/// `2`, `1.5`, `.5`: how many processors.
pub(super) fn processors(text: &str) -> Result<f64, String> {
    let count = text.parse().ok().filter(|count: &f64| (0.01..=1_000_000.0).contains(count));
    count.ok_or_else(|| format!("`{text}` is not a number of processors such as 2 or 0.5"))
}

/// What `--copy SRC:DEST` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopyPair {
    pub(super) source: PathBuf,
    pub(super) dest: String,
}

/// `SRC:DEST`, split at the first `:/`, since the destination is absolute.
pub(super) fn copy_pair(text: &str) -> Result<CopyPair, String> {
    match text.split_once(":/") {
        Some((source, dest)) if !source.is_empty() => {
            Ok(CopyPair { source: source.into(), dest: format!("/{dest}") })
        }
        _ => Err("expected SRC:DEST with an absolute DEST, such as ./src:/work".to_owned()),
    }
}

/// `KEY=VALUE`, or `KEY` for the host's own value.
pub(super) fn env(text: &str) -> Result<(String, Option<String>), String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if key.is_empty() {
        return Err("expected KEY=VALUE or KEY".to_owned());
    }
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in
            [("90", 90_000), ("1.5s", 1500), ("500ms", 500), ("1h30m", 5_400_000), ("0.25", 250)]
        {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for bad in ["", "s", "1x", "-1s", "1s5", "1.2.3s", "0", "0s", "99999999999999999999d", "1e400"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("64k", 65_536), ("16M", 1 << 24), ("1GiB", 1 << 30)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "M", "-1", "1x", "1.5M", "99999999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_of_processors_are_read() {
        for (text, count) in [("1", 1.0), ("1.5", 1.5), (".5", 0.5), ("0.01", 0.01)] {
            assert_eq!(processors(text), Ok(count), "{text}");
        }
        for bad in ["", "0", "-1", "0.001", "inf", "NaN", "2x", "1e9"] {
            assert!(processors(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_copy_has_an_absolute_destination() {
        let pair = copy_pair("a:b:/c").unwrap();
        assert_eq!((pair.source, pair.dest.as_str()), (PathBuf::from("a:b"), "/c"));
        assert!(copy_pair("a:b").is_err());
        assert!(copy_pair(":/b").is_err());
    }
}
