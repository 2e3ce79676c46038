//! Stand-ins until store, intake and query compile.
use crate::api::{Backend, Footing, Work};
use crate::counters::Counters;
use crate::query::{Answer, QueryError};
use crate::registry::{Agents, Peer};
use coral_model::view::*;
use coral_model::*;
use coral_proto::v1;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

pub struct House {
    pub agents: Arc<Agents>,
    pub counters: Arc<Counters>,
    pub local: crate::supervise::Watch,
    pub changed: watch::Sender<u64>,
}
impl Backend for House {
    fn answer<'a>(&'a self, q: &'a Question) -> Work<'a, Result<Answer, QueryError>> {
        Box::pin(async move {
            Ok(Answer {
                rows: vec![],
                end: End {
                    rows: 0,
                    truncated: false,
                    dropped: 0,
                    agents_asked: 0,
                    agents_answered: 0,
                    from: q.window.from,
                    to: q.window.to,
                    compare: None,
                    resolution_s: None,
                    stored_to: None,
                    newest: None,
                    blind: vec![],
                },
            })
        })
    }
    fn tail<'a>(
        &'a self,
        _q: &'a Question,
        after: Time,
    ) -> Work<'a, Result<(Vec<Row>, Time), QueryError>> {
        Box::pin(async move { Ok((vec![], after)) })
    }
    fn complete<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: usize,
    ) -> Work<'a, Result<Vec<String>, QueryError>> {
        Box::pin(async { Ok(vec![]) })
    }
    fn record(&self, _: EventRow) -> Work<'_, Result<(), QueryError>> {
        Box::pin(async { Ok(()) })
    }
    fn footing(&self) -> Work<'_, Footing> {
        Box::pin(async move {
            let agents = self.agents.rows(self.now());
            let local = self.local.state();
            let blind = crate::doctor::blind(&crate::doctor::Facts {
                agents: &agents,
                local: &local,
                services: Some(0),
                now: self.now(),
            });
            Footing { agents, blind, counters: self.counters.snapshot(), ..Default::default() }
        })
    }
    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
    fn now(&self) -> Time {
        Time::now()
    }
}

pub struct Uplink {
    pub agents: Arc<Agents>,
    pub stop: tokio_util::sync::CancellationToken,
}
#[tonic::async_trait]
impl v1::uplink_server::Uplink for Uplink {
    type SessionStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::ColonyMessage, tonic::Status>> + Send>>;
    async fn session(
        &self,
        request: tonic::Request<tonic::Streaming<v1::AgentMessage>>,
    ) -> Result<tonic::Response<Self::SessionStream>, tonic::Status> {
        use v1::agent_message::Message as A;
        use v1::colony_message::Message as C;
        let peer =
            Peer::of(request.extensions()).ok_or_else(|| tonic::Status::unauthenticated("who"))?;
        let mut from = request.into_inner();
        let (tx, rx) = tokio::sync::mpsc::channel(16);
        let (agents, stop) = (Arc::clone(&self.agents), self.stop.clone());
        tokio::spawn(async move {
            let mut session = None;
            loop {
                let m = tokio::select! { () = stop.cancelled() => break, m = from.message() => m };
                let Ok(Some(m)) = m else { break };
                let reply = match m.message {
                    Some(A::Hello(h)) => match agents.connected(&h, peer, Time::now()) {
                        Ok(s) => {
                            session = Some(s);
                            C::Welcome(v1::Welcome {
                                protocol: 1,
                                build: "x".into(),
                                colony: "local".into(),
                                capabilities: vec![],
                                marks: vec![],
                            })
                        }
                        Err(r) => C::Refusal(r),
                    },
                    Some(A::Report(r)) => {
                        if let Some(s) = &session {
                            agents.report(s, r, Time::now());
                        }
                        continue;
                    }
                    Some(A::Ping(p)) => {
                        C::Pong(v1::Pong { sent_ns: p.sent_ns, received_ns: Time::now().0 })
                    }
                    _ => continue,
                };
                if tx.send(Ok(v1::ColonyMessage { message: Some(reply) })).await.is_err() {
                    break;
                }
            }
            if let Some(s) = session {
                agents.lost(&s, Time::now());
            }
        });
        Ok(tonic::Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(rx))))
    }
}
