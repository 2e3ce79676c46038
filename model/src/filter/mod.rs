//! The one filter language: of panes, queries, alerts and tools.
//!
//! Text comes in ([`parse`]), an [`Expr`] comes out; it prints as text that parses to the same
//! expression, decides about anything that has [`Fields`] ([`Expr::matches`]), and tells what could
//! be typed next ([`complete`]). Turning it into SQL is the store's affair.
//!
//! ```
//! use coral_model::filter;
//!
//! let expr = filter::parse("service=checkout status=500.. not:route=/healthz").unwrap();
//! assert_eq!(expr.to_string(), "service=checkout status=500.. not:route=/healthz");
//!
//! let error = filter::parse("service=checkout duration=fast").unwrap_err();
//! assert!(error.to_string().contains("^^^^"));
//! ```

mod ast;
pub mod complete;
mod error;
mod eval;
mod fits;
mod key;
mod parse;
mod print;
#[cfg(test)]
mod tests;
mod words;

pub use ast::{Expr, Level, Pattern, Range, Scalar, Term, Test, Value};
pub use error::FilterError;
pub use eval::{FieldValue, Fields};
pub use key::Key;
pub use parse::parse;
pub use words::{closest, join_words, nearest, split_words};
