//! What people and their programs reach: `coral.v1.Colony` on one Unix socket, beside the agents'
//! uplink, health and reflection.
//!
//! In: calls, each admitted by the table in [`permit`]. Out: rows as the JSON they are printed as.
//! A slow reader waits for itself only: streams are bounded, and a watched picture that is late is
//! skipped for the newest. How a question is answered does not belong here; see [`crate::query`].

mod backend;
mod colony;
mod failure;
mod gate;
mod note;
pub mod permit;
mod rows;
mod server;
mod stream;
mod transfer;

pub use backend::{Backend, Footing, Work};
pub use colony::{About, Colony};
pub use gate::Gate;
pub use note::event_of;
pub use server::{ServeError, serve};

#[cfg(test)]
mod tests;
