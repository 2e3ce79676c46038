//! Who may call what: every RPC, and the least role it takes. What is not listed is refused; a test
//! fails when a method of a served description is missing.

use tonic::Status;

use crate::registry::{Peer, Role};

/// Path of every served RPC, and the least role that may call it.
pub const RPCS: &[(&str, Role)] = &[
    ("/coral.v1.Colony/Hello", Role::Viewer),
    ("/coral.v1.Colony/Query", Role::Viewer),
    ("/coral.v1.Colony/Status", Role::Viewer),
    ("/coral.v1.Colony/Complete", Role::Viewer),
    ("/coral.v1.Colony/Export", Role::Viewer),
    ("/coral.v1.Colony/Parquet", Role::Viewer),
    ("/coral.v1.Colony/Import", Role::Admin),
    ("/coral.v1.Colony/PostEvent", Role::Operator),
    ("/coral.v1.Colony/Stay", Role::Operator),
    ("/coral.v1.Colony/Eyes", Role::Operator),
    ("/coral.v1.Colony/Shutdown", Role::Admin),
    ("/coral.v1.Uplink/Session", Role::Admin),
    ("/grpc.health.v1.Health/Check", Role::Viewer),
    ("/grpc.health.v1.Health/Watch", Role::Viewer),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Role::Viewer),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Role::Viewer),
];

/// Whose colony this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The user it runs as.
    pub owner: u32,
    /// A colony of the machine: members of the socket's group may use it.
    pub system: bool,
}

impl Policy {
    /// Whether `peer` may call the RPC of that path; if not, what to tell it.
    pub fn admit(&self, path: &str, peer: Option<Peer>) -> Result<(), Status> {
        let Some((_, least)) = RPCS.iter().find(|(known, _)| *known == path) else {
            return Err(Status::unimplemented(format!("this colony has no {path}")));
        };
        let Some(peer) = peer else {
            return Err(Status::unauthenticated(
                "the kernel does not say who is calling; connect over the colony's Unix socket",
            ));
        };
        let Some(role) = peer.role(self.owner, self.system) else {
            return Err(Status::permission_denied(format!(
                "this colony belongs to user {}, you are user {}; \
                 start your own with `coral`, or use the system colony",
                self.owner, peer.uid
            )));
        };
        if role >= *least {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "{path} takes the role {least:?}, user {} has {role:?} here; ask user {} or root",
            peer.uid, self.owner
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    // The few fields of google/protobuf/descriptor.proto that name methods.
    #[derive(Message)]
    struct Files {
        #[prost(message, repeated, tag = "1")]
        file: Vec<FileOf>,
    }
    #[derive(Message)]
    struct FileOf {
        #[prost(string, tag = "2")]
        package: String,
        #[prost(message, repeated, tag = "6")]
        service: Vec<ServiceOf>,
    }
    #[derive(Message)]
    struct ServiceOf {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, repeated, tag = "2")]
        method: Vec<MethodOf>,
    }
    #[derive(Message)]
    struct MethodOf {
        #[prost(string, tag = "1")]
        name: String,
    }

    fn described() -> Vec<String> {
        let sets = [
            coral_proto::v1::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let files = sets.into_iter().flat_map(|set| Files::decode(set).unwrap().file);
        let methods = files.flat_map(|file| {
            let package = file.package;
            file.service.into_iter().flat_map(move |service| {
                let prefix = format!("/{package}.{}/", service.name);
                service.method.into_iter().map(move |m| format!("{prefix}{}", m.name))
            })
        });
        methods.collect()
    }

    #[test]
    fn every_rpc_names_the_permission_it_needs() {
        let described = described();
        assert!(described.len() >= 12, "{described:?}");
        for path in &described {
            assert!(RPCS.iter().any(|(known, _)| known == path), "{path} is in no table");
        }
        for (path, _) in RPCS {
            assert!(described.iter().any(|d| d == path), "{path} exists no more");
        }
    }

    #[test]
    fn what_is_not_listed_is_refused_and_so_is_who_is_not_known() {
        let policy = Policy { owner: 1000, system: false };
        let peer = |uid| Some(Peer { uid, gid: uid, pid: None });
        let code = |path: &str, peer| policy.admit(path, peer).err().map(|s| s.code());
        assert_eq!(code("/coral.v1.Colony/Query", peer(1000)), None);
        assert_eq!(code("/coral.v1.Colony/Query", peer(0)), None);
        assert_eq!(code("/coral.v1.Colony/Query", peer(7)), Some(tonic::Code::PermissionDenied));
        assert_eq!(code("/coral.v1.Colony/Query", None), Some(tonic::Code::Unauthenticated));
        assert_eq!(code("/coral.v1.Colony/Other", peer(0)), Some(tonic::Code::Unimplemented));
        let system = Policy { owner: 0, system: true };
        assert!(system.admit("/coral.v1.Colony/Query", peer(7)).is_ok());
        assert!(system.admit("/coral.v1.Colony/Shutdown", peer(7)).is_err());
    }
}
