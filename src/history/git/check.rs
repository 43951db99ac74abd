//! Reading objects for damage: their hashes are compared, which reads that trust the repository leave out.

use std::path::Path;

use gix::objs::Kind as GitKind;

use super::{Local, ObjectKind, ours, theirs, wrong};
use crate::history::GitError;
use crate::object::CommitId;

impl Local {
    /// An object with its kind, in whichever way it is kept; an error when its bytes are not what its name says.
    pub(in crate::history) fn checked_object(
        &self,
        id: &CommitId,
    ) -> Result<Option<(ObjectKind, Vec<u8>)>, GitError> {
        let Some(object) = self.0.try_find_object(theirs(id)).map_err(wrong)? else { return Ok(None) };
        checked(object.kind, &object.data, id).map(|kind| Some((kind, object.data.clone())))
    }

    /// A loose object, whatever packs have: an error when its file is damaged.
    pub(in crate::history) fn check_loose(&self, id: &CommitId) -> Result<(), GitError> {
        let loose = self.0.objects.store_ref().path().to_owned();
        let loose = gix::odb::loose::Store::at(loose, gix::hash::Kind::Sha1);
        let mut bytes = Vec::new();
        let found = loose.try_find(&theirs(id), &mut bytes).map_err(wrong)?;
        found.map_or(Ok(()), |object| checked(object.kind, object.data, id).map(drop))
    }

    /// Every object of a pack by its index, and what is wrong with each.
    pub(in crate::history) fn check_pack(&self, index: &Path) -> Result<Vec<(CommitId, GitError)>, GitError> {
        let bundle = gix::odb::pack::Bundle::at(index, gix::hash::Kind::Sha1).map_err(wrong)?;
        let mut flawed = Vec::new();
        let (mut bytes, mut inflate) = (Vec::new(), gix::zlib::Inflate::default());
        let mut cache = gix::odb::pack::cache::Never;
        for at in 0..bundle.index.num_objects() {
            let id = ours(bundle.index.oid_at_index(at));
            let found = bundle.get_object_by_index(at, &mut bytes, &mut inflate, &mut cache);
            let state = match found {
                Ok((object, _)) => checked(object.kind, object.data, &id).map(drop),
                Err(error) => Err(GitError(error.to_string())),
            };
            flawed.extend(state.err().map(|error| (id, error)));
        }
        Ok(flawed)
    }
}

fn checked(kind: GitKind, bytes: &[u8], id: &CommitId) -> Result<ObjectKind, GitError> {
    let found = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, bytes).map_err(wrong)?;
    if found != theirs(id) {
        return Err(GitError("its bytes have another hash".to_owned()));
    }
    Ok(match kind {
        GitKind::Blob => ObjectKind::Blob,
        GitKind::Tree => ObjectKind::Tree,
        GitKind::Commit => ObjectKind::Commit,
        GitKind::Tag => ObjectKind::Tag,
    })
}
