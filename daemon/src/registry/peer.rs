//! Who stands at the other end of a Unix socket: the kernel says, not the caller.

use tonic::Extensions;
use tonic::transport::server::UdsConnectInfo;

/// What a caller may do, from least to most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Role {
    /// May look.
    Viewer,
    /// May record events, keep the colony running, and open and close agents' eyes.
    Operator,
    /// May also push telemetry, as an agent does, and end the colony.
    Admin,
}

/// The process at the other end, by `SO_PEERCRED`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process id, where the platform says.
    pub pid: Option<u32>,
}

impl Peer {
    /// Whoever sent the request that carries these extensions; `None` when the kernel did not say.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get::<UdsConnectInfo>().and_then(Self::from_connection)
    }

    /// The same, of a connection.
    #[must_use]
    pub fn from_connection(connection: &UdsConnectInfo) -> Option<Self> {
        let cred = connection.peer_cred?;
        let pid = cred.pid().and_then(|pid| u32::try_from(pid).ok());
        Some(Self { uid: cred.uid(), gid: cred.gid(), pid })
    }

    /// What this caller may do in a colony that `owner` runs. The owner and root may do everything.
    /// Anybody else only reaches the socket of a system colony (its file mode keeps the others
    /// out), and its group is there to look and to record events.
    #[must_use]
    pub fn role(&self, owner: u32, system: bool) -> Option<Role> {
        if self.uid == owner || self.uid == 0 {
            return Some(Role::Admin);
        }
        system.then_some(Role::Operator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_have_no_role_in_a_users_colony() {
        let peer = |uid| Peer { uid, gid: uid, pid: None };
        assert_eq!(peer(1000).role(1000, false), Some(Role::Admin));
        assert_eq!(peer(0).role(1000, false), Some(Role::Admin));
        assert_eq!(peer(1001).role(1000, false), None);
        assert_eq!(peer(1001).role(0, true), Some(Role::Operator));
    }
}
