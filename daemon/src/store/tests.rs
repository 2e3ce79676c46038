use super::*;
use crate::counters::Counters;
use coral_model::id::{ResourceId, SpanId, TraceId};
use coral_model::view::{EventKind, EventRow, SpanKind, SpanStatus};

pub(crate) fn options() -> Options {
    Options::new(Arc::new(Counters::default()))
}

fn span(batch: &mut Batch, n: u64) {
    batch.spans.attributes.pair("http.route", "/cart");
    batch.spans.attributes.pair("n", &n.to_string());
    batch
        .spans
        .push(&columns::spans::Span {
            start_ns: 1_000 + n,
            duration_ns: 5,
            trace: TraceId([7; 16]),
            span: SpanId(n.to_be_bytes()),
            parent: None,
            service: "cart",
            operation: "GET /cart",
            name: "",
            kind: SpanKind::Server,
            status: SpanStatus::Unset,
            code: "200",
            error: false,
            http_route: "/cart",
            db_system: "",
            rpc_method: "",
            peer_service: "",
            resource: ResourceId(9),
            message: "",
            events: "",
            links: "",
        })
        .unwrap();
}

fn event(text: &str) -> EventRow {
    EventRow {
        time: Time(5),
        kind: EventKind::Note,
        service: None,
        host: None,
        text: text.into(),
        source: "test".into(),
        attributes: [("k".to_owned(), "v".to_owned())].into(),
    }
}

async fn count(store: &Store, sql: &'static str) -> u64 {
    store
        .read(move |c| -> Result<u64, StoreError> { Ok(c.query_row(sql, [], |r| r.get(0))?) })
        .await
        .unwrap()
}

#[tokio::test]
async fn what_is_committed_can_be_read_and_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let mut batch = Batch::default();
    for n in 1..=5_000 {
        span(&mut batch, n);
    }
    batch.events.push(event("hello"));
    let mark = Mark { agent: AgentId([1; 16]), segment: SegmentId([2; 16]), after: None, seq: 7 };
    batch.marks.push(mark);
    batch.bytes = 1_000;
    let first = store.commit(batch).await.unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM spans").await, 5_000);
    let sql = "SELECT count(*) FROM spans WHERE attributes['n'] = span_id::VARCHAR";
    assert_eq!(count(&store, sql).await, 5_000);
    let second = store.commit(Batch::of_events(vec![event("again")])).await.unwrap();
    assert!(second.stamp > first.stamp);
    store.close().await;
    drop(store);

    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM spans").await, 5_000);
    assert_eq!(count(&store, "SELECT count(*) FROM events WHERE attributes['k'] = 'v'").await, 2);
    assert_eq!(store.marks(AgentId([1; 16])), [(SegmentId([2; 16]), 7)]);
    // Every view answers, with or without rows.
    for signal in schema::Signal::ALL {
        let sql = format!("SELECT count(*) FROM {}", signal.name());
        store
            .read(move |c| -> Result<u64, StoreError> { Ok(c.query_row(&sql, [], |r| r.get(0))?) })
            .await
            .unwrap();
    }
    store.close().await;
}
