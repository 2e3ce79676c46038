//! What a metrics endpoint answers with, what log files and journals hold, and profiles.

use coral_agent::observe::logs::{journal, line};
use coral_agent::observe::prometheus::Limits;
use coral_agent::observe::prometheus::families;
use coral_agent::observe::prometheus::otlp::{self, Origin, Outcome};
use coral_agent::observe::prometheus::series::Memory;
use coral_agent::observe::prometheus::target::Target;
use coral_agent::observe::prometheus::text::Dialect;
use coral_model::Time;
use coral_proto::otlp::schema;
use coral_proto::pprof::Profile;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;

/// Any bytes, in both dialects: what is read becomes OTLP that the agent itself would take, twice in a
/// row; histograms have as many counts as their bounds need, and their count is their sum.
pub fn prometheus_text(data: &[u8]) {
    let limits = Limits { series: 3, samples: 50, metrics: 10, labels: 4, ..Limits::default() };
    for dialect in [Dialect::Classic, Dialect::OpenMetrics] {
        let Ok(mut answer) = families::read(data, dialect, limits) else { continue };
        assert!(answer.samples <= 50);
        let origin = Origin { service: "s".into(), instance: "i".into(), host: None };
        let outcome = Outcome { up: true, seconds: 0.0, samples: answer.samples };
        let mut memory = Memory::default();
        for second in [1, 2] {
            let now = Time(second * 1_000_000_000);
            let requests = otlp::requests(&mut answer, &origin, &mut memory, limits, outcome, now);
            for request in requests {
                schema::check(&schema::METRICS, &request.encode_to_vec()).expect("not OTLP");
                let metrics = request.resource_metrics.into_iter().flat_map(|r| r.scope_metrics);
                for metric in metrics.flat_map(|s| s.metrics) {
                    let Some(Data::Histogram(histogram)) = metric.data else { continue };
                    for p in histogram.data_points {
                        let (bounds, counts) = (p.explicit_bounds.len(), p.bucket_counts.len());
                        assert!(counts == 0 && bounds == 0 || counts == bounds + 1);
                        assert!(counts == 0 || p.bucket_counts.iter().sum::<u64>() == p.count);
                        assert!(p.explicit_bounds.is_sorted());
                    }
                }
            }
        }
    }
    if let Ok(target) = Target::parse(&String::from_utf8_lossy(data), None) {
        assert!(target.path.starts_with('/') && !target.path.contains(['\r', '\n', ' ']));
    }
}

/// Any line, as an application, a container runtime or a journal could have written it.
pub fn log_lines(data: &[u8]) {
    for line in data.split(|&b| b == b'\n').take(100) {
        let text = String::from_utf8_lossy(line);
        let said = line::said(&text);
        assert!(said.severity <= 24);
        let _ = line::zoneless(&text);
        for unwrapped in [line::unwrap_cri(&text), line::unwrap_docker(&text)].into_iter().flatten()
        {
            assert!(unwrapped.text.len() <= text.len());
        }
        if let Some(entry) = journal::entry(line, None, "h", Time(1)) {
            let _ = entry.record.encode_to_vec();
            assert!(entry.record.severity_number <= 24);
        }
    }
}

/// A profile: what is read adds up, however it is added.
pub fn pprof(data: &[u8]) {
    let Ok(profile) = Profile::read(data) else { return };
    for measure in 0..profile.measures.len().min(4) {
        let top = profile.top(measure);
        assert!(top.len() <= 1_000_000);
        let tree = profile.tree(measure, i64::MIN);
        assert!(tree.iter().all(|row| row.depth < 4_096 * 64));
        let _ = profile.total(measure);
    }
}
