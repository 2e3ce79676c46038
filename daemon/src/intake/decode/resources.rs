//! Resources, recognised by their bytes: an SDK sends the same one with every export.

use std::sync::Arc;

use coral_model::id::resource_id;
use coral_proto::otlp::value::Attributes;
use coral_proto::otlp::wire::WireError;
use hashbrown::HashMap;

use crate::store::{Batch, Resource};

/// Resources remembered; beyond it the memory starts afresh.
const BOUND: usize = 4096;
/// What a resource without `service.name` is called, as the semantic conventions say.
const NAMELESS: &str = "unknown_service";

/// See the module.
#[derive(Debug, Default)]
pub struct Resources {
    by_bytes: HashMap<Box<[u8]>, Arc<Resource>>,
}

impl Resources {
    /// The resource of these bytes, entered into the batch.
    pub fn meet(&mut self, bytes: &[u8], batch: &mut Batch) -> Result<Arc<Resource>, WireError> {
        let resource = match self.by_bytes.get(bytes) {
            Some(known) => Arc::clone(known),
            None => {
                let fresh = Arc::new(read(bytes)?);
                if self.by_bytes.len() >= BOUND {
                    self.by_bytes.clear();
                }
                self.by_bytes.insert(bytes.into(), Arc::clone(&fresh));
                fresh
            }
        };
        batch.heard.insert(resource.id);
        batch.resources.entry(resource.id).or_insert_with(|| Arc::clone(&resource));
        Ok(resource)
    }
}

fn read(bytes: &[u8]) -> Result<Resource, WireError> {
    let mut pairs: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for pair in Attributes::new(bytes, 1) {
        let (key, value) = pair?;
        pairs.push((key.into(), value.to_text()?.into()));
    }
    Ok(of_pairs(pairs))
}

/// The resource with these attributes.
pub fn of_pairs(mut pairs: Vec<(Arc<str>, Arc<str>)>) -> Resource {
    let id = resource_id(pairs.iter().map(|(k, v)| (&**k, &**v)));
    pairs.sort_unstable();
    let named = |key: &str| {
        let found = pairs.iter().find(|(k, v)| &**k == key && !v.is_empty());
        found.map(|(_, value)| Arc::clone(value))
    };
    Resource {
        id,
        service: named("service.name").unwrap_or_else(|| NAMELESS.into()),
        namespace: named("service.namespace"),
        instance: named("service.instance.id"),
        version: named("service.version"),
        host: named("host.name"),
        zone: named("cloud.availability_zone"),
        attributes: pairs,
        first: None,
    }
}
