//! Merging modes, owners, extended attributes and times.

use std::collections::BTreeSet;

use super::{Side, three};
use crate::object::{Meta, Timestamp, Xattrs};

/// Joins attributes, each for itself; the time is ours. `None` when both sides changed one and no side is favoured.
pub(super) fn merge_attributes(
    base: Option<&Meta>,
    ours: &Meta,
    theirs: &Meta,
    favour: Option<Side>,
) -> Option<Meta> {
    let favoured = favour.map(|side| if side == Side::Ours { ours } else { theirs });
    let mode = three(base.map(|base| &base.mode), &ours.mode, &theirs.mode);
    let uid = three(base.map(|base| &base.uid), &ours.uid, &theirs.uid);
    let gid = three(base.map(|base| &base.gid), &ours.gid, &theirs.gid);
    let names: BTreeSet<&[u8]> =
        ours.xattrs.iter().chain(theirs.xattrs.iter()).map(|xattr| xattr.name.as_slice()).collect();
    let mut xattrs = Xattrs::none();
    for name in names {
        let before = base.map(|base| base.xattrs.get(name));
        let (left, right) = (ours.xattrs.get(name), theirs.xattrs.get(name));
        let value = match three(before.as_ref(), &left, &right) {
            Some(value) => *value,
            None => favoured?.xattrs.get(name),
        };
        if let Some(value) = value
            && xattrs.set(name.to_vec(), value.to_vec()).is_err()
        {
            // Two sides may together have more than one file can: then they are those of one side.
            return favoured.cloned();
        }
    }
    Some(Meta {
        mode: *mode.or(favoured.map(|meta| &meta.mode))?,
        uid: *uid.or(favoured.map(|meta| &meta.uid))?,
        gid: *gid.or(favoured.map(|meta| &meta.gid))?,
        mtime: ours.mtime,
        xattrs,
    })
}

/// The time of a merged entry: of the side that changed the content, else of the side that changed the time, else the later one.
pub(super) fn merge_mtime(base: Option<&Meta>, ours: &Meta, theirs: &Meta, changed: [bool; 2]) -> Timestamp {
    let later = ours.mtime.max(theirs.mtime);
    match changed {
        [true, false] => ours.mtime,
        [false, true] => theirs.mtime,
        [true, true] => later,
        [false, false] => *three(base.map(|base| &base.mtime), &ours.mtime, &theirs.mtime).unwrap_or(&later),
    }
}
