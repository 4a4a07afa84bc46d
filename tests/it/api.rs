//! `/api/v1/exchanges` over real sockets: who sees what, what is refused, and that its description is true.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;
use xdbridge::{
    adapters::operator::PartnerTokenConfig,
    app::config::Config,
    bridge::exchange::{Exchange, Origin},
    formats::audit::{AuditKind, AuditOutcome},
};

use crate::support::{
    bridge::{ASH, ELM, RUI, TestBridge, UNTRUSTED, pki},
    json_schema,
    receiving_ground::{ADA, ReceivingGround, letter, sealed, success},
    request::TestRequest,
    tls::{Connection, HttpAnswer},
};

const OPERATORS: &str = "the-operators-token-of-36-characters";
const OF_ELM: &str = "a-token-of-elm-of-over-32-characters";
const OF_ASH: &str = "a-token-of-ash-of-over-32-characters";

fn write_token(folder: &Path, name: &str, token: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("{token}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Tokens for the operators and for both partners.
fn with_tokens(config: &mut Config) {
    let folder = config.store.path.parent().unwrap().to_owned();
    config.operator.token_file = Some(write_token(&folder, "operators", OPERATORS));
    config.operator.partner_tokens = [("elm", OF_ELM), ("ash", OF_ASH)]
        .map(|(partner, token)| PartnerTokenConfig {
            partner: partner.to_owned(),
            file: write_token(&folder, partner, token),
        })
        .into();
}

fn ask(bridge: &TestBridge, request: &str, fields: &str) -> HttpAnswer {
    let mut connection = Connection::plain(bridge.operator());
    connection
        .send(format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
        ))
        .unwrap();
    connection.answer().unwrap()
}

fn get(bridge: &TestBridge, path: &str, token: &str) -> (u16, Value) {
    let fields = format!("Authorization: Bearer {token}\r\n");
    let answer = ask(bridge, &format!("GET {path}"), &fields);
    let body = serde_json::from_slice(&answer.body).unwrap();
    (answer.status, body)
}

/// The page that must be given.
fn listed(bridge: &TestBridge, query: &str, token: &str) -> Vec<String> {
    let (status, page) = get(bridge, &format!("/api/v1/exchanges{query}"), token);
    assert_eq!(status, 200, "{page}");
    let exchanges = page["exchanges"].as_array().unwrap().iter();
    exchanges
        .map(|one| one["id"].as_str().unwrap().to_owned())
        .collect()
}

fn path_of(id: &str) -> String {
    let encoded: String = id
        .bytes()
        .map(|octet| match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(octet).to_string(),
            _ => format!("%{octet:02X}"),
        })
        .collect();
    format!("/api/v1/exchanges/{encoded}")
}

/// The ids that others know a submission by, that of its mail among them.
fn ids(exchange: &Exchange) -> Vec<String> {
    let Origin::Xdr {
        soap_message_id,
        submission_set_unique_id,
        ..
    } = &exchange.origin
    else {
        panic!("a submission");
    };
    let mails = exchange.legs.iter().filter_map(|leg| leg.as_mail());
    let mut ids = vec![
        exchange.id.to_string(),
        soap_message_id.as_ref().unwrap().to_string(),
        submission_set_unique_id.clone(),
    ];
    ids.extend(mails.map(|mail| mail.message_id.to_string()));
    ids
}

// rule: T-35, COR-5
#[test]
fn a_partner_sees_what_it_submitted_and_nothing_of_others() {
    let (bridge, _hop) = TestBridge::beside_a_hop(&["direct.harbor.example"], with_tokens);
    bridge.submit(&TestRequest::new(ELM, &[RUI, UNTRUSTED]).mtom());
    let posted = TestRequest::new(ASH, &[RUI]).mtom();
    let answer = bridge.post_as(Some(&pki().ash), &posted).unwrap();
    assert_eq!(answer.status, 200);
    bridge.wait_until_sent();
    let [of_elm, of_ash] = &bridge.exchanges()[..] else {
        panic!("two exchanges");
    };
    let (elm, ash) = (of_elm.id.to_string(), of_ash.id.to_string());
    assert_eq!(listed(&bridge, "", OPERATORS), [&*ash, &*elm]);
    assert_eq!(listed(&bridge, "?partner=elm", OPERATORS), [&*elm]);
    assert_eq!(listed(&bridge, "", OF_ELM), [&*elm]);
    assert_eq!(listed(&bridge, "?partner=elm", OF_ELM), [&*elm]);
    assert_eq!(listed(&bridge, "?partner=ash", OF_ELM), [""; 0]);
    assert_eq!(listed(&bridge, "", OF_ASH), [&*ash]);

    let unknown = get(&bridge, "/api/v1/exchanges/nothing", OF_ASH);
    assert_eq!(unknown.0, 404);
    for id in ids(of_elm) {
        let (status, own) = get(&bridge, &path_of(&id), OF_ELM);
        assert_eq!((status, own["id"].as_str()), (200, Some(&*elm)), "{id}");
        let (status, all) = get(&bridge, &path_of(&id), OPERATORS);
        assert_eq!((status, all["id"].as_str()), (200, Some(&*elm)), "{id}");
        // Another's is as if it were not there.
        assert_eq!(get(&bridge, &path_of(&id), OF_ASH), unknown, "{id}");
    }
    let refused = bridge.audit_of(AuditKind::Operator);
    let refused: Vec<_> = refused
        .iter()
        .filter(|record| record.outcome == AuditOutcome::Minor)
        .collect();
    // What is nobody's is audited no less: by nothing may one tell that another has the id.
    assert_eq!(refused.len(), ids(of_elm).len() + 1);
    for record in refused {
        assert_eq!(record.exchange, None);
        assert_eq!(
            record.details["operator"],
            "the token of partner ash from 127.0.0.1"
        );
    }

    let (_, own) = get(&bridge, &path_of(&elm), OF_ELM);
    let (_, all) = get(&bridge, &path_of(&elm), OPERATORS);
    assert_eq!(own["recipients_each"], all["recipients_each"]);
    assert_eq!(own["recipients_each"][1]["reason"], "untrusted");
    assert_eq!(own["attempts"], all["attempts"]);
    assert!(!own["causes"].as_array().unwrap().is_empty());
    for kept_back in ["next", "history"] {
        assert_eq!(own[kept_back], serde_json::json!([]), "{kept_back}");
    }
    assert!(!all["history"].as_array().unwrap().is_empty());
}

// rule: T-35
#[test]
fn a_received_mail_is_no_partners() {
    let ground = ReceivingGround::configured(|_| success(), with_tokens);
    let mail = letter("m@direct.harbor.example", &[ADA], "");
    ground.arrives(&[ADA], &sealed(&mail, &[&pki().harbor], &pki().direct_elm));
    let bridge = &ground.bridge;
    let id = bridge.exchange().id.to_string();
    assert_eq!(listed(bridge, "", OPERATORS), [&*id]);
    for token in [OF_ELM, OF_ASH] {
        assert_eq!(listed(bridge, "", token), [""; 0]);
        assert_eq!(get(bridge, &path_of(&id), token).0, 404);
        let path = path_of("<m@direct.harbor.example>");
        assert_eq!(get(bridge, &path, token).0, 404);
    }
}

// rule: T-35
#[test]
fn whoever_has_no_known_token_is_told_nothing() {
    let (bridge, _hop) = TestBridge::beside_a_hop(&[], with_tokens);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for fields in [
        String::new(),
        bearer(""),
        bearer(&OF_ELM[1..]),
        bearer(&format!("{OF_ELM}x")),
        format!("Authorization: Basic {OPERATORS}\r\n"),
        format!("X-Token: {OPERATORS}\r\n"),
    ] {
        for path in ["/api/v1/exchanges", "/api/v1/exchanges/1", "/api/v1/else"] {
            let answer = ask(&bridge, &format!("GET {path}"), &fields);
            assert_eq!(answer.status, 401, "{path} {fields}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    // A partner's token is none for what the bridge measures.
    assert_eq!(ask(&bridge, "GET /metrics", &bearer(OF_ELM)).status, 401);
    assert_eq!(ask(&bridge, "GET /metrics", &bearer(OPERATORS)).status, 200);
    assert_eq!(ask(&bridge, "GET /api/v1/openapi.json", "").status, 200);

    // Where there is no token at all, loopback is not enough to see people's addresses.
    let (open, _hop) = TestBridge::beside_a_hop(&[], |_| {});
    assert_eq!(ask(&open, "GET /metrics", "").status, 200);
    assert_eq!(ask(&open, "GET /api/v1/exchanges", "").status, 401);
}

// rule: LIM-1
#[test]
fn requests_that_make_no_sense_are_refused_with_the_reason() {
    let (bridge, _hop) = TestBridge::beside_a_hop(&[], with_tokens);
    let long = "x".repeat(999);
    let far = format!("?endpoint={}", "x".repeat(4_097));
    for (path, status) in [
        ("/api/v1/exchanges?states=open", 400),
        ("/api/v1/exchanges?state=closed", 400),
        ("/api/v1/exchanges?limit=1001", 400),
        ("/api/v1/exchanges?limit=-1", 400),
        ("/api/v1/exchanges?since=yesterday", 400),
        ("/api/v1/exchanges?after=2", 400),
        ("/api/v1/exchanges?state=open&state=open", 400),
        (&format!("/api/v1/exchanges{far}"), 400),
        (&format!("/api/v1/exchanges/{long}"), 400),
        ("/api/v1/exchanges/%20", 400),
        ("/api/v1/exchanges/%FF", 400),
        ("/api/v1/exchanges/", 404),
        ("/api/v1/exchange", 404),
        ("/api/v1/", 404),
        ("/api/v1/exchanges/..%2F..%2Fmetrics", 404),
    ] {
        let (found, body) = get(&bridge, path, OPERATORS);
        assert_eq!(found, status, "{path}: {body}");
        assert!(!body["text"].as_str().unwrap().is_empty(), "{path}");
    }
    let bearer = format!("Authorization: Bearer {OPERATORS}\r\nContent-Length: 0\r\n");
    for method in ["POST", "PUT", "DELETE"] {
        let answer = ask(&bridge, &format!("{method} /api/v1/exchanges/1"), &bearer);
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET"));
    }
}

#[test]
fn pages_follow_one_another_to_the_end() {
    let (bridge, _hop) = TestBridge::beside_a_hop(&["direct.harbor.example"], with_tokens);
    for _ in 0..5 {
        bridge.submit(&TestRequest::new(ELM, &[RUI]).mtom());
    }
    let mut expected = listed(&bridge, "", OF_ELM);
    assert_eq!(expected.len(), 5);
    let mut query = "?limit=2".to_owned();
    let mut sizes = Vec::new();
    loop {
        let (_, page) = get(&bridge, &format!("/api/v1/exchanges{query}"), OF_ELM);
        let exchanges = page["exchanges"].as_array().unwrap();
        sizes.push(exchanges.len());
        for one in exchanges {
            assert_eq!(one["id"], expected.remove(0));
        }
        let Some(next) = page["next"].as_str() else {
            break;
        };
        let next = next.replace('/', "%2F").replace(':', "%3A");
        query = format!("?limit=2&after={next}");
    }
    assert_eq!(sizes, [2, 2, 1]);
}

fn description(bridge: &TestBridge) -> Value {
    let answer = ask(bridge, "GET /api/v1/openapi.json", "");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_slice(&answer.body).unwrap()
}

/// What is wrong with the answer by what the description says of the path and this status.
fn against(document: &Value, path: &str, status: u16, body: &Value) -> Vec<String> {
    let answers = &document["paths"][path]["get"]["responses"];
    let answer = &answers[status.to_string()];
    let schema = &answer["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{path}: {status} is not described");
    json_schema::faults(document, schema, body, path)
}

#[test]
fn the_description_tells_every_answer_in_full() {
    const LIST: &str = "/api/v1/exchanges";
    const SHOW: &str = "/api/v1/exchanges/{id}";
    let ground = ReceivingGround::configured(|_| success(), with_tokens);
    let bridge = &ground.bridge;
    bridge.submit(&TestRequest::new(ELM, &[RUI, UNTRUSTED]).mtom());
    let mail = letter("m@direct.harbor.example", &[ADA], "");
    ground.arrives(&[ADA], &sealed(&mail, &[&pki().harbor], &pki().direct_elm));
    bridge.wait_until_sent();
    let document = description(bridge);
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, [LIST, SHOW, "/api/v1/openapi.json"]);
    for token in [OPERATORS, OF_ELM] {
        let (status, page) = get(bridge, LIST, token);
        assert_eq!(
            against(&document, LIST, status, &page),
            Vec::<String>::new()
        );
        for id in listed(bridge, "", token) {
            let (status, shown) = get(bridge, &path_of(&id), token);
            assert_eq!(status, 200);
            assert_eq!(
                against(&document, SHOW, status, &shown),
                Vec::<String>::new()
            );
        }
    }
    // Each of them saw a mail and a post.
    let kinds = |id: &String| get(bridge, &path_of(id), OPERATORS).1["legs"][0]["kind"].clone();
    let mut kinds: Vec<Value> = listed(bridge, "", OPERATORS).iter().map(kinds).collect();
    kinds.sort_by_key(Value::to_string);
    assert_eq!(kinds, ["mail", "post"]);
    for (path, address, token) in [
        (LIST, "/api/v1/exchanges?x=1", OPERATORS),
        (LIST, "/api/v1/exchanges", "nobody's"),
        (SHOW, "/api/v1/exchanges/1", OPERATORS),
        (SHOW, "/api/v1/exchanges/%FF", OPERATORS),
        (SHOW, "/api/v1/exchanges/1", "nobody's"),
    ] {
        let (status, body) = get(bridge, address, token);
        assert_eq!(
            against(&document, path, status, &body),
            Vec::<String>::new()
        );
    }
    // The check sees what is missing, and what is not declared.
    let mut page = get(bridge, LIST, OPERATORS).1;
    page["exchanges"][0]["state"] = "asleep".into();
    page["more"] = true.into();
    page.as_object_mut().unwrap().remove("next");
    assert_eq!(against(&document, LIST, 200, &page).len(), 3);
}

#[test]
fn every_parameter_that_is_described_is_taken() {
    let (bridge, _hop) = TestBridge::beside_a_hop(&["direct.harbor.example"], with_tokens);
    bridge.submit(&TestRequest::new(ELM, &[RUI]).mtom());
    let parameters = &description(&bridge)["paths"]["/api/v1/exchanges"]["get"]["parameters"];
    let mut names = Vec::new();
    for parameter in parameters.as_array().unwrap() {
        let name = parameter["name"].as_str().unwrap();
        let schema = &parameter["schema"];
        let values: Vec<String> = match (name, schema["enum"].as_array()) {
            (_, Some(words)) => words.iter().map(|w| w.as_str().unwrap().into()).collect(),
            ("is_final", _) => vec!["true".into(), "false".into()],
            ("since", _) => vec!["2026-11-29T08:00:00Z".into()],
            ("after", _) => {
                let page = get(&bridge, "/api/v1/exchanges?state=failed&limit=1", OPERATORS).1;
                assert_eq!(page["next"], Value::Null);
                let id = bridge.exchange().id;
                vec![format!("2026-11-29T08:00:00Z/{id}")]
            }
            ("limit", _) => vec!["0".into(), schema["maximum"].to_string()],
            ("partner" | "endpoint", _) => vec!["elm".into()],
            _ => panic!("{name} is described and not tried"),
        };
        for value in values {
            let path = format!("/api/v1/exchanges?{name}={value}");
            assert_eq!(get(&bridge, &path, OPERATORS).0, 200, "{path}");
        }
        names.push(name);
    }
    // And no other is: the field names are those of the order.
    let order = serde_json::to_value(xdbridge::flows::ports::ListOrder::default()).unwrap();
    let mut known: Vec<&String> = order.as_object().unwrap().keys().collect();
    known.sort();
    names.sort_unstable();
    assert_eq!(names, known);
}

// rule: T-31
#[test]
fn tokens_that_name_nobody_alone_are_refused_at_the_start() {
    use xdbridge::adapters::operator::OperatorError;
    let folder = crate::support::folder::TestFolder::new();
    let mut config = Config::default();
    config.operator.bind.set_port(0);
    config.operator.token_file = Some(write_token(folder.path(), "operators", OPERATORS));
    let file = write_token(folder.path(), "elm", OPERATORS);
    let partner = "elm".to_owned();
    config.operator.partner_tokens = vec![PartnerTokenConfig { partner, file }];
    let refusal = |config: &Config| crate::operator::bind_error(&config.operator);
    assert!(matches!(
        refusal(&config),
        OperatorError::SharedToken { .. }
    ));
    let problems = config.problems(crate::support::bridge::now());
    let is_told = |problem: &String| {
        problem.starts_with("operator.partner_tokens[0].file: ")
            && problem.ends_with("a token that no other file holds")
    };
    assert!(problems.iter().any(is_told), "{problems:?}");
    for (token, mode, said) in [("short", 0o600, "too weak"), (OF_ELM, 0o644, "mode 0644")] {
        let file = write_token(folder.path(), "elm", token);
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let error = refusal(&config).to_string();
        assert!(error.starts_with("operator.partner_tokens: "), "{error}");
        assert!(error.contains(said), "{error}");
    }
    let problems = config.problems(crate::support::bridge::now());
    let is_told = |key: &str| problems.iter().any(|problem| problem.starts_with(key));
    assert!(is_told("operator.partner_tokens[0].partner: "));
    assert!(is_told("operator.partner_tokens[0].file: "));
}
