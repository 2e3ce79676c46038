//! What will be asked here, once a model can be.

use ratatui::layout::Rect;

use crate::app::App;
use crate::theme::Role;
use crate::widget::Canvas;

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, _focused: bool) {
    let inner = area;
    let about = app
        .here
        .service
        .as_ref()
        .map_or_else(|| "this window".to_owned(), |s| coral_model::text::fit(s, 30));
    let mut y = inner.y;
    for (role, text) in [
        (Role::Text, format!("Ask about {about} in your own words.")),
        (
            Role::Dim,
            "Not in this build: the assistant will answer with the same queries you can run, and show each one."
                .to_owned(),
        ),
        (Role::Dim, "Until then: w why · s split · : every command".to_owned()),
    ] {
        let left = Rect { y, height: inner.bottom().saturating_sub(y), ..inner };
        y += canvas.wrap(left, &text, role);
    }
}
