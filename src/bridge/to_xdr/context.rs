//! What the context of a mail gives to the metadata of documents that came without any (direct.md section 5). What a
//! document says of itself goes before it, attribute by attribute; where one tells of another patient, nothing of the
//! context is used (CTX-6, CTX-7).

use super::{parts::place, policy::EndpointPolicy};
use crate::formats::{
    cda::MIME_TYPE_SUFFICIENT,
    context::{self, Context, ContextFault, MAX_CONTEXT_BYTES},
    finding::Finding,
    metadata::{
        NewEntry,
        hl7::{Cx, unescape},
    },
    mime::read::{DecodeError, Mail},
};

/// The context of a mail, and the leaf that it is.
pub(super) struct MailContext {
    pub(super) context: Context,
    pub(super) leaf: usize,
}

/// Finds the part that the header names and reads it. What cannot be used is a Warning, and its part stays what it is:
/// a context never refuses a mail (CTX-3).
pub(super) fn find(mail: &Mail<'_>, findings: &mut Vec<Finding>) -> Option<MailContext> {
    let id = mail.header.direct_context.as_deref()?;
    let leaves = mail.leaves();
    let mut named = (0..)
        .zip(&leaves)
        .filter(|(_, part)| part.content_id.as_deref() == Some(id));
    let (Some((leaf, part)), None) = (named.next(), named.next()) else {
        let text = "the context is not used: the field must name the Content-ID of one part";
        findings.push(Finding::warning("CTX-1", "X-Direct-Context", text));
        return None;
    };
    let place = place(part);
    if part.media_type() != "text/plain" {
        let text = "the part is not used as context: it must be text/plain";
        findings.push(Finding::warning("CTX-1", place, text));
        return None;
    }
    let tell = |fault: ContextFault, what: &str| {
        let at = [place.as_str(), fault.element].join(": ");
        let text = format!("{}{what}", fault.text);
        Finding::warning(fault.rule, at.trim_end_matches([':', ' ']), text)
    };
    let read = match part.decoded(MAX_CONTEXT_BYTES) {
        Ok(octets) => context::read(&octets),
        Err(DecodeError::TooLarge { .. }) => Err(context::TOO_LARGE),
        // It is told with the document that the part then is.
        Err(_) => return None,
    };
    match read {
        Ok(context) => {
            findings.extend(context.oddities.iter().map(|fault| tell(*fault, "")));
            Some(MailContext { context, leaf })
        }
        Err(fault) => {
            findings.push(tell(
                fault,
                "; the context is not used, its part is an attachment",
            ));
            None
        }
    }
}

/// Gives the only entry what the context says of the content, where the document itself did not say it. Of several
/// documents nobody knows which one the context is about.
pub(super) fn describe(context: &Context, policy: &EndpointPolicy, entries: &mut [NewEntry]) {
    let [entry] = entries else {
        return;
    };
    if entry.creation_time.is_none() {
        entry.creation_time = context.creation_time(policy.utc_offset_minutes);
    }
    let is_general = |code: &str| code == MIME_TYPE_SUFFICIENT;
    if entry
        .format_code
        .as_ref()
        .is_none_or(|own| is_general(&own.code))
        && let Some(code) = &context.format_code
    {
        entry.format_code = Some(code.clone());
    }
    if entry.type_code.is_some() {
        return;
    }
    let kind = context.kind.as_ref();
    let configured = || Some(policy.context_type_codes.get(kind?)?.to_code());
    let Some(code) = context.type_code.clone().or_else(configured) else {
        return;
    };
    if entry.class_code.is_none() {
        let mapped = policy.class_codes.get(&code.code);
        entry.class_code = Some(mapped.map_or_else(|| code.clone(), |class| class.to_code()));
    }
    if entry.practice_setting_code.is_none() {
        let mapped = policy.practice_setting_codes.get(&code.code);
        entry.practice_setting_code = mapped.map(|setting| setting.to_code());
    }
    entry.type_code = Some(code);
}

/// Whether an entry tells of another patient than the context: it may be that of another message (CTX-7).
pub(super) fn is_about_another_patient(context: &Context, entries: &[NewEntry]) -> bool {
    let of_context = Said::by(context);
    let mut entries = entries.iter();
    entries.any(|entry| Said::of(entry).differs_from(&of_context))
}

/// Gives the patient of the context to entries that tell of none, and what they do not tell to those of the same one.
pub(super) fn add_patient(context: &Context, policy: &EndpointPolicy, entries: &mut [NewEntry]) {
    let of_context = Said::by(context);
    let is_known = |id: &&Cx| {
        let mut known = policy.patient_id_authorities.iter();
        known.any(|oid| oid.as_str() == id.authority.universal_id)
    };
    // Another id than that of a document would refuse the submission, though the patient is the same (MD-92).
    let mut of_documents = entries
        .iter()
        .filter_map(|entry| entry.patient_id.as_deref());
    let own = of_documents.next().map(Cx::read);
    let fits = |id: &&Cx| own.as_ref().is_none_or(|own| own.names_same(id));
    let mut known = of_context.ids.iter().filter(is_known);
    let known = known.find(fits).map(Cx::to_string);
    let first = of_context.ids.first().map(Cx::to_string);
    for entry in entries {
        let own = Said::of(entry);
        if !own.is_empty() && !own.is_same_as(&of_context) {
            continue;
        }
        entry.patient_id = entry.patient_id.take().or_else(|| known.clone());
        entry.source_patient_id = entry.source_patient_id.take().or_else(|| first.clone());
        let missing = of_context.info.iter().filter(|value| {
            let (field, _) = field_of(value);
            own.field(field).is_none()
        });
        entry.source_patient_info.extend(missing.cloned());
        let number = |value: &String| {
            let (field, _) = field_of(value);
            field.trim_start_matches("PID-").parse().unwrap_or(u8::MAX)
        };
        entry.source_patient_info.sort_by_key(number);
    }
}

/// What is said of a patient.
struct Said {
    ids: Vec<Cx>,
    /// Values of sourcePatientInfo.
    info: Vec<String>,
}

/// `PID-n` and what stands behind its bar.
fn field_of(value: &str) -> (&str, &str) {
    value.split_once('|').unwrap_or((value, ""))
}

impl Said {
    fn by(context: &Context) -> Self {
        Self {
            ids: context.patient_ids.clone(),
            info: context.source_patient_info(),
        }
    }

    fn of(entry: &NewEntry) -> Self {
        let own = entry.patient_id.iter().chain(&entry.source_patient_id);
        let mut said = Self {
            ids: own.map(|id| Cx::read(id)).collect(),
            info: entry.source_patient_info.clone(),
        };
        let list = said.field("PID-3").unwrap_or_default().to_owned();
        let listed = list.split('~').filter(|id| !id.is_empty()).map(Cx::read);
        said.ids.extend(listed);
        said
    }

    fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.info.is_empty()
    }

    fn field(&self, wanted: &str) -> Option<&str> {
        let mut fields = self.info.iter().map(|value| field_of(value));
        fields
            .find(|(field, _)| *field == wanted)
            .map(|(_, text)| text)
    }

    fn birth(&self) -> Option<&str> {
        self.field("PID-7").filter(|text| text.len() == 8)
    }

    /// The family name, without regard to case.
    fn family(&self) -> Option<String> {
        let family = self.field("PID-5")?.split('^').next()?;
        let family = unescape(family).trim().to_lowercase();
        (!family.is_empty()).then_some(family)
    }

    fn shares_an_id_with(&self, other: &Self) -> bool {
        let mut ids = self.ids.iter();
        ids.any(|id| other.ids.iter().any(|one| one.names_same(id)))
    }

    /// Whether it cannot be the same patient: another id of one authority, another day of birth, or, where no id is
    /// the same, another family name.
    fn differs_from(&self, other: &Self) -> bool {
        let differ = |one: Option<&str>, two: Option<&str>| {
            one.zip(two).is_some_and(|(one, two)| one != two)
        };
        let of_one_authority = |id: &Cx| {
            let mut others = other.ids.iter();
            others.any(|one| one.authority == id.authority && one.id != id.id)
        };
        let (one, two) = (self.family(), other.family());
        self.ids.iter().any(of_one_authority)
            || differ(self.birth(), other.birth())
            || (!self.shares_an_id_with(other) && differ(one.as_deref(), two.as_deref()))
    }

    /// Whether it is known to be the same patient: by an id, or by family name and day of birth.
    fn is_same_as(&self, other: &Self) -> bool {
        let by_name = self.birth().is_some()
            && self.birth() == other.birth()
            && self.family().is_some()
            && self.family() == other.family();
        !self.differs_from(other) && (self.shares_an_id_with(other) || by_name)
    }
}
