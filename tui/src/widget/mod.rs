//! What panes are drawn with: a canvas, tables, charts and numbers as people read them.
//!
//! A pane hands text and roles to a [`Canvas`]; the canvas cleans the text, cuts it to the columns
//! there are, looks the role up in the theme, and remembers what lies where for the mouse. It is
//! the only way from telemetry to cells, so no control character can slip past.

mod canvas;
mod chart;
mod number;
mod sql;
mod table;

pub use canvas::{Canvas, Hit, Piece, Target, folded, width as width_of};
pub use chart::{Bars, Marker, position, scale_top};
pub use number::{connections, error_share, hertz, latency, ratio, signed};
pub use sql::sql_colours;
pub use table::{Align, Column, Scroll, Table};
