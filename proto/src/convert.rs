//! Model ↔ wire.

use coral_model::question::{
    Around, Builds, Dimension, Mode, Question, Reach, TraceOrder, View, WordError,
};
use coral_model::time::{Time, Window};

use crate::v1;

/// Why a request on the wire is not a question.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConvertError {
    /// A word that is not one of the allowed ones.
    #[error(transparent)]
    Word(#[from] WordError),
    /// A field that must be there is not.
    #[error("the request has no {0}")]
    Missing(&'static str),
}

impl From<Window> for v1::TimeWindow {
    fn from(window: Window) -> Self {
        Self { from_ns: window.from.0, to_ns: window.to.0 }
    }
}

impl From<v1::TimeWindow> for Window {
    fn from(window: v1::TimeWindow) -> Self {
        Self::new(Time(window.from_ns), Time(window.to_ns))
    }
}

impl From<&Question> for v1::QueryRequest {
    fn from(q: &Question) -> Self {
        Self {
            view: q.view.word().to_owned(),
            window: Some(q.window.into()),
            filter: q.filter.clone(),
            by: q.by.iter().map(|d| d.word().to_owned()).collect(),
            step_ns: q.step,
            compare: q.compare.map(Into::into),
            limit: coral_model::num::u32_sat(q.limit),
            subject: q.subject.clone(),
            order: q.order.word().to_owned(),
            mode: q.mode.word().to_owned(),
            of: q.of.clone(),
            against: q.against.clone(),
            builds: q
                .builds
                .as_ref()
                .map(|b| v1::Builds { from: b.from.clone(), to: b.to.clone() }),
            top: q.top.map(coral_model::num::u32_sat),
            reach: q.reach.as_ref().map(|r| v1::Reach {
                of: r.of.clone(),
                direction: r.direction.word().to_owned(),
                depth: r.depth,
            }),
            around: q.around.map(|a| v1::Around { at_ns: a.at.0, mark: a.mark, lines: a.lines }),
            labels: q.labels.clone(),
            measure: q.measure.map(|m| m.to_string()),
        }
    }
}

impl TryFrom<v1::QueryRequest> for Question {
    type Error = ConvertError;

    fn try_from(request: v1::QueryRequest) -> Result<Self, ConvertError> {
        let by: Result<Vec<Dimension>, WordError> = request.by.iter().map(|w| w.parse()).collect();
        Ok(Self {
            view: request.view.parse::<View>()?,
            window: request.window.ok_or(ConvertError::Missing("window"))?.into(),
            filter: request.filter,
            by: by?,
            step: request.step_ns,
            compare: request.compare.map(Into::into),
            limit: coral_model::num::usize_sat(request.limit),
            subject: request.subject,
            order: request.order.parse::<TraceOrder>()?,
            mode: request.mode.parse::<Mode>()?,
            of: request.of,
            against: request.against,
            builds: request.builds.map(|b| Builds { from: b.from, to: b.to }),
            top: request.top.map(coral_model::num::usize_sat),
            reach: match request.reach {
                Some(r) => {
                    Some(Reach { of: r.of, direction: r.direction.parse()?, depth: r.depth })
                }
                None => None,
            },
            around: request.around.map(|a| Around {
                at: Time(a.at_ns),
                mark: a.mark,
                lines: a.lines,
            }),
            labels: request.labels,
            measure: request.measure.map(|word| word.parse()).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_survives_the_wire() {
        let mut q = Question::new(View::Red, Window::new(Time(5), Time(99)));
        q.filter = "service=cart".into();
        q.by = vec![Dimension::Host, Dimension::Version];
        q.step = Some(10);
        q.compare = Some(Window::new(Time(1), Time(5)));
        q.of = Some("error=true".into());
        q.against = Some("version=v41".into());
        q.builds = Some(Builds { from: Some("v41".into()), to: Some("v42".into()) });
        q.top = Some(5);
        let direction = coral_model::question::Direction::Upstream;
        q.reach = Some(Reach { of: "payments".into(), direction, depth: Some(2) });
        q.around = Some(Around { at: Time(7), mark: Some(9), lines: 3 });
        q.labels = vec!["http.route".into()];
        q.measure = Some(coral_model::question::Measure::Quantile(0.99));
        assert_eq!(Question::try_from(v1::QueryRequest::from(&q)), Ok(q));
    }
}
