//! What one XDR endpoint takes, and what is done for it where a mail has less (XDR-101, XDR-105; metadata.md section 9).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    bridge::partner::PatientIdMismatch,
    formats::{cda::CdaOptions, ids::Oid, metadata::Code},
};

/// The policy of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EndpointPolicy {
    /// Whether the endpoint takes only full metadata, column DS of metadata.md. Default false: minimal is enough.
    pub needs_full_metadata: bool,
    /// What is done if it needs full metadata and a mail has less. Default `"send"` (XDR-105).
    pub missing_metadata: MissingMetadata,
    /// The constants for `missing_metadata = "fill"`.
    pub defaults: MetadataDefaults,
    /// What happens to attachments beside an XDM package that are no copies of its documents. Default `"send"`
    /// (XDR-101).
    pub loose_parts: LooseParts,
    /// Whether the text of a mail is a document as well. Default false: only where there is no other (MD-124).
    pub body_as_document: bool,
    /// Whether mail without an XDM package is refused. Default false (DIR-8).
    pub xdm_required: bool,
    /// Media types or format codes of which every submission must have a document of at least one, such as
    /// `["text/xml"]`. Default: none (DIR-8).
    pub required_types: Vec<String>,
    /// What happens when patient ids differ inside a submission. Default `"refuse"` (MD-92).
    pub patient_id_mismatch: PatientIdMismatch,
    /// The assigning authorities of the patient ids that the endpoint knows, such as `["2.999.1"]`: an id of one of them
    /// in a CDA or in the context of a mail becomes patientId. Default: none (MD-148, CTX-6).
    pub patient_id_authorities: Vec<Oid>,
    /// Minutes east of UTC of times without an offset in a CDA or a context, such as `-300`. Default 0 (MD-142).
    pub utc_offset_minutes: i16,
    /// classCode by the code of a CDA's type. Default: none, classCode is the type's code (MD-146).
    pub class_codes: BTreeMap<String, ConfiguredCode>,
    /// practiceSettingCode by the code of a CDA's type or author. Default: none (MD-157).
    pub practice_setting_codes: BTreeMap<String, ConfiguredCode>,
    /// typeCode by the type that the context of a mail names, such as `"radiology/report"`, where it brings no code.
    /// Default: none (CTX-6).
    pub context_type_codes: BTreeMap<String, ConfiguredCode>,
}

impl EndpointPolicy {
    /// What it says about reading CDA headers.
    pub fn cda_options(&self) -> CdaOptions {
        let list = |map: &BTreeMap<String, ConfiguredCode>| {
            map.iter()
                .map(|(from, to)| (from.clone(), to.to_code()))
                .collect()
        };
        CdaOptions {
            patient_id_authorities: self.patient_id_authorities.clone(),
            default_offset_minutes: self.utc_offset_minutes,
            class_codes: list(&self.class_codes),
            practice_setting_codes: list(&self.practice_setting_codes),
        }
    }
}

/// What is done for an endpoint that needs full metadata (XDR-105).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingMetadata {
    /// The submission goes as it is, limited or minimal.
    #[default]
    Send,
    /// Configured constants are added; without all that is required it is refused. Patient ids are never added
    /// (MD-176).
    Fill,
    /// It is refused: `conversionFailed`.
    Refuse,
}

/// What happens to loose attachments (XDR-101).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LooseParts {
    /// They go as a submission of their own, with a Warning.
    #[default]
    Send,
    /// The message is refused: `conversionFailed`.
    Refuse,
    /// They are dropped, with a Warning.
    Drop,
}

/// A code in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfiguredCode {
    /// The code, such as `"34133-9"`.
    pub code: String,
    /// Its coding scheme, such as `"2.16.840.1.113883.6.1"`.
    pub scheme: String,
    /// What people read.
    pub display: String,
}

impl ConfiguredCode {
    /// The same as metadata has it.
    pub fn to_code(&self) -> Code {
        let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
        Code {
            code: self.code.clone(),
            scheme: filled(&self.scheme),
            display: filled(&self.display),
        }
    }
}

/// The constants of MD-170 to MD-173. What is not configured is not added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataDefaults {
    /// classCode. Default: none (MD-170).
    pub class_code: Option<ConfiguredCode>,
    /// typeCode, and so contentTypeCode. Default: none (MD-170, MD-175).
    pub type_code: Option<ConfiguredCode>,
    /// confidentialityCode, where there is none at all. Default `N` of 2.16.840.1.113883.5.25 (MD-171).
    pub confidentiality_code: Option<ConfiguredCode>,
    /// languageCode. Default `"en-US"` (MD-172).
    pub language_code: String,
    /// healthcareFacilityTypeCode. Default: none (MD-173).
    pub healthcare_facility_type_code: Option<ConfiguredCode>,
    /// practiceSettingCode. Default: none (MD-173).
    pub practice_setting_code: Option<ConfiguredCode>,
}

impl Default for MetadataDefaults {
    fn default() -> Self {
        Self {
            class_code: None,
            type_code: None,
            confidentiality_code: Some(ConfiguredCode {
                code: "N".to_owned(),
                scheme: "2.16.840.1.113883.5.25".to_owned(),
                display: "normal".to_owned(),
            }),
            language_code: "en-US".to_owned(),
            healthcare_facility_type_code: None,
            practice_setting_code: None,
        }
    }
}
