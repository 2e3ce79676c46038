//! The promise of the first screen: break the shop, and see which service, since when, what changed.

use coral_model::view::{DigestRow, EdgeEnds, EventKind, Health, NodeKind, Row};
use coral_tests::{Colony, Shop, Terminal, until};

fn digest(colony: &Colony) -> Result<DigestRow, String> {
    let rows = colony.query(&["digest", "--since", "5m"])?;
    rows.into_iter()
        .find_map(|row| if let Row::Digest(row) = row { Some(*row) } else { None })
        .ok_or_else(|| "no digest".to_owned())
}

/// Waits until all five services have answered requests for a while: a baseline to differ from.
fn warmed_up(colony: &Colony) {
    until("five services with traffic", || {
        let rows = colony.query(&["services", "--since", "5m"])?;
        let busy = rows.iter().filter(|row| match row {
            Row::Service(row) => row.red.as_ref().is_some_and(|red| red.requests >= 100),
            _ => false,
        });
        let busy = busy.count();
        if busy >= 4 { Ok(()) } else { Err(format!("{busy} busy services of {}", rows.len())) }
    });
}

#[test]
fn the_shops_topology_is_seen_from_both_ends() {
    let colony = Colony::start();
    let _shop = Shop::start(&colony, 20);
    let wanted = [("gateway", "catalog"), ("gateway", "checkout"), ("checkout", "payments")];
    until("the edges between services, seen from both ends", || {
        let rows = colony.query(&["topology", "--since", "5m"])?;
        let has = |from: &str, to: &str| {
            rows.iter().any(|row| match row {
                Row::Edge(edge) => {
                    edge.from == from && edge.to == to && edge.ends == EdgeEnds::Both
                }
                _ => false,
            })
        };
        let missing: Vec<_> = wanted.iter().filter(|(from, to)| !has(from, to)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("missing {missing:?} in {rows:#?}")) }
    });
    until("PostgreSQL and Redis as databases, seen from one end", || {
        let rows = colony.query(&["topology", "--since", "5m"])?;
        let database = |of: &str, system: &str| {
            rows.iter().any(|row| match row {
                Row::Edge(edge) => {
                    edge.from == of
                        && edge.to_kind == NodeKind::Database
                        && edge.ends == EdgeEnds::One
                        && (edge.to.contains(system) || edge.protocol.as_deref() == Some(system))
                }
                _ => false,
            })
        };
        if database("payments", "postgresql") && database("catalog", "redis") {
            Ok(())
        } else {
            Err(format!("{rows:#?}"))
        }
    });
}

#[test]
fn a_slow_payments_is_named_on_the_first_screen() {
    let colony = Colony::start();
    let shop = Shop::start(&colony, 20);
    warmed_up(&colony);
    shop.fault(&["payments", "latency", "900"]);
    let row = until("the digest to blame payments", || {
        let row = digest(&colony)?;
        if row.suspect.as_deref() == Some("payments") && row.onset.is_some() {
            Ok(row)
        } else {
            Err(format!("{row:?}"))
        }
    });
    assert!(matches!(row.health, Health::Moved | Health::Failing));

    let terminal = Terminal::coral(&colony, &[], 80, 24);
    let screen = terminal.wait_for("payments!");
    assert!(screen.contains("WHY"), "{screen}");
}

#[test]
fn a_bad_deploy_is_seen_as_a_change() {
    let colony = Colony::start();
    let shop = Shop::start(&colony, 20);
    warmed_up(&colony);
    shop.fault(&["payments", "deploy", "v42-bad"]);
    until("a deploy event of payments", || {
        let rows = colony.query(&["events", "--since", "10m"])?;
        let found = rows.iter().any(|row| match row {
            Row::Event(event) => {
                event.kind == EventKind::Deploy
                    && event.service.as_deref() == Some("payments")
                    && event.text.contains("v42")
            }
            _ => false,
        });
        if found { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    until("the digest to show it beside the trouble", || {
        let row = digest(&colony)?;
        let deploy = row.changes.iter().any(|event| event.kind == EventKind::Deploy);
        let blamed = row.services.iter().any(|s| s.service == "payments" && s.level > 0);
        if deploy && blamed { Ok(()) } else { Err(format!("{row:?}")) }
    });
}

#[test]
fn hung_requests_look_bad_not_quiet() {
    let colony = Colony::start();
    let shop = Shop::start(&colony, 20);
    warmed_up(&colony);
    shop.fault(&["payments", "hang", "100"]);
    until("requests in flight at payments", || {
        let rows = colony.query(&["inflight"])?;
        let held = rows.iter().find_map(|row| match row {
            Row::Inflight(row) if row.service == "payments" => Some((row.inflight, row.oldest_ns)),
            _ => None,
        });
        match held {
            Some((n, Some(oldest))) if n > 0 && oldest > 2_000_000_000 => Ok(()),
            other => Err(format!("{other:?} of {rows:?}")),
        }
    });
}
