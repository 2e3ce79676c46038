//! From words to a [`Question`].

use coral_model::filter::{self, nearest};
use coral_model::place::Place;
use coral_model::question::{Mode, Question, View};
use coral_model::time::SECOND;
use coral_model::when::{self, Clock, Span};
use coral_model::{Time, TraceId, Window};

use super::args::{Query, Tail, When};
use super::exit::Failure;

/// How far back a follower looks first.
const TAIL: u64 = 60 * SECOND;
/// Rows of single records a person is shown when not saying how many.
const READABLE: usize = 100;
/// How far back a trace is looked for by its id alone: the id is what narrows it down.
const TRACE: u64 = 30 * 86_400 * SECOND;
/// Questions of product.md that this build does not answer.
const PLANNED: &[&str] = &["profile", "incidents", "alerts"];

/// What stands where a question does.
enum What {
    View(View),
    Trace(TraceId),
    Service(String),
    Place(Box<Place>),
}

fn what(word: &str) -> Result<What, Failure> {
    if let Ok(view) = word.parse() {
        return Ok(What::View(view));
    }
    if let Ok(id) = word.to_ascii_lowercase().parse() {
        return Ok(What::Trace(id));
    }
    if word.starts_with(coral_model::place::SCHEME) {
        return Ok(What::Place(Box::new(word.parse()?)));
    }
    let words = || View::ALL.iter().map(|v| v.word());
    if PLANNED.contains(&word) {
        return Err(Failure::usage(format!("`query {word}` is not part of this build"))
            .next("coral query --help lists what is"));
    }
    if word.contains('=') {
        let all: Vec<_> = words().collect();
        return Err(Failure::usage(format!(
            "a question comes before the filter: {}",
            all.join(" ")
        ))
        .next(format!("coral query red {word}")));
    }
    if let Some(near) = nearest(word, words()) {
        let error = format!("there is no question `{word}`; did you mean `{near}`?");
        return Err(Failure::usage(error).next(format!("coral query {near}")));
    }
    Ok(What::Service(word.to_owned()))
}

/// What is asked, and what the answer is measured against.
#[derive(Clone, PartialEq, Debug)]
pub struct Asked {
    /// The question.
    pub question: Question,
    /// The colony a place names.
    pub colony: Option<String>,
}

/// The question of `coral query`. For a person (`human`) single records stay few.
///
/// # Errors
/// What cannot be understood, and what to write instead.
pub fn question(query: &Query, clock: &Clock, default: u64, human: bool) -> Result<Asked, Failure> {
    let mut words = query.words.as_slice();
    let mut colony = None;
    let mut filter = String::new();
    let mut subject = None;
    let mut fixed: Option<Window> = None;
    let view = match what(&query.what)? {
        What::View(view) => view,
        What::Trace(id) => {
            subject = Some(id.to_string());
            View::Trace
        }
        What::Service(name) => {
            filter = service_filter(&name);
            View::Red
        }
        What::Place(place) => {
            colony = place.colony.as_ref().map(ToString::to_string);
            fixed = Some(place.window);
            filter = place_filter(&place);
            subject.clone_from(&place.selection.trace);
            match (place.view.parse(), &subject) {
                (Ok(View::Trace) | Err(_), Some(_)) => View::Trace,
                (Ok(View::Trace), None) => View::Traces,
                (Ok(view), _) => view,
                (Err(_), None) => View::Digest,
            }
        }
    };
    let view = match view {
        View::Logs if query.patterns => View::Patterns,
        View::Patterns => view,
        _ if query.patterns => {
            return Err(Failure::usage("--patterns is for logs")
                .next("coral query logs --patterns level=warn.."));
        }
        _ => view,
    };
    match (view, &subject) {
        (View::Trace, None) => {
            let (id, rest) = trace_id(words)?;
            subject = Some(id.to_string());
            words = rest;
        }
        (View::Sql, None) => {
            if query.output.follow {
                return Err(Failure::usage("a statement is answered once, not followed")
                    .next("watch -n 5 coral query sql …"));
            }
            if words.is_empty() {
                return Err(Failure::usage("which statement?")
                    .next("coral query sql \"SELECT service, count(*) FROM spans GROUP BY ALL\""));
            }
            subject = Some(words.join(" "));
            words = &[];
        }
        (View::Metrics, None) => {
            if let Some((first, rest)) = words.split_first()
                && is_name(first)
            {
                subject = Some(first.clone());
                words = rest;
            }
        }
        _ => {}
    }
    if !matches!(view, View::Trace | View::Metrics | View::Sql) && fixed.is_none() {
        subject = None;
    }
    let more = filter::join_words(words);
    let filter = both(filter, more)?;
    filter::parse(&filter)?.check_for(view, &filter)?;

    if view != View::Diff && (query.of.is_some() || query.against.is_some()) {
        return Err(Failure::usage("--of and --against are for diff: they name its two sides")
            .next("coral query diff service=checkout --of version=v42 --against version=v41"));
    }
    for side in [&query.of, &query.against].into_iter().flatten() {
        filter::parse(side)?.check_for(view, side)?;
    }

    let follow = query.output.follow;
    let mode = match view {
        _ if !follow => Mode::Once,
        View::Logs | View::Traces | View::Events => Mode::Tail,
        View::Trace => {
            return Err(Failure::usage("a trace is not followed; it is complete or it is not")
                .next("coral query traces --follow"));
        }
        _ => Mode::Watch,
    };
    let said = query.when.since.is_some()
        || query.when.from.is_some()
        || query.when.to.is_some()
        || query.when.around.is_some();
    let default = match (view, mode) {
        (View::Trace, _) => TRACE,
        (_, Mode::Tail) => TAIL,
        _ => default,
    };
    let window = match fixed {
        Some(window) if !said => window,
        _ => window(&query.when, clock, default)?,
    };
    if follow && !span(&query.when).is_live() && mode == Mode::Watch {
        return Err(Failure::usage(
            "--follow follows the present; leave out --from, --to and --around",
        )
        .next("coral query … --since 15m --follow"));
    }
    let mut question = Question::new(view, window);
    question.compare = match &query.compare {
        Some(text) => Some(when::compare(text, window, clock)?),
        None => None,
    };
    question.step = match &query.step {
        Some(text) => Some(when::parse_duration(text)?).filter(|step| *step > 0),
        None => None,
    };
    let points = view == View::Metrics && subject.is_some();
    if human && (points || matches!(view, View::Logs | View::Traces)) {
        question.limit = READABLE;
    }
    if let Some(limit) = query.limit {
        question.limit = limit;
    }
    if let Some(order) = query.order {
        question.order = order.into();
    }
    question.by.clone_from(&query.by);
    question.filter = filter;
    question.subject = subject;
    question.of.clone_from(&query.of);
    question.against.clone_from(&query.against);
    question.mode = mode;
    Ok(Asked { question, colony })
}

/// A command whose question is already chosen, as the query it stands for.
#[must_use]
pub fn as_query(what: &str, tail: &Tail, follow: bool) -> Query {
    let mut output = tail.output;
    output.follow |= follow;
    Query {
        what: what.to_owned(),
        words: tail.words.clone(),
        when: tail.when.clone(),
        limit: tail.limit,
        output,
        ..Query::default()
    }
}

fn span(when: &When) -> Span<'_> {
    Span {
        since: when.since.as_deref(),
        from: when.from.as_deref(),
        to: when.to.as_deref(),
        around: when.around.as_deref(),
    }
}

/// The window that the flags say.
///
/// # Errors
/// What cannot be understood.
pub fn window(flags: &When, clock: &Clock, default: u64) -> Result<Window, Failure> {
    Ok(when::window(&span(flags), clock, default)?)
}

fn trace_id(words: &[String]) -> Result<(TraceId, &[String]), Failure> {
    let Some((first, rest)) = words.split_first() else {
        return Err(Failure::usage("which trace? its id is 32 hex digits")
            .next("coral query traces lists them"));
    };
    let id = first.strip_prefix("trace=").unwrap_or(first).to_ascii_lowercase();
    match id.parse() {
        Ok(id) => Ok((id, rest)),
        Err(e) => Err(Failure::usage(e.to_string()).next("coral query traces lists them")),
    }
}

/// Whether the first word of `query metrics` names a metric: a bare word without any syntax.
fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '*'))
        && !matches!(word, "or" | "and")
}

/// `service=<name>`, quoted where it must be.
#[must_use]
pub fn service_filter(name: &str) -> String {
    let value = filter::Value::Text(name.to_owned());
    let test = filter::Test::Any(vec![value]);
    filter::Term { key: filter::Key::Service, test }.to_string()
}

fn place_filter(place: &Place) -> String {
    let service = place.selection.service.as_deref().map(service_filter).unwrap_or_default();
    // A place's filter has been parsed when the place was.
    both(service, place.filter.clone()).unwrap_or_default()
}

/// Both filters at once: an `or` in one must not swallow the other.
fn both(a: String, b: String) -> Result<String, Failure> {
    if a.is_empty() {
        return Ok(b);
    }
    if b.is_empty() {
        return Ok(a);
    }
    Ok(filter::Expr::and(vec![filter::parse(&a)?, filter::parse(&b)?]).to_string())
}

/// The moment an option names; now when it names none.
///
/// # Errors
/// What cannot be understood.
pub fn moment(text: Option<&str>, clock: &Clock) -> Result<Option<Time>, Failure> {
    text.map(|t| when::parse_time(t, clock)).transpose().map_err(Failure::from)
}
