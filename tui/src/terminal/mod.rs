//! The terminal: taken on the way in, given back by every way out.
//!
//! In: cells to show. Out: as few bytes as show them, one write per frame, inside a synchronized
//! update so that no half frame is ever seen. Every mode that is switched on here is switched off
//! again by [`restore`], which knows nothing and can be called from a panic.

mod painter;
mod session;

pub use painter::{Painter, to_ascii};
pub use session::{Session, Stops, is_lent, restore};
