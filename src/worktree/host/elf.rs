//! What a program or library says it needs: a small reader of ELF files, 32 and 64 bits, little-endian.
//!
//! # Invariants
//! - Every offset and length of the file is checked; bad bytes give an error, never a panic.
//! - Nothing is allocated beyond the named maxima, whatever the file claims.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The most program headers that are looked at.
const MAX_PROGRAM_HEADERS: u16 = 4096;
/// The largest dynamic section, in bytes.
const MAX_DYNAMIC_BYTES: u64 = 1024 * 1024;
/// The most libraries one file may name.
const MAX_NEEDED: usize = 4096;
/// The longest path of a loader or name of a library, in bytes.
const MAX_NAME_BYTES: u64 = 4096;
/// The longest search path, in bytes.
const MAX_SEARCH_PATH_BYTES: u64 = 65_536;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// Why a file with an ELF head cannot be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The bytes contradict themselves.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// A kind of ELF file that this reader does not know.
    #[error("it is {0}")]
    Unsupported(&'static str),
    /// The bytes cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Bytes that can be read at an offset.
pub trait ReadAt {
    /// Reads at most `buffer.len()` bytes; 0 at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

/// The processor that a file's code is for, so far as loading looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Machine {
    /// Whether addresses have 64 bits.
    pub wide: bool,
    /// The number of the processor, `e_machine`.
    pub number: u16,
}

/// What an ELF file says it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// What its code is for.
    pub machine: Machine,
    /// The loader that starts it; `None` for libraries and static programs.
    pub interpreter: Option<Vec<u8>>,
    /// Names of libraries, in order.
    pub needed: Vec<Vec<u8>>,
    /// Where to look for them, old style: also for the libraries of its libraries.
    pub rpath: Option<Vec<u8>>,
    /// Where to look for them, new style: it turns `rpath` off.
    pub runpath: Option<Vec<u8>>,
}

/// Reads what an ELF file needs; `None` when it is not an ELF file.
pub fn read(file: &(impl ReadAt + ?Sized)) -> Result<Option<Elf>, ElfError> {
    let mut head = [0; 64];
    let len = read_full(file, 0, &mut head)?;
    if len < 4 || &head[..4] != b"\x7fELF" {
        return Ok(None);
    }
    let wide = match head[4] {
        1 => false,
        2 => true,
        _ => return Err(ElfError::Unsupported("neither a 32-bit nor a 64-bit ELF file")),
    };
    if head[5] != 1 {
        return Err(ElfError::Unsupported("not a little-endian ELF file"));
    }
    if len < if wide { 64 } else { 52 } {
        return Err(ElfError::Damaged("its head is cut short"));
    }
    let image = Image { file, wide };
    let machine = Machine { wide, number: u16_at(&head, 18) };
    let headers = image.program_headers(&head)?;
    let mut elf = Elf { machine, interpreter: None, needed: Vec::new(), rpath: None, runpath: None };
    if let Some(header) = headers.iter().find(|header| header.kind == PT_INTERP) {
        elf.interpreter = Some(image.text(header.offset, header.len, MAX_NAME_BYTES)?);
    }
    if let Some(header) = headers.iter().find(|header| header.kind == PT_DYNAMIC) {
        image.dynamic(header, &headers, &mut elf)?;
    }
    Ok(Some(elf))
}

struct ProgramHeader {
    kind: u32,
    offset: u64,
    address: u64,
    len: u64,
}

struct Image<'f, F: ?Sized> {
    file: &'f F,
    wide: bool,
}

impl<F: ReadAt + ?Sized> Image<'_, F> {
    fn program_headers(&self, head: &[u8; 64]) -> Result<Vec<ProgramHeader>, ElfError> {
        let (start, size, count) = match self.wide {
            true => (u64_at(head, 32), u16_at(head, 54), u16_at(head, 56)),
            false => (u64::from(u32_at(head, 28)), u16_at(head, 42), u16_at(head, 44)),
        };
        if count == 0 {
            return Ok(Vec::new());
        }
        if size != if self.wide { 56 } else { 32 } {
            return Err(ElfError::Damaged("its program headers have an odd size"));
        }
        if count > MAX_PROGRAM_HEADERS {
            return Err(ElfError::Unsupported("an ELF file with thousands of program headers"));
        }
        let bytes = self.bytes(start, u64::from(size) * u64::from(count))?;
        let headers = bytes.chunks_exact(usize::from(size)).map(|header| match self.wide {
            true => ProgramHeader {
                kind: u32_at(header, 0),
                offset: u64_at(header, 8),
                address: u64_at(header, 16),
                len: u64_at(header, 32),
            },
            false => ProgramHeader {
                kind: u32_at(header, 0),
                offset: u32_at(header, 4).into(),
                address: u32_at(header, 8).into(),
                len: u32_at(header, 16).into(),
            },
        });
        Ok(headers.collect())
    }

    fn dynamic(
        &self,
        section: &ProgramHeader,
        headers: &[ProgramHeader],
        elf: &mut Elf,
    ) -> Result<(), ElfError> {
        if section.len > MAX_DYNAMIC_BYTES {
            return Err(ElfError::Unsupported("an ELF file with a huge dynamic section"));
        }
        let bytes = self.bytes(section.offset, section.len)?;
        let (mut strings, mut strings_len) = (None, 0);
        let (mut needed, mut rpath, mut runpath) = (Vec::new(), None, None);
        for entry in bytes.chunks_exact(if self.wide { 16 } else { 8 }) {
            let (tag, value) = match self.wide {
                true => (u64_at(entry, 0), u64_at(entry, 8)),
                false => (u32_at(entry, 0).into(), u32_at(entry, 4).into()),
            };
            match tag {
                DT_NULL => break,
                DT_NEEDED => needed.push(value),
                DT_STRTAB => strings = Some(value),
                DT_STRSZ => strings_len = value,
                DT_RPATH => rpath = Some(value),
                DT_RUNPATH => runpath = Some(value),
                _ => {}
            }
        }
        if needed.is_empty() && rpath.is_none() && runpath.is_none() {
            return Ok(());
        }
        if needed.len() > MAX_NEEDED {
            return Err(ElfError::Unsupported("an ELF file that needs thousands of libraries"));
        }
        let address = strings.ok_or(ElfError::Damaged("it has no string table"))?;
        let start = offset_of(headers, address)?;
        let text = |at: u64, limit: u64| {
            let left =
                strings_len.checked_sub(at).ok_or(ElfError::Damaged("a name lies outside its table"))?;
            let at = start.checked_add(at).ok_or(ElfError::Damaged("a name lies outside the file"))?;
            self.text(at, left, limit)
        };
        elf.needed = needed.into_iter().map(|at| text(at, MAX_NAME_BYTES)).collect::<Result<_, _>>()?;
        elf.rpath = rpath.map(|at| text(at, MAX_SEARCH_PATH_BYTES)).transpose()?;
        elf.runpath = runpath.map(|at| text(at, MAX_SEARCH_PATH_BYTES)).transpose()?;
        Ok(())
    }

    /// The bytes up to a NUL, which must come within `len` and `limit`.
    fn text(&self, offset: u64, len: u64, limit: u64) -> Result<Vec<u8>, ElfError> {
        let capacity = usize::try_from(len.min(limit)).expect("the limits are small");
        let mut bytes = vec![0; capacity.min(256)];
        loop {
            let read = read_full(self.file, offset, &mut bytes)?;
            if let Some(end) = bytes[..read].iter().position(|byte| *byte == 0) {
                bytes.truncate(end);
                return Ok(bytes);
            }
            if read < bytes.len() || bytes.len() == capacity {
                return Err(ElfError::Damaged("a name has no end"));
            }
            bytes.resize(capacity, 0);
        }
    }

    /// Exactly so many bytes; the caller has limited `len`.
    fn bytes(&self, offset: u64, len: u64) -> Result<Vec<u8>, ElfError> {
        let mut bytes = vec![0; usize::try_from(len).expect("the limits are small")];
        if read_full(self.file, offset, &mut bytes)? < bytes.len() {
            return Err(ElfError::Damaged("it is cut short"));
        }
        Ok(bytes)
    }
}

/// Where in the file the byte of an address lies.
fn offset_of(headers: &[ProgramHeader], address: u64) -> Result<u64, ElfError> {
    let loaded = headers.iter().filter(|header| header.kind == PT_LOAD);
    let mut offsets = loaded.filter_map(|header| {
        let within = address.checked_sub(header.address).filter(|within| *within < header.len)?;
        header.offset.checked_add(within)
    });
    offsets.next().ok_or(ElfError::Damaged("its string table is not in the file"))
}

fn read_full(file: &(impl ReadAt + ?Sized), offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        // An offset that no file can have is past every end.
        let Some(at) = offset.checked_add(filled as u64).filter(|at| i64::try_from(*at).is_ok()) else {
            break;
        };
        match file.read_at(at, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A tiny file without code; what is empty is left out.
    pub(in crate::worktree::host) struct Sample<'t> {
        pub(in crate::worktree::host) wide: bool,
        pub(in crate::worktree::host) loader: &'t str,
        pub(in crate::worktree::host) needed: &'t [&'t str],
        pub(in crate::worktree::host) runpath: &'t str,
        pub(in crate::worktree::host) rpath: &'t str,
    }

    fn sample(wide: bool) -> Vec<u8> {
        let needed = &["libone.so.1", "libtwo.so"];
        Sample { wide, loader: "/lib/ld-test.so", needed, runpath: "$ORIGIN/../lib", rpath: "/old" }.bytes()
    }

    impl Sample<'_> {
        pub(in crate::worktree::host) fn bytes(&self) -> Vec<u8> {
            let mut strings = vec![0];
            let mut entries = Vec::new();
            let texts = self.needed.iter().map(|name| (DT_NEEDED, *name));
            for (tag, text) in texts.chain([(DT_RUNPATH, self.runpath), (DT_RPATH, self.rpath)]) {
                if !text.is_empty() {
                    entries.push((tag, strings.len() as u64));
                    strings.extend_from_slice(text.as_bytes());
                    strings.push(0);
                }
            }
            assemble(self.wide, self.loader, &strings, &entries)
        }
    }

    fn assemble(wide: bool, loader: &str, strings: &[u8], entries: &[(u64, u64)]) -> Vec<u8> {
        let loader = [loader.as_bytes(), b"\0"].concat();
        let (header_len, head_len) = if wide { (56, 64) } else { (32, 52) };
        let interp_at = head_len + 3 * header_len;
        let strings_at = interp_at + loader.len();
        let dynamic_at = strings_at + strings.len();
        let table = [(DT_STRTAB, 0x1000 + strings_at as u64), (DT_STRSZ, strings.len() as u64), (DT_NULL, 0)];
        let entries = entries.iter().copied().chain(table);
        let word = |value: u64| match wide {
            true => value.to_le_bytes().to_vec(),
            false => (value as u32).to_le_bytes().to_vec(),
        };
        let dynamic: Vec<u8> = entries.flat_map(|(tag, value)| [word(tag), word(value)].concat()).collect();
        let total = dynamic_at + dynamic.len();
        let header = |kind: u32, at: usize, len: usize| {
            let (at, address, len) = (at as u64, 0x1000 + at as u64, len as u64);
            let kind = u64::from(kind).to_le_bytes();
            let words = [at, address, address, len, len, 0].map(word).concat();
            match wide {
                true => [&kind[..], &words].concat(),
                false => [&kind[..4], &words, &[0; 4]].concat(),
            }
        };
        let mut file = vec![0; head_len];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1]);
        file[18] = if wide { 62 } else { 3 };
        let (at_phoff, at_size, at_count) = if wide { (32, 54, 56) } else { (28, 42, 44) };
        file[at_phoff] = head_len as u8;
        file[at_size] = header_len as u8;
        file[at_count] = 3;
        file.extend(header(PT_LOAD, 0, total));
        let interp = if loader.len() > 1 { PT_INTERP } else { 0 };
        file.extend(header(interp, interp_at, loader.len()));
        file.extend(header(PT_DYNAMIC, dynamic_at, dynamic.len()));
        file.extend(&loader);
        file.extend(strings);
        file.extend(dynamic);
        file
    }

    #[test]
    fn a_program_says_its_loader_libraries_and_search_paths() {
        for wide in [false, true] {
            let elf = read(&sample(wide)[..]).unwrap().unwrap();
            assert_eq!(elf.machine, Machine { wide, number: if wide { 62 } else { 3 } });
            assert_eq!(elf.interpreter.unwrap(), b"/lib/ld-test.so");
            assert_eq!(elf.needed, [&b"libone.so.1"[..], b"libtwo.so"]);
            assert_eq!(elf.runpath.unwrap(), b"$ORIGIN/../lib");
            assert_eq!(elf.rpath.unwrap(), b"/old");
        }
    }

    #[test]
    fn the_test_program_itself_is_understood() {
        let elf = read(&File::open("/proc/self/exe").unwrap()).unwrap().unwrap();
        assert_eq!(elf.machine.wide, cfg!(target_pointer_width = "64"));
        assert!(read(&b"#!/bin/sh\n"[..]).unwrap().is_none());
        assert!(read(&b""[..]).unwrap().is_none());
    }

    #[test]
    fn every_cut_of_a_program_is_an_error() {
        for wide in [false, true] {
            let whole = sample(wide);
            assert!((4..whole.len()).all(|len| read(&whole[..len]).is_err()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn damaged_bytes_never_panic(
            wide: bool,
            damage in prop::collection::vec((0usize..400, any::<u8>()), 1..12),
            cut in 0usize..400,
        ) {
            let mut file = sample(wide);
            for (at, byte) in damage {
                let at = at % file.len();
                file[at] = byte;
            }
            let _ = read(&file[..]);
            let _ = read(&file[..cut.min(file.len())]);
        }

        #[test]
        fn random_bytes_never_panic(wide: bool, bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut file = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1];
            file.extend(bytes);
            let _ = read(&file[..]);
        }
    }
}
