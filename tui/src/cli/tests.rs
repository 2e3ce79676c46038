use clap::{CommandFactory, Parser};
use coral_model::question::{Around, Builds, Dimension, Measure, Mode, Question, TraceOrder, View};
use coral_model::time::{SECOND, Time, Window};
use coral_model::view::{Row, State};
use coral_model::when::Clock;
use proptest::prelude::*;

use super::args::{self, Cli, Query, Verb};
use super::ask;
use super::exit::{Exit, Failure};
use super::output::{self, Reader};

const NOW: Time = Time(1_763_820_000_000_000_000);

fn clock() -> Clock {
    Clock { now: NOW, zone: jiff::tz::TimeZone::UTC }
}

fn parse(line: &str) -> Result<Cli, Failure> {
    parse_words(line.split_whitespace().map(str::to_owned).collect())
}

fn parse_words(words: Vec<String>) -> Result<Cli, Failure> {
    let words = args::shape(words)?;
    Cli::try_parse_from(&words)
        .map_err(|e| args::filter_word(&words, &e).unwrap_or_else(|| Failure::usage(e.to_string())))
}

fn query_of(words: &[String]) -> Query {
    match parse_words(words.to_vec()).map(|cli| cli.verb) {
        Ok(Some(Verb::Query(query))) => *query,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn asked(line: &str) -> Result<Question, Failure> {
    let Some(Verb::Query(query)) = parse(line)?.verb else { panic!("{line} is no query") };
    ask::question(&query, &clock(), 900 * SECOND, false).map(|a| a.question)
}

/// Compares with what was reviewed, in `snapshots/cli`.
fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../../snapshots/cli");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn the_description_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn help_is_as_reviewed() {
    let mut all = String::new();
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut print = |c: &mut clap::Command| {
        let help = c.render_help();
        let name = c.get_bin_name().unwrap_or("coral");
        all.push_str(&format!("$ {name} --help\n{help}\n"));
    };
    print(&mut command);
    for sub in command.get_subcommands_mut().filter(|c| !c.is_hide_set()) {
        print(&mut sub.clone().term_width(100));
    }
    snapshot("help", &all);
}

#[test]
fn words_without_a_command_open_what_they_name() {
    let opened = |line: &str| match parse(line).map(|c| (c.verb, c.global.colony)) {
        Ok((Some(Verb::Open(open)), _)) => open.what,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(opened("coral checkout"), "checkout");
    assert_eq!(opened("coral --colony shop checkout"), "checkout");
    assert_eq!(
        opened("coral --utc 4bf92f3577b34da6a3ce929d0e0e4736"),
        "4bf92f3577b34da6a3ce929d0e0e4736"
    );
    assert!(parse("coral --colony shop").unwrap().verb.is_none());
    assert!(matches!(parse("coral help query"), Err(f) if f.what.contains("Questions:")));
    for (slip, near) in
        [("coral qery red", "query"), ("coral stats", "status"), ("coral docter", "doctor")]
    {
        let failure = parse(slip).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.what.contains(&format!("did you mean `{near}`")), "{}", failure.what);
    }
    assert!(parse("coral alerts list").unwrap_err().what.contains("not part of this build"));
}

#[test]
fn eyes_are_opened_and_closed_by_a_word() {
    let eyes = |line: &str| match parse(line).map(|cli| cli.verb) {
        Ok(Some(Verb::Eyes(eyes))) => (eyes.what, eyes.host),
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(eyes("coral eyes"), (None, None));
    let off = (Some(args::Lid::Off), Some("web-1".to_owned()));
    assert_eq!(eyes("coral eyes off --host web-1"), off);
    assert_eq!(parse("coral eyes shut").unwrap_err().exit, Exit::Usage);
    assert_eq!(parse("coral agents eyes off").unwrap_err().next.as_deref(), Some("coral eyes"));
}

#[test]
fn flags_become_a_question() {
    let q =
        asked("coral query red service=checkout --since 1h --by host,version --compare --step 10s")
            .unwrap();
    assert_eq!(q.window, Window::before(NOW, 3_600 * SECOND));
    assert_eq!(q.by, [Dimension::Host, Dimension::Version]);
    assert_eq!(q.compare, Some(q.window.previous()));
    assert_eq!((q.step, q.filter.as_str()), (Some(10 * SECOND), "service=checkout"));
    // `--compare` takes the next word where it is a window, and leaves it where it is a filter.
    let q = asked("coral q red --compare yesterday service=a").unwrap();
    assert_eq!(q.compare.unwrap().to, NOW.minus(86_400 * SECOND));
    let q = asked("coral q red --compare service=a").unwrap();
    assert_eq!((q.compare, q.filter.as_str()), (Some(q.window.previous()), "service=a"));
    let q = asked("coral query traces --order slow --limit 5 duration=1s.. --from -2h").unwrap();
    assert_eq!((q.order, q.limit, q.window.length()), (TraceOrder::Slow, 5, 7_200 * SECOND));
    let q = asked("coral query trace 4BF92F3577B34DA6A3CE929D0E0E4736").unwrap();
    assert_eq!(q.subject.as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    let q = asked("coral query metrics http.server.duration service=a").unwrap();
    assert_eq!(
        (q.subject.as_deref(), q.filter.as_str()),
        (Some("http.server.duration"), "service=a")
    );
    let q = asked("coral query metrics service=a").unwrap();
    assert_eq!(q.subject, None);
    let q = asked("coral query checkout").unwrap();
    assert_eq!((q.view, q.filter.as_str()), (View::Red, "service=checkout"));
    let q = asked("coral query logs --follow level=warn..").unwrap();
    assert_eq!((q.mode, q.window.length()), (Mode::Tail, 60 * SECOND));
    assert_eq!(asked("coral query red -f").unwrap().mode, Mode::Watch);
}

#[test]
fn a_place_is_a_question_too() {
    let place =
        "coral:1/-/traces/2026-11-22T14:02:31Z..2026-11-22T14:17:31Z/service=a/filter=x%20or%20y";
    let q = asked(&format!("coral query {place}")).unwrap();
    assert_eq!(q.view, View::Traces);
    // The filter's `or` does not swallow the selection.
    assert_eq!(q.filter, "service=a (\"x\" or \"y\")");
    assert_eq!(q.window.length(), 900 * SECOND);
}

#[test]
fn what_cannot_be_meant_is_exit_2_with_the_next_command() {
    for (line, says) in [
        ("coral query sevices", "did you mean `services`"),
        ("coral query service=a", "comes before the filter"),
        ("coral query profile", "not part of this build"),
        ("coral query red duration=fast", "^^^^"),
        ("coral query red level=warn", "have no `level`"),
        ("coral query red --since soon", "not a duration"),
        ("coral query red --from now --to -1h", "ends before"),
        ("coral query red --by hots", "did you mean `host`"),
        ("coral query trace", "which trace"),
        ("coral query trace 12", "32 hex digits"),
        ("coral query red --json --csv", "cannot be used with"),
        ("coral query red --from 12:00 --follow", "follows the present"),
        ("coral query red --sinse 1h", "--since"),
        ("coral query red --limit 0", "1 or more"),
        ("coral query red --limit few", "1 or more"),
        ("coral query coral:1/x", "no view"),
    ] {
        let failure = asked(line).expect_err(line);
        assert_eq!(failure.exit, Exit::Usage, "{line}");
        assert!(failure.what.contains(says), "{line}: {}", failure.what);
    }
}

#[test]
fn every_kind_of_failure_has_its_code() {
    use crate::client::ClientError;
    let exit = |e: ClientError| Failure::from(e).exit;
    assert_eq!(exit(ClientError::NotRunning { socket: "/s".into() }), Exit::Unreachable);
    assert_eq!(exit(ClientError::NotPermitted { socket: "/s".into() }), Exit::NotPermitted);
    assert_eq!(exit(tonic::Status::permission_denied("no").into()), Exit::NotPermitted);
    assert_eq!(exit(tonic::Status::invalid_argument("bad").into()), Exit::Usage);
    assert_eq!(exit(tonic::Status::internal("broken").into()), Exit::Other);
    assert_eq!(exit(tonic::Status::unavailable("gone").into()), Exit::Unreachable);
    let pipe = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
    assert!(pipe.quiet && pipe.exit == Exit::Done);
}

fn filter() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "service=[a-z]{1,5}",
        "service=a \"[a-z' $\"]{0,1}x\""
            .prop_filter("parses", |f| coral_model::filter::parse(f).is_ok()),
        Just("service=a or service=b host=c".to_owned()),
        Just("not:(service=a or host=b) operation=\"GET /cart\"".to_owned()),
        Just("operation=\"it's $HOME\" status=500..".to_owned()),
        Just("status>500 service=x".to_owned()),
    ]
    .prop_map(|f| coral_model::filter::parse(&f).map(|e| e.to_string()).unwrap_or_default())
}

fn question() -> impl Strategy<Value = Question> {
    let views = prop::sample::select(vec![
        View::Red,
        View::Services,
        View::Traces,
        View::Logs,
        View::Metrics,
    ]);
    let by = prop::sample::subsequence(Dimension::ALL.to_vec(), 0..3);
    (
        views,
        filter(),
        by,
        any::<bool>(),
        any::<bool>(),
        1..2_000_usize,
        1..10_000_u64,
        any::<bool>(),
    )
        .prop_filter_map(
            "a filter the view can have",
            |(view, filter, by, compare, step, limit, length, follow)| {
                let expr = coral_model::filter::parse(&filter).ok()?;
                expr.check_for(view, &filter).ok()?;
                let mut q = Question::new(view, Window::before(NOW, length * SECOND + 7));
                q.filter = filter;
                q.by = by;
                if matches!(view, View::Red | View::Services) {
                    q.compare = compare.then(|| q.window.previous());
                }
                q.step = step.then_some(10 * SECOND);
                q.limit = limit;
                if view == View::Traces {
                    q.order = TraceOrder::Slow;
                }
                if view == View::Metrics {
                    q.subject = Some("http.server.duration".into());
                    q.by = Vec::new();
                    if limit % 2 == 0 {
                        q.labels = vec!["http.route".into(), "a".into()];
                        q.measure = Some(Measure::Quantile(0.999));
                    }
                }
                if view == View::Red && limit % 2 == 0 {
                    q.top = Some(limit);
                    q.compare = None;
                    q.builds = Some(if compare {
                        Builds::default()
                    } else {
                        Builds { from: Some("v41".into()), to: Some("v42".into()) }
                    });
                }
                if view == View::Logs && limit % 2 == 0 && !follow {
                    let at = Time(q.window.from.0 + q.window.length() / 2);
                    let mark = compare.then_some(0x1f2e_3d4c);
                    q.window = Window::new(at.minus(7 * SECOND), at.plus(7 * SECOND));
                    q.around = Some(Around { at, mark, lines: 3 });
                    q.compare = None;
                }
                if follow {
                    q.mode = if matches!(view, View::Traces | View::Logs) {
                        Mode::Tail
                    } else {
                        Mode::Watch
                    };
                }
                Some(q)
            },
        )
}

proptest! {
    /// What `y` copies asks the same question when it is typed.
    #[test]
    fn a_question_survives_its_own_command_line(q in question()) {
        let words = coral_model::place::arguments(&q);
        let query = query_of(&words);
        let back = ask::question(&query, &clock(), 900 * SECOND, false).map(|a| a.question);
        let back = back.map_err(|f| TestCaseError::fail(format!("{words:?}: {}", f.what)))?;
        prop_assert_eq!(back, q, "{:?}", words);
    }
}

/// Words of a line as a POSIX shell splits them: enough for documentation.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {
                let into = word.get_or_insert_default();
                for inner in chars.by_ref().take_while(|x| *x != c) {
                    into.push(inner);
                }
            }
            '#' if word.is_none() => break,
            '|' | '>' | '&' | ';' if word.is_none() => break,
            c if c.is_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Every `coral …` line in a fenced block of the documentation.
fn documented() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("README.md")];
    if let Ok(docs) = std::fs::read_dir(root.join("docs")) {
        files.extend(
            docs.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "md")),
        );
    }
    let mut out = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let mut fence: Option<String> = None;
        for line in text.lines() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                fence = if fence.is_some() { None } else { Some(language.trim().to_owned()) };
            } else if matches!(fence.as_deref(), Some("sh" | "console")) {
                let line = line.trim().trim_start_matches("$ ");
                if line == "coral" || line.starts_with("coral ") {
                    out.push((file.display().to_string(), line.to_owned()));
                }
            }
        }
    }
    out
}

#[test]
fn every_command_in_the_documentation_is_one() {
    let all = documented();
    assert!(all.len() > 20, "only {} examples found", all.len());
    for (file, line) in all {
        let cli = parse_words(shell_words(&line))
            .unwrap_or_else(|f| panic!("{file}: {line}\n{}", f.what));
        if let Some(Verb::Query(query)) = cli.verb {
            ask::question(&query, &clock(), 900 * SECOND, true)
                .unwrap_or_else(|f| panic!("{file}: {line}\n{}", f.what));
        }
    }
}

/// The examples of docs/schemas.md: every kind of row, with everything in it.
fn sample_rows() -> Vec<Row> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schemas.md");
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .filter(|l| l.starts_with("{\"schema\""))
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect()
}

fn reader(width: Option<usize>) -> Reader {
    let now = Time(1_795_356_153_000_000_000); // 2026-11-22T14:02:33Z
    let clock = Clock { now, zone: jiff::tz::TimeZone::UTC };
    Reader { clock, width, colour: false, dates: false }
}

fn printed(rows: &[Row], reader: &Reader) -> String {
    let mut out = Vec::new();
    output::print(&mut out, rows, reader).unwrap();
    String::from_utf8(out).unwrap()
}

/// Rows as they are when nobody asked for a comparison.
fn without_shifts(mut rows: Vec<Row>) -> Vec<Row> {
    for row in &mut rows {
        let baselines: Vec<_> = match row {
            Row::Red(row) => vec![&mut row.baseline],
            Row::Service(row) => vec![&mut row.baseline],
            Row::Edge(row) => vec![&mut row.baseline],
            Row::Digest(row) => row.services.iter_mut().map(|s| &mut s.baseline).collect(),
            _ => Vec::new(),
        };
        baselines.into_iter().flatten().for_each(|b| b.shifts.clear());
    }
    rows
}

#[test]
fn tables_are_as_reviewed() {
    let rows = without_shifts(sample_rows());
    let (digest, rest): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|r| matches!(r, Row::Digest(_)));
    let mut all = String::new();
    for width in [None, Some(80)] {
        let reader = reader(width);
        let title = width.map_or("a pipe".to_owned(), |w| format!("{w} columns"));
        all.push_str(&format!(
            "## {title}\n\n{}\n{}\n",
            printed(&rest, &reader),
            printed(&digest, &reader)
        ));
    }
    let mut compared = sample_rows();
    compared.retain(|r| matches!(r, Row::Red(_) | Row::Service(_) | Row::Edge(_)));
    all.push_str(&format!("## compared\n\n{}\n", printed(&compared, &reader(None))));
    snapshot("tables", &all);
}

#[test]
fn silence_does_not_look_like_zero() {
    let red = sample_rows()
        .into_iter()
        .find_map(|r| if let Row::Red(red) = r { Some(red) } else { None });
    let mut row = *red.unwrap();
    row.red.requests = 0;
    row.red.rate = 0.0;
    row.red.errors = 0;
    row.red.error_ratio = None;
    row.red.p99_ns = None;
    row.baseline = None;
    let line = |state| {
        let mut row = row.clone();
        row.state = state;
        let text = printed(&[Row::Red(Box::new(row))], &reader(None));
        text.lines().nth(1).unwrap().to_owned()
    };
    assert!(line(State::Active).contains("0/s"));
    assert!(line(State::NoTraffic).contains("–") && line(State::NoTraffic).contains("no traffic"));
    assert!(
        line(State::NotObserved).contains("?") && line(State::NotObserved).contains("not observed")
    );
    assert!(!line(State::NotObserved).contains("0/s"));
}

#[test]
fn hostile_rows_stay_on_their_line() {
    let mut rows = sample_rows();
    for row in &mut rows {
        match row {
            Row::Log(log) => log.body = "a\x1b[2J\nb\u{202e}c".into(),
            Row::Service(s) => s.service = "x\r\ny\x07".into(),
            Row::Event(e) => e.text = "\x1b]0;title\x07".into(),
            _ => {}
        }
    }
    let before = printed(&sample_rows(), &reader(Some(80))).lines().count();
    let text = printed(&rows, &reader(Some(80)));
    assert_eq!(text.lines().count(), before);
    assert!(!text.replace('\n', "").chars().any(coral_model::text::is_hostile));
    // Tables fit; sentences and records are kept whole.
    let sentences = ["trace ", "left out, ", "time went to", "clock of ", "+"];
    let table = |l: &&str| {
        let inside = [" · against ", ": linked to span ", " bits: "];
        let sentence =
            sentences.iter().any(|s| l.starts_with(s)) || inside.iter().any(|s| l.contains(s));
        !sentence && !l.contains("trace=")
    };
    let width = |l: &str| unicode_width::UnicodeWidthStr::width(l);
    assert!(text.lines().filter(table).all(|l| width(l) <= 80), "{text}");
}

#[test]
fn slips_are_refused_with_what_was_meant() {
    let refused = |line: &str| asked(line).unwrap_err();
    let none = refused("coral query");
    assert!(none.what.contains("services") && none.what.contains("inflight"), "{none:?}");
    let compared = refused("coral query services --compare 10x");
    assert!(compared.what.contains("`10x` is nothing to compare with"), "{compared:?}");
    let compared = refused("coral query services --compare yesterdya service=a");
    assert!(compared.what.contains("try previous, yesterday"), "{compared:?}");
    let backwards = refused("coral query red --from 13:20 --to 13:10");
    assert!(backwards.what.contains("ends before it begins"), "{backwards:?}");
    let short = refused("coral query trace deadbee");
    assert!(short.what.contains("at least the first 8"), "{short:?}");
    let trace = asked("coral query trace DEADBEEF duration=1ms..").unwrap();
    assert_eq!(
        (trace.view, trace.subject.as_deref(), trace.filter.as_str()),
        (View::Trace, Some("deadbeef"), "duration=1ms..")
    );
}

#[test]
fn a_name_of_the_filter_that_was_typed_as_a_flag_is_put_right() {
    let says = |line: &str| parse(line).expect_err(line);
    let slip = says("coral query logs --service shipping --since 5m");
    assert_eq!(slip.exit, Exit::Usage);
    assert!(slip.what.ends_with("write service=shipping"), "{slip:?}");
    let next = slip.next.as_deref();
    assert_eq!(next, Some("coral query logs service=shipping --since 5m"));
    let joined = says("coral tail --level=warn");
    assert_eq!(joined.next.as_deref(), Some("coral tail level=warn"));
    assert!(says("coral query red --error").what.ends_with("write error=true"));
    assert!(says("coral query red --host").what.ends_with("write host=…"));
    // A value that the shell would take apart is quoted; other slips stay what they are.
    let words = ["coral", "query", "red", "--operation", "GET /cart"].map(str::to_owned);
    let quoted = parse_words(words.to_vec()).unwrap_err();
    assert!(quoted.what.ends_with("write operation=\"GET /cart\""), "{quoted:?}");
    assert!(!says("coral query red --nonsense").what.contains("filter"));
    assert!(!says("coral status --service x").what.contains("filter"));
}

#[test]
fn a_path_is_no_service() {
    for path in ["/nonexistent.coral", "./x", "logs/a", "incident.coral", "cpu.pb.gz", "a.json"] {
        assert!(crate::open::is_path(path), "{path}");
    }
    for name in ["checkout", "shop.payments", "service=team/cart", "coral:1/shop/services/a..b/"] {
        assert!(!crate::open::is_path(name), "{name}");
    }
}
