//! What the colony cannot see, and the one line that changes it.
//!
//! In: what agents say of their senses, and whether there are any. Out: sentences, worst first. An
//! empty list is a claim: everything this build can see is seen.

use coral_model::text;
use coral_model::time::Time;
use coral_model::view::{AgentRow, SenseState, State};

use crate::supervise::Supervised;

/// What is known where blindness is judged.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Every known agent.
    pub agents: &'a [AgentRow],
    /// The local agent's process.
    pub local: &'a Supervised,
    /// Services seen lately; `None` when the store could not say.
    pub services: Option<u32>,
    /// The store keeps nothing new, for want of room.
    pub disk_full: bool,
    /// Now.
    pub now: Time,
}

/// One sentence for each thing that cannot be seen.
#[must_use]
pub fn blind(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if facts.disk_full {
        found.push("the disk is full: nothing new is kept until there is room; agents keep what they accept in their spools".into());
    }
    match facts.local {
        Supervised::Failing { why } => {
            found.push(format!("the local agent does not run: {why}; see coral doctor"));
        }
        Supervised::Foreign if facts.agents.iter().all(|a| a.state != State::Active) => {
            found.push("another agent holds this colony's agent data and does not connect; stop it, or point it here with --colony".into());
        }
        _ => {}
    }
    if facts.agents.is_empty() && !matches!(facts.local, Supervised::Failing { .. }) {
        found.push(match facts.local {
            Supervised::Off => "no agent: nothing is received or observed; start one with: coral-agent --colony unix:<socket>".into(),
            _ => "the local agent has not connected yet".into(),
        });
    }
    for agent in facts.agents {
        if agent.state != State::Active {
            let silent = text::duration(facts.now.since(agent.last_seen));
            found.push(format!(
                "agent on {} is lost: silent for {silent}; see coral agents list",
                text::clean(&agent.host)
            ));
        }
    }
    let active = || facts.agents.iter().filter(|a| a.state == State::Active);
    for agent in active() {
        for sense in agent.senses.iter().filter(|s| s.state != SenseState::On) {
            let how = if sense.state == SenseState::Off { "off" } else { "partial" };
            let remedy = sense.remedy.as_deref().map_or_else(String::new, |r| format!("; {r}"));
            let line = format!("{} is {how} on {}: {}{remedy}", sense.name, agent.host, sense.why);
            found.push(text::clean(&line).into_owned());
        }
    }
    // Where they could be, the sense above says why they are not.
    for agent in active().filter(|a| a.senses.iter().all(|s| s.name != "requests")) {
        let host = text::clean(&agent.host);
        found.push(format!("requests are not seen through eBPF on {host}: applications without OpenTelemetry are seen only as processes"));
    }
    if facts.services == Some(0) && active().next().is_some() {
        found.push(match otlp(active()) {
            Some(address) => format!("no application has sent anything yet: export OTEL_EXPORTER_OTLP_ENDPOINT=http://{address}"),
            None => "no application has sent anything yet, and no agent listens for OTLP".into(),
        });
    }
    found
}

/// Where an application would send to.
fn otlp<'a>(agents: impl Iterator<Item = &'a AgentRow>) -> Option<String> {
    let mut senses = agents.flat_map(|a| &a.senses);
    let listens = senses.find(|s| s.name == "otlp/grpc" && s.state == SenseState::On)?;
    Some(text::clean(&listens.why).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Agents, Peer};
    use coral_model::time::SECOND;
    use coral_proto::v1;

    fn agents(senses: Vec<v1::SenseReport>) -> Agents {
        let agents = Agents::default();
        let hello = v1::AgentHello {
            protocol: coral_proto::PROTOCOL,
            agent_id: vec![1; 16],
            host: "web-1".into(),
            ..Default::default()
        };
        let peer = Peer { uid: 0, gid: 0, pid: Some(1) };
        let session = agents.connected(&hello, peer, Time(SECOND)).unwrap();
        agents.report(&session, v1::AgentReport { senses, ..Default::default() }, Time(SECOND));
        agents
    }

    fn sense(name: &str, state: v1::SenseState, why: &str) -> v1::SenseReport {
        v1::SenseReport { name: name.into(), state: state.into(), why: why.into(), remedy: None }
    }

    fn told(agents: &[AgentRow], local: &Supervised, services: Option<u32>, now: Time) -> String {
        blind(&Facts { agents, local, services, disk_full: false, now }).join("\n")
    }

    #[test]
    fn without_an_agent_it_says_so() {
        let text = told(&[], &Supervised::Off, Some(0), Time(0));
        assert!(text.contains("no agent"), "{text}");
        let failing = Supervised::Failing { why: "the agent ended with code 1".into() };
        let text = told(&[], &failing, Some(0), Time(0));
        assert!(text.contains("code 1") && !text.contains("not connected yet"), "{text}");
    }

    #[test]
    fn a_sense_that_is_off_is_named_with_its_reason() {
        let agents = agents(vec![
            sense("otlp/grpc", v1::SenseState::On, "127.0.0.1:4317"),
            sense("process", v1::SenseState::Partial, "hidepid=2"),
        ]);
        let running = Supervised::Running { pid: 1 };
        let text = told(&agents.rows(Time(SECOND)), &running, Some(0), Time(SECOND));
        assert!(text.contains("process is partial on web-1: hidepid=2"), "{text}");
        assert!(text.contains("requests are not seen through eBPF on web-1"), "{text}");
        assert!(text.contains("http://127.0.0.1:4317"), "{text}");
        let later = Time(100 * SECOND);
        let text = told(&agents.rows(later), &running, Some(3), later);
        assert!(text.contains("web-1 is lost: silent for 1m39s"), "{text}");
        assert!(!text.contains("4317"), "{text}");
    }
}
