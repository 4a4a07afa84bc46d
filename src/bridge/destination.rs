//! How each destination gets its mail: packaging, Subject, text, labels (XDR-83, XDR-85 to XDR-87).
//!
//! The policy of a recipient is that of its own address, else that of its domain, else the default of `[delivery]`.
//! Recipients whose policies differ get mails of their own (XDR-81).

use serde::{Deserialize, Serialize};

use super::partner::AddressPattern;
use crate::formats::ids::DirectAddress;

/// Longest text of our own that a mail begins with, in characters.
const MAX_BODY_TEXT_CHARS: usize = 2_000;
/// Longest line of it, in characters (RFC 5322 §2.1.1).
const MAX_BODY_LINE_CHARS: usize = 78;

/// How a destination gets its documents: `packaging` (docs/design.md section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DirectPackaging {
    /// One XDM package (XDR-86).
    #[default]
    #[serde(rename = "xdm")]
    Xdm,
    /// The same, and each document once more as an attachment (XDR-86, CC-4).
    #[serde(rename = "xdm+documents")]
    XdmAndDocuments,
    /// The documents alone, for mailboxes that cannot read XDM. The metadata is lost (XDR-87).
    #[serde(rename = "documents")]
    Documents,
}

impl DirectPackaging {
    /// Whether the metadata travels along.
    pub fn has_metadata(self) -> bool {
        match self {
            Self::Xdm | Self::XdmAndDocuments => true,
            Self::Documents => false,
        }
    }
}

/// How one mail is made. Every recipient of a leg has the same one, which the leg keeps: what was decided at accept
/// holds when the mail is sealed, whatever the configuration says by then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MailPolicy {
    /// How the documents travel.
    pub packaging: DirectPackaging,
    /// Whether the inner Subject carries the SubmissionSet's title, which may name the patient (XDR-85).
    pub subject_title: bool,
    /// Whether minimal metadata gets the limitedMetadata labels (XDR-83).
    pub add_limited_label: bool,
    /// The text that a reader sees first; empty for the bridge's own.
    pub body_text: String,
}

/// What differs for some recipients: `[[destination]]`. What is left out is as in `[delivery]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DestinationConfig {
    /// Whom it is about: addresses or whole domains, such as `["hisp.example", "intake@clinic.example"]`. An address
    /// goes before its domain; a subdomain is a domain of its own. No default.
    pub recipients: Vec<String>,
    /// How they get their documents: `"xdm"`, `"xdm+documents"`, or `"documents"`, which loses the metadata. Default:
    /// as in `[delivery]` (XDR-86, XDR-87).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packaging: Option<DirectPackaging>,
    /// Whether the inner Subject carries the SubmissionSet's title, which may name the patient. Default: as in
    /// `[delivery]` (XDR-85).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_title: Option<bool>,
    /// Whether minimal metadata gets the limitedMetadata labels. Default: as in `[delivery]` (XDR-83).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_limited_label: Option<bool>,
    /// The text that a reader of the mail sees first, such as `"Questions? Call 555 0100."`; `""` for the bridge's own.
    /// Default: as in `[delivery]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_text: Option<String>,
}

/// The policies of all destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    default: MailPolicy,
    all: Vec<(AddressPattern, MailPolicy)>,
}

impl Destinations {
    /// One policy for everybody.
    pub fn all_alike(policy: MailPolicy) -> Self {
        Self {
            default: policy,
            all: Vec::new(),
        }
    }

    /// The policies of these settings, or everything that is wrong with them. The default is judged by who states it.
    pub fn read(default: MailPolicy, configs: &[DestinationConfig]) -> Result<Self, Vec<String>> {
        let mut all: Vec<(AddressPattern, MailPolicy)> = Vec::new();
        let mut problems = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            let key = format!("destination[{index}]");
            let policy = config.policy(&default);
            if config.recipients.is_empty() {
                problems.push(format!(
                    "{key}.recipients: one address or domain at least, such as [\"hisp.example\"]"
                ));
            }
            if let Some(accepted) = body_text_problem(&policy.body_text)
                && config.body_text.is_some()
            {
                problems.push(format!("{key}.body_text: {accepted}"));
            }
            for (position, text) in config.recipients.iter().enumerate() {
                let key = format!("{key}.recipients[{position}]");
                match text.parse() {
                    Ok(pattern) if all.iter().any(|(other, _)| *other == pattern) => {
                        problems.push(format!("{key}: one that is named nowhere else"));
                    }
                    Ok(pattern) => all.push((pattern, policy.clone())),
                    Err(error) => problems.push(format!(
                        "{key}: an address such as \"intake@hisp.example\", or a domain; {error}"
                    )),
                }
            }
        }
        if problems.is_empty() {
            Ok(Self { default, all })
        } else {
            Err(problems)
        }
    }

    /// How this recipient gets its mail: the narrower setting decides.
    pub fn policy_of(&self, recipient: &DirectAddress) -> &MailPolicy {
        let matching = || {
            self.all
                .iter()
                .filter(|(pattern, _)| pattern.matches(recipient))
        };
        matching()
            .find(|(pattern, _)| matches!(pattern, AddressPattern::Address(_)))
            .or_else(|| matching().next())
            .map_or(&self.default, |(_, policy)| policy)
    }

    /// The packagings that these recipients get, each once.
    pub fn packagings_of(&self, recipients: &[DirectAddress]) -> Vec<DirectPackaging> {
        let mut found = Vec::new();
        for recipient in recipients {
            let packaging = self.policy_of(recipient).packaging;
            if !found.contains(&packaging) {
                found.push(packaging);
            }
        }
        found
    }

    /// The recipients by policy: a mail for each group, in the order of its first recipient.
    pub fn group(&self, recipients: &[DirectAddress]) -> Vec<(MailPolicy, Vec<DirectAddress>)> {
        let mut groups: Vec<(MailPolicy, Vec<DirectAddress>)> = Vec::new();
        for recipient in recipients {
            let policy = self.policy_of(recipient);
            match groups.iter_mut().find(|(own, _)| own == policy) {
                Some((_, members)) => members.push(recipient.clone()),
                None => groups.push((policy.clone(), vec![recipient.clone()])),
            }
        }
        groups
    }
}

impl DestinationConfig {
    fn policy(&self, default: &MailPolicy) -> MailPolicy {
        MailPolicy {
            packaging: self.packaging.unwrap_or(default.packaging),
            subject_title: self.subject_title.unwrap_or(default.subject_title),
            add_limited_label: self.add_limited_label.unwrap_or(default.add_limited_label),
            body_text: self
                .body_text
                .clone()
                .unwrap_or_else(|| default.body_text.clone()),
        }
    }
}

/// What would be accepted instead of this body text, unless it is good: lines that every mail program shows as they are.
pub fn body_text_problem(text: &str) -> Option<String> {
    let is_bad_line = |line: &str| {
        line.chars().count() > MAX_BODY_LINE_CHARS || line.chars().any(|c| c.is_control())
    };
    let is_bad = text.chars().count() > MAX_BODY_TEXT_CHARS
        || text.contains(['\u{2028}', '\u{2029}'])
        || text.split('\n').any(is_bad_line);
    is_bad.then(|| {
        format!(
            "at most {MAX_BODY_TEXT_CHARS} characters in lines of at most {MAX_BODY_LINE_CHARS}, \
             without tabs and other control characters"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> DirectAddress {
        text.parse().unwrap()
    }

    fn destination(recipients: &[&str], packaging: DirectPackaging) -> DestinationConfig {
        DestinationConfig {
            recipients: recipients.iter().map(ToString::to_string).collect(),
            packaging: Some(packaging),
            ..DestinationConfig::default()
        }
    }

    // rule: XDR-86, XDR-87
    #[test]
    fn the_address_goes_before_the_domain_and_the_domain_before_the_default() {
        use DirectPackaging::{Documents, Xdm, XdmAndDocuments};
        let default = MailPolicy {
            subject_title: true,
            ..MailPolicy::default()
        };
        let configs = [
            destination(&["hisp.example"], Documents),
            destination(&["Intake@HISP.example"], XdmAndDocuments),
        ];
        let destinations = Destinations::read(default, &configs).unwrap();
        for (recipient, packaging) in [
            ("ada@hisp.example", Documents),
            ("intake@hisp.example", XdmAndDocuments),
            ("intake@ward.hisp.example", Xdm),
            ("ada@clinic.example", Xdm),
        ] {
            let policy = destinations.policy_of(&address(recipient));
            assert_eq!(policy.packaging, packaging, "{recipient}");
            assert!(policy.subject_title, "what is left out is the default's");
        }
    }

    // rule: XDR-81
    #[test]
    fn recipients_are_grouped_by_policy_in_their_order() {
        let configs = [destination(
            &["b.example", "d.example"],
            DirectPackaging::Documents,
        )];
        let destinations = Destinations::read(MailPolicy::default(), &configs).unwrap();
        let to = ["1@a.example", "2@b.example", "3@c.example", "4@d.example"].map(address);
        let groups = destinations.group(&to);
        let members: Vec<&[DirectAddress]> = groups.iter().map(|(_, all)| &**all).collect();
        assert_eq!(
            members,
            [
                &[to[0].clone(), to[2].clone()],
                &[to[1].clone(), to[3].clone()]
            ]
        );
        assert_eq!(
            destinations.packagings_of(&to),
            [DirectPackaging::Xdm, DirectPackaging::Documents]
        );
    }

    #[test]
    fn every_problem_is_named_at_once_with_its_key() {
        let mut long = destination(&["a.example"], DirectPackaging::Xdm);
        long.body_text = Some("x".repeat(79));
        let configs = [
            long,
            destination(&[], DirectPackaging::Xdm),
            destination(&["A.example", "no one"], DirectPackaging::Xdm),
        ];
        let problems = Destinations::read(MailPolicy::default(), &configs).unwrap_err();
        let keys: Vec<_> = problems
            .iter()
            .filter_map(|problem| Some(problem.split_once(": ")?.0))
            .collect();
        assert_eq!(
            keys,
            [
                "destination[0].body_text",
                "destination[1].recipients",
                "destination[2].recipients[0]",
                "destination[2].recipients[1]"
            ]
        );
    }

    #[test]
    fn a_body_text_is_short_lines_without_control_characters() {
        for good in ["", "Good day.\n\nFragen? Rufen Sie an: 555 0100.\n"] {
            assert_eq!(body_text_problem(good), None);
        }
        for bad in [
            "a\tb",
            "a\r\nb",
            "a\0",
            "a\u{2028}b",
            &"x".repeat(79),
            &"y\n".repeat(1_001),
        ] {
            assert!(body_text_problem(bad).is_some(), "{bad:?}");
        }
    }
}
