//! What kernel and agent say to each other: layouts shared by both sides.
//!
//! Every type is `repr(C)` without padding, made of integers alone, so that any bytes are a value of
//! it. Times are nanoseconds since boot, sleep included, like `/proc/<pid>/stat` has them.

#![no_std]

/// Bytes of a command name, the zero at its end included (the kernel's `TASK_COMM_LEN`).
pub const COMM: usize = 16;

/// Where the running kernel keeps what the programs read, in bytes from the start of the structure
/// that holds it. Read from the kernel's BTF before the programs are loaded.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.exit_code`.
    pub task_exit_code: u32,
    /// `task_struct.start_boottime`.
    pub task_start: u32,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `signal_struct.live`: threads that have not ended yet.
    pub signal_live: u32,
    /// Not used.
    pub pad: u32,
    /// Device of the agent's pid namespace.
    pub pid_ns_dev: u64,
    /// Inode of the agent's pid namespace.
    pub pid_ns_ino: u64,
}

/// A process has ended: its last thread is on its way out.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessEnd {
    /// When.
    pub at_ns: u64,
    /// When it began.
    pub start_ns: u64,
    /// Its pid, as the agent's pid namespace numbers it; 0 where it is not in there.
    pub pid: u32,
    /// What `wait` would return: exit code in the second byte, signal in the low seven bits, 0x80 if
    /// a core was dumped.
    pub status: u32,
    /// Sender of the last deadly signal: its pid, likewise.
    pub sender_pid: u32,
    /// Its user.
    pub sender_uid: u32,
    /// The deadly signal that was sent last; 0 when none was.
    pub signal: u32,
    /// [`OOM`], [`KERNEL`], [`ITSELF`].
    pub flags: u32,
    /// Its command name.
    pub comm: [u8; COMM],
    /// The sender's.
    pub sender: [u8; COMM],
}

impl Offsets {
    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let mut out = [0; size_of::<Self>()];
        let words = [
            self.task_tgid,
            self.task_exit_code,
            self.task_start,
            self.task_signal,
            self.signal_live,
            self.pad,
        ];
        let long = [self.pid_ns_dev, self.pid_ns_ino];
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
        let bytes = bytes.chain(long.iter().flat_map(|word| word.to_ne_bytes()));
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        out
    }
}

impl ProcessEnd {
    /// From how it lies in memory; `None` when the length is another.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != size_of::<Self>() {
            return None;
        }
        let long = |at| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let word = |at| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let name = |at| Some(*bytes.get(at..)?.first_chunk()?);
        Some(Self {
            at_ns: long(0)?,
            start_ns: long(8)?,
            pid: word(16)?,
            status: word(20)?,
            sender_pid: word(24)?,
            sender_uid: word(28)?,
            signal: word(32)?,
            flags: word(36)?,
            comm: name(40)?,
            sender: name(56)?,
        })
    }
}

const _: () = assert!(size_of::<ProcessEnd>() == 72 && size_of::<Offsets>() == 40);

/// The kernel chose it because memory had run out.
pub const OOM: u32 = 1;
/// The signal came from the kernel, not from a process.
pub const KERNEL: u32 = 2;
/// The process sent the signal to itself.
pub const ITSELF: u32 = 4;
