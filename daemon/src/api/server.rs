//! The server: every service behind the gate, on one socket.

use std::time::Duration;

use coral_proto::v1::colony_server::ColonyServer;
use coral_proto::v1::uplink_server::{Uplink, UplinkServer};
use coral_proto::{MAX_MESSAGE, v1};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::permit::Policy;
use super::{Colony, Gate};
use crate::lifecycle::Incoming;

/// What a peer may send before it is read: hundreds of agents that all wait for the store must not
/// fill the memory. Over 100 ms of network it is still 5 MB a second for each.
const STREAM_WINDOW: u32 = 512 << 10;

/// A connection that does not answer a ping this long is dead.
const PING: Duration = Duration::from_secs(20);
/// Calls of one connection at a time.
const MAX_CALLS: u32 = 512;

/// Why the server ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptions do not decode: a broken build.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the server: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until `stop`, then finishes the calls that are open.
pub async fn serve<U: Uplink>(
    incoming: Incoming,
    policy: Policy,
    colony: Colony,
    uplink: U,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let describe = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reporter = tonic_health::server::HealthReporter::new();
    reporter.set_serving::<ColonyServer<Colony>>().await;
    reporter.set_serving::<UplinkServer<U>>().await;
    let health = tonic_health::server::HealthService::from_health_reporter(reporter);
    let health = tonic_health::pb::health_server::HealthServer::new(health);
    let colony = ColonyServer::new(colony).max_encoding_message_size(MAX_MESSAGE);
    let uplink = UplinkServer::new(uplink).max_decoding_message_size(MAX_MESSAGE);
    Server::builder()
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .max_concurrent_streams(MAX_CALLS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(2 * STREAM_WINDOW)
        .layer(Gate::new(policy))
        .add_service(colony)
        .add_service(uplink)
        .add_service(health)
        .add_service(describe().build_v1()?)
        .add_service(describe().build_v1alpha()?)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await?;
    Ok(())
}
