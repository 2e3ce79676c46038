//! A window as a file: complete, the same answers offline, and no secret in it.

use std::process::Stdio;

use coral_tests::otlp::{self, text};
use coral_tests::{Colony, until};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message as _;

/// Everything that must not leave, with the places it is put into.
const SECRETS: [&str; 9] = [
    "hunter2-password",
    "sk_live_51abcdefghijklmnop",
    "ann.smith@example.com",
    "4111111111111111",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlMTIz",
    "sid-cookie-0001",
    "literal-in-sql",
    "query-value-77",
    "Margarethe Musterfrau",
];

fn spans(
    service: &str,
    mark: u32,
) -> opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest {
    let mut request = otlp::server_spans(service, mark, 0, 50);
    for span in &mut request.resource_spans[0].scope_spans[0].spans {
        span.attributes.extend([
            text("http.request.header.authorization", &format!("Bearer {}", SECRETS[4])),
            text("db.password", SECRETS[0]),
            text("http.request.header.cookie", SECRETS[5]),
            text("db.query.text", &format!("SELECT * FROM t WHERE name = '{}'", SECRETS[6])),
            text("url.full", &format!("http://x/reset?code={}", SECRETS[7])),
            text("customer.name", SECRETS[8]),
            text("note", &format!("mail to {}", SECRETS[2])),
        ]);
        if let Some(status) = &mut span.status {
            status.message = format!("key {} refused", SECRETS[1]);
        }
    }
    let resource = request.resource_spans[0].resource.as_mut().unwrap();
    resource.attributes.push(text("deployment.token", SECRETS[0]));
    request
}

fn logs() -> Vec<u8> {
    let mut request =
        ExportLogsServiceRequest::decode(&otlp::log_lines("payments", 0, 20)[..]).unwrap();
    for (n, record) in request.resource_logs[0].scope_logs[0].log_records.iter_mut().enumerate() {
        let secret = SECRETS[n % 5];
        let body = match n % 2 {
            // A password alone has no form that tells it from a word.
            0 if n % 5 == 0 => format!("line {n}: password={secret}"),
            0 => format!("line {n}: paid with {secret}, password={secret}"),
            _ => format!("{{\"n\":{n},\"api_key\":\"{secret}\",\"mail\":\"{}\"}}", SECRETS[2]),
        };
        *record.body.as_mut().unwrap() = text("", &body).value.unwrap();
    }
    request.encode_to_vec()
}

/// A colony with the same data in every signal, and the window they lie in.
fn filled() -> (Colony, String, String) {
    let colony = Colony::start();
    for (service, mark) in [("payments", 1), ("cart", 2)] {
        assert!(otlp::post_spans(&colony.otlp_http, &spans(service, mark)).unwrap());
    }
    let headers = [("content-type", "application/x-protobuf")];
    assert_eq!(otlp::post(&colony.otlp_http, "/v1/logs", &headers, &logs()).unwrap().status, 200);
    until("the data", || {
        let services = colony.query(&["red", "--since", "10m"])?.len();
        let logs = colony.query(&["logs", "--since", "10m"])?.len();
        if services >= 2 && logs == 20 { Ok(()) } else { Err(format!("{services} {logs}")) }
    });
    // A window of whole buckets that is over, and past the moments that count as not complete yet: its
    // answers do not change any more.
    let second = |at: i64| jiff::Timestamp::from_second(at).unwrap();
    let end = (jiff::Timestamp::now().as_second() / 10 + 1) * 10;
    until("the bucket to be over", || match jiff::Timestamp::now().as_second() > end + 15 {
        true => Ok(()),
        false => Err("not yet".into()),
    });
    (colony, second(end - 60).to_string(), second(end).to_string())
}

#[test]
fn a_file_holds_the_window_and_no_secret() {
    let (colony, from, to) = filled();
    let file = colony.dir().join("incident.coral").display().to_string();
    let export = colony
        .coral(&[
            "incident",
            "export",
            "--from",
            &from,
            "--to",
            &to,
            "-o",
            &file,
            "--redact-more",
            "key=customer.name",
        ])
        .ok();
    assert!(
        export.err.contains("e-mail addresses") && export.err.contains("customer.name"),
        "{}",
        export.err
    );
    assert!(export.out.contains(&format!("coral open {file}")), "{}", export.out);
    let plain = zstd::decode_all(std::fs::File::open(&file).unwrap()).unwrap();
    let plain = String::from_utf8(plain).unwrap();
    for secret in SECRETS {
        assert!(!plain.contains(secret), "{secret} is in the file");
    }
    // Equal values stay equal.
    let mail = plain.split("mail to ").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(mail.starts_with("‹email:") && plain.matches(mail).count() > 100, "{mail}");
    let end = plain.lines().last().unwrap();
    let end: serde_json::Value = serde_json::from_str(end).unwrap();
    assert_eq!(end["schema"], "coral.incident.end/1");
    assert_eq!(
        (end["rows"]["spans"].as_u64(), end["rows"]["logs"].as_u64()),
        (Some(100), Some(20))
    );
    assert!(end["rows"]["red"].as_u64() > Some(0) && end["rows"]["resources"].as_u64() > Some(1));

    // Offline, the same questions have the same answers.
    let opened = colony
        .command(&["open", &file])
        .env("TMPDIR", colony.dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&opened.stdout).into_owned();
    let err = String::from_utf8_lossy(&opened.stderr).into_owned();
    assert!(opened.status.success(), "{out}\n{err}");
    assert!(out.starts_with("FILE incident.coral · "), "{out}");
    for view in ["services", "topology"] {
        let source =
            colony.coral(&["query", view, "--from", &from, "--to", &to, "--limit", "20"]).out;
        let rows: Vec<&str> =
            source.lines().filter(|l| ["payments", "cart"].iter().any(|s| l.contains(s))).collect();
        assert!(!rows.is_empty(), "{source}");
        for row in rows {
            assert!(out.contains(row), "{view}: `{row}` is not in\n{out}");
        }
    }
    assert!(out.contains("c0c0c0c0c0c0c0c0"), "traces keep their ids: {out}");
    let left: Vec<_> = std::fs::read_dir(colony.dir())
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("coral-open-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn damaged_files_and_wrong_colonies_are_refused_with_a_reason() {
    let (colony, from, to) = filled();
    let path = colony.dir().join("incident.coral");
    let file = path.display().to_string();
    _ = colony.coral(&["incident", "export", "--from", &from, "--to", &to, "-o", &file]).ok();
    let whole = std::fs::read(&path).unwrap();
    let open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let output = colony.command(&["open", &file]).env("TMPDIR", colony.dir()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, err) = open(&whole[..whole.len() / 2]);
    assert!(code != Some(0) && err.contains("cut off after line"), "{code:?} {err}");
    let plain = zstd::decode_all(&whole[..]).unwrap();
    let changed = String::from_utf8(plain).unwrap().replacen("/item", "/iten", 1);
    let (code, err) = open(&zstd::encode_all(changed.as_bytes(), 1).unwrap());
    assert!(code != Some(0) && err.contains("was changed"), "{code:?} {err}");
    // A part: what passes a filter, over the time of a place, which says where to look first.
    let place = format!("coral:1/-/traces/{from}..{to}/service=payments");
    let part = colony.dir().join("part.coral").display().to_string();
    let export = ["incident", "export", "--place", &place, "-o", &part, "service=payments"];
    _ = colony.coral(&export).ok();
    let plain = zstd::decode_all(std::fs::File::open(&part).unwrap()).unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(plain)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["filter"], &lines[0]["from"]),
        (&"service=payments".into(), &from.as_str().into())
    );
    assert!(lines[0]["place"].as_str().unwrap().starts_with("coral:1/-/traces/"), "{}", lines[0]);
    let rows = &lines.last().unwrap()["rows"];
    assert_eq!((rows["spans"].as_u64(), rows["logs"].as_u64()), (Some(50), Some(20)), "{rows}");
    assert!(rows["inflight"].is_u64(), "{rows}");
    let opened = colony.command(&["open", &part]).env("TMPDIR", colony.dir()).output().unwrap();
    let out = String::from_utf8_lossy(&opened.stdout).into_owned();
    assert!(opened.status.success() && out.contains("only what passes: service=payments"), "{out}");
    // Nothing but a name=value names an attribute, and no window no file.
    let usage = colony.coral(&["incident", "export", "-o", &file, "--redact-more", "x"]);
    assert_eq!(usage.code, 2, "{}", usage.err);
}
