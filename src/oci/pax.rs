//! Pax extended headers: `LEN KEY=VALUE\n` records, binary values included.

use crate::object::Timestamp;

/// One record.
pub(super) type Record<'a> = (&'a [u8], &'a [u8]);

/// Reads all records; `None` when the data is malformed. NUL bytes after the last record are padding.
pub(super) fn records(mut data: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !data.is_empty() && data[0] != 0 {
        let space = data.iter().take(20).position(|byte| *byte == b' ')?;
        let len = usize::try_from(decimal(&data[..space])?).ok()?;
        let record = data.get(..len)?;
        let (newline, body) = record.get(space + 1..)?.split_last()?;
        let equals = body.iter().position(|byte| *byte == b'=')?;
        if *newline != b'\n' || equals == 0 {
            return None;
        }
        records.push((&body[..equals], &body[equals + 1..]));
        data = &data[len..];
    }
    data.iter().all(|byte| *byte == 0).then_some(records)
}

/// Reads an unsigned decimal number, digits only.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Reads a time such as `-12.000000005`. Digits beyond the ninth are cut off.
pub(super) fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let dot = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let seconds = i64::try_from(decimal(&digits[..dot])?).ok()?;
    let fraction = digits.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds =
        (0..9).fold(0, |value, at| value * 10 + fraction.get(at).map_or(0, |digit| u32::from(digit - b'0')));
    match (negative, nanoseconds) {
        (false, _) => Timestamp::new(seconds, nanoseconds),
        (true, 0) => Timestamp::new(-seconds, 0),
        (true, _) => Timestamp::new(-seconds - 1, 1_000_000_000 - nanoseconds),
    }
}

/// Reads standard base64; line breaks are passed over, the padding may be missing.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    let text: Vec<u8> = text.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(&text);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    (count < 6).then_some(out)
}

/// Undoes the percent signs with which libarchive writes attribute names.
pub(super) fn percent_decode(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// Writes standard base64 with padding.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// Writes bytes with percent signs for all that are no plain ASCII character, `=` and `%`.
pub(super) fn percent_encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'=' | b'%' | ..=b' ' | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            byte => out.push(char::from(*byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_and_percent_signs_are_read_as_they_were_written() {
        for len in 0..20u8 {
            let bytes: Vec<u8> = (0..len).map(|byte| byte.wrapping_mul(89)).collect();
            assert_eq!(base64(to_base64(&bytes).as_bytes()), Some(bytes.clone()));
            assert_eq!(percent_decode(percent_encode(&bytes).as_bytes()), bytes);
        }
        assert_eq!(to_base64(b"hello"), "aGVsbG8=");
    }

    #[test]
    fn a_value_may_hold_newlines_equal_signs_and_nul_bytes() {
        let data = b"17 a=x\n=\0y 9 b=1\n7 b=2x\n";
        assert_eq!(records(data).unwrap(), vec![(&b"a"[..], &b"x\n=\0y 9 b=1"[..]), (b"b", b"2x")]);
        assert!(records(b"").unwrap().is_empty());
    }

    #[test]
    fn malformed_records_are_refused_whole() {
        for bad in
            [&b"5 a=\n1"[..], b"0 a=b\n", b"99 a=b\n", b"x a=b\n", b"6 a=bc", b"5 =b\n", b"junk", b"-6 a=b\n"]
        {
            assert!(records(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn times_keep_nanoseconds_and_go_below_zero() {
        let at = |seconds, nanoseconds| Timestamp::new(seconds, nanoseconds).unwrap();
        assert_eq!(time(b"12"), Some(at(12, 0)));
        assert_eq!(time(b"12.5"), Some(at(12, 500_000_000)));
        assert_eq!(time(b"12.0000000019"), Some(at(12, 1)));
        assert_eq!(time(b"-1.25"), Some(at(-2, 750_000_000)));
        assert_eq!(time(b"-3"), Some(at(-3, 0)));
        for bad in [&b""[..], b".", b"-", b"1.x", b"1e9", b"99999999999999999999"] {
            assert_eq!(time(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn base64_reads_what_libarchive_writes() {
        assert_eq!(base64(b"aGVsbG8=").unwrap(), b"hello");
        assert_eq!(base64(b"aGVsbG8").unwrap(), b"hello");
        assert_eq!(base64(b"AAEC/w==").unwrap(), [0, 1, 2, 255]);
        assert!(base64(b"a!").is_none());
        assert!(base64(b"a").is_none());
        assert_eq!(percent_decode(b"user.a%3db%"), b"user.a=b%");
    }
}
