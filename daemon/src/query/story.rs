//! The digest's lines: each states numbers that were measured, where and against what.

use coral_model::text::{clean, duration, fit};
use coral_model::time::{Time, Window};
use coral_model::view::{
    Connections, EdgeEnds, EventKind, EventRow, Health, HostRow, Line, NodeKind,
};

use super::blame::Blame;
use super::case::Judged;
use super::digest::{Scene, is_change, unseen, worth};
use super::place::ALL;
use super::rules::{self, Off, What};

/// Longest line, in columns.
const WIDTH: usize = 160;
/// Changes named.
const CHANGES: usize = 3;
/// Sentences about what is not seen.
const UNSEEN: usize = 3;
/// A host is out of the question below this share of busy CPU …
const BUSY: f64 = 0.8;
/// … and below this pressure.
const PRESSURE: f64 = 0.1;

fn line(label: &str, text: &str) -> Line {
    Line { label: label.to_owned(), text: fit(text, WIDTH) }
}

/// Every line, most important first.
///
/// `first` is when the suspect's requests began to be bad, where that is known to the request.
pub fn lines(scene: &Scene<'_>, blame: &Blame, health: Health, first: Option<Time>) -> Vec<Line> {
    let mut lines = Vec::new();
    let told = matches!(health, Health::Moved | Health::Failing | Health::Recovered);
    match health {
        Health::NoData => {
            lines.push(line("WHY", &nothing(scene)));
        }
        Health::Calm => lines.push(line("WHY", &calm(scene))),
        Health::Moved | Health::Failing | Health::Recovered => {
            trouble(scene, blame, first, &mut lines);
        }
    }
    lines.extend(changed(scene, blame));
    if told {
        lines.extend(ruled_out(scene, blame));
    }
    lines.extend(not_seen(scene, blame));
    lines
}

/// A window as clocks, in UTC: the reader's zone is not known here.
fn window(w: Window, now: Time) -> String {
    let utc = jiff::tz::TimeZone::UTC;
    let day = |t: Time| t.format(&utc, "%b %-d ");
    let (from, to) = (day(w.from), day(w.to));
    let dated = from != day(now) || to != day(now);
    let format = "%H:%M";
    // Shorter than some minutes needs its seconds.
    let format = if w.length() < 600 * coral_model::time::SECOND {
        format.replace("%M", "%M:%S")
    } else {
        format.to_owned()
    };
    let first = if dated { from.as_str() } else { "" };
    let second = if dated && from != to { to.as_str() } else { "" };
    let (start, end) = (w.from.format(&utc, &format), w.to.format(&utc, &format));
    format!("{first}{start}–{second}{end} UTC")
}

fn clock(t: Time) -> String {
    format!("{} UTC", time(t))
}

fn time(t: Time) -> String {
    t.clock(&jiff::tz::TimeZone::UTC)
}

fn percent(x: f64) -> String {
    let x = x * 100.0;
    if x >= 10.0 || x == 0.0 { format!("{x:.0}%") } else { format!("{x:.1}%") }
}

fn times(now: f64, before: f64) -> String {
    if before <= 0.0 {
        return String::new();
    }
    let (arrow, x) =
        if now >= before { ('▲', now / before) } else { ('▼', before / now.max(1e-9)) };
    if x >= 10.0 { format!(" {arrow}{x:.0}×") } else { format!(" {arrow}{x:.1}×") }
}

/// Connections out of line, as text: `14 of 14 connections refused`, `all 10 connections busy (97%)`.
fn connections(off: &Off, now: Option<&Connections>) -> String {
    let Some(now) = now else { return format!("connections out of line ({})", percent(off.now)) };
    if off.what == What::Busy {
        return format!("all {:.0} connections busy ({})", now.open, percent(off.now));
    }
    let how = if now.refused == now.failed { "refused" } else { "failed" };
    format!("{} of {} connections {how}", now.failed, now.opened.saturating_add(now.failed))
}

/// One number out of line, as text.
fn number(off: &Off, now: &rules::Stretch, below: Option<&Connections>) -> String {
    let ns = |x: f64| duration(coral_model::num::u64_from_f64(x));
    let before = off.before;
    match off.what {
        What::P99 | What::P90 | What::P50 => {
            let name = match off.what {
                What::P50 => "p50",
                What::P90 => "p90",
                _ => "p99",
            };
            let was =
                before.map_or(String::new(), |b| format!("{} from {}", times(off.now, b), ns(b)));
            format!("{name} {}{was}", ns(off.now))
        }
        What::Errors => {
            let was = before.map_or("not known before".to_owned(), percent);
            format!("errors {} ({was})", percent(off.now))
        }
        What::NoAnswer => {
            format!("{} requests got no answer ({})", now.no_answer, percent(off.now))
        }
        What::Connects | What::Busy => connections(off, below),
        What::Dying => {
            format!("{} of its processes died", coral_model::num::u64_from_f64(off.now))
        }
        What::Hung => {
            format!("{} requests hang in flight", coral_model::num::u64_from_f64(off.now))
        }
        What::Rate => {
            let was = before.map_or(String::new(), |b| format!(" ({b:.1}/s)"));
            format!("rate {:.1}/s{was}", off.now)
        }
        What::Silence => {
            let was = before.map_or(String::new(), |b| format!(" ({b:.1}/s before)"));
            format!("no requests{was}")
        }
    }
}

/// No data is neither calm nor trouble.
fn nothing(scene: &Scene<'_>) -> String {
    let when = window(scene.plan.window, scene.plan.now);
    match scene.services.len() {
        0 => format!("nothing has arrived between {when}"),
        1 => format!("no requests between {when}; 1 service is known from other times"),
        n => format!("no requests between {when}; {n} services are known from other times"),
    }
}

fn calm(scene: &Scene<'_>) -> String {
    let seen = scene.services.iter().filter(|j| j.row.red.is_some()).count();
    if seen == 0 {
        let when = window(scene.plan.window, scene.plan.now);
        let n = scene.services.len();
        return format!("no requests between {when}: nothing to judge {n} services by");
    }
    let silent = scene.services.len() - seen;
    let rest = match silent {
        0 => String::new(),
        1 => "; 1 service without traffic".to_owned(),
        n => format!("; {n} services without traffic"),
    };
    let what = if seen == 1 { "1 service with traffic is" } else { "services with traffic are" };
    let count = if seen == 1 { String::new() } else { format!("{seen} ") };
    format!("{count}{what} in line with {}{rest}", window(scene.before, scene.plan.now))
}

fn trouble(scene: &Scene<'_>, blame: &Blame, first: Option<Time>, lines: &mut Vec<Line>) {
    let suspect = blame.suspect.as_deref();
    let find = |name: &str| scene.services.iter().find(|j| j.row.service == name);
    let worst =
        || scene.services.iter().filter(|j| j.worst > 0).max_by_key(|j| (j.worst, j.now.requests));
    let Some(judged) = suspect.and_then(find).or_else(worst) else { return };
    lines.push(line("WHY", &numbers(judged, scene, first)));
    if let Some(words) = judged.deaths.as_ref().and_then(|deaths| deaths.words.as_deref()) {
        let text = format!("{}: the last said “{}”", clean(&judged.row.service), clean(words));
        lines.push(line("WHY", &text));
    }
    lines.extend(scene.ended.and_then(|ended| now(scene, &judged.row.service, ended)));
    let waiting = judged.row.inflight.filter(|n| *n >= rules::HUNG_REQUESTS);
    if let Some(inflight) = waiting.filter(|_| scene.ended.is_none()) {
        let name = clean(&judged.row.service);
        let least = if judged.row.inflight_exact { "" } else { "at least " };
        let oldest =
            judged.row.oldest_ns.map_or(String::new(), |ns| format!(", oldest {}", duration(ns)));
        lines.push(line("WHY", &format!("{name}: {least}{inflight} in flight{oldest}")));
    }
    if let Some(text) = place(judged) {
        lines.push(line("WHY", &text));
    }
    // What it calls, where that is out of line: the trouble may sit below what is seen.
    for edge in
        blame.callees.iter().filter_map(|n| scene.edges.get(*n)).filter(|e| e.trouble() > 0).take(2)
    {
        let stretch = rules::Stretch { no_answer: edge.row.red.no_answer, ..Default::default() };
        let all: Vec<String> =
            edge.off.iter().map(|o| number(o, &stretch, edge.row.connections.as_ref())).collect();
        let ends = if edge.row.ends == EdgeEnds::One { ", seen from its side only" } else { "" };
        lines.push(line(
            "WHY",
            &format!("its calls to {}: {}{ends}", clean(&edge.row.to), all.join("; ")),
        ));
    }
}

fn numbers(judged: &Judged, scene: &Scene<'_>, first: Option<Time>) -> String {
    let name = clean(&judged.row.service);
    let mut parts: Vec<String> = judged.off.iter().map(|o| number(o, &judged.now, None)).collect();
    if let (Some(deaths), Some(first)) = (&judged.deaths, parts.first_mut()) {
        *first =
            format!("{} of its processes died (the last {})", deaths.count, clean(&deaths.how));
    }
    if parts.is_empty() && judged.row.red.is_none() {
        parts.push("no requests".to_owned());
    }
    let when = match (first.or(judged.since), scene.ended) {
        (Some(since), Some(ended)) => format!(" from {} to {}", time(since), clock(ended)),
        (Some(since), None) => format!(" since {}", clock(since)),
        (None, _) => String::new(),
    };
    let vs = match judged.off.iter().all(|off| off.what == What::Dying) && judged.deaths.is_some() {
        true => String::new(),
        false => format!(", vs {}", window(judged.usual, scene.plan.now)),
    };
    format!("{name}: {}{when}{vs}", parts.join("; "))
}

/// What it is like since it ended.
fn now(scene: &Scene<'_>, service: &str, ended: Time) -> Option<Line> {
    let judged = scene.since.iter().find(|j| j.row.service == service)?;
    let name = clean(service);
    let ago = duration(scene.plan.window.to.min(scene.plan.now).since(ended));
    let Some(red) = &judged.row.red else {
        return Some(line("now", &format!("{name}: no requests since, in {ago}")));
    };
    let errors = percent(red.error_ratio.unwrap_or(0.0));
    let p99 = red.p99_ns.map_or(String::new(), |ns| format!("p99 {}, ", duration(ns)));
    let how = if judged.off.is_empty() { "in line again" } else { "no longer failing" };
    Some(line("now", &format!("{name}: {how} for {ago}: {p99}errors {errors}")))
}

fn place(judged: &Judged) -> Option<String> {
    let row = &judged.row;
    let name = clean(&row.service);
    Some(match row.place.as_deref()? {
        "all" if row.instances > 1 => format!("{name}: alike on all its instances"),
        "all" => return None,
        everywhere if everywhere.starts_with(ALL) => {
            let version = everywhere.trim_start_matches(ALL).trim_start_matches(", ");
            format!("{name}: alike on all its hosts, all of which run {}", clean(version))
        }
        other => {
            let what =
                if row.versions.iter().any(|v| v == other) { "only version " } else { "only " };
            format!("{name}: {what}{}; the others are in line", clean(other))
        }
    })
}

fn changed(scene: &Scene<'_>, blame: &Blame) -> Option<Line> {
    let on_path = |e: &EventRow| {
        e.service.as_ref().is_some_and(|s| blame.path.iter().any(|step| step.name == *s))
    };
    let mut changes = worth(scene, blame);
    changes.retain(|e| is_change(e));
    // What somebody did first, then what is on the path, then the nearest to the onset.
    let near = |e: &EventRow| scene.onset.map_or(u64::MAX - e.time.0, |o| o.0.abs_diff(e.time.0));
    let done =
        |e: &EventRow| matches!(e.kind, EventKind::Deploy | EventKind::Restart | EventKind::Note);
    changes.sort_by_key(|e| (!done(e), !on_path(e), near(e)));
    changes.truncate(CHANGES);
    changes.sort_by_key(|e| e.time);
    let texts: Vec<String> = changes
        .iter()
        .map(|e| {
            let named = e.service.as_deref().filter(|s| !e.text.contains(*s));
            let of = named.map_or(String::new(), |s| format!(" ({})", clean(s)));
            format!("{} {}{of}", clean(&e.text), clock(e.time))
        })
        .collect();
    (!texts.is_empty()).then(|| line("changed", &texts.join(" · ")))
}

fn ruled_out(scene: &Scene<'_>, blame: &Blame) -> Option<Line> {
    let suspect = blame.suspect.as_deref()?;
    let mut parts: Vec<String> = Vec::new();
    let edges = blame.callees.iter().filter_map(|n| scene.edges.get(*n));
    let measured = |e: &&super::topology::JudgedEdge| {
        let before = e.row.baseline.as_ref().and_then(|b| b.red.as_ref());
        let enough = |n: u64| n >= rules::P90_REQUESTS;
        e.trouble() == 0 && enough(e.row.red.requests) && before.is_some_and(|b| enough(b.requests))
    };
    for edge in edges.filter(measured).take(3) {
        let kind = if edge.row.to_kind == NodeKind::Service { "" } else { " latency" };
        let p99 =
            edge.row.red.p99_ns.map_or(String::new(), |ns| format!(" (p99 {})", duration(ns)));
        parts.push(format!("{}{kind}{p99}", clean(&edge.row.to)));
    }
    let judged = scene.services.iter().find(|j| j.row.service == suspect)?;
    // Readings of hosts are of now.
    let of_now = scene.hosts.iter().filter(|_| scene.ended.is_none());
    let hosts: Vec<&HostRow> = of_now.filter(|h| judged.row.hosts.contains(&h.host)).collect();
    if hosts.len() == judged.row.hosts.len() && !hosts.is_empty() {
        let busy = hosts.iter().filter_map(|h| h.cpu.map(|c| c.busy)).fold(0.0, f64::max);
        let pressure = |h: &&HostRow| h.pressure.values().map(|p| p.some).fold(0.0, f64::max);
        let known = hosts.iter().all(|h| h.cpu.is_some() && !h.pressure.is_empty());
        if known && busy < BUSY && hosts.iter().map(pressure).fold(0.0, f64::max) < PRESSURE {
            parts.push(format!("its hosts (CPU {}, no pressure)", percent(busy)));
        }
    }
    (!parts.is_empty()).then(|| line("ruled out", &parts.join(", ")))
}

fn not_seen(scene: &Scene<'_>, blame: &Blame) -> Vec<Line> {
    let mut parts: Vec<String> = Vec::new();
    // From the suspect on down: what lies above it is seen by how it fares below.
    let suspect = blame.suspect.as_deref();
    let below = blame.path.iter().skip_while(|step| Some(step.name.as_str()) != suspect);
    for step in below {
        let reports = scene.services.iter().any(|j| j.row.service == step.name && !unseen(&j.row));
        if !reports {
            parts.push(format!("inside {}", clean(&step.name)));
        }
    }
    let silent = scene.services.iter().filter(|j| unseen(&j.row)).count();
    if silent > 0 {
        parts.push(format!("{silent} of {} services", scene.services.len()));
    }
    parts.extend(scene.blind.iter().take(UNSEEN).cloned());
    if scene.blind.len() > UNSEEN {
        parts.push(format!("{} more", scene.blind.len() - UNSEEN));
    }
    if parts.is_empty() { Vec::new() } else { vec![line("not seen", &parts.join(" · "))] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_out_of_line_are_told_by_their_number() {
        let seen = Connections {
            open: 9.7,
            busy_share: Some(0.97),
            opened: 0,
            failed: 14,
            refused: 14,
            reset: 0,
            retransmits: 0,
            sent_bytes: 0,
            received_bytes: 0,
            rtt_ns: None,
        };
        let told = |what, now, seen: &Connections| {
            let off = Off { what, level: 1, now, before: None };
            number(&off, &rules::Stretch::default(), Some(seen))
        };
        assert_eq!(told(What::Connects, 1.0, &seen), "14 of 14 connections refused");
        assert_eq!(told(What::Busy, 0.97, &seen), "all 10 connections busy (97%)");
        let seen = Connections { opened: 6, refused: 2, ..seen };
        assert_eq!(told(What::Connects, 0.7, &seen), "14 of 20 connections failed");
    }
}
