//! What a CDA header says of its document, as DocumentEntry attributes (MD-140 to MD-158).

use super::{
    super::{
        ids::{DirectAddress, Oid},
        metadata::{
            Author, Code, NewEntry,
            hl7::{Authority, Cx, Xcn, Xon, Xtn, components, escape},
        },
    },
    CdaHeader, format_code,
    time::dtm,
    tree::Element,
};

/// Longest uniqueId that is made of a document's id, in characters (MD-51).
const MAX_UNIQUE_ID_CHARS: usize = 128;
/// Longest title, in characters (MD-141).
const MAX_TITLE_CHARS: usize = 127;
/// Longest value of a slot, in characters (MD-1). What is longer is left out: cut, it would say something else.
const MAX_VALUE_CHARS: usize = 256;
/// Most values of one kind that are taken over, such as authors.
const MAX_REPEATED: usize = 20;

/// What the configuration says about reading headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CdaOptions {
    /// The assigning authorities whose patient ids the destination knows: only these become patientId (MD-148).
    pub patient_id_authorities: Vec<Oid>,
    /// Minutes east of UTC of times without an offset (MD-142).
    pub default_offset_minutes: i16,
    /// classCode by the code of typeCode (MD-146).
    pub class_codes: Vec<(String, Code)>,
    /// practiceSettingCode by the code of typeCode or of the author (MD-157).
    pub practice_setting_codes: Vec<(String, Code)>,
}

/// Gives `entry` what the header says. What it does not say stays as it is (MD-126: nothing is guessed).
pub fn describe(header: &CdaHeader, options: &CdaOptions, entry: &mut NewEntry) {
    let root = &header.root;
    let time = |element: &Element| {
        let value = element.attribute("value")?;
        dtm(value, options.default_offset_minutes)
    };
    if let Some(id) = root.at(&["id"]).and_then(unique_id) {
        entry.unique_id = id;
    }
    if let Some(title) = root.at(&["title"]).and_then(Element::text) {
        entry.title = Some(title.chars().take(MAX_TITLE_CHARS).collect());
    }
    if let Some(at) = root.at(&["effectiveTime"]).and_then(time) {
        entry.creation_time = Some(at);
    }
    let language = root.at(&["languageCode"]).and_then(|e| e.attribute("code"));
    if let Some(language) = language.filter(|code| is_language(code)) {
        entry.language_code = Some(language.to_owned());
    }
    entry
        .confidentiality_codes
        .extend(root.at(&["confidentialityCode"]).and_then(code));
    entry.type_code = root.at(&["code"]).and_then(code);
    entry.class_code = entry.type_code.as_ref().map(|kind| {
        let mapped = mapped(&options.class_codes, &kind.code);
        mapped.unwrap_or_else(|| kind.clone())
    });
    entry.format_code = Some(format_code::of(header));
    describe_patient(root, options, entry);
    describe_people(root, options, entry);
    describe_event(root, time, entry);
}

fn describe_patient(root: &Element, options: &CdaOptions, entry: &mut NewEntry) {
    // A document about several patients has several targets; the first is the one that others take.
    let Some(role) = root.at(&["recordTarget", "patientRole"]) else {
        return;
    };
    let ids: Vec<Cx> = role.all("id").filter_map(cx).collect();
    entry.source_patient_id = ids.first().map(Cx::to_string).filter(fits);
    let is_known = |id: &&Cx| {
        let known = options.patient_id_authorities.iter();
        known
            .into_iter()
            .any(|oid| oid.as_str() == id.authority.universal_id)
    };
    entry.patient_id = ids.iter().find(is_known).map(Cx::to_string).filter(fits);

    let mut info = Vec::new();
    let mut list = String::from("PID-3|");
    for id in ids.iter().map(Cx::to_string) {
        let separator = if list.ends_with('|') { "" } else { "~" };
        let longer = format!("{list}{separator}{id}");
        if fits(&longer) {
            list = longer;
        }
    }
    info.push(list);
    let patient = role.at(&["patient"]);
    let name = patient.and_then(legal_name).map(|name| {
        let Xcn {
            family,
            given,
            middle,
            suffix,
            prefix,
            ..
        } = name;
        components(&[family, given, middle, suffix, prefix])
    });
    info.extend(name.map(|name| format!("PID-5|{name}")));
    let born = patient.and_then(|p| p.at(&["birthTime"])?.attribute("value"));
    let born = born.and_then(|value| dtm(value.get(..8).unwrap_or(value), 0));
    info.extend(born.map(|born| format!("PID-7|{born}")));
    let gender = patient.and_then(|p| p.at(&["administrativeGenderCode"])?.attribute("code"));
    info.extend(gender.map(|code| match code {
        "M" | "F" => format!("PID-8|{code}"),
        "UN" => "PID-8|O".to_owned(),
        _ => "PID-8|U".to_owned(),
    }));
    info.extend(
        role.at(&["addr"])
            .map(address)
            .map(|addr| format!("PID-11|{addr}")),
    );
    info.retain(|value| fits(value) && !value.ends_with('|'));
    entry.source_patient_info = info;
}

fn describe_people(root: &Element, options: &CdaOptions, entry: &mut NewEntry) {
    let custodian = root
        .at(&[
            "custodian",
            "assignedCustodian",
            "representedCustodianOrganization",
        ])
        .and_then(organisation);
    let authors = root.all("author").filter_map(|found| {
        let mut author = author(found)?;
        if author.institutions.is_empty() {
            author.institutions.extend(custodian.clone());
        }
        Some(author)
    });
    entry.authors = authors.take(MAX_REPEATED).collect();
    if entry.authors.is_empty()
        && let Some(institution) = custodian
    {
        entry.authors.push(Author {
            institutions: vec![institution],
            ..Author::default()
        });
    }
    entry.legal_authenticator = root
        .at(&["legalAuthenticator", "assignedEntity"])
        .and_then(|entity| person(entity, "assignedPerson"));
    let of_author = root
        .at(&["author", "assignedAuthor", "code"])
        .and_then(code);
    let kinds = entry.type_code.iter().chain(&of_author);
    entry.practice_setting_code = kinds
        .filter_map(|kind| mapped(&options.practice_setting_codes, &kind.code))
        .next();
}

fn describe_event(root: &Element, time: impl Fn(&Element) -> Option<String>, entry: &mut NewEntry) {
    let encounter = root.at(&["componentOf", "encompassingEncounter"]);
    let events: Vec<&Element> = root
        .all("documentationOf")
        .filter_map(|found| found.at(&["serviceEvent"]))
        .collect();
    let interval = |element: &Element| {
        let effective = element.at(&["effectiveTime"])?;
        let whole = time(effective);
        let end = |name| effective.at(&[name]).and_then(&time).or(whole.clone());
        let ends = (end("low"), end("high"));
        (ends != (None, None)).then_some(ends)
    };
    let served = events.iter().find_map(|event| interval(event));
    let served = served.or_else(|| encounter.and_then(interval));
    if let Some((start, stop)) = served.filter(|(start, stop)| is_in_order(start, stop)) {
        entry.service_start_time = start;
        entry.service_stop_time = stop;
    }
    let codes = events.iter().filter_map(|event| code(event.at(&["code"])?));
    entry.event_codes = codes.take(MAX_REPEATED).collect();
    entry.healthcare_facility_type_code = encounter
        .and_then(|found| found.at(&["location", "healthCareFacility", "code"]))
        .and_then(code);
    let encounters = encounter.into_iter().flat_map(|found| found.all("id"));
    let orders = root
        .all("inFulfillmentOf")
        .filter_map(|found| found.at(&["order"]))
        .flat_map(|order| order.all("id"));
    let of_kind = |kind: &'static str| move |id: Cx| format!("{id}^urn:ihe:iti:xds:{kind}");
    let encounters = encounters.filter_map(cx).map(of_kind("2015:encounterId"));
    let orders = orders.filter_map(cx).map(of_kind("2013:order"));
    entry.reference_ids = encounters
        .chain(orders)
        .filter(fits)
        .take(MAX_REPEATED)
        .collect();
}

#[expect(clippy::ptr_arg, reason = "it filters owned texts")]
fn fits(value: &String) -> bool {
    value.chars().count() <= MAX_VALUE_CHARS
}

fn mapped(map: &[(String, Code)], code: &str) -> Option<Code> {
    let mut found = map.iter().filter(|(from, _)| from == code);
    found.next().map(|(_, to)| to.clone())
}

/// `root`, or `root^extension`.
fn unique_id(id: &Element) -> Option<String> {
    let root = id.attribute("root")?;
    let text = match id.attribute("extension") {
        Some(extension) => format!("{root}^{extension}"),
        None => root.to_owned(),
    };
    let is_usable =
        text.chars().count() <= MAX_UNIQUE_ID_CHARS && !text.chars().any(char::is_control);
    is_usable.then_some(text)
}

/// A coded value; none for a null flavour.
fn code(element: &Element) -> Option<Code> {
    let code = element.attribute("code")?;
    Some(Code {
        code: code.to_owned(),
        scheme: element.attribute("codeSystem").map(str::to_owned),
        display: element.attribute("displayName").map(str::to_owned),
    })
    .filter(|code| code.scheme.is_some())
}

fn is_language(code: &str) -> bool {
    let mut subtags = code.split('-');
    let is_subtag =
        |tag: &str| (1..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric());
    subtags
        .next()
        .is_some_and(|tag| is_subtag(tag) && tag.bytes().all(|b| b.is_ascii_alphabetic()))
        && subtags.all(is_subtag)
}

/// An identifier whose root is an OID and whose extension is there (MD-149).
fn cx(id: &Element) -> Option<Cx> {
    if id.attribute("nullFlavor").is_some() {
        return None;
    }
    let authority: Oid = id.attribute("root")?.parse().ok()?;
    let extension = id.attribute("extension")?;
    Some(Cx::read(&format!(
        "{}^^^{}",
        escape(extension),
        Authority::of_oid(&authority)
    )))
}

/// The parts of a name; the legal one first (MD-150). A person's name may also stand there as plain text.
fn legal_name(person: &Element) -> Option<Xcn> {
    let is_legal = |name: &&Element| {
        name.attribute("use")
            .is_some_and(|uses| uses.split_whitespace().any(|one| one == "L"))
    };
    let name = person
        .all("name")
        .find(is_legal)
        .or_else(|| person.at(&["name"]))?;
    let part = |kind| name.at(&[kind]).and_then(Element::text).unwrap_or_default();
    let mut given = name.all("given").filter_map(Element::text);
    let mut read = Xcn {
        family: part("family"),
        given: given.next().unwrap_or_default(),
        middle: given.next().unwrap_or_default(),
        suffix: part("suffix"),
        prefix: part("prefix"),
        ..Xcn::default()
    };
    if read.family.is_empty() && read.given.is_empty() {
        read.family = name.text()?;
    }
    Some(read)
}

/// XCN of somebody with an id and a name (MD-151, MD-153).
fn person(role: &Element, person: &str) -> Option<String> {
    let mut xcn = role.at(&[person]).and_then(legal_name).unwrap_or_default();
    if let Some(Cx { id, authority, .. }) = role.all("id").find_map(cx) {
        xcn.id = id;
        xcn.authority = authority;
    }
    let is_somebody = !xcn.family.is_empty() || !xcn.id.is_empty();
    is_somebody.then(|| xcn.to_string()).filter(fits)
}

/// XON with a name, and with its id where that is an OID or has one (MD-44).
fn organisation(element: &Element) -> Option<String> {
    let mut xon = Xon::read("");
    xon.name = element.at(&["name"])?.text()?;
    let id = element
        .all("id")
        .find(|id| id.attribute("nullFlavor").is_none());
    if let Some(found) = id.and_then(cx) {
        xon.id = found.id;
        xon.authority = found.authority;
    } else if let Some(Ok(oid)) = id
        .and_then(|id| id.attribute("root"))
        .map(str::parse::<Oid>)
    {
        xon.id = oid.as_str().to_owned();
    }
    Some(xon.to_string()).filter(fits)
}

fn author(found: &Element) -> Option<Author> {
    let role = found.at(&["assignedAuthor"])?;
    let device = || {
        let name = role
            .at(&["assignedAuthoringDevice", "softwareName"])?
            .text()?;
        let family = Xcn {
            family: name,
            ..Xcn::default()
        };
        Some(family.to_string()).filter(fits)
    };
    let named = |element: Option<&Element>| {
        let text = element?
            .attribute("displayName")
            .or(element?.attribute("code"))?;
        Some(escape(text)).filter(fits)
    };
    let has_person = role.at(&["assignedPerson"]).is_some();
    let author = Author {
        person: match person(role, "assignedPerson") {
            Some(_) if !has_person => device().or_else(|| person(role, "assignedPerson")),
            Some(found) => Some(found),
            None => device(),
        },
        institutions: role
            .at(&["representedOrganization"])
            .and_then(organisation)
            .into_iter()
            .collect(),
        roles: named(
            found
                .at(&["functionCode"])
                .or(found.at(&["participationFunction"])),
        )
        .into_iter()
        .collect(),
        specialties: role
            .at(&["code"])
            .and_then(|code| code.attribute("displayName"))
            .map(escape)
            .filter(fits)
            .into_iter()
            .collect(),
        telecommunications: role
            .all("telecom")
            .filter_map(email)
            .take(MAX_REPEATED)
            .collect(),
    };
    let is_somebody = author.person.is_some()
        || !author.institutions.is_empty()
        || !author.telecommunications.is_empty();
    is_somebody.then_some(author)
}

/// `mailto:user@domain` as XTN; telephones are left out.
fn email(telecom: &Element) -> Option<String> {
    let value = telecom.attribute("value")?;
    let (scheme, address) = value.split_once(':')?;
    let address: DirectAddress = address.parse().ok()?;
    scheme
        .eq_ignore_ascii_case("mailto")
        .then(|| Xtn::for_address(&address).to_string())
}

fn address(addr: &Element) -> String {
    let part = |kind| addr.at(&[kind]).and_then(Element::text).unwrap_or_default();
    let mut lines = addr.all("streetAddressLine").filter_map(Element::text);
    components(&[
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
        part("city"),
        part("state"),
        part("postalCode"),
        part("country"),
    ])
}

/// Whether the times do not run backwards, at the precision that both have (MD-61).
fn is_in_order(start: &Option<String>, stop: &Option<String>) -> bool {
    let (Some(start), Some(stop)) = (start, stop) else {
        return true;
    };
    let common = start.len().min(stop.len());
    start.get(..common) <= stop.get(..common)
}
