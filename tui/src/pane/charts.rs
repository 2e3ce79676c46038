//! Rate, errors and p99 over time, on the one clock.

use coral_model::num::{f64_from, usize_sat};
use coral_model::text;
use coral_model::time::Time;
use coral_model::view::{EventKind, State};
use ratatui::layout::Rect;

use crate::app::App;
use crate::feed::Slot;
use crate::theme::Role;
use crate::widget::{Bars, Canvas, Marker, error_share, hertz, scale_top, width_of};

/// Three curves of equal length.
#[derive(Default)]
struct Curves {
    rate: Vec<Option<f64>>,
    errors: Vec<Option<f64>>,
    p99: Vec<Option<f64>>,
    provisional: bool,
    few: bool,
}

pub(super) fn title(app: &App) -> String {
    match &app.here.service {
        Some(service) => format!("RED {}", text::fit(service, 30)),
        None => "RED all services".into(),
    }
}

/// Sums the series of the selected service, or of all.
fn curves(app: &App) -> Curves {
    let Some(known) = app.data.known(Slot::Series) else { return Curves::default() };
    let step = known.want.step.unwrap_or(coral_model::time::BUCKET).max(1);
    let window = coral_model::Window::new(known.end.from, known.end.to).align(step);
    let n = usize_sat(window.length() / step).clamp(1, 2_000);
    let (mut requests, mut failed) = (vec![None::<f64>; n], vec![0.0_f64; n]);
    let mut p99 = vec![None::<f64>; n];
    let mut counts = vec![0_u64; n];
    let mut curves = Curves::default();
    for row in app.data.series() {
        if app.here.service.is_some() && row.service != app.here.service {
            continue;
        }
        let Some(start) = row.start.filter(|s| *s >= window.from) else { continue };
        let i = usize_sat(start.since(window.from) / step);
        if row.state == State::NotObserved || row.state == State::Stale {
            continue;
        }
        let (Some(r), Some(f), Some(p), Some(c)) =
            (requests.get_mut(i), failed.get_mut(i), p99.get_mut(i), counts.get_mut(i))
        else {
            continue;
        };
        *r = Some(r.unwrap_or(0.0) + f64_from(row.red.requests));
        *f += f64_from(row.red.errors);
        *c += row.red.requests;
        let ns = row.red.p99_ns.map(f64_from);
        *p = match (*p, ns) {
            (Some(a), Some(b)) => Some(f64::max(a, b)),
            (a, b) => a.or(b),
        };
        curves.provisional |= row.provisional && i + 1 == n;
    }
    let seconds = f64_from(step) / 1e9;
    curves.errors = requests
        .iter()
        .zip(&failed)
        .map(|(r, f)| r.map(|r| if r > 0.0 { f / r } else { 0.0 }))
        .collect();
    curves.few = counts.iter().rev().nth(1).is_some_and(|c| *c < 100);
    curves.rate = requests.into_iter().map(|r| r.map(|r| r / seconds)).collect();
    curves.p99 = p99;
    curves
}

/// The newest whole value, the youngest bucket being still open.
fn current(values: &[Option<f64>], provisional: bool) -> Option<f64> {
    values.iter().rev().skip(usize::from(provisional)).find_map(|v| *v)
}

fn markers(app: &App) -> Vec<Marker> {
    let mut markers: Vec<Marker> = Vec::new();
    let deploys = app
        .data
        .events()
        .filter(|e| e.kind == EventKind::Deploy)
        .filter(|e| app.here.service.is_none() || e.service == app.here.service);
    for event in deploys.take(20) {
        if let Some(at) = app.along(event.time) {
            markers.push(Marker { at, role: Role::Change });
        }
    }
    if let Some(at) = app.data.digest().and_then(|d| d.onset).and_then(|t| app.along(t)) {
        markers.push(Marker { at, role: Role::Onset });
    }
    markers
}

fn milli(ns: f64) -> String {
    text::duration(coral_model::num::u64_from_f64(ns))
}

/// Name, look, values, top of the axis, and how a value is printed.
type Part<'a> = (&'static str, Role, &'a [Option<f64>], f64, fn(f64) -> String);

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, _focused: bool) {
    if area.height < 3 || area.width < 12 {
        return;
    }
    let curves = curves(app);
    let markers = markers(app);
    let axis = u16::from(area.height >= 7);
    let body = area.height - axis;
    let max = |values: &[Option<f64>]| values.iter().flatten().copied().fold(0.0, f64::max);
    let errors_top = max(&curves.errors);
    let parts: [Part<'_>; 3] = [
        ("rate", Role::Rate, &curves.rate, scale_top(max(&curves.rate)), hertz),
        (
            "errors",
            Role::Errors,
            &curves.errors,
            if errors_top > 0.0 { scale_top(errors_top).min(1.0) } else { 0.01 },
            error_share,
        ),
        ("p99", Role::Latency, &curves.p99, max(&curves.p99).max(1.0) * 1.05, milli),
    ];
    let inner = area;
    let mut y = area.y;
    for (i, (name, role, values, top, print)) in parts.into_iter().enumerate() {
        let left = coral_model::num::u16_sat(3 - i);
        let height = (area.y + body - y) / left;
        if height == 0 {
            continue;
        }
        let now = current(values, curves.provisional).map_or_else(|| "–".into(), print);
        let dim = name == "p99" && curves.few;
        let mut x = canvas.say(inner.x, y, inner.width, &format!("{name:<7}"), Role::Dim);
        x = canvas.say(
            x,
            y,
            inner.right().saturating_sub(x),
            &now,
            if dim { Role::Dim } else { Role::Strong },
        );
        if name == "p99" && app.here.service.is_none() {
            x = canvas.say(
                x,
                y,
                inner.right().saturating_sub(x),
                " of the slowest service",
                Role::Dim,
            );
        }
        let scale = format!("top {}", print(top));
        if width_of(&scale) + 2 < inner.right().saturating_sub(x) {
            canvas.say_right(inner.right(), y, width_of(&scale), &scale, Role::Dim);
        }
        if height > 1 {
            let chart = Rect { x: inner.x, y: y + 1, width: inner.width, height: height - 1 };
            let style = canvas.style(role);
            Bars { values, top, style, provisional: curves.provisional, markers: &markers }
                .draw(canvas, chart);
        }
        y += height;
    }
    if axis == 1 {
        let window = app
            .data
            .known(Slot::Series)
            .map_or_else(|| app.window(), |k| coral_model::Window::new(k.end.from, k.end.to));
        let y = area.bottom() - 1;
        let short = |t: Time| app.clock(t).get(..5).unwrap_or_default().to_owned();
        let middle = Time(window.from.0 / 2 + window.to.0 / 2);
        canvas.say(inner.x, y, inner.width, &short(window.from), Role::Dim);
        if inner.width > 30 {
            canvas.say(inner.x + inner.width / 2 - 2, y, 5, &short(middle), Role::Dim);
        }
        canvas.say_right(inner.right(), y, 5, &short(window.to), Role::Dim);
    }
}
