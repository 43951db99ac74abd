//! The mounts of a sandbox, made by its init. System calls only: nothing here allocates.
//!
//! # Invariants
//! - A mount point is looked up from the new root's descriptor, through no symbolic link at all: one that was put there since
//!   the plan was made, by whoever writes to a bound directory, leads nowhere.
//! - Nothing is created in the root: what is mounted on must exist.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags};

use super::fault::{Aspect, During, Fault};
use super::kernel;
use super::plan::FileIdentity;
use super::step::{Exercise, OverlayLayers};
use super::sys;

/// What init holds while it builds the new root.
#[derive(Default)]
pub(crate) struct Scene {
    root: Option<OwnedFd>,
    dev: Option<OwnedFd>,
    /// Whether /sys shows the host's, with whatever is mounted there.
    host_sys: bool,
    /// An empty read-only file system, attached once and cloned for every other directory it covers.
    empty: Option<OwnedFd>,
}

const HARMLESS: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

impl Scene {
    fn root(&self) -> Result<&OwnedFd, Fault> {
        self.root.as_ref().ok_or(Fault::new(Aspect::Check, Errno::BADF))
    }

    fn dev(&self) -> Result<&OwnedFd, Fault> {
        self.dev.as_ref().ok_or(Fault::new(Aspect::Check, Errno::BADF))
    }

    /// Finds a fixed mount point: no symbolic link, no `..`, no way out.
    fn fixed_point(&self, path: &CStr, flags: OFlags) -> Result<OwnedFd, Fault> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        resolve_inside(self.root()?, path, flags, resolve).during(Aspect::MountPoint)
    }

    /// Finds a mount point of the plan.
    fn chosen_point(&self, path: &CStr) -> Result<OwnedFd, Fault> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        resolve_inside(self.root()?, path, OFlags::empty(), resolve).during(Aspect::MountPoint)
    }

    pub(crate) fn overlay(&mut self, layers: &OverlayLayers) -> Result<(), Fault> {
        if layers.old_mount {
            self.root = Some(overlay_by_options(layers)?);
            return Ok(());
        }
        let detached = kernel::layers_may_be_detached().then(|| overlay_by_descriptors(layers, true));
        let mount = match detached
            .filter(Result::is_ok)
            .unwrap_or_else(|| overlay_by_descriptors(layers, false))
        {
            // Linux before 6.13 takes no descriptors for layers, and one before 6.8 knows no `lowerdir+`.
            Err(fault) if matches!(fault.errno, Errno::INVAL | Errno::NOSYS) => overlay_by_options(layers)?,
            other => {
                let mount = other?;
                attach_at(&mount, &layers.attach_at).during(Aspect::Attach)?;
                mount
            }
        };
        self.root = Some(mount);
        Ok(())
    }

    pub(crate) fn bind_root(&mut self, source: &CStr, read_only: bool) -> Result<(), Fault> {
        let mount = clone_tree(source).during(Aspect::Source)?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
        if read_only {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        sys::mount_setattr(mount.as_fd(), attributes.bits().into())?;
        attach_at(&mount, source).during(Aspect::Attach)?;
        self.root = Some(mount);
        Ok(())
    }

    pub(crate) fn fresh_proc(&mut self) -> Result<(), Fault> {
        let point = self.fixed_point(c"proc", OFlags::DIRECTORY)?;
        let mount = file_system(c"proc", &[], HARMLESS)?;
        attach(&mount, &point).during(Aspect::Attach)
    }

    pub(crate) fn fresh_sys(&mut self) -> Result<(), Fault> {
        let point = self.fixed_point(c"sys", OFlags::DIRECTORY)?;
        match file_system(c"sysfs", &[], HARMLESS.union(MountAttrFlags::MOUNT_ATTR_RDONLY)) {
            Ok(mount) => attach(&mount, &point).during(Aspect::Attach),
            // Refused where the visible one is covered in parts, as inside containers. Few programs need it.
            Err(_) => self.bind_host_sys(&point),
        }
    }

    fn bind_host_sys(&mut self, point: &OwnedFd) -> Result<(), Fault> {
        let Ok(mount) = clone_tree(c"/sys") else { return Ok(()) };
        let attributes = HARMLESS.union(MountAttrFlags::MOUNT_ATTR_RDONLY);
        // Without the flag it must not be shown at all.
        if sys::mount_setattr(mount.as_fd(), attributes.bits().into()).is_err() {
            return Ok(());
        }
        self.host_sys = true;
        attach(&mount, point).during(Aspect::Attach)
    }

    pub(crate) fn host_sys(&mut self) -> Result<(), Fault> {
        let point = self.fixed_point(c"sys", OFlags::DIRECTORY)?;
        self.bind_host_sys(&point)
    }

    pub(crate) fn mask_of_host(&mut self, path: &CStr) -> Result<(), Fault> {
        if self.host_sys { self.mask(path) } else { Ok(()) }
    }

    /// Before Linux 6.14 there is one limit for the whole machine, which real root could change here: then it is left alone.
    pub(crate) fn bound_process_ids(&self, most: u32) -> Result<(), Fault> {
        if !kernel::process_ids_are_per_namespace() {
            return Ok(());
        }
        let mut text = [0; 10];
        // One that is lower already, or refused by a filter around this program, stays as it is.
        let _ = sys::write_to(self.root()?, c"proc/sys/kernel/pid_max", decimal(most, &mut text));
        Ok(())
    }

    pub(crate) fn mask(&mut self, path: &CStr) -> Result<(), Fault> {
        let point = match self.fixed_point(path, OFlags::empty()) {
            Err(fault) if matches!(fault.errno, Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {
                return Ok(());
            }
            other => other?,
        };
        let stat = rustix::fs::fstat(&point).during(Aspect::MountPoint)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let null = device(c"/dev/null", 1, 3)?;
            return attach(&null, &point).during(Aspect::Attach);
        }
        if let Some(empty) = &self.empty {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH;
            let copy = rustix::mount::open_tree(empty, c"", flags).during(Aspect::Source)?;
            return attach(&copy, &point).during(Aspect::Attach);
        }
        let options = [(c"mode", c"755"), (c"nr_inodes", c"1"), (c"size", c"4k")];
        let empty = file_system(c"tmpfs", &options, HARMLESS.union(MountAttrFlags::MOUNT_ATTR_RDONLY))?;
        attach(&empty, &point).during(Aspect::Attach)?;
        self.empty = Some(empty);
        Ok(())
    }

    pub(crate) fn make_read_only(&mut self, path: &CStr) -> Result<(), Fault> {
        let point = match self.fixed_point(path, OFlags::empty()) {
            Err(fault) if matches!(fault.errno, Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other?,
        };
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let copy = rustix::mount::open_tree(&point, c"", flags).during(Aspect::Source)?;
        sys::mount_setattr(copy.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY.union(HARMLESS).bits().into())?;
        attach(&copy, &point).during(Aspect::Attach)
    }

    pub(crate) fn empty_dev(&mut self) -> Result<(), Fault> {
        let point = self.fixed_point(c"dev", OFlags::DIRECTORY)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
        let mount = file_system(c"tmpfs", &[(c"mode", c"755"), (c"size", c"64m")], attributes)?;
        attach(&mount, &point).during(Aspect::Attach)?;
        self.dev = Some(mount);
        Ok(())
    }

    pub(crate) fn device(&mut self, name: &CStr, host: &CStr, major: u32, minor: u32) -> Result<(), Fault> {
        let dev = self.dev()?;
        let source = device(host, major, minor)?;
        rustix::fs::mknodat(dev, name, FileType::RegularFile, Mode::from_raw_mode(0o666), 0)
            .during(Aspect::MountPoint)?;
        rustix::mount::move_mount(&source, c"", dev, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .during(Aspect::Attach)
    }

    pub(crate) fn dev_link(&mut self, name: &CStr, target: &CStr) -> Result<(), Fault> {
        Ok(rustix::fs::symlinkat(target, self.dev()?, name)?)
    }

    pub(crate) fn dev_pts(&mut self, tty_group: bool) -> Result<(), Fault> {
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let options = [(c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"gid", c"5")];
        let options = if tty_group { &options[..] } else { &options[..2] };
        self.below_dev(c"pts", file_system(c"devpts", options, attributes)?)
    }

    pub(crate) fn dev_shm(&mut self) -> Result<(), Fault> {
        let options = [(c"mode", c"1777"), (c"size", c"64m")];
        self.below_dev(c"shm", file_system(c"tmpfs", &options, HARMLESS)?)
    }

    pub(crate) fn dev_mqueue(&mut self) -> Result<(), Fault> {
        match file_system(c"mqueue", &[], HARMLESS) {
            Ok(mount) => self.below_dev(c"mqueue", mount),
            // A kernel without POSIX message queues.
            Err(_) => Ok(()),
        }
    }

    fn below_dev(&self, name: &CStr, mount: OwnedFd) -> Result<(), Fault> {
        let dev = self.dev()?;
        rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755)).during(Aspect::MountPoint)?;
        rustix::mount::move_mount(&mount, c"", dev, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .during(Aspect::Attach)
    }

    pub(crate) fn bind(
        &mut self,
        source: &CStr,
        found: Option<FileIdentity>,
        target: &CStr,
        read_only: bool,
    ) -> Result<(), Fault> {
        let mount = match found {
            Some(found) => clone_exactly(source, found)?,
            None => clone_tree(source).during(Aspect::Source)?,
        };
        let point = self.chosen_point(target)?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        if read_only {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        sys::mount_setattr(mount.as_fd(), attributes.bits().into())?;
        attach(&mount, &point).during(Aspect::Attach)
    }

    pub(crate) fn tmpfs(
        &mut self,
        target: &CStr,
        size: &CStr,
        mode: &CStr,
        read_only: bool,
    ) -> Result<(), Fault> {
        let point = self.chosen_point(target)?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        if read_only {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        let mount = file_system(c"tmpfs", &[(c"mode", mode), (c"size", size)], attributes)?;
        attach(&mount, &point).during(Aspect::Attach)
    }

    /// Shows one file of a file system that is nowhere else.
    pub(crate) fn secret(
        &mut self,
        target: &CStr,
        content: &[u8],
        mode: u32,
        owner: (u32, u32),
    ) -> Result<(), Fault> {
        let point = self.chosen_point(target)?;
        // Unlike tmpfs, ramfs is never swapped out to a disk.
        let memory = file_system(c"ramfs", &[(c"mode", c"700")], HARMLESS)
            .or_else(|_| file_system(c"tmpfs", &[(c"mode", c"700")], HARMLESS))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&memory, c"secret", flags, Mode::empty()).during(Aspect::Create)?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        let (uid, gid) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
        rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        drop(file);
        // Before Linux 6.15 only an attached mount can be cloned, so it is attached where nobody looks, for that long.
        let dev = self.dev()?;
        rustix::fs::mkdirat(dev, c".secret", Mode::RWXU).during(Aspect::MountPoint)?;
        rustix::mount::move_mount(&memory, c"", dev, c".secret", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .during(Aspect::Attach)?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = rustix::mount::open_tree(&memory, c"secret", clone).during(Aspect::Source)?;
        rustix::process::fchdir(&memory)?;
        rustix::mount::unmount(c".", rustix::mount::UnmountFlags::DETACH)?;
        rustix::process::fchdir(dev)?;
        rustix::fs::unlinkat(dev, c".secret", AtFlags::REMOVEDIR)?;
        let attributes = HARMLESS.union(MountAttrFlags::MOUNT_ATTR_RDONLY);
        sys::mount_setattr(mount.as_fd(), attributes.bits().into())?;
        attach(&mount, &point).during(Aspect::Attach)
    }

    /// Makes a mount point in a mount that was done before.
    pub(crate) fn point(&mut self, parent: &CStr, name: &CStr, directory: bool) -> Result<(), Fault> {
        let parent = self.chosen_point(parent)?;
        let made = if directory {
            rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))
        } else {
            rustix::fs::mknodat(&parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
        };
        match made {
            Err(Errno::EXIST) => Ok(()),
            other => other.during(Aspect::MountPoint),
        }
    }

    pub(crate) fn exercise(&mut self, exercise: Exercise) -> Result<(), Fault> {
        let root = self.root()?;
        match exercise {
            Exercise::RemoveAndReplace => {
                rustix::fs::unlinkat(root, c"gone", AtFlags::empty())?;
                rustix::fs::unlinkat(root, c"dir/inner", AtFlags::empty())?;
                rustix::fs::unlinkat(root, c"dir", AtFlags::REMOVEDIR)?;
                Ok(rustix::fs::mkdirat(root, c"dir", Mode::RWXU)?)
            }
            Exercise::ReadRedirected => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let file = rustix::fs::openat(root, c"redirected", flags, Mode::empty())?;
                let mut content = [0; Exercise::CONTENT.len()];
                rustix::io::read(&file, &mut content)?;
                let same = content == Exercise::CONTENT;
                if same { Ok(()) } else { Err(Fault::new(Aspect::Check, Errno::IO)) }
            }
            // The payload's, not init's.
            Exercise::BecomeOther => Err(Fault::new(Aspect::Check, Errno::INVAL)),
        }
    }

    pub(crate) fn pivot(&mut self) -> Result<(), Fault> {
        rustix::process::fchdir(self.root()?)?;
        // The old root lands on top of the new one; both names are "." so no directory for it has to exist.
        rustix::process::pivot_root(c".", c".")?;
        rustix::mount::unmount(c".", rustix::mount::UnmountFlags::DETACH)?;
        rustix::process::chdir(c"/")?;
        *self = Self::default();
        Ok(())
    }
}

fn resolve_inside(
    root: &OwnedFd,
    path: &CStr,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    // EAGAIN: something was renamed meanwhile and the kernel could not be sure about "..".
    for _ in 0..32 {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// With `detached` the layers are found through a mount of their own, which is attached nowhere: then the payload's
/// /proc/self/mountinfo shows their names within the store, and nothing of where the host has it. It fails where something is mounted
/// within the store.
fn overlay_by_descriptors(layers: &OverlayLayers, detached: bool) -> Result<OwnedFd, Fault> {
    let base = layers.base.as_c_str();
    let tree = match detached {
        true => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            Some(rustix::mount::open_tree(CWD, base, flags).during(Aspect::Source)?)
        }
        false => None,
    };
    let fs = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).during(Aspect::Create)?;
    let set = |key: &CStr, path: &CStr| -> Result<(), Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match &tree {
            Some(tree) => rustix::fs::openat(tree, below(base, path), flags, Mode::empty()),
            None => rustix::fs::openat(CWD, path, flags, Mode::empty()),
        };
        Ok(rustix::mount::fsconfig_set_fd(&fs, key, &dir.during(Aspect::Source)?)?)
    };
    for lower in &layers.lowers {
        set(c"lowerdir+", lower)?;
    }
    if let Some(data) = &layers.data_lower {
        set(c"datadir+", data)?;
    }
    if let Some((upper, work)) = &layers.upper {
        set(c"upperdir", upper)?;
        set(c"workdir", work)?;
        rustix::mount::fsconfig_set_flag(&fs, c"volatile")?;
    }
    rustix::mount::fsconfig_set_flag(&fs, c"userxattr")?;
    rustix::mount::fsconfig_create(&fs).during(Aspect::Create)?;
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)
        .during(Aspect::Create)
}

/// What is left of a path behind a directory that it lies in; a path that does not is itself.
fn below<'p>(base: &CStr, path: &'p CStr) -> &'p CStr {
    let rest = path.to_bytes_with_nul().strip_prefix(base.to_bytes()).unwrap_or(path.to_bytes_with_nul());
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    CStr::from_bytes_with_nul(rest).unwrap_or(path)
}

fn overlay_by_options(layers: &OverlayLayers) -> Result<OwnedFd, Fault> {
    rustix::process::chdir(layers.base.as_c_str()).during(Aspect::Source)?;
    let target = layers.attach_at.as_c_str();
    rustix::mount::mount(c"overlay", target, c"overlay", MountFlags::NODEV, layers.options.as_c_str())
        .during(Aspect::Create)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, target, flags, Mode::empty()).during(Aspect::Attach)
}

/// A new file system that is not attached anywhere yet.
fn file_system(
    kind: &CStr,
    options: &[(&CStr, &CStr)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Fault> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).during(Aspect::Create)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&fs, *key, *value).during(Aspect::Create)?;
    }
    rustix::mount::fsconfig_create(&fs).during(Aspect::Create)?;
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).during(Aspect::Create)
}

/// A detached copy of what is mounted at a path of the host. Recursive, since the kernel refuses to show a
/// less privileged namespace what lies under its mounts.
fn clone_tree(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, path, flags)
}

/// A detached copy of what is mounted at a path of the host, if that is a certain file. What was looked at is what is
/// shown: the comparison comes after the copy, which no rename can change any more.
fn clone_exactly(path: &CStr, found: FileIdentity) -> Result<OwnedFd, Fault> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve).during(Aspect::Source)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(&opened, c"", flags).during(Aspect::Source)?;
    let stat: Stat = rustix::fs::fstat(&tree).during(Aspect::Source)?;
    let same = stat.st_dev == found.device && stat.st_ino == found.inode;
    if same { Ok(tree) } else { Err(Fault::new(Aspect::Check, Errno::STALE)) }
}

/// A detached copy of a device of the host, after a check that it is that device and no file put in its place.
fn device(host: &CStr, major: u32, minor: u32) -> Result<OwnedFd, Fault> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = rustix::mount::open_tree(CWD, host, flags).during(Aspect::Source)?;
    let stat: Stat = rustix::fs::fstat(&tree).during(Aspect::Source)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && rustix::fs::major(stat.st_rdev) == major
        && rustix::fs::minor(stat.st_rdev) == minor;
    if !is_device {
        return Err(Fault::new(Aspect::Check, Errno::NODEV));
    }
    // The inode is the host's: real root could change its mode and owner for everybody. Reading and writing a device is
    // no change of its file system.
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    sys::mount_setattr(tree.as_fd(), attributes.bits().into()).during(Aspect::Source)?;
    Ok(tree)
}

/// A number as text, without allocating.
fn decimal(mut number: u32, text: &mut [u8; 10]) -> &[u8] {
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || at == 0 {
            return &text[at..];
        }
    }
}

fn attach(mount: &OwnedFd, point: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", point, c"", flags)
}

fn attach_at(mount: &OwnedFd, path: &CStr) -> Result<(), Errno> {
    rustix::mount::move_mount(mount, c"", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Whether a path exists, links followed.
pub(crate) fn exists(path: &CStr) -> bool {
    // Not stat, which a supervisor may have to answer that does not run yet.
    rustix::fs::accessat(CWD, path, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
}
