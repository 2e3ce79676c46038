//! From words to a [`Question`].

use coral_model::filter::{self, nearest};
use coral_model::place::Place;
use coral_model::question::{Around, Builds, Direction, Measure, Mode, Question, Reach, View};
use coral_model::time::SECOND;
use coral_model::when::{self, Clock, Span};
use coral_model::{RecordId, Time, TraceId, Window};

use super::args::{Query, Tail, When};
use super::exit::Failure;

/// How far back a follower looks first.
const TAIL: u64 = 60 * SECOND;
/// Rows of single records a person is shown when not saying how many.
const READABLE: usize = 100;
/// How far back a trace is looked for by its id alone: the id is what narrows it down.
const TRACE: u64 = 30 * 86_400 * SECOND;
/// How wide the neighbours of a log record are looked for.
const BESIDE: u64 = 2 * 3600 * SECOND;
/// First digits of a trace's id that are enough, as the colony has it.
const PREFIX: usize = 8;
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
    if word.is_empty() {
        let all: Vec<_> = words().collect();
        return Err(Failure::usage(format!("which question? there are: {}", all.join(" ")))
            .next("coral query services; coral query --help has examples"));
    }
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
            subject = Some(id);
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

    let reach = reach(query, view)?;
    let of = query.of.as_ref().filter(|_| reach.is_none());
    if view != View::Diff && (of.is_some() || query.against.is_some()) {
        return Err(Failure::usage(
            "--of and --against are for diff: they name its two sides (--of for topology, too)",
        )
        .next("coral query diff service=checkout --of version=v42 --against version=v41"));
    }
    for side in [of, query.against.as_ref()].into_iter().flatten() {
        filter::parse(side)?.check_for(view, side)?;
    }
    let around = around(query, view, clock)?;

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
        _ => match around {
            // Its neighbours are looked for on either side of the record.
            Some(around) => {
                let half =
                    query.when.since.as_deref().map_or(Ok(BESIDE), when::parse_duration)? / 2;
                Window::new(around.at.minus(half), around.at.plus(half))
            }
            None => window(&query.when, clock, default)?,
        },
    };
    if follow && !span(&query.when).is_live() && mode == Mode::Watch {
        return Err(Failure::usage(
            "--follow follows the present; leave out --from, --to and --around",
        )
        .next("coral query … --since 15m --follow"));
    }
    let mut question = Question::new(view, window);
    match query.compare.as_deref().map(|text| (text, Builds::parse(text))) {
        Some((_, Some(builds))) => question.builds = Some(builds?),
        Some((text, None)) => question.compare = Some(when::compare(text, window, clock)?),
        None => {}
    }
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
    if view == View::Metrics {
        question.labels.clone_from(&query.by);
        question.measure = query.measure;
        grouping(&question, subject.is_some())?;
    } else {
        let by: Result<_, String> = query.by.iter().map(|w| super::args::dimension(w)).collect();
        question.by = by.map_err(Failure::usage)?;
        if query.measure.is_some() {
            return Err(Failure::usage("--measure is for a metric")
                .next("coral query metrics NAME --measure p99 --by http.route"));
        }
    }
    question.top = query.top.map(coral_model::num::usize_sat);
    if question.top.is_some() && !matches!(view, View::Red | View::Metrics) {
        return Err(Failure::usage(
            "--top is for grouped answers: red, and metrics with --measure",
        )
        .next("coral query red --by service --top 5"));
    }
    question.reach = reach;
    question.around = around;
    question.filter = filter;
    question.subject = subject;
    question.of = of.cloned();
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

/// What `topology --of` asks for.
fn reach(query: &Query, view: View) -> Result<Option<Reach>, Failure> {
    let ways = query.upstream || query.downstream || query.depth.is_some();
    match (&query.of, view) {
        (Some(of), View::Topology) => {
            let direction = match (query.upstream, query.downstream) {
                (true, false) => Direction::Upstream,
                (false, true) => Direction::Downstream,
                _ => Direction::Both,
            };
            Ok(Some(Reach { of: of.clone(), direction, depth: query.depth }))
        }
        _ if ways => Err(Failure::usage("--upstream, --downstream and --depth are for topology")
            .next("coral query topology --of payments --upstream")),
        _ => Ok(None),
    }
}

/// What `logs --around … --lines …` asks for.
fn around(query: &Query, view: View, clock: &Clock) -> Result<Option<Around>, Failure> {
    let Some(lines) = query.lines else { return Ok(None) };
    let next = "coral query logs --around 14:02:31 --lines 20 service=payments";
    if view != View::Logs || query.output.follow {
        return Err(Failure::usage("--lines is for logs around a record").next(next));
    }
    let Some(text) = query.when.around.as_deref() else {
        return Err(Failure::usage("--lines needs --around: a record's id, or a time").next(next));
    };
    if query.when.from.is_some() || query.when.to.is_some() {
        return Err(Failure::usage("--around already says where; leave out --from and --to"));
    }
    Ok(Some(match text.trim().parse::<RecordId>() {
        Ok(id) => Around { at: id.at, mark: Some(id.mark), lines },
        Err(_) => Around { at: when::parse_time(text, clock)?, mark: None, lines },
    }))
}

/// Whether labels, measure and metric fit together.
fn grouping(question: &Question, named: bool) -> Result<(), Failure> {
    let next = "coral query metrics NAME --measure rate --by http.route";
    if question.measure.is_some() && !named {
        return Err(Failure::usage("--measure is of one metric: name it").next(next));
    }
    let labels = question.measure == Some(Measure::Labels);
    if question.measure.is_none() && (!question.labels.is_empty() || question.top.is_some()) {
        return Err(Failure::usage(
            "--by and --top group a metric's series: say with --measure what becomes of them",
        )
        .next(next));
    }
    if labels && (!question.labels.is_empty() || question.step.is_some()) {
        return Err(Failure::usage(
            "--measure labels lists labels and their values, not in groups or steps",
        )
        .next("coral query metrics NAME --measure labels"));
    }
    Ok(())
}

/// The trace's id, or the first digits of it that lists show.
fn trace_id(words: &[String]) -> Result<(String, &[String]), Failure> {
    let Some((first, rest)) = words.split_first() else {
        return Err(Failure::usage("which trace? its id is 32 hex digits")
            .next("coral query traces lists them"));
    };
    let id = first.strip_prefix("trace=").unwrap_or(first).to_ascii_lowercase();
    let hex = id.bytes().all(|b| b.is_ascii_hexdigit());
    if hex && (PREFIX..32).contains(&id.len()) {
        return Ok((id, rest));
    }
    match id.parse::<TraceId>() {
        Ok(id) => Ok((id.to_string(), rest)),
        Err(_) => Err(Failure::usage(format!(
            "`{}` is not a trace id: 32 hex digits, or at least the first {PREFIX}",
            coral_model::text::fit(first, 40)
        ))
        .next("coral query traces lists them")),
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
