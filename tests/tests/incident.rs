//! The promise of the first screen: break the shop with each of its switches, and see which service,
//! since when, what changed.

use coral_model::time::{SECOND, Time};
use coral_model::view::{DigestRow, EdgeEnds, EventKind, Health, NodeKind, ProcessRow, Row};
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

#[track_caller]
fn blamed(colony: &Colony, service: &str) -> DigestRow {
    until(&format!("the digest to blame {service}"), || {
        let row = digest(colony)?;
        let found = row.suspect.as_deref() == Some(service) && row.onset.is_some();
        if found { Ok(row) } else { Err(format!("{row:?}")) }
    })
}

fn process(colony: &Colony, service: &str) -> Result<ProcessRow, String> {
    let rows = colony.query(&["hosts"])?;
    let of = rows.iter().find_map(|row| match row {
        Row::Host(host) => host.processes.iter().find(|p| p.service == service),
        _ => None,
    });
    of.cloned().ok_or_else(|| format!("no process of {service} in {rows:?}"))
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
    let row = blamed(&colony, "payments");
    assert!(matches!(row.health, Health::Moved | Health::Failing));

    let terminal = Terminal::coral(&colony, &[], 80, 24);
    let screen = terminal.wait_for("payments!");
    assert!(screen.contains("WHY"), "{screen}");

    // What lasts for seconds only is no incident once it is over.
    until("it to last", || {
        let row = digest(&colony)?;
        let since = row.onset.ok_or_else(|| format!("{row:?}"))?;
        let lasted = Time::now().since(since) / SECOND;
        if lasted >= 25 { Ok(()) } else { Err(format!("{lasted} s")) }
    });
    shop.heal();
    let over = until("the incident to be told as over", || {
        let row = digest(&colony)?;
        if row.health == Health::Recovered { Ok(row) } else { Err(format!("{row:?}")) }
    });
    assert_eq!(over.suspect.as_deref(), Some("payments"), "{over:?}");
    assert!(over.ended > over.onset, "{over:?}");
    terminal.wait_for("INCIDENT over");
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

#[test]
fn failing_requests_blame_the_service_that_fails() {
    let colony = Colony::start();
    let shop = Shop::start(&colony, 20);
    warmed_up(&colony);
    shop.fault(&["payments", "errors", "60"]);
    let row = blamed(&colony, "payments");
    assert!(row.movers.iter().any(|m| m.service == "payments"), "{row:?}");
}

#[test]
fn a_pool_that_is_too_small_blames_its_service() {
    let colony = Colony::start();
    let shop = Shop::start(&colony, 20);
    warmed_up(&colony);
    shop.fault(&["payments", "pool", "1"]);
    _ = blamed(&colony, "payments");
}

#[test]
fn a_wrong_name_is_an_edge_to_where_it_points() {
    let colony = Colony::start();
    let shop = Shop::start(&colony, 20);
    warmed_up(&colony);
    shop.fault(&["checkout", "dns"]);
    _ = blamed(&colony, "checkout");
    until("an edge from checkout to a name nobody answers for", || {
        let rows = colony.query(&["topology", "--since", "5m"])?;
        let lost = rows.iter().any(|row| match row {
            Row::Edge(edge) => {
                edge.from == "checkout" && edge.to_kind == NodeKind::External && edge.red.errors > 0
            }
            _ => false,
        });
        if lost { Ok(()) } else { Err(format!("{rows:#?}")) }
    });
}

#[test]
fn a_process_that_dies_again_and_again_is_told_as_restarts() {
    let colony = Colony::start();
    let shop = Shop::start(&colony, 20);
    warmed_up(&colony);
    shop.fault(&["shipping", "crash"]);
    until("a restart of shipping", || {
        let rows = colony.query(&["events", "--since", "10m"])?;
        let told = rows.iter().any(|row| match row {
            Row::Event(event) => {
                event.kind == EventKind::Restart && event.service.as_deref() == Some("shipping")
            }
            _ => false,
        });
        if told { Ok(()) } else { Err(format!("{rows:?}")) }
    });
}

#[test]
fn a_hog_and_a_leak_show_on_their_processes() {
    let colony = Colony::start();
    let shop = Shop::start(&colony, 20);
    let before = until("the processes of the shop", || {
        let shipping = process(&colony, "shipping")?;
        shipping.rss_bytes.ok_or_else(|| format!("{shipping:?}"))
    });
    shop.fault(&["catalog", "cpu", "2"]);
    shop.fault(&["shipping", "leak", "200"]);
    until("a busy catalog", || {
        let catalog = process(&colony, "catalog")?;
        // Two threads that spin; the machine may be busy with others.
        let busy = catalog.cpu.is_some_and(|cores| cores > 0.3);
        if busy { Ok(()) } else { Err(format!("{catalog:?}")) }
    });
    until("a shipping that has grown", || {
        let shipping = process(&colony, "shipping")?;
        let grown = shipping.rss_bytes.is_some_and(|rss| rss > before + (80 << 20));
        if grown { Ok(()) } else { Err(format!("{shipping:?}")) }
    });
}
