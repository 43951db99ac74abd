//! Tools that a small host lacks, from its busybox.

use super::HostError;
use super::closure::{Closure, Needs};
use super::place::{DIRECTORY, Placer};
use super::root::HostRoot;
use crate::object::{Meta, Name, NewNode, TreePath};

const MAX_BUSYBOX_BYTES: u64 = 16 * 1024 * 1024;

/// The tools of which the host's busybox has an applet.
pub(super) struct Busybox {
    path: TreePath,
    applets: Vec<&'static str>,
}

impl Busybox {
    /// Looks whether busybox can stand in for missing tools; its needs are added when it can.
    pub(super) fn stand_in(
        host: &HostRoot,
        closure: &mut Closure<'_>,
        missing: &[&'static str],
        needs: &mut Needs,
    ) -> Result<Option<Self>, HostError> {
        if missing.is_empty() {
            return Ok(None);
        }
        let Ok(path) = closure.locate("busybox") else { return Ok(None) };
        let Some(bytes) = host.read(&path, MAX_BUSYBOX_BYTES)? else { return Ok(None) };
        let applets: Vec<_> = missing.iter().copied().filter(|tool| has_applet(&bytes, tool)).collect();
        if applets.is_empty() || closure.add(&path, needs).is_err() {
            return Ok(None);
        }
        Ok(Some(Self { path, applets }))
    }

    /// The tools it stands in for.
    pub(super) fn applets(&self) -> &[&'static str] {
        &self.applets
    }

    /// Places a symlink for each tool.
    pub(super) fn place(
        &self,
        host: &HostRoot,
        placer: &mut Placer<'_, '_, '_, '_>,
    ) -> Result<(), HostError> {
        let bin = TreePath::parse(b"/bin")?;
        let bin = host.find(&bin)?.map_or(bin, |found| found.real);
        for applet in &self.applets {
            let path = bin.join(&Name::new(applet.as_bytes()).expect("the names of tools are file names"));
            placer.make_parents(&path)?;
            let node = NewNode::Symlink { target: self.path.to_bytes() };
            placer.draft.put(&path, Meta { mode: 0o777, ..DIRECTORY }, node)?;
            placer.entries += 1;
        }
        Ok(())
    }
}

/// Whether the program has an applet of that name.
///
/// Busybox tells its applets only when it is executed, but its table of names lies in it as text: name after name, each ended by a NUL.
fn has_applet(busybox: &[u8], name: &str) -> bool {
    let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
    busybox.windows(wanted.len()).any(|bytes| bytes == wanted)
}
