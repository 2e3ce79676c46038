//! Who there is: a thousand services with ten operations each, their instances, whom each calls.

use std::sync::Arc;

use coral_daemon::store::Resource;
use coral_model::dice::Dice;
use coral_model::id::resource_id;

/// Services that get most of the requests.
pub const BUSY: usize = 100;
const OPERATIONS: usize = 10;
const HOSTS: u64 = 300;
const NOUNS: [&str; 20] = [
    "orders",
    "carts",
    "users",
    "prices",
    "stock",
    "offers",
    "reviews",
    "invoices",
    "shipments",
    "sessions",
    "products",
    "coupons",
    "returns",
    "wallets",
    "routes",
    "quotes",
    "alerts",
    "images",
    "searches",
    "ledgers",
];
const VERBS: [(&str, &str, &str); OPERATIONS] = [
    ("GET", "", "List"),
    ("GET", "/{id}", "Get"),
    ("POST", "", "Create"),
    ("PUT", "/{id}", "Replace"),
    ("PATCH", "/{id}", "Update"),
    ("DELETE", "/{id}", "Delete"),
    ("GET", "/{id}/history", "History"),
    ("POST", "/{id}/confirm", "Confirm"),
    ("GET", "/search", "Search"),
    ("POST", "/batch", "Batch"),
];

/// What a service can be asked.
pub struct Operation {
    pub method: &'static str,
    pub route: String,
    /// gRPC method.
    pub rpc: &'static str,
    /// As RED names it.
    pub name: Arc<str>,
    /// Its own share of a request's time, typically.
    pub median_ns: f64,
    /// What it asks its database.
    pub statement: String,
}

/// One service.
pub struct Service {
    pub name: Arc<str>,
    pub rpc_service: String,
    pub grpc: bool,
    pub operations: Vec<Operation>,
    /// Its instances, as places in [`World::resources`].
    pub instances: std::ops::Range<usize>,
    /// Services it calls.
    pub callees: [usize; 4],
    /// Its database, as an edge names it.
    pub database: Arc<str>,
    pub namespace: String,
    pub address: String,
    /// Function that INTERNAL spans name.
    pub function: String,
}

/// Everybody.
pub struct World {
    pub services: Vec<Service>,
    pub resources: Vec<Arc<Resource>>,
    /// Log-normal factors, sigma 0.7.
    pub factors: Vec<f64>,
}

impl World {
    /// With so many services.
    pub fn new(count: usize) -> Self {
        let mut dice = Dice(7);
        let mut resources = Vec::new();
        let services = (0..count).map(|n| service(n, count, &mut dice, &mut resources)).collect();
        let factors = (0..4096)
            .map(|_| {
                let (u, v) = (dice.unit().max(1e-12), dice.unit());
                let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
                (0.7 * normal).exp()
            })
            .collect();
        Self { services, resources, factors }
    }

    /// A service as requests from outside choose it: four of five go to the busy ones.
    pub fn front(&self, dice: &mut Dice) -> usize {
        popular(self.services.len(), dice)
    }
}

fn popular(count: usize, dice: &mut Dice) -> usize {
    let busy = BUSY.min(count);
    if count == busy || dice.below(5) < 4 {
        // The busiest gets about eight times what the hundredth gets.
        let u = dice.unit();
        ((u * u * busy as f64) as usize).min(busy - 1)
    } else {
        busy + dice.below((count - busy) as u64) as usize
    }
}

fn service(n: usize, count: usize, dice: &mut Dice, resources: &mut Vec<Arc<Resource>>) -> Service {
    let noun = NOUNS[n % NOUNS.len()];
    let name: Arc<str> = format!("{noun}-{:03}", n / NOUNS.len()).into();
    let grpc = n % 3 == 2;
    let rpc_service = format!("shop.{noun}.v1.{}", titled(noun));
    let first = resources.len();
    for instance in 0..if n < BUSY { 3 } else { 2 } {
        resources.push(Arc::new(resource(&name, n, instance, dice)));
    }
    let operations = VERBS
        .iter()
        .map(|&(method, tail, rpc)| {
            let route = format!("/api/v1/{noun}{tail}");
            let name =
                if grpc { format!("{rpc_service}/{rpc}") } else { format!("{method} {route}") };
            Operation {
                method,
                rpc,
                name: name.into(),
                median_ns: 400_000.0 * (1.0 + dice.unit() * 20.0),
                statement: format!(
                    "SELECT id, state, updated_at FROM {noun} WHERE id = $1 AND tenant = $2"
                ),
                route,
            }
        })
        .collect();
    Service {
        callees: std::array::from_fn(|_| popular(count, dice)),
        database: format!("postgresql/{noun}_{:03}", n / NOUNS.len()).into(),
        namespace: format!("{noun}_{:03}", n / NOUNS.len()),
        address: format!("{name}.shop.svc.cluster.local"),
        function: format!("com.example.{noun}.{}Service.handle", titled(noun)),
        instances: first..resources.len(),
        name,
        rpc_service,
        grpc,
        operations,
    }
}

fn titled(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |c| c.to_uppercase().chain(letters).collect())
}

fn resource(service: &Arc<str>, n: usize, instance: u64, dice: &mut Dice) -> Resource {
    let host = format!("node-{:03}", dice.below(HOSTS));
    let pod = format!("{service}-{:08x}-{instance}", dice.roll() >> 32);
    let mut attributes: Vec<(Arc<str>, Arc<str>)> = [
        ("service.name", service.to_string()),
        ("service.namespace", "shop".to_owned()),
        ("service.instance.id", pod.clone()),
        ("service.version", format!("1.{}.{}", n % 7, n % 13)),
        ("host.name", host),
        ("cloud.availability_zone", format!("eu-west-1{}", ["a", "b", "c"][instance as usize % 3])),
        ("k8s.pod.name", pod),
        ("telemetry.sdk.language", ["java", "go", "nodejs"][n % 3].to_owned()),
    ]
    .map(|(k, v)| (k.into(), v.into()))
    .into();
    attributes.sort_unstable();
    let named = |key: &str| {
        attributes.iter().find(|(k, _)| &**k == key).map(|(_, value)| Arc::clone(value))
    };
    Resource {
        id: resource_id(attributes.iter().map(|(k, v)| (&**k, &**v))),
        service: Arc::clone(service),
        namespace: named("service.namespace"),
        instance: named("service.instance.id"),
        version: named("service.version"),
        host: named("host.name"),
        zone: named("cloud.availability_zone"),
        attributes,
        first: None,
    }
}
