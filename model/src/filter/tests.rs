use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

struct Row(BTreeMap<Key, FieldValue<'static>>, Vec<&'static str>);

impl Fields for Row {
    fn get(&self, key: &Key) -> Option<FieldValue<'_>> {
        self.0.get(key).cloned()
    }
    fn texts(&self, visit: &mut dyn FnMut(&str)) {
        self.1.iter().for_each(|t| visit(t));
    }
}

fn row() -> Row {
    let text = |t: &'static str| FieldValue::Text(Cow::Borrowed(t));
    Row(
        BTreeMap::from([
            (Key::Service, text("checkout")),
            (Key::Status, text("503")),
            (Key::Error, FieldValue::Bool(true)),
            (Key::Duration, FieldValue::Duration(300_000_000)),
            (Key::Level, FieldValue::Severity(14)),
            (Key::Route, text("/cart")),
            (Key::Body, text("Pool exhausted: 20 of 20")),
            (Key::Attribute("user.id".into()), text("42")),
        ]),
        vec!["Pool exhausted: 20 of 20", "größer"],
    )
}

fn matches(filter: &str) -> bool {
    parse(filter).unwrap_or_else(|e| panic!("{e}")).matches(&row())
}

#[test]
fn what_the_language_lets_through() {
    for yes in [
        "",
        "   ",
        "service=checkout",
        "service=a,checkout",
        "service.name=checkout",
        "status=500..",
        "status=500..599",
        "status=..503",
        "status>=503",
        "status!=200",
        "duration=250ms..2s",
        "duration>0.2s duration<1s",
        "level=warn..",
        "level=warn",
        "level=..warn",
        "not:route=/healthz",
        "not:has:nothing.there",
        "has:user.id",
        "user.id=40..50",
        "re:body=[Pp]ool.*20",
        "re:body=(Pool|Queue)",
        "re:service=^check",
        "\"pool exhausted\"",
        "POOL exhausted",
        "GRÖßER",
        "service=other or status=503",
        "(service=other or service=checkout) status=503",
        "not:(service=other status=503)",
        "service=checkout and status=503",
        "error=true",
        "error",
        "'20 of 20'",
    ] {
        assert!(matches(yes), "{yes}");
    }
    for no in [
        "service=Checkout",
        "status=200",
        "status=..502",
        "status>503",
        "duration=..250ms",
        "duration=1s..",
        "level=error..",
        "not:service=checkout",
        "has:nothing",
        "host=web-1",
        "host!=web-1 service=x",
        "service=checkout service=other",
        "nowhere",
        "re:body=^exhausted",
        "user.id=43..",
        "error=false",
        "service=a or service=b",
    ] {
        assert!(!matches(no), "{no}");
    }
    // A field that is not there is not equal to anything, so "not equal" holds.
    assert!(matches("host!=web-1"));
}

#[test]
fn errors_point_at_the_place_and_say_what_to_write() {
    for (filter, column, carets, says) in [
        ("service=checkout duration=fast", 26, 4, "expected a duration"),
        ("duration=500", 9, 3, "needs a unit"),
        ("servce=checkout", 0, 6, "did you mean `service`"),
        ("level=wran..", 6, 6, "did you mean `warn`"),
        ("status=5xx", 7, 3, "write status=500..599"),
        ("a (b or c", 2, 1, "never closed"),
        ("a b)", 3, 1, "closes nothing"),
        ("a or", 4, 1, "expected a test"),
        ("or a", 0, 1, "quote it"),
        ("service=", 8, 1, "expected a value"),
        ("service=a,", 10, 1, "expected a value"),
        ("=500", 0, 1, "expected a name"),
        ("\"open", 0, 1, "never closed"),
        ("\"a\"b", 3, 1, "expected a blank"),
        ("re:body=(", 8, 1, "not a regular expression"),
        ("re:body", 7, 1, "expected `=`"),
        ("not: x", 4, 1, "right after `not:`"),
        ("service:checkout", 7, 1, "written service=checkout"),
        ("service=a..b", 8, 4, "no order"),
        ("version=v1..v2", 8, 6, "no order"),
        ("x.y=a..b", 4, 4, "needs numbers"),
        ("status=599..500", 7, 8, "comes first: status=500..599"),
        ("status=..", 7, 2, "at least one end"),
        ("status=200,500..", 11, 5, "cannot stand in a list"),
        ("body=~x", 5, 1, "re:body="),
        ("error=maybe", 6, 5, "true or false"),
        ("trace=12", 6, 2, "32 hex digits"),
        ("kind=sever", 5, 5, "did you mean `server`"),
        ("größe=1 duration=x", 17, 1, "expected a duration"),
    ] {
        let error = parse(filter).expect_err(filter);
        let shown = error.to_string();
        let caret_line = shown.lines().nth(1).unwrap();
        assert_eq!(caret_line.find('^'), Some(column), "{shown}");
        assert_eq!(caret_line.matches('^').count(), carets, "{shown}");
        assert!(shown.contains(says), "{shown}");
        assert!(!error.short().contains('\n'));
    }
}

#[test]
fn a_hostile_filter_neither_panics_nor_reaches_the_terminal() {
    let deep = "(".repeat(10_000);
    assert!(parse(&deep).unwrap_err().what.contains("levels deep"));
    let nots = "not:".repeat(2_000) + "x";
    assert!(parse(&nots).unwrap_err().what.contains("levels deep"));
    assert!(parse(&"a ".repeat(1_000)).unwrap_err().what.contains("tests"));
    assert!(parse(&"a".repeat(20_000)).unwrap_err().what.contains("bytes"));
    assert!(parse("re:body=(a{1000}){1000}").unwrap_err().what.contains("too big"));
    let shown = parse("service=a\u{1b}[2J duration=x\u{202e}").unwrap_err().to_string();
    assert!(!shown.replace('\n', "").chars().any(crate::text::is_hostile), "{shown:?}");
}

#[test]
fn what_a_shell_hands_over_is_read_as_it_was_meant() {
    for (words, filter) in [
        (vec!["service=a", "status=500.."], "service=a status=500.."),
        (vec!["connection refused"], "\"connection refused\""),
        (vec!["operation=GET /cart"], "operation=\"GET /cart\""),
        (vec!["service=a or service=b"], "service=a or service=b"),
        (vec!["duration>=250ms"], "duration>=250ms"),
        (vec!["(service=a or", "service=b)"], "(service=a or service=b)"),
        (vec!["not found"], "\"not found\""),
        (vec!["\"a b\""], "\"a b\""),
        (vec![], ""),
    ] {
        assert_eq!(join_words(&words), filter);
        assert!(parse(filter).is_ok());
    }
}

#[test]
fn views_refuse_what_their_rows_cannot_have() {
    let check = |filter: &str, view| parse(filter).unwrap().check_for(view, filter);
    let error = check("service=a level=warn", crate::View::Red).unwrap_err();
    assert_eq!(error.column(), 10);
    assert!(error.to_string().contains("`level` can be asked of: logs"), "{error}");
    assert!(check("service=a res.cloud.region=x", crate::View::Red).is_ok());
    assert!(check("level=warn.. user.id=1", crate::View::Logs).is_ok());
    for view in crate::View::ALL {
        if !matches!(view, crate::View::Agents | crate::View::Sql) {
            assert!(check("service=a or text", *view).is_ok(), "{view}");
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9./_-]{1,8}", "\\PC{0,8}", "[ \"'\\\\,.()=<>~\n\u{1b}]{0,6}"]
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        Just(Key::Service),
        Just(Key::Route),
        Just(Key::Body),
        "[a-z]{1,6}(\\.[a-z_]{1,6}){0,2}".prop_map(Key::Attribute),
        "[a-z.]{1,10}".prop_map(Key::Resource),
        Just(Key::Attribute("service".into())),
        Just(Key::Attribute("servce".into())),
        Just(Key::Attribute("res.x".into())),
    ]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![(-1_000_000_i32..1_000_000).prop_map(f64::from), -1e6..1e6]
}

fn term() -> impl Strategy<Value = Expr> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let range = |from, to| Test::Range(Range { from, to });
    let numbers = (number(), number()).prop_map(move |(a, b)| {
        range(Included(Scalar::Number(a.min(b))), Included(Scalar::Number(a.max(b))))
    });
    let half = number().prop_map(move |a| range(Excluded(Scalar::Number(a)), Unbounded));
    prop_oneof![
        (key(), prop::collection::vec(text().prop_map(Value::Text), 1..3))
            .prop_map(|(key, values)| Term { key, test: Test::Any(values) }),
        key().prop_map(|key| Term { key, test: Test::Has }),
        (key(), text()).prop_filter_map("a pattern", |(key, source)| {
            let pattern = Pattern::new(&source).ok().filter(|_| !source.is_empty())?;
            Some(Term { key, test: Test::Matches(pattern) })
        }),
        prop_oneof![numbers, half].prop_map(|test| Term { key: Key::Status, test }),
        (0..u64::MAX).prop_map(move |ns| Term {
            key: Key::Duration,
            test: range(Unbounded, Included(Scalar::Duration(ns))),
        }),
        (0..u64::MAX).prop_map(move |ns| Term {
            key: Key::Duration,
            test: Test::Any(vec![Value::Duration(ns)]),
        }),
        (0..6_usize).prop_map(move |i| Term {
            key: Key::Level,
            test: range(Included(Scalar::Level(Level::ALL[i])), Unbounded),
        }),
        any::<bool>().prop_map(|b| Term { key: Key::Error, test: Test::Any(vec![Value::Bool(b)]) }),
    ]
    .prop_map(Expr::Term)
}

fn expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![3 => term(), 1 => text().prop_map(Expr::Text)];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::and),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::or),
            inner.prop_map(|e| Expr::Not(Box::new(e))),
        ]
    })
}

proptest! {
    #[test]
    fn an_expression_prints_as_text_that_parses_to_it(e in expr()) {
        let text = e.to_string();
        let back = parse(&text).map_err(|error| TestCaseError::fail(format!("{text:?}\n{error}")))?;
        prop_assert_eq!(&back, &e, "{}", text);
        // And the same through a shell's words.
        let words = split_words(&text);
        let joined = join_words(&words);
        prop_assert_eq!(parse(&joined).ok(), Some(e), "{:?} {}", words, joined);
        prop_assert!(!text.chars().any(crate::text::is_hostile), "{:?}", text);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}", cursor in 0..60_usize) {
        if let Err(error) = parse(&text) {
            prop_assert!(error.to_string().contains('^'));
        }
        let context = complete::context(&text, cursor);
        let (done, at) = complete::apply(&text, text.len(), &context, "x y");
        prop_assert!(done.is_char_boundary(at));
    }

    #[test]
    fn filters_near_the_language_do_not_panic(text in "(service|level|duration|status|re:|has:|not:|=|\\.\\.|,|\\(|\\)|\"| |5|a|or|>|!){0,12}") {
        if let Ok(e) = parse(&text) {
            let printed = e.to_string();
            prop_assert_eq!(parse(&printed).ok(), Some(e), "{}", printed);
        }
    }
}

#[test]
fn a_word_is_told_what_it_may_mean_nearest_first() {
    let words = ["cot", "count", "cart", "Count", "payments", "count"];
    assert_eq!(closest("cout", words, 9), ["count", "Count", "cot"]);
    assert_eq!(closest("PAYMNTS", words, 9), ["payments"]);
    assert_eq!(nearest("xy", words), None);
    let named = parse("(service=a,b or service=c) not:service=d re:service=e status=500").unwrap();
    assert_eq!(named.services(), ["a", "b", "c"]);
}
