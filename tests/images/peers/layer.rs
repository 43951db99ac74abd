//! Layers written by hand, for what no tool makes on demand.

use std::io::Write;

use tar::{Builder, EntryType, Header};

/// A tar archive that grows.
pub(super) struct Layer(Builder<Vec<u8>>);

/// One entry of it.
pub(super) struct Item {
    path: Vec<u8>,
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    time: (i64, u32),
    xattrs: Vec<(String, Vec<u8>)>,
    link: Vec<u8>,
    device: (u32, u32),
    body: Vec<u8>,
}

impl Item {
    fn new(path: impl AsRef<[u8]>, kind: EntryType, mode: u32) -> Self {
        let path = path.as_ref().to_vec();
        // Every entry has another time, so that a time that went elsewhere is seen.
        let time = path.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        Self {
            path,
            kind,
            mode,
            owner: (0, 0),
            time: (1_500_000_000 + (time % 90_000_000) as i64, (time % 999_999_937) as u32),
            xattrs: Vec::new(),
            link: Vec::new(),
            device: (0, 0),
            body: Vec::new(),
        }
    }

    pub(super) fn file(path: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Self {
        Self { body: body.as_ref().to_vec(), ..Self::new(path, EntryType::Regular, 0o644) }
    }

    pub(super) fn directory(path: impl AsRef<[u8]>) -> Self {
        Self::new(path, EntryType::Directory, 0o755)
    }

    pub(super) fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { link: target.as_ref().to_vec(), ..Self::new(path, EntryType::Symlink, 0o777) }
    }

    pub(super) fn hard_link(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { link: target.as_ref().to_vec(), ..Self::new(path, EntryType::Link, 0o644) }
    }

    pub(super) fn fifo(path: impl AsRef<[u8]>) -> Self {
        Self::new(path, EntryType::Fifo, 0o640)
    }

    pub(super) fn device(path: impl AsRef<[u8]>, kind: EntryType, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(path, kind, 0o660) }
    }

    /// Hides what lower layers have at `path`.
    pub(super) fn whiteout(path: &str) -> Self {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        Self::file(format!("{parent}/.wh.{name}"), "")
    }

    /// Hides all that lower layers have in a directory.
    pub(super) fn opaque(path: &str) -> Self {
        Self::file(format!("{path}/.wh..wh..opq"), "")
    }

    pub(super) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub(super) fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    pub(super) fn time(mut self, seconds: i64, nanoseconds: u32) -> Self {
        self.time = (seconds, nanoseconds);
        self
    }

    pub(super) fn xattr(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.xattrs.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }
}

impl Layer {
    pub(super) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(super) fn with(mut self, item: Item) -> Self {
        self.add(item);
        self
    }

    pub(super) fn add(&mut self, item: Item) {
        let mut pax: Vec<(String, Vec<u8>)> =
            vec![("mtime".into(), format!("{}.{:09}", item.time.0, item.time.1).into())];
        let mut header = Header::new_ustar();
        let mut text = |key: &str, field: &mut [u8], value: &[u8]| match value.len() <= field.len() {
            true => field[..value.len()].copy_from_slice(value),
            false => pax.push((key.to_owned(), value.to_vec())),
        };
        text("path", &mut header.as_ustar_mut().unwrap().name, &item.path);
        text("linkpath", &mut header.as_ustar_mut().unwrap().linkname, &item.link);
        pax.extend(item.xattrs.into_iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), value)));
        let mut number = |key: &str, value: u64| match value < 0o7_777_777 {
            true => value,
            false => {
                pax.push((key.to_owned(), value.to_string().into()));
                0
            }
        };
        header.set_uid(number("uid", item.owner.0));
        header.set_gid(number("gid", item.owner.1));
        header.set_entry_type(item.kind);
        header.set_mode(item.mode);
        header.set_mtime(u64::try_from(item.time.0).unwrap_or(0));
        header.set_size(item.body.len() as u64);
        header.set_device_major(item.device.0).unwrap();
        header.set_device_minor(item.device.1).unwrap();
        header.set_cksum();
        let records = pax.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.0.append_pax_extensions(records).unwrap();
        self.0.append(&header, item.body.as_slice()).unwrap();
    }

    pub(super) fn write(self, path: &std::path::Path) {
        let bytes = self.0.into_inner().unwrap();
        std::fs::File::create(path).unwrap().write_all(&bytes).unwrap();
    }
}
