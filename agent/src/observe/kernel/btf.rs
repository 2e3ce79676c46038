//! Where the running kernel keeps the members of its structures, from its own type information.
//!
//! BTF (`/sys/kernel/btf/vmlinux`) is a list of types without an index; this reads it once, front to
//! back, and then finds members by name, through unnamed structures and unions as C does. Format:
//! the kernel's `Documentation/bpf/btf.rst`.

/// Why it cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    /// Not BTF, or of another machine.
    #[error("the kernel's type information has an unknown format")]
    Format,
    /// It ends in the middle.
    #[error("the kernel's type information is cut off")]
    Short,
    /// The kernel has no such structure or member.
    #[error("this kernel has no {0}")]
    Missing(String),
}

const MAGIC: u16 = 0xeb9f;
/// Longest chain of unnamed members that is followed.
const DEPTH: u32 = 8;

const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// The kernel's types.
pub struct Btf<'b> {
    types: &'b [u8],
    strings: &'b [u8],
    /// Where each type begins; ids count from 1.
    starts: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    members: u32,
    bitfields: bool,
    at: usize,
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map(|word| u32::from_ne_bytes(*word)).ok_or(BtfError::Short)
}

fn section(bytes: &[u8], at: u32, length: u32) -> Result<&[u8], BtfError> {
    let (at, length) = (at as usize, length as usize);
    bytes.get(at..).and_then(|rest| rest.get(..length)).ok_or(BtfError::Short)
}

impl<'b> Btf<'b> {
    /// Reads the list.
    ///
    /// # Errors
    /// When it is not BTF of this machine's byte order, or ends early.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, BtfError> {
        let magic = bytes.first_chunk().map(|word| u16::from_ne_bytes(*word));
        if magic != Some(MAGIC) {
            return Err(BtfError::Format);
        }
        let header = u32_at(bytes, 4)?;
        let body = bytes.get(header as usize..).ok_or(BtfError::Short)?;
        let types = section(body, u32_at(bytes, 8)?, u32_at(bytes, 12)?)?;
        let strings = section(body, u32_at(bytes, 16)?, u32_at(bytes, 20)?)?;
        let mut btf = Self { types, strings, starts: Vec::with_capacity(types.len() / 24) };
        let mut at = 0usize;
        while at < types.len() {
            btf.starts.push(u32::try_from(at).map_err(|_| BtfError::Format)?);
            let found = btf.read(at)?;
            let more = found.members as usize;
            // What follows the three words that each kind begins with.
            let rest = match found.kind {
                // A number, a variable, a tag with a place.
                1 | 14 | 17 => 4,
                3 => 12,
                STRUCT | UNION | 15 | 19 => more * 12,
                6 | 13 => more * 8,
                // Pointers, forward declarations, names, qualifiers, functions, floats, tags.
                2 | 7..=12 | 16 | 18 => 0,
                _ => return Err(BtfError::Format),
            };
            at += 12 + rest;
        }
        if at > types.len() {
            return Err(BtfError::Short);
        }
        Ok(btf)
    }

    fn read(&self, at: usize) -> Result<Type, BtfError> {
        let info = u32_at(self.types, at + 4)?;
        Ok(Type {
            name: u32_at(self.types, at)?,
            kind: (info >> 24) & 0x1f,
            members: info & 0xffff,
            bitfields: info >> 31 == 1,
            at,
        })
    }

    fn name(&self, at: u32) -> &'b [u8] {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// How many bytes into a structure its member begins.
    ///
    /// # Errors
    /// When there is no such member, or it begins inside a byte.
    pub fn offset(&self, structure: &str, member: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing(format!("{structure}.{member}"));
        for start in &self.starts {
            let found = self.read(*start as usize)?;
            if found.kind == STRUCT
                && self.name(found.name) == structure.as_bytes()
                && let Some(bits) = self.member(found, member.as_bytes(), DEPTH)?
            {
                return if bits % 8 == 0 { Ok(bits / 8) } else { Err(missing()) };
            }
        }
        Err(missing())
    }

    /// In bits.
    fn member(&self, of: Type, name: &[u8], depth: u32) -> Result<Option<u32>, BtfError> {
        for n in 0..of.members as usize {
            let at = of.at + 12 + 12 * n;
            let (its_name, kind, offset) =
                (u32_at(self.types, at)?, u32_at(self.types, at + 4)?, u32_at(self.types, at + 8)?);
            let bits = if of.bitfields { offset & 0x00ff_ffff } else { offset };
            let its_name = self.name(its_name);
            if its_name == name {
                return Ok(Some(bits));
            }
            if !its_name.is_empty() || depth == 0 {
                continue;
            }
            let start = (kind as usize).checked_sub(1).and_then(|id| self.starts.get(id));
            let Some(start) = start else { continue };
            let inner = self.read(*start as usize)?;
            if matches!(inner.kind, STRUCT | UNION)
                && let Some(inside) = self.member(inner, name, depth - 1)?
            {
                return Ok(Some(bits.saturating_add(inside)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `struct outer { int a; union { struct { int b; int c; }; int d; }; int e; }` and an int.
    fn small() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0c\0d\0e\0";
        let name = |text: &str| {
            let all = std::str::from_utf8(strings).unwrap();
            u32::try_from(all.find(&format!("\0{text}\0")).unwrap() + 1).unwrap()
        };
        let kind = |kind: u32, members: u32| kind << 24 | members;
        let mut words = vec![name("int"), kind(1, 0), 4, 0];
        // 2: the inner structure, 3: the union, 4: the outer one.
        words.extend([0, kind(STRUCT, 2), 8, name("b"), 1, 0, name("c"), 1, 32]);
        words.extend([0, kind(UNION, 2), 8, 0, 2, 0, name("d"), 1, 0]);
        words.extend([
            name("outer"),
            kind(STRUCT, 3),
            16,
            name("a"),
            1,
            0,
            0,
            3,
            32,
            name("e"),
            1,
            96,
        ]);
        let types: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let mut out = Vec::new();
        out.extend(MAGIC.to_ne_bytes());
        out.extend([1, 0]);
        let (types_len, strings_len) = (types.len() as u32, strings.len() as u32);
        for word in [24, 0, types_len, types_len, strings_len] {
            out.extend(u32::to_ne_bytes(word));
        }
        out.extend(types);
        out.extend(strings);
        out
    }

    #[test]
    fn members_are_found_through_what_has_no_name() {
        let bytes = small();
        let btf = Btf::parse(&bytes).unwrap();
        let at = |member: &str| btf.offset("outer", member);
        assert_eq!(
            (at("a"), at("b"), at("c"), at("d"), at("e")),
            (Ok(0), Ok(4), Ok(8), Ok(4), Ok(12))
        );
        assert_eq!(at("f").unwrap_err().to_string(), "this kernel has no outer.f");
        assert_eq!(btf.offset("inner", "b"), Err(BtfError::Missing("inner.b".into())));
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        let bytes = small();
        for length in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..length]).is_err(), "{length}");
        }
        assert_eq!(Btf::parse(b"\x7fELF....................").err(), Some(BtfError::Format));
    }

    #[test]
    fn the_kernel_that_runs_this_is_understood() {
        // Kernels without BTF exist; the agent says so there.
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            eprintln!("no /sys/kernel/btf/vmlinux here");
            return;
        };
        let btf = Btf::parse(&bytes).unwrap();
        for member in ["tgid", "exit_code", "start_boottime", "signal"] {
            assert!(btf.offset("task_struct", member).unwrap() > 0, "{member}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(mut bytes in Just(small()), hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
            for (at, byte) in hits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(btf) = Btf::parse(&bytes) {
                _ = btf.offset("outer", "c");
            }
        }
    }
}
