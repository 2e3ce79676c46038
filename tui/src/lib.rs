//! The `coral` program: the screen, and every `coral <verb>`.
//!
//! Data come in as answers to [`coral_model::Question`]s over the colony's socket; what goes out is
//! bytes to a terminal or lines to a pipe. Nothing here links the store or the kernel's eyes, and
//! nobody imports this crate. `app` is a pure reducer, `pane` draws what it holds, `runtime` is the
//! thin shell of threads around both; `cli` is the same answers without a screen.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        reason = "a test that wraps fails"
    )
)]

pub mod app;
pub mod bench;
pub mod cli;
pub mod client;
pub mod command;
pub mod export;
pub mod feed;
pub mod keymap;
pub mod layout;
pub mod open;
pub mod pane;
pub mod runtime;
pub mod terminal;
pub mod theme;
pub mod widget;
