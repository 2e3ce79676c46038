//! Redis as the services use it: one multiplexed connection, each command under its CLIENT span.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Value};
use tokio::sync::Mutex;

use crate::calling::{self, Call};
use crate::failure::Failure;
use crate::service::App;

/// The connection, together with the name it was made for: another name means another connection.
#[derive(Default)]
pub struct Cache {
    connection: Mutex<Option<(String, MultiplexedConnection)>>,
}

/// Opens a connection of its own, for commands that block.
///
/// # Errors
/// When the name does not resolve or Redis is not there.
pub async fn connect(app: &App) -> Result<MultiplexedConnection, Failure> {
    let place = calling::find(app, "redis").await?;
    let url = format!("redis://:{}@{}/", app.config.password, place.address);
    let unreachable = |error: redis::RedisError| {
        Failure::unavailable("redis_unreachable", format!("redis: {error}"))
    };
    let client = redis::Client::open(url).map_err(unreachable)?;
    let limits = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(2)))
        .set_response_timeout(Some(Duration::from_secs(5)));
    client.get_multiplexed_async_connection_with_config(&limits).await.map_err(unreachable)
}

impl Cache {
    /// Runs one command. `text` is the command with its values left out, as the span shows it.
    ///
    /// # Errors
    /// When Redis cannot be found or reached, or refuses the command.
    pub async fn command(
        &self,
        app: &App,
        operation: &'static str,
        text: &'static str,
        command: &Cmd,
    ) -> Result<Value, Failure> {
        let call = Call::begin(
            operation,
            SpanKind::Client,
            vec![
                KeyValue::new("db.system.name", "redis"),
                KeyValue::new("db.operation.name", operation),
                KeyValue::new("db.namespace", "0"),
                KeyValue::new("server.address", app.peer_host("redis")),
                KeyValue::new(
                    "server.port",
                    i64::from(app.config.peers.get("redis").copied().unwrap_or_default()),
                ),
            ],
            vec![KeyValue::new("db.query.text", text)],
            Some(app.meters.db.clone()),
        );
        match call.run(self.execute(app, command)).await {
            Ok(value) => {
                call.finish(Vec::new(), None);
                Ok(value)
            }
            Err(failure) => {
                call.finish(Vec::new(), Some((failure.kind.to_owned(), failure.message.clone())));
                Err(failure)
            }
        }
    }

    /// Runs one command without a span, for the service's own housekeeping.
    ///
    /// # Errors
    /// When Redis cannot be found or reached, or refuses the command.
    pub async fn ask(&self, app: &App, command: &Cmd) -> Result<Value, Failure> {
        self.execute(app, command).await
    }

    async fn execute(&self, app: &App, command: &Cmd) -> Result<Value, Failure> {
        let mut connection = self.connection(app).await?;
        let answer: redis::RedisResult<Value> = command.query_async(&mut connection).await;
        match answer {
            Ok(value) => Ok(value),
            Err(error) => {
                if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
                    *self.connection.lock().await = None;
                }
                Err(Failure::unavailable("redis_error", format!("redis: {error}")))
            }
        }
    }

    async fn connection(&self, app: &App) -> Result<MultiplexedConnection, Failure> {
        let wanted = app.peer_host("redis");
        let mut held = self.connection.lock().await;
        if let Some((host, connection)) = held.as_ref()
            && *host == wanted
        {
            return Ok(connection.clone());
        }
        *held = None;
        let fresh = connect(app).await?;
        *held = Some((wanted, fresh.clone()));
        Ok(fresh)
    }
}

/// The text in a reply, if it is text.
pub fn text(value: Value) -> Option<String> {
    redis::from_redis_value::<Option<String>>(value).ok().flatten()
}
