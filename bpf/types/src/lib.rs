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
    /// `task_struct.group_leader`: the first of its threads, which is the process.
    pub task_leader: u32,
    /// `task_struct.comm`.
    pub task_comm: u32,
    /// `task_struct.real_parent`: the thread that started it, or who took it over.
    pub task_parent: u32,
    /// Device of the agent's pid namespace.
    pub pid_ns_dev: u64,
    /// Inode of the agent's pid namespace.
    pub pid_ns_ino: u64,
}

/// Where the running kernel keeps what is read of sockets and of calls, likewise.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketOffsets {
    /// `sock.sk_type`.
    pub kind: u32,
    /// `sock_common.skc_family`.
    pub family: u32,
    /// `sock_common.skc_state`.
    pub state: u32,
    /// `sock_common.skc_num`: the local port.
    pub local_port: u32,
    /// `sock_common.skc_dport`: the remote one, in network order.
    pub remote_port: u32,
    /// `sock_common.skc_rcv_saddr`.
    pub local4: u32,
    /// `sock_common.skc_daddr`.
    pub remote4: u32,
    /// `sock_common.skc_v6_rcv_saddr`.
    pub local6: u32,
    /// `sock_common.skc_v6_daddr`.
    pub remote6: u32,
    /// The number of the call in `pt_regs`.
    pub call: u32,
    /// Its first argument there.
    pub first: u32,
    /// The second.
    pub second: u32,
    /// The third.
    pub third: u32,
    /// The fifth.
    pub fifth: u32,
    /// The stack pointer there.
    pub stack: u32,
    /// `sock.sk_err`.
    pub error: u32,
    /// `tcp_sock.bytes_sent`.
    pub bytes_sent: u32,
    /// `tcp_sock.bytes_retrans`.
    pub bytes_again: u32,
    /// `tcp_sock.bytes_received`.
    pub bytes_received: u32,
    /// `tcp_sock.srtt_us`.
    pub round_trip: u32,
    /// `tcp_sock.total_retrans`.
    pub retransmits: u32,
    /// The number of the call `write`.
    pub write: u32,
    /// That of `writev`.
    pub writev: u32,
    /// Where four words of `pt_regs` begin that have number and first three arguments in them; [`APART`] where
    /// no four do.
    pub words: u32,
}

/// What is read of a call lies apart.
pub const APART: u32 = u32::MAX;

impl SocketOffsets {
    /// The same, with [`Self::words`].
    #[must_use]
    pub fn with_words(self) -> Self {
        let places = [self.call, self.first, self.second, self.third];
        let first = places.into_iter().min().unwrap_or_default();
        let within = |place: &u32| place % 8 == first % 8 && place - first < 32;
        let words = if places.iter().all(within) { first } else { APART };
        Self { words, ..self }
    }

    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let mut out = [0; size_of::<Self>()];
        let words = [
            self.kind,
            self.family,
            self.state,
            self.local_port,
            self.remote_port,
            self.local4,
            self.remote4,
            self.local6,
            self.remote6,
            self.call,
            self.first,
            self.second,
            self.third,
            self.fifth,
            self.stack,
            self.error,
            self.bytes_sent,
            self.bytes_again,
            self.bytes_received,
            self.round_trip,
            self.retransmits,
            self.write,
            self.writev,
            self.words,
        ];
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        out
    }
}

/// Where the running kernel keeps what leads from a call that is over to the socket it was about, likewise. Asked for
/// only on kernels without tracepoints in sockets.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallOffsets {
    /// `task_struct.files`.
    pub files: u32,
    /// `files_struct.fdt`.
    pub table: u32,
    /// `fdtable.max_fds`.
    pub most: u32,
    /// `fdtable.fd`.
    pub list: u32,
    /// `file.f_inode`.
    pub inode: u32,
    /// `inode.i_mode`.
    pub mode: u32,
    /// `file.private_data`.
    pub private: u32,
    /// `socket.sk`.
    pub sk: u32,
    /// The first argument in `pt_regs`, where what the call gives has not taken its place.
    pub first: u32,
    /// The fourth.
    pub fourth: u32,
}

impl CallOffsets {
    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let mut out = [0; size_of::<Self>()];
        let words = [
            self.files,
            self.table,
            self.most,
            self.list,
            self.inode,
            self.mode,
            self.private,
            self.sk,
            self.first,
            self.fourth,
        ];
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        out
    }
}

/// What a call does with the descriptors it is given.
pub mod way {
    /// It receives from its first argument.
    pub const RECEIVES: u8 = 1;
    /// It sends to its first.
    pub const SENDS: u8 = 2;
    /// It sends to its third.
    pub const SENDS_THIRD: u8 = 4;
    /// Its third argument says how (`MSG_PEEK` and the like).
    pub const HOW_THIRD: u8 = 8;
    /// Its fourth does.
    pub const HOW_FOURTH: u8 = 16;
    /// It moves several messages, and gives how many.
    pub const SEVERAL: u8 = 32;
}

/// Where a call has the bytes that it moves.
pub mod form {
    /// Elsewhere: `sendfile`, `splice`, rings.
    pub const NONE: u8 = 0;
    /// At its second argument.
    pub const BUFFER: u8 = 1;
    /// In pieces listed at its second argument, as many as its third says.
    pub const PIECES: u8 = 2;
    /// In pieces listed in the `msghdr` at its second argument.
    pub const MESSAGE: u8 = 3;
    /// In pieces listed in as many `mmsghdr` at its second argument as its third says, each a message of
    /// its own.
    pub const MESSAGES: u8 = 4;
}

/// What happened to a socket.
pub mod what {
    /// The program read bytes from it.
    pub const RECEIVED: u32 = 0;
    /// It wrote bytes to it.
    pub const SENT: u32 = 1;
    /// This end sends no more.
    pub const ENDING: u32 = 2;
    /// It is gone; [`super::Numbers`] follow.
    pub const ENDED: u32 = 3;
    /// No socket: the process is another program from now on.
    pub const BEGAN: u32 = 4;
    /// The process has begun its first connection with TLS.
    pub const SEALED: u32 = 5;
    /// The process begins a connection with TLS; what it says first follows.
    pub const HELLO: u32 = 6;
    /// A connection that the program opened has come about; [`super::Numbers`] follow.
    pub const OPENED: u32 = 7;
    /// What the kernel has counted of it so far, because the agent asked: [`super::Numbers`] follow.
    pub const NUMBERS: u32 = 8;
    /// No socket: the process wrote to its standard output or its standard error; what it wrote follows.
    /// [`super::Chunk::socket`] is when it began, `local_port` which descriptor, `missed_sent` bytes written before.
    pub const SAID: u32 = 9;
}

/// What a socket speaks.
pub mod protocol {
    /// Nothing that is known.
    pub const NOTHING: u16 = 0;
    /// HTTP/1.1.
    pub const HTTP: u16 = 1;
    /// RESP, which Redis speaks.
    pub const RESP: u16 = 2;
    /// PostgreSQL's, of version 3.
    pub const POSTGRES: u16 = 3;
    /// HTTP/2.
    pub const HTTP2: u16 = 4;
    /// DNS over TCP.
    pub const DNS: u16 = 5;
    /// DNS in datagrams.
    pub const DATAGRAMS: u16 = 6;
    /// It is encrypted: what is read of it is what OpenSSL is given or gives.
    pub const ENCRYPTED: u16 = 7;
    /// DNS in datagrams, of a call that moves several and is over.
    pub const SEVERAL: u16 = 8;
    /// Room for protocols.
    pub const PLACES: u32 = 9;
}

/// Most bytes that are copied of what one call moved.
pub const COPIED: usize = 8191;

/// Of what a program writes to its standard output at once, as much as this, from its end.
pub const SAID: u32 = 4096;

/// What carries the bytes of a socket.
pub mod transport {
    /// TCP.
    pub const STREAM: u16 = 0;
    /// UDP, where each call moves a message. [`super::Chunk::socket`] is then 0, and an address or a port is
    /// where it is not known.
    pub const DATAGRAM: u16 = 1;
}

/// Bytes moved through a socket; the first `copied` of them follow it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chunk {
    /// When.
    pub at_ns: u64,
    /// Which socket; another one has another number.
    pub socket: u64,
    /// Where the kernel has it; another one may come to be there.
    pub place: u64,
    /// The process, as the first pid namespace numbers it.
    pub process: u32,
    /// As the agent's does; 0 when it is not in there.
    pub pid: u32,
    /// Bytes that moved.
    pub total: u32,
    /// Bytes that follow.
    pub copied: u32,
    /// Bytes received since the last chunk of this socket, of which nothing could be told.
    pub missed_received: u32,
    /// Bytes sent, likewise.
    pub missed_sent: u32,
    /// [`what`].
    pub what: u32,
    /// `AF_INET` or `AF_INET6`; 0 where the addresses are not known.
    pub family: u16,
    /// Port at this end.
    pub local_port: u16,
    /// Port at the other.
    pub remote_port: u16,
    /// [`transport`].
    pub transport: u16,
    /// 1 where the bytes are those within TLS.
    pub sealed: u16,
    /// 1 where the socket was closed already when it was met: no end of it is told.
    pub over: u16,
    /// Address of this end; of IPv4 the first four bytes.
    pub local: [u8; 16],
    /// Address of the other.
    pub remote: [u8; 16],
    /// Command name of the process.
    pub comm: [u8; COMM],
}

impl Chunk {
    /// From how it lies in memory, with the bytes that follow it; `None` when it is cut off.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_at_checked(size_of::<Self>())?;
        let long = |at| Some(u64::from_ne_bytes(*head.get(at..)?.first_chunk()?));
        let word = |at| Some(u32::from_ne_bytes(*head.get(at..)?.first_chunk()?));
        let short = |at| Some(u16::from_ne_bytes(*head.get(at..)?.first_chunk()?));
        let text = |at| Some(*head.get(at..)?.first_chunk()?);
        let chunk = Self {
            at_ns: long(0)?,
            socket: long(8)?,
            place: long(16)?,
            process: word(24)?,
            pid: word(28)?,
            total: word(32)?,
            copied: word(36)?,
            missed_received: word(40)?,
            missed_sent: word(44)?,
            what: word(48)?,
            family: short(52)?,
            local_port: short(54)?,
            remote_port: short(56)?,
            transport: short(58)?,
            sealed: short(60)?,
            over: short(62)?,
            local: text(64)?,
            remote: text(80)?,
            comm: text(96)?,
        };
        let copied = usize::try_from(chunk.copied).ok()?;
        Some((chunk, rest.get(..copied)?))
    }
}

/// What the kernel counts of a connection.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    /// When this end began to open it; 0 where it did not, or nobody looked then.
    pub began_ns: u64,
    /// Bytes sent, those that were sent again included.
    pub bytes_sent: u64,
    /// Bytes sent again.
    pub bytes_again: u64,
    /// Bytes received; the other end's end counts as one.
    pub bytes_received: u64,
    /// Eight times the smoothed round-trip time, µs; 0 before there was one.
    pub round_trip: u32,
    /// Segments sent again.
    pub retransmits: u32,
    /// Why it broke off (`errno`); 0 where it did not.
    pub error: u32,
    /// [`numbers`].
    pub flags: u32,
}

/// What [`Numbers::flags`] says.
pub mod numbers {
    /// It came about.
    pub const OPEN: u32 = 1;
    /// It ended while this end had not ended it.
    pub const ABRUPT: u32 = 2;
}

impl Numbers {
    /// From how they lie in memory; `None` when they are cut off.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; size_of::<Self>()] = bytes.first_chunk()?;
        let long = |at| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let word = |at| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self {
            began_ns: long(0)?,
            bytes_sent: long(8)?,
            bytes_again: long(16)?,
            bytes_received: long(24)?,
            round_trip: word(32)?,
            retransmits: word(36)?,
            error: word(40)?,
            flags: word(44)?,
        })
    }

    /// As they lie in memory.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let mut out = [0; size_of::<Self>()];
        let long = [self.began_ns, self.bytes_sent, self.bytes_again, self.bytes_received];
        let words = [self.round_trip, self.retransmits, self.error, self.flags];
        let bytes = long.iter().flat_map(|word| word.to_ne_bytes());
        let bytes = bytes.chain(words.iter().flat_map(|word| word.to_ne_bytes()));
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        out
    }
}

const _: () = assert!(size_of::<Chunk>() == 112 && size_of::<SocketOffsets>() == 96);
const _: () = assert!(size_of::<Numbers>() == 48 && size_of::<CallOffsets>() == 40);

/// Places in the list of what was lost.
pub mod lost {
    /// Ends of processes.
    pub const ENDS: u32 = 0;
    /// Chunks that found no room.
    pub const CHUNKS: u32 = 1;
    /// Sockets beyond those that are followed.
    pub const SOCKETS: u32 = 2;
    /// Bytes beyond what may be copied in a moment.
    pub const BYTES: u32 = 3;
    /// Calls into OpenSSL of threads beyond those that are followed.
    pub const THREADS: u32 = 4;
    /// Bytes of output beyond what may be told in a moment, or without room.
    pub const SAID: u32 = 5;
    /// Places.
    pub const PLACES: u32 = 6;
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
    /// Command name of its parent; empty where that could not be read.
    pub parent: [u8; COMM],
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
            self.task_leader,
            self.task_comm,
            self.task_parent,
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
            parent: name(72)?,
        })
    }
}

const _: () = assert!(size_of::<ProcessEnd>() == 88 && size_of::<Offsets>() == 48);

/// The kernel chose it because memory had run out.
pub const OOM: u32 = 1;
/// The signal came from the kernel, not from a process.
pub const KERNEL: u32 = 2;
/// The process sent the signal to itself.
pub const ITSELF: u32 = 4;
