//! The context of a Direct message (Implementation Guide for Expressing Context in Direct Messaging v1.1; direct.md
//! section 5): a small text of `name: value` lines that says of which patient and of what kind a message is that
//! carries no XDM. It comes from outside like everything else: bounded, and believed only where it is whole.

use std::{collections::BTreeMap, fmt};

use super::{
    cda::{self, time::dtm},
    ids::Oid,
    metadata::{
        Code,
        hl7::{Authority, Cx, components, escape},
    },
    xml::chars::is_xml_char,
};

/// Largest context, in octets (CTX-4).
pub const MAX_CONTEXT_BYTES: u64 = 64 * 1024;
/// Most lines of a context, folded ones counted singly (CTX-4).
pub const MAX_CONTEXT_LINES: usize = 200;
/// Most patient ids of a context (CTX-4).
pub const MAX_PATIENT_IDS: usize = 20;
/// Longest value of a slot, in characters (MD-1). What is longer is left out: cut, it would say something else.
const MAX_VALUE_CHARS: usize = 256;

/// What is wrong with a context or with one of its elements. No received value in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {text}")]
pub struct ContextFault {
    /// The rule in docs/spec.
    pub rule: &'static str,
    /// The element, such as `patient-id`; empty for the text as a whole.
    pub element: &'static str,
    /// What is wrong and what would be accepted.
    pub text: &'static str,
}

/// A context that was read. Its values tell of a patient: `Debug` shows none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// The ids of the one patient that the message is about, each of another authority; the sender's own first.
    pub patient_ids: Vec<Cx>,
    /// What else is said of the patient.
    pub patient: Option<Patient>,
    /// `category/action` in lower case, such as `radiology/report`.
    pub kind: Option<String>,
    /// The formatCode of the content.
    pub format_code: Option<Code>,
    /// The typeCode of the content.
    pub type_code: Option<Code>,
    /// The contentTypeCode of the submission.
    pub content_type_code: Option<Code>,
    /// Elements that are left out, and why: each deserves a Warning.
    pub oddities: Vec<ContextFault>,
    /// A TS that [`Context::creation_time`] can turn into a DTM.
    created: Option<String>,
}

/// The patient of a context; empty where nothing is said.
#[derive(Clone, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is the parameter that its name says (CTX-2)"
)]
pub struct Patient {
    pub surname: String,
    pub given_name: String,
    pub middle_name: String,
    /// Eight digits.
    pub date_of_birth: String,
    /// `M`, `F`, `O` or `U`, as PID-8 has it (MD-150).
    pub gender: String,
    pub street_address: String,
    pub locality_name: String,
    pub state_or_province_name: String,
    pub postal_code: String,
    pub country: String,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("patient_ids", &self.patient_ids.len())
            .field("oddities", &self.oddities)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Patient(…)")
    }
}

/// Reads a context. What is no context of a known version, or says anything about the patient that cannot be read, is
/// refused as a whole: half an identity is worse than none (CTX-5). Other elements that cannot be read are left out.
pub fn read(octets: &[u8]) -> Result<Context, ContextFault> {
    if octets.len() as u64 > MAX_CONTEXT_BYTES {
        return Err(TOO_LARGE);
    }
    let text = std::str::from_utf8(octets).map_err(|_| {
        let text = "the context is not in UTF-8 or US-ASCII, which it must be";
        whole("CTX-2", text)
    })?;
    let mut reader = Reader::default();
    for (name, value) in elements(text.strip_prefix('\u{FEFF}').unwrap_or(text))? {
        reader.take(&name, value)?;
    }
    reader.finish()
}

/// A context of more than [`MAX_CONTEXT_BYTES`].
pub const TOO_LARGE: ContextFault = ContextFault {
    rule: "CTX-4",
    element: "",
    text: "the context is too large; at most 65,536 octets are accepted",
};

fn whole(rule: &'static str, text: &'static str) -> ContextFault {
    ContextFault {
        rule,
        element: "",
        text,
    }
}

/// The lines, unfolded: names in lower case and values, in their order.
fn elements(text: &str) -> Result<Vec<(String, String)>, ContextFault> {
    if text.lines().nth(MAX_CONTEXT_LINES).is_some() {
        let text = "the context has too many lines; at most 200 are accepted";
        return Err(whole("CTX-4", text));
    }
    let mut elements: Vec<(String, String)> = Vec::new();
    let mut has_ended = false;
    for line in text.lines() {
        let line = line.replace('\t', " ");
        let is_good = |c: char| !c.is_control() && is_xml_char(c);
        if !line.chars().all(is_good) {
            let text = "the context has control characters; it must be lines of text";
            return Err(whole("CTX-2", text));
        }
        if line.trim().is_empty() {
            has_ended = !elements.is_empty();
            continue;
        }
        let text = "a line of the context is no element; it must have the form name: value, without blank lines between \
                    elements";
        let no_element = whole("CTX-2", text);
        if has_ended {
            return Err(no_element);
        }
        if line.starts_with(' ') {
            let (_, value) = elements.last_mut().ok_or(no_element)?;
            value.push(' ');
            value.push_str(line.trim());
            continue;
        }
        let (name, value) = line.split_once(':').ok_or(no_element)?;
        let name = name.trim_end();
        if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(no_element);
        }
        elements.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    // A value that is on a folded line alone begins with the space that joined it.
    for (_, value) in &mut elements {
        if value.starts_with(' ') {
            *value = value.trim_start().to_owned();
        }
    }
    Ok(elements)
}

/// The elements that are known. `purpose` and `encapsulation` are read to be told of, and stand nowhere in metadata.
const KNOWN: [&str; 11] = [
    "version",
    "id",
    "patient-id",
    "type",
    "purpose",
    "patient",
    "encapsulation",
    "creation-time",
    "format-code",
    "type-code",
    "content-type-code",
];

#[derive(Default)]
struct Reader {
    values: BTreeMap<&'static str, String>,
    has_unknown: bool,
}

impl Reader {
    fn take(&mut self, name: &str, value: String) -> Result<(), ContextFault> {
        let Some(known) = KNOWN.into_iter().find(|known| *known == name) else {
            self.has_unknown = true;
            return Ok(());
        };
        if self.values.insert(known, value).is_some() {
            return Err(ContextFault {
                rule: "CTX-2",
                element: known,
                text: "the element stands in the context more than once; it must stand there once",
            });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Context, ContextFault> {
        let mut context = Context::default();
        if self.has_unknown {
            context.oddities.push(whole(
                "CTX-4",
                "elements that are not known are left out; those of version 1.1 and of its event notifications are \
                 accepted",
            ));
        }
        self.values.retain(|&element, value| {
            if value.is_empty() {
                context.oddities.push(ContextFault {
                    rule: "CTX-2",
                    element,
                    text: "the element is empty, as if it were not there; it must have a value",
                });
            }
            !value.is_empty()
        });
        let mut taken = |element| self.values.remove(element);
        let refuse = |element, text| {
            Err(ContextFault {
                rule: "CTX-2",
                element,
                text,
            })
        };
        match taken("version").as_deref() {
            Some("1.0" | "1.1") => {}
            _ => {
                let text = "the version of the context is not known; 1.0 and 1.1 are accepted";
                return refuse("version", text);
            }
        }
        if taken("id").is_none() {
            return refuse("id", "the context has no id; it must have one");
        }
        if let Some(value) = taken("patient-id") {
            context.patient_ids = patient_ids(&value).ok_or(ContextFault {
                rule: "CTX-2",
                element: "patient-id",
                text: "the patient's ids cannot be read; they must have the form OID:id, joined by semicolons, at most \
                       20 and each of another OID",
            })?;
        }
        // Each kind of oddity is told once, however often it occurs.
        let mut odd = |element, text| {
            let fault = ContextFault {
                rule: "CTX-2",
                element,
                text,
            };
            if !context.oddities.contains(&fault) {
                context.oddities.push(fault);
            }
        };
        if let Some(value) = taken("patient") {
            context.patient = Some(patient(&value, &mut odd)?);
        }
        if let Some(value) = taken("type") {
            let value = value.to_ascii_lowercase();
            if !is_known_kind(&value) {
                let text = "the type is not known; it must be one of laboratory, radiology, pharmacy, referral and \
                            general, a slash, and one of order, report, result, query, response and notification";
                odd("type", text);
            }
            context.kind = Some(value).filter(|value| value.split('/').count() == 2);
        }
        if let Some(value) = taken("purpose")
            && !PURPOSES.iter().any(|one| one.eq_ignore_ascii_case(&value))
        {
            let text = "the purpose is not known; treatment, payment, operations, emergency and research are accepted";
            odd("purpose", text);
        }
        if let Some(value) = taken("encapsulation")
            && !["http", "hl7v2"].contains(&value.to_ascii_lowercase().as_str())
        {
            let text = "the encapsulation is not known; http and hl7v2 are accepted";
            odd("encapsulation", text);
        }
        if let Some(value) = taken("creation-time") {
            context.created = Some(value).filter(|value| dtm(value, 0).is_some());
            if context.created.is_none() {
                let text = "the time cannot be read and is left out; it must have the form YYYYMMDDHHMMSS+ZZZZ";
                odd("creation-time", text);
            }
        }
        if let Some(value) = taken("format-code") {
            context.format_code = format_code(&value);
            if context.format_code.is_none() {
                let text = "the format code cannot be read and is left out; it must have the form \
                            urn:guide:message:version";
                odd("format-code", text);
            }
        }
        for (element, code) in [
            ("type-code", &mut context.type_code),
            ("content-type-code", &mut context.content_type_code),
        ] {
            if let Some(value) = taken(element) {
                *code = system_and_code(&value);
                if code.is_none() {
                    let text =
                        "the code cannot be read and is left out; it must have the form OID:code";
                    odd(element, text);
                }
            }
        }
        Ok(context)
    }
}

const PURPOSES: [&str; 5] = [
    "treatment",
    "payment",
    "operations",
    "emergency",
    "research",
];

fn is_known_kind(value: &str) -> bool {
    const CATEGORIES: [&str; 5] = ["laboratory", "radiology", "pharmacy", "referral", "general"];
    const ACTIONS: [&str; 6] = [
        "order",
        "report",
        "result",
        "query",
        "response",
        "notification",
    ];
    value.split_once('/').is_some_and(|(category, action)| {
        CATEGORIES.contains(&category) && ACTIONS.contains(&action)
    })
}

/// `OID:id; OID:id`: ids of one patient, each of another authority.
fn patient_ids(value: &str) -> Option<Vec<Cx>> {
    let mut ids: Vec<Cx> = Vec::new();
    for instance in instances(value) {
        let (authority, id) = instance.split_once(':')?;
        let authority: Oid = authority.trim().parse().ok()?;
        let id = id.trim();
        if !is_word(id) || ids.len() >= MAX_PATIENT_IDS {
            return None;
        }
        let authority = Authority::of_oid(&authority);
        if ids.iter().any(|other| other.authority == authority) {
            return None;
        }
        let cx = format!("{}^^^{authority}", escape(id));
        if !fits(&cx) {
            return None;
        }
        ids.push(Cx::read(&cx));
    }
    (!ids.is_empty()).then_some(ids)
}

/// What semicolons join; nothing after the last one.
fn instances(value: &str) -> impl Iterator<Item = &str> {
    let value = value.trim_end();
    let value = value.strip_suffix(';').unwrap_or(value);
    value.split(';').map(str::trim)
}

/// Printable ASCII without white space.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic())
}

fn fits(value: &str) -> bool {
    value.chars().count() <= MAX_VALUE_CHARS
}

/// `surname=..; givenName=..`. Parameters that have no place in metadata are passed over.
fn patient(
    value: &str,
    odd: &mut impl FnMut(&'static str, &'static str),
) -> Result<Patient, ContextFault> {
    let refused = ContextFault {
        rule: "CTX-2",
        element: "patient",
        text: "the patient cannot be read; it must have the form name=value, joined by semicolons, each name once and no \
               value longer than 256 characters, dateOfBirth=YYYY-MM-DD",
    };
    let mut patient = Patient::default();
    let mut ignored: [String; 3] = Default::default();
    let [number, telephone, address] = &mut ignored;
    for parameter in instances(value) {
        let (name, value) = parameter.split_once('=').ok_or(refused)?;
        let value = value.trim();
        if value.is_empty() {
            continue;
        }
        let mut taken = value.to_owned();
        let place = match name.trim().to_ascii_lowercase().as_str() {
            "givenname" => &mut patient.given_name,
            "surname" => &mut patient.surname,
            "middlename" => &mut patient.middle_name,
            "dateofbirth" => {
                taken = birth_date(value).ok_or(refused)?;
                &mut patient.date_of_birth
            }
            "gender" => {
                taken = administrative_sex(value).unwrap_or_default().to_owned();
                if taken.is_empty() {
                    let text = "the gender is not known and is left out; M, F, O, UN, U and UNK are accepted";
                    odd("patient", text);
                }
                &mut patient.gender
            }
            "streetaddress" => &mut patient.street_address,
            "localityname" => &mut patient.locality_name,
            "stateorprovincename" => &mut patient.state_or_province_name,
            "postalcode" => &mut patient.postal_code,
            "country" => &mut patient.country,
            // PID-19 must not be sent (MD-57), and the others are no attributes.
            "socialsecuritynumber" => number,
            "telephonenumber" => telephone,
            "directaddress" => address,
            _ => {
                let text = "parameters of the patient that are not known are left out; those of version 1.1 are accepted";
                odd("patient", text);
                continue;
            }
        };
        if !place.is_empty() || !fits(value) {
            return Err(refused);
        }
        *place = taken;
    }
    Ok(patient)
}

/// `YYYY-MM-DD`, or the same without hyphens, as eight digits.
fn birth_date(value: &str) -> Option<String> {
    let digits = match value.as_bytes() {
        [_, _, _, _, b'-', _, _, b'-', _, _] => value.replace('-', ""),
        _ => value.to_owned(),
    };
    (digits.len() == 8 && dtm(&digits, 0).is_some()).then_some(digits)
}

fn administrative_sex(value: &str) -> Option<&'static str> {
    match value.to_ascii_uppercase().as_str() {
        "M" => Some("M"),
        "F" => Some("F"),
        "O" | "UN" => Some("O"),
        "U" | "UNK" => Some("U"),
        _ => None,
    }
}

/// A URN of four fields, with or without its scheme (MD-59).
fn format_code(value: &str) -> Option<Code> {
    let bare = match value.split_at_checked(4) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("urn:") => rest,
        _ => value,
    };
    let urn = format!("urn:{bare}");
    let mut fields = bare.split(':');
    let is_urn = fields.clone().count() >= 3 && fields.all(is_word) && fits(&urn);
    is_urn.then(|| cda::format_code_of(&urn))
}

/// `OID:code`.
fn system_and_code(value: &str) -> Option<Code> {
    let (system, code) = value.split_once(':')?;
    let system: Oid = system.trim().parse().ok()?;
    let code = code.trim();
    (is_word(code) && fits(code)).then(|| Code {
        code: code.to_owned(),
        scheme: Some(system.as_str().to_owned()),
        display: None,
    })
}

impl Context {
    /// The creation time as a DTM in UTC (MD-142). A time without an offset is taken as `default_offset_minutes` east of
    /// it.
    pub fn creation_time(&self, default_offset_minutes: i16) -> Option<String> {
        dtm(self.created.as_deref()?, default_offset_minutes)
    }

    /// What is said of the patient, as sourcePatientInfo (MD-57, MD-150). Nothing is made up for what is not said.
    pub fn source_patient_info(&self) -> Vec<String> {
        let mut list = String::new();
        for id in self.patient_ids.iter().map(Cx::to_string) {
            let separator = if list.is_empty() { "PID-3|" } else { "~" };
            let longer = format!("{list}{separator}{id}");
            if fits(&longer) {
                list = longer;
            }
        }
        let mut info = vec![list];
        if let Some(patient) = &self.patient {
            let name = components(&[
                patient.surname.clone(),
                patient.given_name.clone(),
                patient.middle_name.clone(),
            ]);
            let address = components(&[
                patient.street_address.clone(),
                String::new(),
                patient.locality_name.clone(),
                patient.state_or_province_name.clone(),
                patient.postal_code.clone(),
                patient.country.clone(),
            ]);
            info.push(format!("PID-5|{name}"));
            info.push(format!("PID-7|{}", patient.date_of_birth));
            info.push(format!("PID-8|{}", patient.gender));
            info.push(format!("PID-11|{address}"));
        }
        info.retain(|value| !value.is_empty() && !value.ends_with('|') && fits(value));
        info
    }
}

#[cfg(test)]
mod tests;
