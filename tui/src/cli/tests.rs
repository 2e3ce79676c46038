use clap::{CommandFactory, Parser};
use coral_model::question::{Dimension, Mode, Question, TraceOrder, View};
use coral_model::time::{SECOND, Time, Window};
use coral_model::when::Clock;
use proptest::prelude::*;

use super::args::{self, Cli, Query, Verb};
use super::ask;
use super::exit::{Exit, Failure};

const NOW: Time = Time(1_763_820_000_000_000_000);

fn clock() -> Clock {
    Clock { now: NOW, zone: jiff::tz::TimeZone::UTC }
}

fn parse(line: &str) -> Result<Cli, Failure> {
    parse_words(line.split_whitespace().map(str::to_owned).collect())
}

fn parse_words(words: Vec<String>) -> Result<Cli, Failure> {
    Cli::try_parse_from(args::shape(words)?).map_err(|e| Failure::usage(e.to_string()))
}

fn query_of(words: Vec<String>) -> Query {
    match parse_words(words.clone()).map(|cli| cli.verb) {
        Ok(Some(Verb::Query(query))) => *query,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn asked(line: &str) -> Result<Question, Failure> {
    let Some(Verb::Query(query)) = parse(line)?.verb else { panic!("{line} is no query") };
    ask::question(&query, &clock(), 900 * SECOND, false).map(|a| a.question)
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
        all.push_str(&format!(
            "$ {} --help\n{}\n",
            c.get_bin_name().unwrap_or("coral"),
            c.render_help()
        ));
    };
    print(&mut command);
    for sub in command.get_subcommands_mut().filter(|c| !c.is_hide_set()) {
        print(&mut sub.clone().term_width(100));
    }
    insta::assert_snapshot!("help", all);
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
    assert!(matches!(parse("coral --colony shop").unwrap().verb, None));
    assert!(matches!(parse("coral help query"), Err(f) if f.what.contains("Questions:")));
    for (slip, near) in
        [("coral qery red", "query"), ("coral stats", "status"), ("coral docter", "doctor")]
    {
        let failure = parse(slip).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.what.contains(&format!("did you mean `{near}`")), "{}", failure.what);
    }
    assert!(parse("coral incident list").unwrap_err().what.contains("not part of this build"));
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
                q.compare = compare.then(|| q.window.previous());
                q.step = step.then_some(10 * SECOND);
                q.limit = limit;
                if view == View::Traces {
                    q.order = TraceOrder::Slow;
                }
                if view == View::Metrics {
                    q.subject = Some("http.server.duration".into());
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
        let query = query_of(words.clone());
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
