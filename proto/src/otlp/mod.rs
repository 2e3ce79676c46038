//! OTLP as bytes: walking an export request without building its message tree.
//!
//! Agent and colony both need a few fields of every span, never the tree: the agent to reduce, the
//! colony to fill columns. [`wire`] reads protobuf fields in place; [`trace`] and
//! [`value`] know which field is which. Everything borrows from the request; nothing allocates;
//! every length is checked, so any bytes give either records or a [`wire::WireError`].

pub mod logs;
pub mod meaning;
pub mod prune;
pub mod schema;
pub mod trace;
pub mod value;
pub mod wire;
