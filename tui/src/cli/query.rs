//! `coral query`: one question, printed.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};

use coral_model::filter::{self, Expr, Key, Term, Test, Value};
use coral_model::question::{Question, View};
use coral_model::text::{clean, duration};
use coral_model::view::{End, Row};
use tokio_stream::StreamExt;

use super::args::Query;
use super::ask;
use super::exit::{Exit, Failure};
use super::output::{self, Csv, Object, Reader};
use super::save::Over;
use super::{Context, Target, parquet};
use crate::app::unknown_among;
use crate::client::{Client, ClientError, Lines};

/// A day: answers longer than this show dates beside their clocks.
const DAY: u64 = 86_400_000_000_000;

/// Asks, prints, and tells by the exit code how complete the answer is.
pub async fn run(context: &Context, query: &Query) -> Result<Exit, Failure> {
    let human = !query.output.json && !query.output.csv;
    let piped;
    let query = match query.words.as_slice() {
        [dash] if dash == "-" && query.what == "sql" => {
            piped = Query { words: vec![statement(io::stdin().lock())?], ..query.clone() };
            &piped
        }
        _ => query,
    };
    let asked = ask::question(query, &context.clock, context.config.window, human)?;
    let client = match &asked.colony {
        Some(name) if !context.config.is_flag("colony") => {
            let colony = name.parse().map_err(Failure::from)?;
            let target = Target { colony, ..context.target.clone() };
            Client::connect(&target).await?
        }
        _ => context.connect().await?,
    };
    if let Some(path) = &query.parquet {
        return parquet::save(&client, &asked.question, path, Over::of(query.force)).await;
    }
    let mut reader = Reader::of_stdout(context.clock.clone());
    reader.dates = asked.question.window.length() > DAY;
    let lines = client.query_json(&asked.question).await?;
    let mut printer = Printer {
        form: match () {
            () if query.output.json => Form::Json,
            () if query.output.csv => Form::Csv(Csv::default()),
            () => Form::Table,
        },
        reader,
        follow: query.output.follow,
        rows: 0,
        sides: None,
        end: None,
    };
    let mut out = io::stdout().lock();
    let interrupted = tokio::select! {
        done = printer.print_all(lines, &mut out) => { done?; false }
        () = interrupt() => true,
    };
    drop(out);
    if printer.rows == 0 && !interrupted {
        hint(&client, &asked.question, printer.sides).await;
    }
    Ok(printer.exit(query.output.check, interrupted))
}

/// Names that are asked for when one is not known.
const NAMES: u32 = 2_000;

/// Says on standard error why there may be no rows: an empty answer to a slip of the pen looks like
/// all is well. Whatever fails, there is just less to say.
async fn hint(client: &Client, question: &Question, sides: Option<u64>) {
    if let Some(said) = why_empty(client, question, sides).await {
        _ = writeln!(io::stderr(), "hint: {}", clean(&said));
    }
}

/// Why there may be no rows; `sides` is how many spans a `diff` compared.
async fn why_empty(client: &Client, question: &Question, sides: Option<u64>) -> Option<String> {
    // The answer says itself that nothing was found among them.
    if sides.is_some_and(|spans| spans > 0) {
        return otherwise(question);
    }
    if question.view == View::Trace {
        return Some(no_trace(question));
    }
    let filter = filter::parse(&question.filter).ok()?;
    if filter.is_everything() {
        return None;
    }
    for (key, what) in [(Key::Service, "service"), (Key::Host, "host")] {
        let named = named(&filter, &key);
        if named.is_empty() {
            continue;
        }
        let known = known(client, &key, what).await;
        let stranger = named.iter().find(|name| !known.contains(**name));
        if let Some(name) = stranger.filter(|_| !known.is_empty()) {
            return Some(unknown_among(what, name, known.iter().map(String::as_str)));
        }
    }
    Some("nothing in this time passes the filter".to_owned())
}

/// What else a `diff` can compare.
fn otherwise(question: &Question) -> Option<String> {
    let told = question.compare.is_some() || question.builds.is_some();
    (!told && question.against.is_none()).then(|| {
        "--compare sets all requests of this time beside those of the time before it".to_owned()
    })
}

/// That there is no such trace, and how far back that is known.
fn no_trace(question: &Question) -> String {
    let id = question.subject.as_deref().unwrap_or_default();
    let what = if id.len() < 32 { "no trace whose id begins with" } else { "no trace" };
    let length = duration(question.window.length());
    let passes =
        if question.filter.is_empty() { "" } else { " with a span that passes the filter" };
    format!(
        "{what} `{id}`{passes} within the {length} looked at: --since looks further back, and \
         coral query traces lists those there are"
    )
}

/// Names that a filter wants of a key, whole: not those it excludes.
fn named<'a>(filter: &'a Expr, key: &Key) -> Vec<&'a str> {
    match filter {
        Expr::And(all) | Expr::Or(all) => all.iter().flat_map(|e| named(e, key)).collect(),
        Expr::Term(Term { key: own, test: Test::Any(values) }) if own == key => {
            let text = |value: &'a Value| match value {
                Value::Text(name) => Some(name.as_str()),
                _ => None,
            };
            values.iter().filter_map(text).collect()
        }
        Expr::Not(_) | Expr::Term(_) | Expr::Text(_) => Vec::new(),
    }
}

/// Names there are: those that records have had, and hosts also where an agent is.
async fn known(client: &Client, key: &Key, word: &str) -> BTreeSet<String> {
    let names = client.complete(word, "", NAMES).await.unwrap_or_default();
    let mut all: BTreeSet<String> = names.into_iter().collect();
    if *key == Key::Host
        && let Ok(status) = client.status().await
    {
        all.extend(status.agents.into_iter().map(|agent| agent.host));
    }
    all
}

/// Longest statement that is read; the colony takes no longer one.
const STATEMENT: u64 = 64 << 10;

/// The statement that stands on standard input.
fn statement(input: impl io::Read) -> Result<String, Failure> {
    let mut text = String::new();
    io::Read::read_to_string(&mut input.take(STATEMENT + 1), &mut text)
        .map_err(|e| Failure::usage(format!("the statement cannot be read: {e}")))?;
    if coral_model::num::u64_sat(text.len()) > STATEMENT {
        return Err(Failure::usage(format!("the statement has more than {STATEMENT} bytes")));
    }
    Ok(text)
}

/// Ctrl-C: whoever follows has seen enough.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

enum Form {
    Json,
    Csv(Csv),
    Table,
}

struct Printer {
    form: Form,
    reader: Reader,
    follow: bool,
    rows: u64,
    /// Spans on the two sides of a `diff`.
    sides: Option<u64>,
    end: Option<End>,
}

impl Printer {
    async fn print_all(&mut self, mut lines: Lines, out: &mut impl Write) -> Result<(), Failure> {
        // Rows of the answer at hand. Followed records are printed as they come; everything else is
        // laid out when its end record says that it is whole.
        let mut waiting: Vec<Row> = Vec::new();
        let mut objects: Vec<Object> = Vec::new();
        let mut out = io::BufWriter::new(out);
        loop {
            let next = if lines.is_ready() {
                lines.next().await
            } else {
                if self.follow && self.is_tail(&waiting) {
                    self.flush_rows(&mut out, &mut waiting, &mut objects)?;
                }
                out.flush()?;
                lines.next().await
            };
            let Some(line) = next.transpose()? else { break };
            if matches!(self.form, Form::Json) {
                out.write_all(&line)?;
                out.write_all(b"\n")?;
            }
            match serde_json::from_slice::<Row>(&line) {
                Ok(Row::End(end)) => {
                    self.flush_rows(&mut out, &mut waiting, &mut objects)?;
                    self.tell(&mut out, &end)?;
                    self.end = Some(*end);
                }
                Ok(row) => {
                    self.rows += u64::from(!row.is_head());
                    if let Row::DiffSides(head) = &row {
                        self.sides = Some(head.selected.spans.saturating_add(head.baseline.spans));
                    }
                    match &mut self.form {
                        Form::Json => {}
                        Form::Csv(csv) if row.is_head() => {
                            if let Row::SqlColumns(head) = row {
                                csv.head(&mut out, head.columns.iter().map(|c| c.name.as_str()))?;
                            }
                        }
                        Form::Csv(_) => objects.extend(serde_json::from_slice::<Object>(&line)),
                        Form::Table => waiting.push(row),
                    }
                }
                // A kind of row this build does not know: a script gets it as it came.
                Err(_) if !matches!(self.form, Form::Table) => self.rows += 1,
                Err(e) => return Err(ClientError::Garbled(e.to_string()).into()),
            }
        }
        self.flush_rows(&mut out, &mut waiting, &mut objects)?;
        out.flush()?;
        if self.end.is_none() && !self.follow {
            return Err(ClientError::Lost("the answer was cut off".to_owned()).into());
        }
        Ok(())
    }

    /// Records that stand alone, rather than rows of an answer that is one picture.
    fn is_tail(&self, rows: &[Row]) -> bool {
        matches!(self.form, Form::Csv(_))
            || rows.iter().all(|r| matches!(r, Row::Log(_) | Row::Trace(_) | Row::Event(_)))
    }

    fn flush_rows(
        &mut self,
        out: &mut impl Write,
        rows: &mut Vec<Row>,
        objects: &mut Vec<Object>,
    ) -> io::Result<()> {
        match &mut self.form {
            Form::Json => Ok(()),
            Form::Csv(csv) => csv.write(out, &std::mem::take(objects)),
            Form::Table if rows.is_empty() => Ok(()),
            Form::Table => {
                self.reader.clock.now = coral_model::Time::now();
                output::print(out, &std::mem::take(rows), &self.reader)
            }
        }
    }

    /// What the answer says about itself: under the table on a terminal, else beside the data.
    fn tell(&self, out: &mut impl Write, end: &End) -> io::Result<()> {
        if matches!(self.form, Form::Json) {
            return Ok(());
        }
        let lines = output::summary(end, &self.reader);
        if matches!(self.form, Form::Table) && io::stdout().is_terminal() {
            let (on, off) = if self.reader.colour { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
            for line in lines {
                writeln!(out, "{on}{line}{off}")?;
            }
            return if self.follow { writeln!(out) } else { Ok(()) };
        }
        // The data come first, whatever becomes of the remark.
        out.flush()?;
        for line in lines {
            _ = writeln!(io::stderr(), "{line}");
        }
        Ok(())
    }

    fn exit(&self, check: bool, interrupted: bool) -> Exit {
        if check && self.rows > 0 {
            return Exit::Unhealthy;
        }
        if interrupted {
            return Exit::Done;
        }
        match &self.end {
            Some(end) if end.agents_answered < end.agents_asked => Exit::Incomplete,
            Some(end) if end.rows == 0 && !end.blind.is_empty() => Exit::Incomplete,
            _ => Exit::Done,
        }
    }
}
