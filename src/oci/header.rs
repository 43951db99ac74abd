//! One 512-byte tar header: fields, numbers, check sum.

use tar_core::Header;

/// The unit of a tar archive.
pub(super) const BLOCK_BYTES: usize = 512;

/// One block.
pub(super) type Block = [u8; BLOCK_BYTES];

/// A header whose check sum is right.
pub(super) struct Fields<'a> {
    block: &'a Block,
    header: &'a Header,
}

/// A region of a sparse file that has data; what lies between regions is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl<'a> Fields<'a> {
    /// Takes a block as a header; `None` when the check sum is wrong.
    pub(super) fn new(block: &'a Block) -> Option<Self> {
        let header = Header::from_bytes(block);
        let expected = number(&block[148..156])?;
        // Some old writers added the bytes up as signed ones.
        let signed: i64 = (0..BLOCK_BYTES)
            .map(|at| if (148..156).contains(&at) { i64::from(b' ') } else { i64::from(block[at] as i8) })
            .sum();
        let unsigned = i64::try_from(header.compute_checksum()).ok()?;
        (expected == unsigned || expected == signed).then_some(Self { block, header })
    }

    pub(super) fn type_code(&self) -> u8 {
        self.block[156]
    }

    fn has_ustar_fields(&self) -> bool {
        self.block[257..262] == *b"ustar"
    }

    /// The path: the name field, behind the prefix field in formats that have one.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.header.path_bytes();
        if self.block[257..263] != *b"ustar\0" {
            return name.to_vec();
        }
        // The star program keeps times where the prefix's tail would be.
        let end = if self.block[508..512] == *b"tar\0" { 476 } else { 500 };
        let prefix = until_nul(&self.block[345..end]);
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.header.link_name_bytes().to_vec()
    }

    pub(super) fn size(&self) -> Option<u64> {
        u64::try_from(number(&self.block[124..136])?).ok()
    }

    pub(super) fn mode(&self) -> Option<u16> {
        u16::try_from(number(&self.block[100..108])? & 0o7777).ok()
    }

    pub(super) fn uid(&self) -> Option<u64> {
        u64::try_from(number(&self.block[108..116])?).ok()
    }

    pub(super) fn gid(&self) -> Option<u64> {
        u64::try_from(number(&self.block[116..124])?).ok()
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        number(&self.block[136..148])
    }

    /// Major and minor number of a device.
    pub(super) fn device(&self) -> Option<(u64, u64)> {
        if !self.has_ustar_fields() {
            return Some((0, 0));
        }
        let major = u64::try_from(number(&self.block[329..337])?).ok()?;
        Some((major, u64::try_from(number(&self.block[337..345])?).ok()?))
    }

    /// Of a GNU sparse header: the regions in it, whether more blocks of them follow, and the file's real size.
    pub(super) fn gnu_sparse(&self) -> Option<(Vec<Region>, bool, u64)> {
        let real = u64::try_from(number(&self.block[483..495])?).ok()?;
        Some((regions(&self.block[386..482])?, self.block[482] != 0, real))
    }
}

/// Of a GNU sparse extension block: the regions in it and whether another follows.
pub(super) fn gnu_sparse_extension(block: &Block) -> Option<(Vec<Region>, bool)> {
    Some((regions(&block[..504])?, block[504] != 0))
}

fn regions(bytes: &[u8]) -> Option<Vec<Region>> {
    let pairs = bytes.chunks_exact(24).take_while(|pair| pair[0] != 0 && pair[12] != 0);
    pairs
        .map(|pair| {
            let offset = u64::try_from(number(&pair[..12])?).ok()?;
            Some(Region { offset, len: u64::try_from(number(&pair[12..])?).ok()? })
        })
        .collect()
}

/// Reads an octal number, or a signed big-endian one when the first bit is set (GNU's base-256).
fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let fill = if first & 0x40 != 0 { 0xff } else { 0 };
        // The first bit is a marker: the sign is in the second.
        let head = if fill == 0 { first & 0x7f } else { first };
        let (high, low) = field.split_at(field.len().saturating_sub(8));
        let bytes: Vec<u8> = std::iter::once(head).chain(field[1..].iter().copied()).collect();
        let high_len = high.len();
        if bytes[..high_len].iter().any(|byte| *byte != fill) {
            return None;
        }
        let mut value = [fill; 8];
        value[8 - low.len()..].copy_from_slice(&bytes[high_len..]);
        let value = i64::from_be_bytes(value);
        return ((value < 0) == (fill != 0)).then_some(value);
    }
    let text = until_nul(field);
    let text = text.trim_ascii();
    text.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_with_a_sign() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   12 \0\0"), Some(0o12));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(
            number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]),
            Some(-2)
        );
        assert_eq!(number(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]), Some(i64::MAX));
        for bad in [
            &b"00009"[..],
            b"-1",
            b"0x1",
            &[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0],
            &[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }
}
