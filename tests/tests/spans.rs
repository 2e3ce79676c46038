//! Spans that the agent makes of requests which the kernel saw, of an nginx in front of another that nobody
//! instrumented. Skipped only where the kernel does not let the agent look, and then the reason is printed.

use std::collections::BTreeMap;

use coral_model::view::{EdgeEnds, Evidence, Row, SpanKind, SpanRow, SpanStatus, TraceRow};
use coral_tests::nginx::{Nginx, Programs, alone, watched};
use coral_tests::{Colony, asks, counters, counts, may_look, nothing_lost, otlp, until};

const PROGRAMS: [&str; 2] = ["/usr/sbin/nginx", "/usr/bin/curl"];
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A proxy called `edge` in front of `catalog`, and `curl`, all watched, with spans.
struct Scene {
    front: Nginx,
    back: Nginx,
    programs: Programs,
    colony: Colony,
}

impl Scene {
    /// `None` where the kernel does not let the agent look.
    fn new() -> Option<Self> {
        let colony = Colony::prepare();
        let programs = Programs::copied(colony.dir(), &PROGRAMS);
        std::fs::copy(programs.dir.join("nginx"), programs.dir.join("backend")).unwrap();
        let at = programs.dir.display();
        let watch = format!("{at}/backend=catalog,{at}/nginx=edge,{at}/curl");
        let mut colony = colony.with_env("CORAL_WATCH", watch).with_env("CORAL_SPANS", "on");
        colony.up();
        if !may_look(&colony) {
            return None;
        }
        let broken = "location /broken { return 503; }";
        let back = Nginx::with(&programs, "backend", "", &format!("root {{at}}/www; {broken}"));
        let pass = format!("location / {{ proxy_pass http://127.0.0.1:{}; }}", back.port);
        let front = Nginx::with(&programs, "nginx", "", &pass);
        Some(Self { front, back, programs, colony })
    }

    fn ask(&self, path: &str, more: &[&str]) {
        let args = [&["-s", "-o", "/dev/null"], more].concat();
        _ = self.programs.run("curl", &args, &self.front.url(path));
    }

    /// The spans of a trace, once there are so many.
    fn spans(&self, id: &str, wanted: usize) -> Vec<SpanRow> {
        until("the spans of a trace", || {
            let rows = self.colony.query(&["trace", id, "--since", "30m"])?;
            let span = |row| if let Row::Span(span) = row { Some(*span) } else { None };
            let spans: Vec<SpanRow> = rows.into_iter().filter_map(span).collect();
            if spans.len() >= wanted {
                Ok(spans)
            } else {
                Err(format!("{spans:?} {:?}", counters(&self.colony)))
            }
        })
    }
}

fn traces(colony: &Colony, filter: &[&str]) -> Result<Vec<TraceRow>, String> {
    let words = [&["traces", "--since", "30m", "--limit", "1000"], filter].concat();
    let row = |row| if let Row::Trace(row) = row { Some(*row) } else { None };
    Ok(colony.query(&words)?.into_iter().filter_map(row).collect())
}

#[test]
fn requests_have_traces_with_both_ends_of_each_hop_and_are_counted_once() {
    let _alone = alone();
    let Some(scene) = Scene::new() else { return };
    let colony = &scene.colony;
    let header = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01");
    scene.ask("/small.html?token=hunter2", &["-H", &header]);
    for _ in 0..9 {
        scene.ask("/small.html", &[]);
    }
    // That of one whose caller does not record it is nobody's.
    let quiet = header.replace("4bf92f", "5bf92f").replace("b7-01", "b7-00");
    scene.ask("/small.html", &["-H", &quiet]);

    let spans = scene.spans(TRACE, 4);
    let told: Vec<_> = spans
        .iter()
        .map(|s| (s.service.as_str(), s.kind, s.depth, s.orphan, s.operation.as_str()))
        .collect();
    let operation = "GET /small.html";
    // What `traceparent` names nobody has sent; that edge asks because it was asked is not known.
    let hops = [
        ("curl", SpanKind::Client, 0, true, operation),
        ("edge", SpanKind::Server, 1, false, operation),
        ("edge", SpanKind::Client, 0, true, operation),
        ("catalog", SpanKind::Server, 1, false, operation),
    ];
    assert_eq!(told, hops);
    for span in &spans {
        let has = |key: &str, value: &str| {
            assert_eq!(span.attributes.get(key).map(String::as_str), Some(value), "{key} {span:?}");
        };
        has("coral.synthetic", "true");
        has("http.request.method", "GET");
        has("http.response.status_code", "200");
        has(if span.depth == 0 { "url.template" } else { "http.route" }, "/small.html");
        assert_eq!(span.resource.get("coral.evidence").map(String::as_str), Some("ebpf"));
        assert!(!format!("{span:?}").contains("hunter2"));
    }
    let port = |span: &SpanRow| span.attributes.get("server.port").cloned();
    let ports: Vec<_> = spans.iter().map(port).collect();
    let (front, back) = (scene.front.port.to_string(), scene.back.port.to_string());
    assert_eq!(ports, [Some(front), None, Some(back), None]);

    // The others have no trace of their own: each hop is one.
    let all = until("every trace", || {
        let all = traces(colony, &[])?;
        if all.iter().map(|t| t.spans).sum::<u64>() >= 40 {
            Ok(all)
        } else {
            Err(format!("{all:?}"))
        }
    });
    let mut by_services: BTreeMap<(String, u64, bool), u64> = BTreeMap::new();
    for trace in &all {
        *by_services.entry((trace.services.join(" "), trace.spans, trace.complete)).or_default() +=
            1;
    }
    let of = |services: &str, spans, complete, n| ((services.to_owned(), spans, complete), n);
    let expected = [
        of("catalog curl edge", 4, false, 1),
        of("catalog edge", 2, true, 9),
        of("curl edge", 2, true, 9),
    ];
    assert_eq!(by_services, BTreeMap::from(expected));
    let one = all.iter().find(|t| t.services == ["catalog", "edge"]).unwrap();
    let spans = scene.spans(&one.trace_id.to_string(), 2);
    let told: Vec<_> = spans.iter().map(|s| (s.service.as_str(), s.depth, s.orphan)).collect();
    assert_eq!(told, [("edge", 0, false), ("catalog", 1, false)]);
    assert_eq!(spans[1].parent_id, Some(spans[0].span_id));

    // One that fails. What came after shows that nothing was still to come.
    scene.ask("/broken", &[]);
    let failed = until("the failed one", || {
        let failed = traces(colony, &["service=catalog", "error=true"])?;
        failed.first().cloned().ok_or_else(|| format!("{:?}", counters(colony)))
    });
    let spans = scene.spans(&failed.trace_id.to_string(), 2);
    assert!(spans.iter().all(|s| s.status == SpanStatus::Error), "{spans:?}");
    for service in ["edge", "catalog"] {
        let expected = [("GET /broken", "503", 1), ("GET /small.html", "200", 11)];
        let expected = expected.map(|(what, status, n)| ((what.to_owned(), status.to_owned()), n));
        let counted = until("what is counted", || {
            let counted = counts(colony, service)?;
            if counted.values().sum::<u64>() >= 12 {
                Ok(counted)
            } else {
                Err(format!("{counted:?}"))
            }
        });
        assert_eq!(counted, BTreeMap::from(expected), "{service}");
    }
    for (from, to) in [("curl", "edge"), ("edge", "catalog")] {
        let edge = asks(colony, from, to, 12);
        let seen = (edge.red.requests, edge.ends, edge.red.evidence);
        assert_eq!(seen, (12, EdgeEnds::Both, Evidence::Ebpf), "{edge:?}");
    }
    // Four for each but the one that is not recorded.
    until("the agent to say how many there are", || {
        let counters = counters(colony);
        if counters["spans_made"] == 44 { Ok(()) } else { Err(format!("{counters:?}")) }
    });
    nothing_lost(colony, &["spans_left_out", "dropped_observations", "replayed_records"]);
}

#[test]
fn who_exports_spans_itself_is_left_out() {
    let _alone = alone();
    let Some(scene) = Scene::new() else { return };
    let colony = &scene.colony;
    let own = otlp::server_spans("edge", 1, 0, 1);
    assert!(otlp::post_spans(&colony.otlp_http, &own).unwrap());
    for _ in 0..5 {
        scene.ask("/small.html", &[]);
    }
    let made = until("the spans of the others", || {
        let made = traces(colony, &["coral.synthetic=true"])?;
        if made.len() >= 10 { Ok(made) } else { Err(format!("{made:?} {:?}", counters(colony))) }
    });
    // One for each request of curl's and each of catalog's.
    let mut services: Vec<String> = made.iter().map(|t| t.services.join(" ")).collect();
    services.sort_unstable();
    assert_eq!(services, [["catalog"; 5], ["curl"; 5]].concat());
    let edge = traces(colony, &["service=edge"]).unwrap();
    assert_eq!(edge.iter().map(|t| t.spans).collect::<Vec<_>>(), [1]);
    // It is shown by what it sent, and the other by what was seen of it.
    until("what is counted", || {
        let counted = counts(colony, "catalog")?;
        if counted.values().sum::<u64>() == 5 { Ok(()) } else { Err(format!("{counted:?}")) }
    });
    let rows = coral_tests::red(colony, &["service=edge"]).unwrap();
    let told: Vec<_> = rows.iter().map(|r| (r.red.requests, r.red.evidence)).collect();
    assert_eq!(told, [(1, Evidence::Otlp)]);
}

#[test]
fn unless_somebody_wants_them_there_are_none() {
    let _alone = alone();
    let Some((colony, programs)) = watched(&PROGRAMS, &["nginx", "curl"]) else { return };
    let nginx = Nginx::with(&programs, "nginx", "", "root {at}/www;");
    for _ in 0..10 {
        _ = programs.run("curl", &["-s", "-o", "/dev/null"], &nginx.url("/small.html"));
    }
    until("what is counted", || {
        let counted = counts(&colony, "nginx")?;
        if counted.values().sum::<u64>() == 10 { Ok(()) } else { Err(format!("{counted:?}")) }
    });
    assert_eq!(traces(&colony, &[]), Ok(Vec::new()));
    assert_eq!(counters(&colony)["spans_made"], 0);
}
