//! Which of OpenSSL's functions a file exports, and where in the file they are.
//!
//! Read by way of the file's own hash table, as the dynamic linker does: a few reads, however large the
//! file is. What is read is bounded, whatever the file says of itself.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use object::elf;
use object::read::elf::{FileHeader as _, ProgramHeader as _, Sym as _};
use object::read::{ReadCache, ReadRef};

/// Most bytes that are read of one file: Node's tables are 12 MB.
const MOST: u64 = 64 << 20;

type Header = elf::FileHeader64<object::Endianness>;

/// A file of which only so much is read.
struct Bounded {
    file: File,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let wanted = into.len() as u64;
        self.left = self.left.checked_sub(wanted).ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.read(into)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Where in the file each of `names` begins, in their order; `None` where it is no program of this
/// machine's or exports none of them.
#[must_use]
pub fn exported(file: File, names: &[&str]) -> Option<Vec<Option<u64>>> {
    let data = ReadCache::new(Bounded { file, left: MOST });
    let found = found(&data, names)?;
    found.iter().any(Option::is_some).then_some(found)
}

fn found<'data, R: ReadRef<'data>>(data: R, names: &[&str]) -> Option<Vec<Option<u64>>> {
    let header = Header::parse(data).ok()?;
    let endian = header.endian().ok()?;
    if header.e_machine.get(endian) != MACHINE {
        return None;
    }
    let segments = header.program_headers(endian, data).ok()?;
    let sections = header.sections(endian, data).ok()?;
    let about = sections.gnu_hash_header(endian, data).ok()??;
    let empty = about.bloom_count.get(endian) == 0 || about.bucket_count.get(endian) == 0;
    if empty || about.bloom_shift.get(endian) >= u32::BITS {
        return None;
    }
    let (hashes, of) = sections.gnu_hash(endian, data).ok()??;
    let symbols = sections.symbol_table_by_index(endian, data, of).ok()?;
    let versions = object::read::elf::VersionTable::default();
    let place = |name: &&str| {
        let name = name.as_bytes();
        let (_, symbol) =
            hashes.find(endian, name, elf::gnu_hash(name), None, &symbols, &versions)?;
        if symbol.st_type() != elf::STT_FUNC || symbol.is_undefined(endian) {
            return None;
        }
        let at = symbol.st_value(endian);
        let mut loaded = segments.iter().filter(|s| s.p_type(endian) == elf::PT_LOAD);
        loaded.find_map(|segment| {
            let within = at.checked_sub(segment.p_vaddr(endian))?;
            let holds = within < segment.p_filesz(endian);
            if holds { segment.p_offset(endian).checked_add(within) } else { None }
        })
    };
    Some(names.iter().map(place).collect())
}

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = elf::EM_AARCH64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const MACHINE: u16 = elf::EM_NONE;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_library_says_where_its_functions_are() {
        // The C library of whoever runs this.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let library = maps
            .lines()
            .find_map(|line| line.split_whitespace().nth(5).filter(|p| p.contains("libc.so")));
        let library = library.expect("a C library");
        let names = ["malloc", "no_such_function", "free"];
        let found = exported(File::open(library).unwrap(), &names).unwrap();
        let [Some(malloc), None, Some(free)] = found[..] else { panic!("{found:?}") };
        assert!(malloc != free && malloc > 0x1000, "{found:?}");
        // An address in memory less the place of its mapping is the place in the file.
        let here = libc::malloc as *const () as usize as u64;
        let mapping = maps.lines().find_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (from, to) = range.split_once('-')?;
            let at = |text: &str| u64::from_str_radix(text, 16).unwrap();
            let offset = rest.split_whitespace().nth(1)?;
            (at(from)..at(to)).contains(&here).then(|| (at(from), at(offset)))
        });
        let (from, offset) = mapping.unwrap();
        assert_eq!(malloc, here - from + offset);
        assert_eq!(exported(File::open(library).unwrap(), &["SSL_read"]), None);
    }

    #[test]
    fn what_is_no_program_or_says_nonsense_is_passed_over() {
        let nothing = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            assert_eq!(exported(file, &["SSL_read"]), None);
        };
        nothing(b"");
        nothing(b"#!/bin/sh\n");
        nothing(b"\x7fELF\x02\x01\x01\0");
        let own = std::fs::read("/proc/self/exe").unwrap();
        let head = own.get(..64).unwrap();
        nothing(head);
        // Sections beyond the end, and more of them than there can be.
        let mut odd = head.to_vec();
        odd[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
        nothing(&odd);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(head).unwrap();
        // Nothing of it takes room on the disk.
        file.set_len(1 << 40).unwrap();
        assert_eq!(exported(file, &["SSL_read"]), None);
        let mut sections = head.to_vec();
        sections[40..48].copy_from_slice(&64_u64.to_le_bytes());
        sections[60..62].copy_from_slice(&0_u16.to_le_bytes());
        let mut first = [0; 64];
        first[32..40].copy_from_slice(&(1_u64 << 33).to_le_bytes());
        sections.extend(first);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&sections).unwrap();
        file.set_len(1 << 40).unwrap();
        assert_eq!(exported(file, &["SSL_read"]), None);
    }
}
