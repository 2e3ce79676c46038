//! Resources, recognised by their bytes: an SDK sends the same one with every export.

use std::sync::Arc;

use coral_model::id::resource_id;
use coral_proto::otlp::value::Attributes;
use coral_proto::otlp::wire::WireError;
use hashbrown::HashMap;

use crate::store::{Batch, Resource};

/// Resources remembered, and bytes they are recognised by; beyond it the memory is begun anew.
const BOUND: usize = 4096;
const BYTES: usize = 4 << 20;
/// What a resource without `service.name` is called, as the semantic conventions say.
const NAMELESS: &str = "unknown_service";

/// See the module.
#[derive(Debug, Default)]
pub struct Resources {
    by_bytes: HashMap<Box<[u8]>, Arc<Resource>>,
    bytes: usize,
    renewed: u64,
}

impl Resources {
    /// The resource of these bytes, entered into the batch.
    pub fn meet(&mut self, bytes: &[u8], batch: &mut Batch) -> Result<Arc<Resource>, WireError> {
        let resource = match self.by_bytes.get(bytes) {
            Some(known) => Arc::clone(known),
            None => {
                let fresh = Arc::new(read(bytes)?);
                if self.by_bytes.len() >= BOUND || self.bytes + bytes.len() > BYTES {
                    self.by_bytes.clear();
                    (self.bytes, self.renewed) = (0, self.renewed + 1);
                }
                self.bytes += bytes.len();
                self.by_bytes.insert(bytes.into(), Arc::clone(&fresh));
                fresh
            }
        };
        batch.heard.insert(resource.id);
        batch.resources.entry(resource.id).or_insert_with(|| Arc::clone(&resource));
        Ok(resource)
    }

    /// How often the memory was begun anew since this was last asked: nothing is lost by it, but
    /// resources are read again and again.
    pub fn renewed(&mut self) -> u64 {
        std::mem::take(&mut self.renewed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_resources_is_bounded_and_says_when_it_was_too_small() {
        use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
        use prost::Message as _;

        let mut resources = Resources::default();
        let mut batch = Batch::default();
        let mut meet = |n: usize, text: &str| {
            let value = Some(AnyValue { value: Some(Value::StringValue(format!("{n}{text}"))) });
            let message = opentelemetry_proto::tonic::resource::v1::Resource {
                attributes: vec![KeyValue { key: "n".into(), value, ..KeyValue::default() }],
                ..Default::default()
            };
            resources.meet(&message.encode_to_vec(), &mut batch).unwrap();
            resources.renewed()
        };
        assert_eq!((0..BOUND).map(|n| meet(n, "")).sum::<u64>(), 0);
        assert_eq!(meet(0, ""), 0, "one that is known");
        assert_eq!(meet(BOUND, ""), 1);
        // A few large ones are too much as well.
        let large = "x".repeat(BYTES / 4);
        assert_eq!((0..5).map(|n| meet(n, &large)).sum::<u64>(), 1);
    }
}
