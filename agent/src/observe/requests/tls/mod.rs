//! Which files the programs in OpenSSL are put into: libraries that watched processes map, and executables
//! that export it, as Node does.
//!
//! Comes in: processes, as the kernel's side meets them ([`Met`]). Goes out: files with the places of
//! OpenSSL's functions in them, each once, by device and inode, of containers too; and what the agent says
//! of it. [`elf`] finds the functions, [`maps`] reads what a process maps, [`finder`] holds it together,
//! [`task`] has the thread. [`name`] reads what a client calls the server. How what they see is tied to sockets is in `bpf/src/sockets/tls.rs`.

pub mod elf;
pub mod finder;
pub mod maps;
pub mod name;
pub mod task;

/// Functions of OpenSSL that are looked for, and the program that a call of each begins with.
pub const FUNCTIONS: [(&str, &str); 6] = [
    ("SSL_read", "ssl_read"),
    ("SSL_write", "ssl_write"),
    ("SSL_read_ex", "ssl_read_ex"),
    ("SSL_write_ex", "ssl_write_ex"),
    ("SSL_sendfile", "ssl_sendfile"),
    ("SSL_free", "ssl_free"),
];
/// Without these a file is not OpenSSL.
pub const NEEDED: [&str; 2] = ["SSL_read", "SSL_write"];

/// Whether what is within TLS is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum When {
    /// Where it costs little: the agent tries it when it starts
    #[default]
    Auto,
    /// Whatever it costs
    Always,
    /// Nothing within TLS is read
    Never,
}

/// A process that may use OpenSSL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// As the agent's namespace numbers it.
    pub pid: u32,
    /// It has begun a connection with TLS, and is watched; else it has just been started.
    pub speaks: bool,
}
