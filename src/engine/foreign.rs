//! Programs for other machines: why the kernel refused one.

use std::io::Read;

use super::core::Core;
use super::error::Error;
use super::spec::Resolved;
use crate::object::{Config, Entry, Node, Platform, TreePath, resolve};
use crate::sandbox::LaunchError;
use crate::worker::SessionError;

/// How many scripts may name each other as their interpreter, as the kernel counts.
const MAX_INTERPRETERS: usize = 5;
/// The longest first line of a script that the kernel reads.
const MAX_HEAD_BYTES: u64 = 256;

impl Core {
    /// An error of a launch. Of a program that the kernel does not know it says what machine the program is for; of a mount that the
    /// kernel refused, what the store's file system cannot do.
    ///
    /// It is asked only after the kernel refused: an emulator that is registered with the kernel (`binfmt_misc`) runs such programs.
    pub(super) fn explained(&self, error: Error, resolved: &Resolved) -> Error {
        let (program, errno) = match &error {
            Error::Session(SessionError::Launch(LaunchError::CannotExecute { program, errno })) => {
                (program, errno)
            }
            Error::Session(SessionError::Launch(LaunchError::Step { .. })) => {
                return self.unfit_for_runs().map_or(error, Error::UnfitDisk);
            }
            _ => return error,
        };
        if *errno != rustix::io::Errno::NOEXEC.raw_os_error() {
            return error;
        }
        let host = Platform::host();
        match self.machine_of(resolved) {
            Some(theirs) if theirs != host.architecture => Error::Foreign(format!(
                "{program} is a program for {theirs} and this machine is {}: run it on such a machine, or register an emulator \
                 with the kernel (on Debian the package qemu-user-binfmt)",
                host.architecture
            )),
            _ => error,
        }
    }

    /// The processor that a command's program is for; `None` where that cannot be told.
    fn machine_of(&self, resolved: &Resolved) -> Option<String> {
        let root = self.store.root(&resolved.base).ok()?;
        let argv = resolved.argv();
        let mut program = self.located(&root, resolved, argv.first()?)?;
        for _ in 0..MAX_INTERPRETERS {
            let Node::File { blob, .. } = program.node else { return None };
            let mut head = Vec::new();
            self.store.open_blob(&blob).ok()?.take(MAX_HEAD_BYTES).read_to_end(&mut head).ok()?;
            let Some(line) = head.strip_prefix(b"#!") else { return machine(&head) };
            let line = line.split(|byte| *byte == b'\n').next()?;
            let interpreter =
                line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
            program = self.located(&root, resolved, interpreter)?;
        }
        None
    }

    /// The file that a program's name means.
    fn located(&self, root: &Entry, resolved: &Resolved, name: &[u8]) -> Option<Entry> {
        let find = |directory: &[u8]| {
            let path = TreePath::parse(&[directory, b"/", name].concat()).ok()?;
            let found = resolve(&self.store, root, &path, true);
            found.ok().map(|(_, entry)| entry).filter(|entry| matches!(entry.node, Node::File { .. }))
        };
        if name.starts_with(b"/") {
            return find(b"");
        }
        if name.contains(&b'/') {
            return find(&resolved.spec.cwd);
        }
        let path = resolved.spec.env.iter().find_map(|entry| entry.strip_prefix("PATH="))?;
        path.split(':').find_map(|directory| find(directory.as_bytes()))
    }
}

/// Refuses a state whose programs no kernel of this kind runs.
pub(super) fn check_system(config: &Config) -> Result<(), Error> {
    let (wanted, host) = (&config.platform, Platform::host());
    if wanted.os.is_empty() || wanted.os == host.os {
        return Ok(());
    }
    Err(Error::Foreign(format!(
        "the state is for {wanted} and this machine is {host}: its programs cannot run here"
    )))
}

/// The processor in the head of an ELF file, in the words of images (`e_machine` in elf.h).
fn machine(head: &[u8]) -> Option<String> {
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let number: [u8; 2] = head.get(18..20)?.try_into().ok()?;
    let (wide, little) = (head[4] == 2, head[5] == 1);
    let number = if little { u16::from_le_bytes(number) } else { u16::from_be_bytes(number) };
    let word = match (number, wide, little) {
        (3, ..) => "386",
        (8, true, true) => "mips64le",
        (8, true, false) => "mips64",
        (8, false, true) => "mipsle",
        (8, false, false) => "mips",
        (21, _, true) => "ppc64le",
        (21, _, false) => "ppc64",
        (22, ..) => "s390x",
        (40, ..) => "arm",
        (62, ..) => "amd64",
        (183, ..) => "arm64",
        (243, true, _) => "riscv64",
        (258, ..) => "loong64",
        _ => return Some(format!("a processor of the ELF number {number}")),
    };
    Some(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_stands_in_the_head_of_a_program_in_either_order_of_bytes() {
        let head = |class: u8, order: u8, number: [u8; 2]| {
            let mut head = b"\x7fELF".to_vec();
            head.extend([class, order]);
            head.resize(18, 0);
            head.extend(number);
            machine(&head)
        };
        assert_eq!(head(2, 1, [183, 0]).as_deref(), Some("arm64"));
        assert_eq!(head(2, 2, [0, 22]).as_deref(), Some("s390x"));
        assert_eq!(head(1, 1, [40, 0]).as_deref(), Some("arm"));
        assert_eq!(head(2, 1, [1, 1]).as_deref(), Some("a processor of the ELF number 257"));
        assert_eq!(machine(b"#!/bin/sh"), None);
        assert_eq!(machine(b"\x7fELF"), None);
    }
}
