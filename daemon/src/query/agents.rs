//! `agents`: who reports, and what each can and cannot see.

use coral_model::filter::{FieldValue, Fields, Key};
use coral_model::view::{AgentRow, Row, Sense, SenseState, State};

use super::answer::{Found, Inputs};
use super::plan::Plan;

struct AgentFields<'a>(&'a AgentRow);

impl Fields for AgentFields<'_> {
    fn get(&self, key: &Key) -> Option<FieldValue<'_>> {
        match key {
            Key::Host => Some(self.0.host.as_str().into()),
            Key::Agent => Some(self.0.agent.as_str().into()),
            _ => None,
        }
    }

    fn texts(&self, visit: &mut dyn FnMut(&str)) {
        visit(&self.0.host);
        visit(&self.0.agent);
        visit(&self.0.scope);
    }
}

/// Answers the question.
pub fn answer(inputs: &Inputs<'_>, plan: &Plan) -> Found {
    let agents = inputs.agents.iter().filter(|a| plan.filter.matches(&AgentFields(a)));
    let mut rows: Vec<AgentRow> = agents.cloned().collect();
    let truncated = rows.len() > plan.limit();
    rows.truncate(plan.limit());
    let newest = rows.iter().map(|r| r.last_seen).max();
    let rows = rows.into_iter().map(|r| Row::Agent(Box::new(r))).collect();
    Found { rows, truncated, newest, ..Found::default() }
}

/// What an answer may lack, one sentence each, with the line that would change it.
///
/// A sense that is off and that nothing can turn on (`remedy` is `None`: it is not part of the
/// build) is no news in every answer: `status` and `doctor` name it.
pub fn blind(agents: &[AgentRow]) -> Vec<String> {
    let mut lines = Vec::new();
    if agents.is_empty() {
        lines.push("no agent has ever connected, so nothing can be seen: coral up".to_owned());
    } else if agents.iter().all(|a| a.state != State::Active) {
        lines.push("no agent is connected; nothing newer than their last word is seen".to_owned());
    }
    for agent in agents {
        let host = coral_model::text::clean(&agent.host);
        if agent.state != State::Active {
            lines.push(format!(
                "host {host} is not seen since {}: its agent is gone",
                agent.last_seen.rfc3339()
            ));
            continue;
        }
        let lacking = |s: &&Sense| match s.state {
            SenseState::On => false,
            SenseState::Partial => true,
            SenseState::Off => s.remedy.is_some(),
        };
        for sense in agent.senses.iter().filter(lacking) {
            let how = if sense.state == SenseState::Off { "off" } else { "partly blind" };
            let (name, why) =
                (coral_model::text::clean(&sense.name), coral_model::text::clean(&sense.why));
            let mut line = format!("host {host}: {name} is {how}: {why}");
            if let Some(remedy) = &sense.remedy {
                line = format!("{line} ({})", coral_model::text::clean(remedy));
            }
            lines.push(line);
        }
    }
    lines
}
