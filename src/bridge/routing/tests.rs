use super::*;
use crate::formats::{
    limits::Limits,
    metadata::{Metadata, uuids},
    xml::kept::KeptXml,
};

const AUTHOR: &str = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d";

/// A submission set with these values of intendedRecipient and authorTelecommunication.
fn submission_set(intended: &[&str], telecommunications: &[&str]) -> SubmissionSet {
    let slot = |name: &str, values: &[&str]| {
        let values: String = values
            .iter()
            .map(|value| value.replace('&', "&amp;").replace('<', "&lt;"))
            .map(|value| format!("<rim:Value>{value}</rim:Value>"))
            .collect();
        format!(r#"<rim:Slot name="{name}"><rim:ValueList>{values}</rim:ValueList></rim:Slot>"#)
    };
    let text = format!(
        r#"<lcm:SubmitObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
             xmlns:rim="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"><rim:RegistryObjectList>
           <rim:RegistryPackage id="set">{}
           <rim:Classification id="a" classificationScheme="{AUTHOR}" classifiedObject="set"
             nodeRepresentation="">{}</rim:Classification>
           <rim:Classification id="n" classifiedObject="set" classificationNode="{}"/>
           </rim:RegistryPackage></rim:RegistryObjectList></lcm:SubmitObjectsRequest>"#,
        slot("intendedRecipient", intended),
        slot("authorTelecommunication", telecommunications),
        uuids::submission_set::NODE,
    );
    let metadata = Metadata::read(KeptXml::from_checked(text), &Limits::default()).unwrap();
    metadata.submission_set().unwrap().clone()
}

fn address(text: &str) -> DirectAddress {
    text.parse().unwrap()
}

fn written(found: &Recipients) -> Vec<String> {
    found
        .addresses
        .iter()
        .map(DirectAddress::to_string)
        .collect()
}

fn refusals(found: &Recipients) -> Vec<(&str, Reason)> {
    found
        .refused
        .iter()
        .map(|value| (value.written.expose().as_str(), value.reason))
        .collect()
}

fn elm() -> Routes {
    Routes::read(&[RouteConfig {
        organisation: "urn:oid:2.999.7".into(),
        authority: None,
        address: "intake@direct.elm.example".into(),
    }])
    .unwrap()
}

// rule: XDR-60
#[test]
fn the_address_block_alone_decides_where_it_is_given() {
    let set = submission_set(&["||^^Internet^other@hisp.example"], &[]);
    let to = [address("ada@hisp.example")];
    let found = recipients(&to, &set, &elm(), 100).unwrap();
    assert_eq!(written(&found), ["ada@hisp.example"]);
}

// rule: XDR-60, XDR-62, XDR-64, XDR-67, ADR-7
#[test]
fn intended_recipients_with_e_mail_are_the_recipients_and_broken_ones_are_refused() {
    let set = submission_set(
        &[
            "||^^Internet^Ada@hisp.example",
            "|Okafor^Ngozi|\n ^^Internet^Ngozi <ngozi@clinic.example>",
            "||^^Internet^not an address",
            "Elm Street Clinic^^^^^^^^^2.999.7",
        ],
        &[],
    );
    let found = recipients(&[], &set, &elm(), 100).unwrap();
    assert_eq!(
        written(&found),
        ["Ada@hisp.example", "ngozi@clinic.example"]
    );
    assert_eq!(refusals(&found), [("not an address", Reason::BadAddress)]);
    assert_eq!(found.findings.len(), 1);
}

// rule: NHIN-26, XDR-60
#[test]
fn a_route_serves_values_without_e_mail() {
    let set = submission_set(
        &[
            "Elm Street Clinic^^^^^^^^^2.999.7",
            "Nobody^^^^^^^^^2.999.8",
            "||^^Internet^broken@",
        ],
        &[],
    );
    let found = recipients(&[], &set, &elm(), 100).unwrap();
    assert_eq!(written(&found), ["intake@direct.elm.example"]);
    assert_eq!(
        refusals(&found),
        [
            ("broken@", Reason::BadAddress),
            ("Nobody^^^^^^^^^2.999.8", Reason::UnknownRecipient)
        ]
    );
}

// rule: NHIN-26
#[test]
fn a_local_identifier_is_routed_only_under_its_authority() {
    let routes = Routes::read(&[RouteConfig {
        organisation: "17".into(),
        authority: Some("2.999.5".into()),
        address: "intake@direct.elm.example".into(),
    }])
    .unwrap();
    for (value, is_routed) in [
        ("Elm^^^^^&2.999.5&ISO^^^^17", true),
        ("Elm^^^^^&2.999.6&ISO^^^^17", false),
        ("Elm^^^^^^^^^17", false),
    ] {
        let set = submission_set(&[value], &[]);
        assert_eq!(recipients(&[], &set, &routes, 100).is_ok(), is_routed);
    }
}

// rule: XDR-60
#[test]
fn values_of_which_none_is_usable_fail_one_by_one_and_no_value_at_all_otherwise() {
    let set = submission_set(&["|Quill^Ada", "||^^Internet^x"], &[]);
    let errors = recipients(&[], &set, &elm(), 100).unwrap_err();
    assert_eq!(errors.len(), 2);
    for error in &errors {
        assert_eq!(error.code, Some(ErrorCode::UnknownRecipient));
        assert!(!format!("{error:?}").contains("Quill"));
    }
    let none = recipients(&[], &submission_set(&[], &[]), &elm(), 100).unwrap_err();
    assert_eq!(none[0].code, Some(ErrorCode::XdsRepositoryMetadataError));
    assert!(none[0].text.starts_with("no recipient"));
}

// rule: XDR-69, LIM-9
#[test]
fn duplicates_collapse_to_the_first_before_recipients_are_counted() {
    let to = ["A@hisp.example", "b@hisp.example", "a@HISP.example"].map(address);
    let set = submission_set(&[], &[]);
    let found = recipients(&to, &set, &elm(), 2).unwrap();
    assert_eq!(written(&found), ["A@hisp.example", "b@hisp.example"]);
    let error = &recipients(&to, &set, &elm(), 1).unwrap_err()[0];
    assert_eq!(error.code, Some(ErrorCode::XdsRepositoryOutOfResources));
}

// rule: LIM-9
#[test]
fn values_that_name_nobody_count_as_recipients_each_once() {
    let many = |form: &str, count: usize| -> Vec<String> {
        let number = |n: usize| form.replace("{n}", &n.to_string());
        (0..count).map(number).collect()
    };
    for form in [
        "||^^Internet^no address {n}",
        "Nobody {n}",
        "||^^Internet^r{n}@a.example",
    ] {
        let values = many(form, 101);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let errors = recipients(&[], &submission_set(&values, &[]), &elm(), 100).unwrap_err();
        let codes: Vec<_> = errors.iter().map(|error| error.code.as_ref()).collect();
        assert_eq!(
            codes,
            [Some(&ErrorCode::XdsRepositoryOutOfResources)],
            "{form}"
        );
        let twice = [&values[..100], &values[..100]].concat();
        let found = recipients(&[], &submission_set(&twice, &[]), &elm(), 100);
        let count = found.map_or_else(|errors| errors.len(), |found| found.addresses.len());
        assert_eq!(count, 100, "{form}");
    }
    // Beside addresses the others are no recipients, however many there are.
    let mut values = many("Nobody {n}", 1_000);
    values.push("||^^Internet^ada@a.example".to_owned());
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let found = recipients(&[], &submission_set(&values, &[]), &elm(), 1).unwrap();
    assert_eq!(written(&found), ["ada@a.example"]);
    assert_eq!(found.findings.len(), 1);
    assert!(found.findings[0].text.starts_with("1000 values"));
}

// rule: XDR-65
#[test]
fn the_sender_is_the_block_s_or_the_first_author_s_and_never_made_up() {
    let telephone = "^PRN^PH^^1^555^0100";
    let set = submission_set(&[], &[telephone, "^^Internet^lee@direct.harbor.example"]);
    let from = address("desk@direct.harbor.example");
    assert_eq!(sender(Some(&from), &set).unwrap(), from);
    assert_eq!(
        sender(None, &set).unwrap(),
        address("lee@direct.harbor.example")
    );
    let error = sender(None, &submission_set(&[], &[telephone])).unwrap_err();
    assert_eq!(error.code, Some(ErrorCode::XdsRepositoryMetadataError));
    assert!(error.text.starts_with("no sender"));
}

// rule: ADR-7, XDR-65
#[test]
fn a_broken_author_address_is_refused_and_never_passed_over() {
    let values = ["^^Internet^lee@", "^^Internet^lee@direct.harbor.example"];
    let error = sender(None, &submission_set(&[], &values)).unwrap_err();
    assert_eq!(error.code, Some(ErrorCode::XdsRepositoryMetadataError));
    assert!(!format!("{error:?}").contains("lee@"));
}

#[test]
fn every_problem_of_the_routes_is_named_at_once() {
    let route = |organisation: &str, address: &str| RouteConfig {
        organisation: organisation.into(),
        authority: None,
        address: address.into(),
    };
    let problems = Routes::read(&[
        route("2.999.7", "intake@direct.elm.example"),
        route("urn:oid:2.999.7", "x@y.example"),
        route("", "nobody"),
    ])
    .unwrap_err();
    let keys: Vec<_> = problems
        .iter()
        .filter_map(|problem| problem.split_once(": "))
        .map(|(key, _)| key)
        .collect();
    assert_eq!(
        keys,
        [
            "route[1].organisation",
            "route[2].organisation",
            "route[2].address"
        ]
    );
}
