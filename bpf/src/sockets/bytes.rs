//! Where the call under way has its bytes, and how they are copied.

use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_probe_read_user, bpf_task_pt_regs,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use coral_bpf_types::{APART, COPIED, SocketOffsets, form};

use super::Scratch;
use crate::member;

/// [`form`] of each call, by its number; set by the agent.
#[map]
pub(super) static FORMS: Array<u8> = Array::with_max_entries(512, 0);

/// Pieces of one call that are looked at.
pub(super) const PIECES: u32 = 6;

/// Where the call under way has its bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Source {
    /// The list of pieces; 0 when there is one piece.
    pub(super) list: u64,
    pub(super) pieces: u64,
    /// The one piece.
    pub(super) base: u64,
}

impl Source {
    /// Where nothing can be read.
    pub(super) const NONE: Self = Self { list: 0, pieces: 0, base: 0 };
}

/// A place in a [`Source`].
#[derive(Clone, Copy)]
pub(super) struct Cursor {
    /// The next piece of the list.
    pub(super) next: u64,
    /// Where it is.
    pub(super) base: u64,
    /// Bytes from there to the end of the piece.
    pub(super) left: u64,
}

impl Cursor {
    #[inline(always)]
    pub(super) fn of(source: &Source) -> Self {
        let left = if source.list == 0 { u64::MAX } else { 0 };
        Self { next: 0, base: source.base, left }
    }

    /// Goes to the next piece; false where there is none.
    #[inline(always)]
    pub(super) fn piece(&mut self, source: &Source) -> bool {
        if source.list == 0 || self.next >= source.pieces {
            return false;
        }
        // SAFETY: an address that the program gave; reading it may fail and does no harm.
        match unsafe { user::<[u64; 2]>(source.list + self.next * 16) } {
            Some([base, left]) => {
                (self.base, self.left) = (base, left);
                self.next += 1;
                true
            }
            None => false,
        }
    }

    /// See [`forgotten`].
    #[inline(always)]
    pub(super) fn forget(&mut self, place: *mut u64) {
        self.next = forgotten(self.next, place);
        self.base = forgotten(self.base, place);
        self.left = forgotten(self.left, place);
    }

    /// Passes over bytes, as many as are in the pieces that are looked at; gives how many.
    #[inline(always)]
    pub(super) fn advance(&mut self, source: &Source, bytes: u32, place: *mut u64) -> u32 {
        let mut rest = u64::from(bytes);
        let mut piece = 0;
        while piece <= PIECES {
            if rest == 0 || self.left == 0 && !self.piece(source) {
                break;
            }
            let n = if self.left < rest { self.left } else { rest };
            self.base += n;
            self.left -= n;
            rest = forgotten(rest - n, place);
            self.forget(place);
            piece += 1;
        }
        bytes - rest as u32
    }
}

/// Reads from the memory of the program.
#[inline(always)]
pub(super) unsafe fn user<T: Copy + Default>(at: u64) -> Option<T> {
    let mut value = T::default();
    // SAFETY: the helper checks the address and fails rather than fault.
    let failed = unsafe {
        bpf_probe_read_user((&raw mut value).cast(), size_of::<T>() as u32, at as *const _)
    };
    if failed == 0 { Some(value) } else { None }
}

/// What the call under way was given.
pub(super) struct Arguments {
    pub(super) call: u64,
    pub(super) first: u64,
    pub(super) second: u64,
    pub(super) third: u64,
}

/// Reads it from the registers: all at once where they lie together, for each reading has its price.
#[inline(always)]
pub(super) unsafe fn arguments(regs: *const u8, offsets: &SocketOffsets) -> Option<Arguments> {
    // SAFETY: the helper checks the address and fails rather than fault.
    unsafe {
        if offsets.words == APART {
            return Some(Arguments {
                call: member(regs, offsets.call)?,
                first: member(regs, offsets.first)?,
                second: member(regs, offsets.second)?,
                third: member(regs, offsets.third)?,
            });
        }
        let words: [u64; 4] = member(regs, offsets.words)?;
        let word = |place: u32| words[(place.wrapping_sub(offsets.words) / 8 & 3) as usize];
        Some(Arguments {
            call: word(offsets.call),
            first: word(offsets.first),
            second: word(offsets.second),
            third: word(offsets.third),
        })
    }
}

#[inline(always)]
pub(super) fn source(offsets: &SocketOffsets) -> Option<Source> {
    // SAFETY: helpers without arguments but the current task; what they give is read by `member`.
    unsafe {
        let regs = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const u8;
        let Arguments { call, second, third, .. } = arguments(regs, offsets)?;
        let form = *FORMS.get(u32::try_from(call).ok()?)?;
        // Several messages at once nobody sends through TCP.
        if !matches!(form, form::BUFFER..=form::MESSAGE) {
            return None;
        }
        match form {
            form::BUFFER => Some(Source { list: 0, pieces: 1, base: second }),
            form::PIECES => Some(Source { list: second, pieces: third, base: 0 }),
            _ => {
                // struct user_msghdr: name, its length, list of pieces, how many.
                let [list, pieces] = user::<[u64; 2]>(second + 16)?;
                Some(Source { list, pieces, base: 0 })
            }
        }
    }
}

/// Copies what the call moved from a place on, at most `most` bytes; gives how many.
#[inline(always)]
pub(super) fn copy(source: &Source, most: u32, cursor: &mut Cursor, scratch: *mut Scratch) -> u32 {
    // SAFETY: places in the scratch, which is this CPU's own.
    let (into, place): (*mut u8, _) =
        unsafe { ((&raw mut (*scratch).bytes).cast(), &raw mut (*scratch).number) };
    let mut at: u32 = 0;
    let mut left = most;
    let mut piece = 0;
    while piece < PIECES {
        if left == 0 || cursor.left == 0 && !cursor.piece(source) {
            break;
        }
        let n = if cursor.left < u64::from(left) { cursor.left as u32 } else { left };
        let n = n & COPIED as u32;
        let to = at & COPIED as u32;
        // SAFETY: `to` and `n` are each below half of what `into` has.
        let failed = unsafe {
            bpf_probe_read_user(into.add(to as usize).cast(), n, cursor.base as *const _)
        };
        if failed != 0 {
            break;
        }
        cursor.base += u64::from(n);
        cursor.left -= u64::from(n);
        at = forgotten(u64::from(at + n), place) as u32;
        left = forgotten(u64::from(left - n), place) as u32;
        cursor.forget(place);
        piece += 1;
    }
    at & COPIED as u32
}

/// The same number, of which the verifier knows nothing any more: else it would follow every way there
/// was to it through all that comes after.
#[inline(always)]
pub(super) fn forgotten(number: u64, place: *mut u64) -> u64 {
    // SAFETY: `place` is in the scratch, which is this CPU's own.
    unsafe {
        core::ptr::write_volatile(place, number);
        core::ptr::read_volatile(place)
    }
}
