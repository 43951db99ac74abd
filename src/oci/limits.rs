//! What an image may demand of this machine.

/// Bounds on everything that an image's author chooses; going beyond one is an error that names it.
///
/// Every field has its default in a constant of this module's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in all layers together.
    pub entries: u64,
    /// Length of one path, in bytes.
    pub path_bytes: u64,
    /// Extended headers (pax, GNU long names) of one entry, in bytes.
    pub header_bytes: u64,
    /// Names and values of one entry's extended attributes, in bytes.
    pub xattr_bytes: u64,
    /// Regions of one sparse file.
    pub sparse_regions: u64,
    /// Size of one file, holes counted, in bytes.
    pub file_bytes: u64,
    /// Size of all layers after decompression, holes counted, in bytes.
    pub total_bytes: u64,
    /// Paths, link targets and extended attributes of all layers together, in bytes: they are kept in memory.
    pub metadata_bytes: u64,
    /// Decompressed bytes for each compressed one, looked at beyond [`Limits::ratio_free_bytes`].
    pub expansion_ratio: u64,
    /// How many decompressed bytes of a layer are not judged by their ratio.
    pub ratio_free_bytes: u64,
    /// Indexes within indexes.
    pub index_depth: u64,
    /// Manifests and indexes that are looked at to find the one that fits.
    pub index_manifests: u64,
    /// Layers of one image.
    pub layers: u64,
    /// Size of one index, manifest or config, in bytes.
    pub manifest_bytes: u64,
    /// Base-2 logarithm of the window a zstd frame may ask for; the window is memory.
    pub zstd_window_log: u32,
}

impl Limits {
    /// Default of [`Limits::entries`]: about 1 GiB of memory.
    pub const ENTRIES: u64 = 4_000_000;
    /// Default of [`Limits::path_bytes`]: Linux `PATH_MAX`.
    pub const PATH_BYTES: u64 = 4096;
    /// Default of [`Limits::header_bytes`].
    pub const HEADER_BYTES: u64 = 1024 * 1024;
    /// Default of [`Limits::xattr_bytes`].
    pub const XATTR_BYTES: u64 = 512 * 1024;
    /// Default of [`Limits::sparse_regions`].
    pub const SPARSE_REGIONS: u64 = 100_000;
    /// Default of [`Limits::file_bytes`].
    pub const FILE_BYTES: u64 = 128 << 30;
    /// Default of [`Limits::total_bytes`].
    pub const TOTAL_BYTES: u64 = 512 << 30;
    /// Default of [`Limits::metadata_bytes`].
    pub const METADATA_BYTES: u64 = 1 << 30;
    /// Default of [`Limits::expansion_ratio`]: gzip ends at 1032, honest zstd layers stay far below.
    pub const EXPANSION_RATIO: u64 = 2_000;
    /// Default of [`Limits::ratio_free_bytes`].
    pub const RATIO_FREE_BYTES: u64 = 1 << 30;
    /// Default of [`Limits::index_depth`].
    pub const INDEX_DEPTH: u64 = 4;
    /// Default of [`Limits::index_manifests`].
    pub const INDEX_MANIFESTS: u64 = 1024;
    /// Default of [`Limits::layers`].
    pub const LAYERS: u64 = 1000;
    /// Default of [`Limits::manifest_bytes`]: what registries accept.
    pub const MANIFEST_BYTES: u64 = 4 * 1024 * 1024;
    /// Default of [`Limits::zstd_window_log`]: 128 MiB, what the `zstd` command takes unasked.
    pub const ZSTD_WINDOW_LOG: u32 = 27;
}

impl Limits {
    /// The names of all bounds, which [`Limits::set`] takes.
    pub const NAMES: [&'static str; 15] = [
        "entries",
        "path_bytes",
        "header_bytes",
        "xattr_bytes",
        "sparse_regions",
        "file_bytes",
        "total_bytes",
        "metadata_bytes",
        "expansion_ratio",
        "ratio_free_bytes",
        "index_depth",
        "index_manifests",
        "layers",
        "manifest_bytes",
        "zstd_window_log",
    ];

    /// Sets a bound by its name; says whether there is one of that name. A window beyond what zstd knows is the largest.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        let field = match name {
            "entries" => &mut self.entries,
            "path_bytes" => &mut self.path_bytes,
            "header_bytes" => &mut self.header_bytes,
            "xattr_bytes" => &mut self.xattr_bytes,
            "sparse_regions" => &mut self.sparse_regions,
            "file_bytes" => &mut self.file_bytes,
            "total_bytes" => &mut self.total_bytes,
            "metadata_bytes" => &mut self.metadata_bytes,
            "expansion_ratio" => &mut self.expansion_ratio,
            "ratio_free_bytes" => &mut self.ratio_free_bytes,
            "index_depth" => &mut self.index_depth,
            "index_manifests" => &mut self.index_manifests,
            "layers" => &mut self.layers,
            "manifest_bytes" => &mut self.manifest_bytes,
            "zstd_window_log" => {
                self.zstd_window_log = u32::try_from(value).unwrap_or(u32::MAX).clamp(10, 31);
                return true;
            }
            _ => return false,
        };
        *field = value;
        true
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: Self::ENTRIES,
            path_bytes: Self::PATH_BYTES,
            header_bytes: Self::HEADER_BYTES,
            xattr_bytes: Self::XATTR_BYTES,
            sparse_regions: Self::SPARSE_REGIONS,
            file_bytes: Self::FILE_BYTES,
            total_bytes: Self::TOTAL_BYTES,
            metadata_bytes: Self::METADATA_BYTES,
            expansion_ratio: Self::EXPANSION_RATIO,
            ratio_free_bytes: Self::RATIO_FREE_BYTES,
            index_depth: Self::INDEX_DEPTH,
            index_manifests: Self::INDEX_MANIFESTS,
            layers: Self::LAYERS,
            manifest_bytes: Self::MANIFEST_BYTES,
            zstd_window_log: Self::ZSTD_WINDOW_LOG,
        }
    }
}

/// A bound of [`Limits`] that was passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {found} is above the limit {limit} of `{name}`; raise it if you trust the image")]
pub struct LimitError {
    /// What is too large.
    pub what: String,
    /// The field of [`Limits`].
    pub name: &'static str,
    /// Its value.
    pub limit: u64,
    /// The size met, or the part of it that was seen.
    pub found: u64,
}

/// Fails when `found` is above `limit`.
pub(super) fn within(
    name: &'static str,
    limit: u64,
    found: u64,
    what: impl FnOnce() -> String,
) -> Result<(), LimitError> {
    if found <= limit { Ok(()) } else { Err(LimitError { what: what(), name, limit, found }) }
}

/// Fails when a compressed stream of which `taken` bytes were read has become too large for that.
pub(super) fn within_ratio(
    limits: &Limits,
    expanded: u64,
    taken: u64,
    what: impl FnOnce() -> String,
) -> Result<(), LimitError> {
    if expanded <= limits.ratio_free_bytes {
        return Ok(());
    }
    within("expansion_ratio", limits.expansion_ratio, expanded / taken.max(1), what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_set_by_its_name() {
        for name in Limits::NAMES {
            let mut limits = Limits::default();
            assert!(limits.set(name, 13), "{name}");
            assert_ne!(limits, Limits::default(), "{name}");
        }
        assert!(!Limits::default().set("wishes", 3));
    }
}
