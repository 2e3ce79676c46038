//! The names a filter knows, and which questions each can be asked of.

use std::fmt;

use crate::question::View;

/// A field. The well-known ones have short names; any attribute goes by its own.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Key {
    /// `service.name`. In the topology: either end.
    Service,
    /// Route, RPC method or span name.
    Operation,
    /// `http.route`.
    Route,
    /// The protocol's status code.
    Status,
    /// Failed, or not.
    Error,
    /// How long it took.
    Duration,
    /// Severity of a log record.
    Level,
    /// Name of a span, node or metric.
    Name,
    /// Kind of a span, event, node or metric.
    Kind,
    /// `host.name`.
    Host,
    /// `service.instance.id`.
    Instance,
    /// `service.version`.
    Version,
    /// `cloud.availability_zone`.
    Zone,
    /// `service.namespace`.
    Namespace,
    /// Trace id.
    Trace,
    /// Span id.
    Span,
    /// Name of a metric.
    Metric,
    /// What a log record or event says.
    Body,
    /// Id of an agent.
    Agent,
    /// Protocol of an edge.
    Protocol,
    /// An attribute of the span, log record, event or metric series; failing that, of its resource.
    Attribute(String),
    /// An attribute of the resource.
    Resource(String),
}

/// `(key, its word, its attribute in OpenTelemetry's conventions, what it is)`.
pub(super) const KNOWN: &[(Key, &str, Option<&str>, &str)] = &[
    (Key::Service, "service", Some("service.name"), "service"),
    (Key::Operation, "operation", None, "route, RPC method or span name"),
    (Key::Route, "route", Some("http.route"), "HTTP route"),
    (Key::Status, "status", None, "the protocol's status code: 500.. or UNAVAILABLE"),
    (Key::Error, "error", None, "true: the request failed"),
    (Key::Duration, "duration", None, "how long it took: 250ms..2s"),
    (Key::Level, "level", None, "level of a log record: warn.."),
    (Key::Name, "name", None, "name of a span, node or metric"),
    (Key::Kind, "kind", None, "kind of a span, event, node or metric"),
    (Key::Host, "host", Some("host.name"), "host"),
    (Key::Instance, "instance", Some("service.instance.id"), "instance of a service"),
    (Key::Version, "version", Some("service.version"), "version of a service"),
    (Key::Zone, "zone", Some("cloud.availability_zone"), "availability zone"),
    (Key::Namespace, "namespace", Some("service.namespace"), "namespace of a service"),
    (Key::Trace, "trace", None, "trace id"),
    (Key::Span, "span", None, "span id"),
    (Key::Metric, "metric", None, "name of a metric"),
    (Key::Body, "body", None, "what a log record or event says"),
    (Key::Agent, "agent", None, "id of an agent"),
    (Key::Protocol, "protocol", None, "protocol of an edge: http, grpc, postgresql"),
];

impl Key {
    /// The key of a name: a short one, its attribute's name, `res.…`, `attr.…`, or any other
    /// attribute.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        if let Some((key, ..)) =
            KNOWN.iter().find(|(_, word, attribute, _)| *word == name || *attribute == Some(name))
        {
            return key.clone();
        }
        if let Some(rest) = name.strip_prefix("res.").filter(|r| !r.is_empty()) {
            return Self::Resource(rest.to_owned());
        }
        let rest = name.strip_prefix("attr.").filter(|r| !r.is_empty());
        Self::Attribute(rest.unwrap_or(name).to_owned())
    }

    /// The attribute this key stands for, where it stands for one.
    #[must_use]
    pub fn attribute(&self) -> Option<&str> {
        match self {
            Self::Attribute(name) | Self::Resource(name) => Some(name),
            known => KNOWN.iter().find(|(k, ..)| k == known).and_then(|(_, _, a, _)| *a),
        }
    }

    /// Every short name with what it is, in the order help lists them.
    pub fn known() -> impl Iterator<Item = (&'static str, &'static str)> {
        KNOWN.iter().map(|(_, word, _, help)| (*word, *help))
    }

    /// The key of a short name.
    #[must_use]
    pub fn known_name(name: &str) -> Option<Self> {
        KNOWN.iter().find(|(_, word, ..)| *word == name).map(|(key, ..)| key.clone())
    }

    /// Whether rows behind `view` have this field at all. Asking for one they cannot have is an
    /// error, not an empty answer.
    #[must_use]
    pub fn fits(&self, view: View) -> bool {
        use View as V;
        match view {
            // Counted at the agent by service, operation, kind, status and resource; nothing else
            // of a request is kept there.
            V::Red | V::Services | V::Digest => matches!(
                self,
                Self::Service
                    | Self::Operation
                    | Self::Status
                    | Self::Error
                    | Self::Kind
                    | Self::Host
                    | Self::Instance
                    | Self::Version
                    | Self::Zone
                    | Self::Namespace
                    | Self::Resource(_)
            ),
            V::Traces | V::Trace | V::Diff => {
                !matches!(self, Self::Level | Self::Metric | Self::Agent | Self::Protocol)
            }
            V::Logs | V::Patterns => !matches!(
                self,
                Self::Operation
                    | Self::Route
                    | Self::Status
                    | Self::Duration
                    | Self::Name
                    | Self::Kind
                    | Self::Metric
                    | Self::Agent
                    | Self::Protocol
            ),
            V::Events => matches!(
                self,
                Self::Service
                    | Self::Host
                    | Self::Kind
                    | Self::Body
                    | Self::Instance
                    | Self::Version
                    | Self::Attribute(_)
            ),
            V::Topology => {
                matches!(
                    self,
                    Self::Service | Self::Name | Self::Kind | Self::Protocol | Self::Error
                )
            }
            V::Metrics => matches!(
                self,
                Self::Service
                    | Self::Name
                    | Self::Metric
                    | Self::Kind
                    | Self::Host
                    | Self::Instance
                    | Self::Version
                    | Self::Zone
                    | Self::Namespace
                    | Self::Attribute(_)
                    | Self::Resource(_)
            ),
            V::Hosts => matches!(self, Self::Host | Self::Service),
            V::Inflight => matches!(
                self,
                Self::Service
                    | Self::Operation
                    | Self::Trace
                    | Self::Host
                    | Self::Instance
                    | Self::Version
            ),
            V::Agents => matches!(self, Self::Host | Self::Agent),
            // A statement has its own WHERE.
            V::Sql => false,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource(name) => write!(f, "res.{name}"),
            // What would read as something else needs its prefix: an attribute called `service`.
            Self::Attribute(name)
                if Self::from_name(name) != *self
                    || (!name.contains('.') && super::words::near_known(name).is_some()) =>
            {
                write!(f, "attr.{name}")
            }
            Self::Attribute(name) => f.write_str(name),
            known => f.write_str(
                KNOWN.iter().find(|(k, ..)| k == known).map_or("", |(_, word, ..)| *word),
            ),
        }
    }
}
