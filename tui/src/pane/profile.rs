//! What will be here, plainly.

use ratatui::layout::Rect;

use crate::app::App;
use crate::theme::Role;
use crate::widget::Canvas;

pub(super) fn draw(_app: &App, canvas: &mut Canvas<'_>, area: Rect, _focused: bool) {
    let inner = area;
    let mut y = inner.y;
    for (role, text) in [
        (Role::Strong, "Profiles are not in this build."),
        (
            Role::Text,
            "Here will stand where a service's time goes: on CPU, off CPU and waiting, by function, against its own baseline. It needs the agent's eBPF eyes.",
        ),
        (
            Role::Dim,
            "Until then: 8 shows CPU, memory and pressure per host and process; 4 and enter show where a trace's own time goes.",
        ),
    ] {
        let left = Rect { y, height: inner.bottom().saturating_sub(y), ..inner };
        y += canvas.wrap(left, text, role) + 1;
    }
}
