//! A whole system without any instrumentation: what the kernel shows of the sample shop is what its own
//! spans show, service by service and edge by edge. Skipped only where the kernel does not let the agent
//! look, and then the reason is printed.

use std::collections::BTreeSet;

use coral_model::view::{EdgeRow, NodeKind, State};
use coral_tests::{Colony, Shop, edges, may_look, until};

/// Who calls whom in the shop.
const SHOP: [(&str, &str); 8] = [
    ("customers", "gateway"),
    ("gateway", "catalog"),
    ("gateway", "checkout"),
    ("catalog", "redis"),
    ("checkout", "payments"),
    ("checkout", "redis"),
    ("payments", "postgresql"),
    ("shipping", "redis"),
];
/// Whoever started the shop, which looks after it, answers its questions for names, and plays its
/// customers.
const STARTER: &str = "coral-shop";

/// An edge as both ways of looking call it: databases and queues by what they are (spans tell two ways
/// from a queue, the kernel who asks), customers as such. `None`: it is the starter's looking after things.
fn named(edge: EdgeRow) -> Option<(String, String)> {
    let system = |name: &str| name.split(['@', '/']).next().unwrap_or_default().to_owned();
    let name = |name: &str, kind: NodeKind| match kind {
        NodeKind::Service => name.to_owned(),
        NodeKind::Database | NodeKind::Queue => system(name),
        NodeKind::External => "customers".to_owned(),
    };
    let (from, to) = (name(&edge.from, edge.from_kind), name(&edge.to, edge.to_kind));
    match (from.as_str(), to.as_str()) {
        (STARTER, "gateway") => Some(("customers".to_owned(), to)),
        (STARTER, _) | (_, STARTER) => None,
        _ if edge.from_kind == NodeKind::Queue => Some((to, from)),
        _ => Some((from, to)),
    }
}

fn topology(colony: &Colony) -> Result<BTreeSet<(String, String)>, String> {
    let edges = edges(colony)?.into_iter().filter(|edge| edge.red.requests > 0);
    Ok(edges.filter_map(named).collect())
}

fn assert_whole(colony: &Colony) {
    let expected: BTreeSet<(String, String)> =
        SHOP.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    let seen = until("the whole shop", || {
        let seen = topology(colony)?;
        if expected.is_subset(&seen) { Ok(seen) } else { Err(format!("{seen:?}")) }
    });
    assert_eq!(seen, expected);
}

#[test]
fn a_shop_without_its_sdk_has_the_topology_that_its_spans_tell() {
    let mut colony = Colony::prepare().with_env("CORAL_WATCH", "coral-shop");
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let shop = Shop::silent(&colony, 20);
    assert_whole(&colony);
    // It was the kernel alone that told.
    let status = colony.status().unwrap();
    let agent = status.agents.iter().find(|agent| agent.state == State::Active).unwrap();
    assert_eq!(agent.counters["spans_received"], 0);
    drop(shop);
    drop(colony);

    let mut colony = Colony::prepare().with_env("CORAL_WATCH", "none");
    colony.up();
    let _shop = Shop::start(&colony, 20);
    assert_whole(&colony);
}
