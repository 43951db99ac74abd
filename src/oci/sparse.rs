//! Sparse files: where their data goes. Old GNU headers and pax 0.0, 0.1 and 1.0.
//!
//! The image specification says that a layer should have none; they exist. They are filled with zeros, within the limits.

use super::error::LayerError;
use super::header::{BLOCK_BYTES, Fields, Region, gnu_sparse_extension};
use super::limits::within;
use super::pax::{self, Record};
use super::tarball::{Input, Tar};

impl<R: Input> Tar<'_, R> {
    /// The map of an old GNU sparse file, and the file's real size; reads the blocks that hold the rest of the map.
    pub(super) fn gnu_sparse(
        &mut self,
        path: &[u8],
        fields: &Fields<'_>,
    ) -> Result<(u64, Vec<Region>), LayerError> {
        let bad = || LayerError::Entry { path: path.to_vec(), reason: "its sparse map is damaged".into() };
        let (mut regions, mut more, real) = fields.gnu_sparse().ok_or_else(bad)?;
        while more {
            let block = self.block()?.ok_or(LayerError::Truncated { offset: self.offset })?;
            let (next, again) = gnu_sparse_extension(&block).ok_or_else(bad)?;
            regions.extend(next);
            more = again;
            self.check_regions(path, regions.len() as u64)?;
        }
        Ok((real, regions))
    }

    /// The map of a pax sparse file (0.0, 0.1, 1.0), and the file's real size.
    pub(super) fn pax_sparse(
        &mut self,
        path: &[u8],
        records: &[Record<'_>],
    ) -> Result<Option<(u64, Vec<Region>)>, LayerError> {
        let bad = || LayerError::Entry { path: path.to_vec(), reason: "its sparse map is damaged".into() };
        let last = |key: &[u8]| records.iter().rev().find(|(have, _)| *have == key).map(|(_, value)| *value);
        let real = last(b"GNU.sparse.realsize").or_else(|| last(b"GNU.sparse.size"));
        let real = real.map(|text| pax::decimal(text).ok_or_else(bad)).transpose()?;
        let version = (last(b"GNU.sparse.major"), last(b"GNU.sparse.minor"));
        let numbers: Vec<u64> = if version == (Some(b"1"), Some(b"0")) {
            self.sparse_map_in_body(path)?
        } else if let Some(map) = last(b"GNU.sparse.map") {
            let numbers = map.split(|byte| *byte == b',').filter(|number| !number.is_empty());
            numbers.map(pax::decimal).collect::<Option<_>>().ok_or_else(bad)?
        } else {
            let pairs = records
                .iter()
                .filter(|(key, _)| matches!(*key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes"));
            pairs.map(|(_, value)| pax::decimal(value)).collect::<Option<_>>().ok_or_else(bad)?
        };
        let Some(real) = real else { return if numbers.is_empty() { Ok(None) } else { Err(bad()) } };
        self.check_regions(path, numbers.len() as u64 / 2)?;
        if !numbers.len().is_multiple_of(2) {
            return Err(bad());
        }
        let regions = numbers.chunks_exact(2).map(|pair| Region { offset: pair[0], len: pair[1] }).collect();
        Ok(Some((real, regions)))
    }

    /// The numbers at the head of a pax 1.0 sparse file's body, their count taken off.
    fn sparse_map_in_body(&mut self, path: &[u8]) -> Result<Vec<u64>, LayerError> {
        let bad = || LayerError::Entry { path: path.to_vec(), reason: "its sparse map is damaged".into() };
        let mut numbers = Vec::new();
        let mut line = Vec::new();
        let mut wanted = None;
        while wanted.is_none_or(|wanted| (numbers.len() as u64) < wanted) {
            if self.body < BLOCK_BYTES as u64 {
                return Err(bad());
            }
            let block = self.block()?.ok_or(LayerError::Truncated { offset: self.offset })?;
            self.body -= BLOCK_BYTES as u64;
            for byte in *block {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err(bad());
                    }
                    continue;
                }
                let number = pax::decimal(&std::mem::take(&mut line)).ok_or_else(bad)?;
                match wanted {
                    None => {
                        self.check_regions(path, number)?;
                        wanted = Some(number.saturating_mul(2));
                    }
                    Some(_) => numbers.push(number),
                }
                if wanted == Some(numbers.len() as u64) {
                    break;
                }
            }
        }
        Ok(numbers)
    }

    fn check_regions(&self, path: &[u8], count: u64) -> Result<(), LayerError> {
        let what = || format!("the number of regions of the sparse file `{}`", path.escape_ascii());
        Ok(within("sparse_regions", self.limits.sparse_regions, count, what)?)
    }
}

/// Checks that regions ascend, end within the file and hold exactly the data there is.
pub(super) fn check_map(regions: &[Region], real: u64, data: u64) -> Option<()> {
    let (mut end, mut sum) = (0u64, 0u64);
    for region in regions {
        if region.offset < end {
            return None;
        }
        end = region.offset.checked_add(region.len)?;
        sum = sum.checked_add(region.len)?;
    }
    (end <= real && sum == data).then_some(())
}
