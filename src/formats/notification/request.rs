//! How a sender asks for notices of its message, and which messages are never answered (mdn.md sections 2 and 3).

/// The attribute of Disposition-Notification-Options that asks for a notice of final delivery (MDN-3).
pub const FINAL_DELIVERY: &str = "X-DIRECT-FINAL-DESTINATION-DELIVERY";

/// What Disposition-Notification-Options asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalDelivery {
    /// Nothing about final delivery.
    NotRequested,
    /// A notice once the message reached its final destination.
    Requested,
    /// The attribute is there in a form that is none: as if it were not, but told (MDN-10).
    Invalid,
}

impl FinalDelivery {
    /// Reads the field's value: parameters separated by `;`, each `attribute=importance,value,...`, with white space
    /// anywhere (RFC 8098 section 2.2). Unknown parameters are passed over, `required` ones too (MDN-11).
    pub fn read(options: &str) -> Self {
        let mut found = Self::NotRequested;
        for parameter in options.split(';') {
            let (attribute, rest) = match parameter.split_once('=') {
                Some((attribute, rest)) => (attribute.trim(), rest),
                None => (parameter.trim(), ""),
            };
            if !attribute.eq_ignore_ascii_case(FINAL_DELIVERY) {
                continue;
            }
            let mut words = rest.split(',').map(str::trim);
            let is_important = words.next().is_some_and(|importance| {
                ["optional", "required"]
                    .iter()
                    .any(|known| importance.eq_ignore_ascii_case(known))
            });
            let is_true = words
                .next()
                .is_some_and(|value| value.eq_ignore_ascii_case("true"));
            if is_important && is_true {
                return Self::Requested;
            }
            found = Self::Invalid;
        }
        found
    }
}

/// The header fields by which a message shows that a program sent it by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// The essence of Content-Type in lower case, such as `multipart/report`.
    pub media_type: &'a str,
    /// The value of Auto-Submitted.
    pub auto_submitted: Option<&'a str>,
    /// Whether the inner sender is the null address.
    pub is_from_nobody: bool,
}

impl Origin<'_> {
    /// Whether no notice may ever answer the message (MDN-14, LOOP-1; RFC 3834 section 5).
    pub fn is_automatic(&self) -> bool {
        let is_automatic = self.auto_submitted.is_some_and(|value| {
            let keyword = value.split([';', '(']).next().unwrap_or_default();
            !keyword.trim().eq_ignore_ascii_case("no")
        });
        is_automatic || self.is_from_nobody || self.media_type == "multipart/report"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: MDN-3, MDN-10, MDN-11
    #[test]
    fn final_delivery_is_asked_for_by_the_attribute_in_its_form_alone() {
        use FinalDelivery::{Invalid, NotRequested, Requested};
        for (options, expected) in [
            (
                "X-DIRECT-FINAL-DESTINATION-DELIVERY=optional,true",
                Requested,
            ),
            (
                "x-direct-final-destination-delivery = REQUIRED , True",
                Requested,
            ),
            (
                "a=required,b; X-DIRECT-FINAL-DESTINATION-DELIVERY=optional,true,x",
                Requested,
            ),
            (
                "X-DIRECT-FINAL-DESTINATION-DELIVERY=optional,false",
                Invalid,
            ),
            (
                "X-DIRECT-FINAL-DESTINATION-DELIVERY=sometimes,true",
                Invalid,
            ),
            ("X-DIRECT-FINAL-DESTINATION-DELIVERY=true", Invalid),
            ("X-DIRECT-FINAL-DESTINATION-DELIVERY", Invalid),
            (
                "X-DIRECT-FINAL-DESTINATION-DELIVERY-2=optional,true",
                NotRequested,
            ),
            (
                "signed-receipt-protocol=required,pkcs7-signature",
                NotRequested,
            ),
            ("", NotRequested),
        ] {
            assert_eq!(FinalDelivery::read(options), expected, "{options}");
        }
    }

    // rule: MDN-14, LOOP-1
    #[test]
    fn what_a_program_sent_by_itself_is_never_answered() {
        let person = Origin {
            media_type: "multipart/mixed",
            ..Origin::default()
        };
        assert!(!person.is_automatic());
        for (auto_submitted, expected) in [
            ("no", false),
            (" No (a person)", false),
            ("auto-replied", true),
            ("auto-generated; type=x", true),
            ("", true),
        ] {
            let origin = Origin {
                auto_submitted: Some(auto_submitted),
                ..person
            };
            assert_eq!(origin.is_automatic(), expected, "{auto_submitted}");
        }
        let report = Origin {
            media_type: "multipart/report",
            ..person
        };
        let nobody = Origin {
            is_from_nobody: true,
            ..person
        };
        assert!(report.is_automatic() && nobody.is_automatic());
    }
}
