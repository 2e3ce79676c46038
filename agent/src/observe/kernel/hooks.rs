//! Where requests are seen: in sockets, which tell of the bytes that move through them, or, on kernels where they do
//! not (before Linux 6.3), where the calls end that moved them.

use aya::Ebpf;
use aya::maps::Array;
use coral_bpf_types::{CallOffsets, form, protocol, way};

use super::btf::{Btf, BtfError};
use super::load::{attach as hook, detach, put_in_place, told};

/// Where they are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Hooks {
    /// In sockets; where the kernel has no hook there (before Linux 6.3), where system calls end
    #[default]
    Auto,
    /// In sockets, or not at all
    Sockets,
    /// Where system calls end, which every program pays for
    Calls,
}

/// What is hooked.
#[derive(Debug, Default)]
pub(super) struct Attached {
    /// The hooks.
    pub(super) hooks: Vec<&'static str>,
    /// Why they hang where calls end, where nobody asked for that.
    pub(super) instead: Option<String>,
    /// Protocols that are read, with their numbers.
    pub(super) protocols: Vec<(&'static str, u16)>,
}

/// Tells when sockets begin and end.
const STATES: &str = "inet_sock_set_state";
/// Tell of bytes that move.
const SOCKETS: [&str; 2] = ["sock_recv_length", "sock_send_length"];
/// Tells of calls that end.
const CALLS: [&str; 1] = ["sys_exit"];
/// Only save work.
const SAVING: [&str; 2] = ["sched_process_fork", "sched_process_exec"];
/// Reads the messages of a call that moved several datagrams and is over.
const SEVERAL: &str = "datagrams_of_call";
/// Protocols that the programs at the hooks read themselves, and those that have a program of
/// their own, which is loaded alone: what they are called, [`protocol`], program.
const PROTOCOLS: [(&str, u16, Option<&str>); 6] = [
    ("HTTP/1.1", protocol::HTTP, None),
    ("HTTP/2 and gRPC", protocol::HTTP2, Some("framed_http2")),
    ("Redis", protocol::RESP, Some("framed_resp")),
    ("PostgreSQL", protocol::POSTGRES, Some("framed_postgres")),
    ("DNS", protocol::DATAGRAMS, Some("datagrams")),
    ("DNS over TCP", protocol::DNS, Some("framed_dns")),
];

/// Calls that move bytes through sockets, where they have them, and which of their arguments is the socket; the
/// numbers are this machine's.
const MOVING: [(libc::c_long, u8, u8); 12] = [
    (libc::SYS_read, form::BUFFER, way::RECEIVES),
    (libc::SYS_write, form::BUFFER, way::SENDS),
    (libc::SYS_recvfrom, form::BUFFER, way::RECEIVES | way::HOW_FOURTH),
    (libc::SYS_sendto, form::BUFFER, way::SENDS),
    (libc::SYS_readv, form::PIECES, way::RECEIVES),
    (libc::SYS_writev, form::PIECES, way::SENDS),
    (libc::SYS_recvmsg, form::MESSAGE, way::RECEIVES | way::HOW_THIRD),
    (libc::SYS_sendmsg, form::MESSAGE, way::SENDS),
    (libc::SYS_recvmmsg, form::MESSAGES, way::RECEIVES | way::HOW_FOURTH | way::SEVERAL),
    (libc::SYS_sendmmsg, form::MESSAGES, way::SENDS | way::SEVERAL),
    (libc::SYS_sendfile, form::NONE, way::SENDS),
    (libc::SYS_splice, form::NONE, way::RECEIVES | way::SENDS_THIRD),
];

/// What an argument of a call is called in `pt_regs` is the machine's.
pub(super) fn argument(btf: &Btf<'_>, number: u32, name: &str) -> Result<u32, BtfError> {
    let found = btf.offset("pt_regs", name);
    found.or_else(|_| Ok(btf.offset("pt_regs", "regs")?.saturating_add(8 * number)))
}

/// What leads from a call that is over to its socket.
pub(super) fn offsets(btf: &Btf<'_>) -> Result<CallOffsets, BtfError> {
    Ok(CallOffsets {
        files: btf.offset("task_struct", "files")?,
        table: btf.offset("files_struct", "fdt")?,
        most: btf.offset("fdtable", "max_fds")?,
        list: btf.offset("fdtable", "fd")?,
        inode: btf.offset("file", "f_inode")?,
        mode: btf.offset("inode", "i_mode")?,
        private: btf.offset("file", "private_data")?,
        sk: btf.offset("socket", "sk")?,
        // Where a call's first argument and what it gives have one register, the argument is kept beside it.
        first: btf.offset("pt_regs", "orig_x0").or_else(|_| argument(btf, 0, "di"))?,
        fourth: argument(btf, 3, "r10")?,
    })
}

/// Hooks all that requests need, or nothing. A protocol whose program the kernel refuses is missing, and
/// the others are not. `calls`: whether sockets can be found where calls end.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    hooks: Hooks,
    calls: Result<(), String>,
    missing: &mut Vec<String>,
) -> Result<Attached, String> {
    for (call, form, way) in MOVING {
        let call = u32::try_from(call).map_err(|e| e.to_string())?;
        set(ebpf, "FORMS", call, form)?;
        set(ebpf, "WAYS", call, way)?;
    }
    let mut protocols = Vec::new();
    for (name, number, program) in PROTOCOLS {
        match program.map_or(Ok(()), |program| put_in_place(ebpf, program, number)) {
            Ok(()) => {
                set(ebpf, "READ", number.into(), 1)?;
                protocols.push((name, number));
            }
            Err(why) => missing.push(format!("{name}: {why}")),
        }
    }
    all(ebpf, &[STATES])?;
    let moving = match hooks {
        Hooks::Sockets => all(ebpf, &SOCKETS).map(|()| (&SOCKETS[..], None)),
        Hooks::Calls => at_calls(ebpf, calls, missing).map(|()| (&CALLS[..], None)),
        Hooks::Auto => match all(ebpf, &SOCKETS) {
            Ok(()) => Ok((&SOCKETS[..], None)),
            Err(why) => match at_calls(ebpf, calls, missing) {
                Ok(()) => Ok((&CALLS[..], Some(why))),
                Err(neither) => Err(format!("{why} · {neither}")),
            },
        },
    };
    let (moving, instead) = match moving {
        Ok(moving) => moving,
        Err(why) => {
            detach(ebpf, STATES);
            return Err(why);
        }
    };
    let mut hooked = vec![STATES];
    hooked.extend(moving);
    for program in SAVING {
        match hook(ebpf, program) {
            Ok(()) => hooked.push(program),
            Err(why) => missing.push(format!("{program}: {why}")),
        }
    }
    Ok(Attached { hooks: hooked, instead, protocols })
}

/// The hooks in a sentence, with why they are where calls end.
pub(super) fn words(hooks: &[&str], instead: Option<&str>) -> String {
    let word = |hook: &&str| match instead {
        Some(why) if CALLS.contains(hook) => format!("{hook} (for lack of {why})"),
        _ => (*hook).to_owned(),
    };
    hooks.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// Hooks where calls end.
fn at_calls(
    ebpf: &mut Ebpf,
    calls: Result<(), String>,
    missing: &mut Vec<String>,
) -> Result<(), String> {
    let [program] = CALLS;
    calls.map_err(|why| format!("{program}: {why}"))?;
    all(ebpf, &CALLS)?;
    if let Err(why) = put_in_place(ebpf, SEVERAL, protocol::SEVERAL) {
        missing.push(format!("DNS of calls that send several questions: {why}"));
    }
    Ok(())
}

/// Hooks all of them, or none.
fn all(ebpf: &mut Ebpf, programs: &[&'static str]) -> Result<(), String> {
    for (n, program) in programs.iter().enumerate() {
        if let Err(why) = hook(ebpf, program) {
            for program in programs.iter().take(n) {
                detach(ebpf, program);
            }
            return Err(format!("{program}: {why}"));
        }
    }
    Ok(())
}

fn set(ebpf: &mut Ebpf, name: &str, at: u32, value: u8) -> Result<(), String> {
    let map = ebpf.map_mut(name).ok_or_else(|| format!("no map {name}"))?;
    let mut map: Array<_, u8> = Array::try_from(map).map_err(|e| told(&e))?;
    map.set(at, value, 0).map_err(|e| told(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_kernel_is_told_what_it_lacks() {
        let hooks = ["inet_sock_set_state", "sys_exit"];
        assert_eq!(words(&hooks, None), "inet_sock_set_state, sys_exit");
        let why = "sock_recv_length: No such file or directory";
        let told = "inet_sock_set_state, sys_exit (for lack of sock_recv_length: No such file or directory)";
        assert_eq!(words(&hooks, Some(why)), told);
    }

    #[test]
    fn every_call_that_moves_bytes_says_which_of_its_arguments_is_the_socket() {
        for (call, form, way) in MOVING {
            assert!((0..512).contains(&call), "{call} has no place");
            let ends = way & (way::RECEIVES | way::SENDS | way::SENDS_THIRD);
            assert!(ends != 0, "{call}");
            assert_eq!(way & way::SEVERAL != 0, form == form::MESSAGES, "{call}");
        }
    }
}
