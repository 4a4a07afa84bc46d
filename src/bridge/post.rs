//! What the end of a post to an XDR endpoint means: mdn.md section 9, row by row.

use jiff::Timestamp;

use super::exchange::PostResult;
use crate::formats::{
    finding::Severity,
    ids::DirectAddress,
    limits::Limits,
    xdr::{
        ErrorCode,
        response::{self, Answer, RegistryError, RegistryResponse, Status},
    },
};

/// How a post ended on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostEnd {
    /// The endpoint got no complete request: not reached, or the connection broke before the last octet of the body.
    NotSent {
        /// Whether trust between us and the endpoint failed: an untrusted or wrongly named server certificate, or ours
        /// refused. Another attempt will not mend it.
        is_untrusted: bool,
    },
    /// The request was sent whole, and no whole answer came.
    AnswerLost,
    /// An HTTP answer.
    Answered {
        /// HTTP status.
        status: u16,
        /// Content-Type, empty if there was none.
        content_type: String,
        /// The body.
        body: Vec<u8>,
    },
}

/// What a post came to, for the exchange, the audit and the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostVerdict {
    /// What the exchange is told.
    pub result: PostResult,
    /// Fixed words for log and audit.
    pub cause: &'static str,
    /// The endpoint's errorCode, where it named one that decided.
    pub code: Option<ErrorCode>,
    /// Whether an operator has to look: something about the endpoint or our settings is wrong.
    pub is_alarming: bool,
}

/// What a post is judged by.
#[derive(Clone, Copy, Debug)]
pub struct PostTerms<'a> {
    /// The recipients that the post serves.
    pub recipients: &'a [DirectAddress],
    /// Whether the answer to an earlier post of the same leg was lost: the endpoint may know it then.
    pub was_answer_lost: bool,
    /// When to try again, should that make sense.
    pub retry_at: Timestamp,
    /// Limits on what is read.
    pub limits: &'a Limits,
}

/// Judges the end of a post.
pub fn judge(end: &PostEnd, terms: &PostTerms<'_>) -> PostVerdict {
    match end {
        PostEnd::NotSent { is_untrusted: true } => {
            refused("no trust between the bridge and the endpoint").alarming()
        }
        PostEnd::NotSent {
            is_untrusted: false,
        } => unavailable("the endpoint was not reached", terms),
        PostEnd::AnswerLost => lost("the answer did not come", terms),
        PostEnd::Answered {
            status,
            content_type,
            body,
        } => match status {
            202 => verdict(PostResult::Deferred, "deferred"),
            // SOAP-94: these may carry a message.
            200 | 400 | 500 => match response::read(content_type, &mut &**body, terms.limits) {
                Ok(received) => judge_answer(&received.answer, terms),
                Err(_) => judge_status(*status, terms),
            },
            status => judge_status(*status, terms),
        },
    }
}

/// An HTTP answer without a SOAP message in it.
fn judge_status(status: u16, terms: &PostTerms<'_>) -> PostVerdict {
    match status {
        408 | 429 | 500..=599 => unavailable("HTTP status of an endpoint in trouble", terms),
        // It said that all is well, in words that are none: what it did nobody knows.
        200..=299 => lost("HTTP success without a RegistryResponse", terms).alarming(),
        _ => refused("HTTP status of a refusal").alarming(),
    }
}

/// Judges an answer by itself: that of a post, or one that came later (mdn.md section 9).
pub fn judge_answer(answer: &Answer, terms: &PostTerms<'_>) -> PostVerdict {
    match answer {
        Answer::Fault(fault) if fault.is_transient() => unavailable("SOAP fault Receiver", terms),
        Answer::Fault(_) => refused("SOAP fault").alarming(),
        Answer::Response(response) => judge_response(response, terms),
    }
}

fn judge_response(response: &RegistryResponse, terms: &PostTerms<'_>) -> PostVerdict {
    let errors: Vec<&RegistryError> = response
        .errors
        .iter()
        .filter(|entry| entry.severity == Severity::Error)
        .collect();
    if response.status == Status::PartialSuccess {
        let result = PostResult::Partial {
            failed: blamed(&errors, terms.recipients),
        };
        return PostVerdict {
            code: errors.first().map(|entry| entry.code.clone()),
            ..verdict(result, "PartialSuccess")
        };
    }
    if response.is_success() {
        return verdict(PostResult::Success, "Success");
    }
    judge_failure(&errors, terms)
}

/// A Failure by its errors; one without any has an unknown reason (XDR-45).
fn judge_failure(errors: &[&RegistryError], terms: &PostTerms<'_>) -> PostVerdict {
    let is_duplicate = |entry: &&RegistryError| {
        entry.code == ErrorCode::XdsDuplicateUniqueIdInRegistry && terms.was_answer_lost
    };
    // Our own earlier post, whose answer was lost, is what the endpoint knows.
    if !errors.is_empty() && errors.iter().all(is_duplicate) {
        return PostVerdict {
            code: Some(ErrorCode::XdsDuplicateUniqueIdInRegistry),
            ..verdict(
                PostResult::Success,
                "Failure: it has the submission already",
            )
        };
    }
    let permanent = errors.iter().find(|entry| !entry.code.is_transient());
    match (permanent, errors.first()) {
        (Some(entry), _) => PostVerdict {
            code: Some(entry.code.clone()),
            ..refused("Failure")
        },
        (None, Some(entry)) => PostVerdict {
            code: Some(entry.code.clone()),
            ..unavailable("Failure that may pass", terms)
        },
        (None, None) => refused("Failure without an error"),
    }
}

/// The recipients that the errors name. Empty as soon as one error belongs to none of them: it may belong to all.
fn blamed(errors: &[&RegistryError], recipients: &[DirectAddress]) -> Vec<DirectAddress> {
    let mut failed = Vec::new();
    for error in errors {
        let named = error.location.as_deref().and_then(|location| {
            let address = location.strip_prefix("mailto:").unwrap_or(location);
            let address: DirectAddress = address.trim().parse().ok()?;
            recipients.iter().find(|known| **known == address)
        });
        match named {
            Some(address) if !failed.contains(address) => failed.push(address.clone()),
            Some(_) => {}
            None => return Vec::new(),
        }
    }
    failed
}

fn verdict(result: PostResult, cause: &'static str) -> PostVerdict {
    PostVerdict {
        result,
        cause,
        code: None,
        is_alarming: false,
    }
}

fn refused(cause: &'static str) -> PostVerdict {
    verdict(PostResult::Refused, cause)
}

fn unavailable(cause: &'static str, terms: &PostTerms<'_>) -> PostVerdict {
    let retry_at = terms.retry_at;
    verdict(PostResult::Unavailable { retry_at }, cause)
}

fn lost(cause: &'static str, terms: &PostTerms<'_>) -> PostVerdict {
    let retry_at = terms.retry_at;
    verdict(PostResult::AnswerLost { retry_at }, cause)
}

impl PostVerdict {
    fn alarming(self) -> Self {
        Self {
            is_alarming: true,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::soap::Fault;

    const ADA: &str = "ada.quill@direct.harbor.example";
    const RUI: &str = "rui.silva@direct.harbor.example";

    fn address(text: &str) -> DirectAddress {
        text.parse().unwrap()
    }

    fn later() -> Timestamp {
        "2026-11-22T09:00:00Z".parse().unwrap()
    }

    fn judged(end: &PostEnd, was_answer_lost: bool) -> PostVerdict {
        let terms = PostTerms {
            recipients: &[address(ADA), address(RUI)],
            was_answer_lost,
            retry_at: later(),
            limits: &Limits::default(),
        };
        judge(end, &terms)
    }

    fn result_of(end: &PostEnd) -> PostResult {
        judged(end, false).result
    }

    fn http(status: u16, body: &str) -> PostEnd {
        PostEnd::Answered {
            status,
            content_type: "application/soap+xml; charset=UTF-8".into(),
            body: body.as_bytes().to_vec(),
        }
    }

    fn response(status: &str, errors: &[(&str, &str, &str)]) -> PostEnd {
        let entries: String = errors
            .iter()
            .map(|(code, severity, location)| {
                format!(
                    "<rs:RegistryError errorCode=\"{code}\" codeContext=\"x\" location=\"{location}\" \
                     severity=\"urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:{severity}\"/>"
                )
            })
            .collect();
        let list = match errors {
            [] => String::new(),
            _ => format!("<rs:RegistryErrorList>{entries}</rs:RegistryErrorList>"),
        };
        let rs = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0";
        let body = format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Header/><s:Body>\
             <rs:RegistryResponse xmlns:rs=\"{rs}\" status=\"{status}\">{list}</rs:RegistryResponse>\
             </s:Body></s:Envelope>"
        );
        http(200, &body)
    }

    const SUCCESS: &str = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success";
    const FAILURE: &str = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure";
    const PARTIAL: &str = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess";

    fn retry() -> PostResult {
        PostResult::Unavailable { retry_at: later() }
    }

    fn in_doubt() -> PostResult {
        PostResult::AnswerLost { retry_at: later() }
    }

    // rule: COR-3, XDR-33, XDR-45
    #[test]
    fn success_is_told_by_the_status_attribute_and_its_errors() {
        assert_eq!(result_of(&response(SUCCESS, &[])), PostResult::Success);
        let warned = response(SUCCESS, &[("DocumentQueued", "Warning", "")]);
        assert_eq!(result_of(&warned), PostResult::Success);
        let contradicts = response(SUCCESS, &[("XDSRepositoryError", "Error", "")]);
        assert_eq!(result_of(&contradicts), PostResult::Refused);
        assert_eq!(result_of(&response(FAILURE, &[])), PostResult::Refused);
        let other = response("urn:gov:hhs:fha:nhinc:RequestAccepted", &[]);
        assert_eq!(result_of(&other), PostResult::Refused);
    }

    // rule: XDR-111
    #[test]
    fn a_failure_may_pass_only_if_all_its_errors_may() {
        let busy = ("XDSRepositoryBusy", "Error", "");
        let resources = ("XDSRegistryOutOfResources", "Error", "");
        let metadata = ("XDSRepositoryMetadataError", "Error", "");
        assert_eq!(result_of(&response(FAILURE, &[busy, resources])), retry());
        let verdict = judged(&response(FAILURE, &[busy, metadata]), false);
        assert_eq!(verdict.result, PostResult::Refused);
        assert_eq!(verdict.code, Some(ErrorCode::XdsRepositoryMetadataError));
        assert!(!verdict.is_alarming);
        let unknown = ("XDSSomethingNew", "Error", "");
        assert_eq!(
            result_of(&response(FAILURE, &[unknown])),
            PostResult::Refused
        );
    }

    // rule: DST-6
    #[test]
    fn a_known_submission_is_a_success_only_after_an_answer_was_lost() {
        let known = response(FAILURE, &[("XDSDuplicateUniqueIdInRegistry", "Error", "")]);
        assert_eq!(judged(&known, true).result, PostResult::Success);
        assert_eq!(judged(&known, false).result, PostResult::Refused);
        let differs = response(FAILURE, &[("XDSNonIdenticalHash", "Error", "")]);
        assert_eq!(judged(&differs, true).result, PostResult::Refused);
        let both = response(
            FAILURE,
            &[
                ("XDSDuplicateUniqueIdInRegistry", "Error", ""),
                ("XDSNonIdenticalHash", "Error", ""),
            ],
        );
        assert_eq!(judged(&both, true).result, PostResult::Refused);
    }

    // rule: COR-1
    #[test]
    fn a_partial_success_fails_those_whom_its_errors_name_or_everybody() {
        let failed = |errors: &[(&str, &str, &str)]| match result_of(&response(PARTIAL, errors)) {
            PostResult::Partial { failed } => failed,
            other => panic!("{other:?}"),
        };
        let ada = ("UnknownRecipient", "Error", ADA);
        let warning = ("PartialFolderContentNotProcessed", "Warning", "");
        assert_eq!(failed(&[ada, warning]), [address(ADA)]);
        let mailto = format!("mailto:{RUI}");
        assert_eq!(
            failed(&[ada, ("UnavailableRecipient", "Error", &mailto), ada]),
            [address(ADA), address(RUI)]
        );
        assert_eq!(failed(&[ada, ("XDSRepositoryError", "Error", "")]), []);
        assert_eq!(
            failed(&[("UnknownRecipient", "Error", "x@else.example")]),
            []
        );
    }

    // rule: SOAP-94, XDR-111
    #[test]
    fn a_receiver_fault_may_pass_and_any_other_does_not() {
        let fault = |fault: Fault, status| {
            let id = "urn:uuid:4d5e6f70-8192-4da3-9b0e-3b4c5d6e7f80"
                .parse()
                .unwrap();
            let (content_type, body) = fault.write_answer(&id);
            PostEnd::Answered {
                status,
                content_type,
                body,
            }
        };
        for status in [200, 400, 500] {
            assert_eq!(result_of(&fault(Fault::receiver("x"), status)), retry());
            let sender = judged(&fault(Fault::sender("SOAP-42", "x"), status), false);
            assert_eq!(sender.result, PostResult::Refused);
            assert!(sender.is_alarming);
        }
    }

    // rule: XDR-110
    #[test]
    fn an_http_answer_without_a_soap_message_is_judged_by_its_status() {
        for (status, expected, is_alarming) in [
            (200, in_doubt(), true),
            (204, in_doubt(), true),
            (202, PostResult::Deferred, false),
            (301, PostResult::Refused, true),
            (400, PostResult::Refused, true),
            (401, PostResult::Refused, true),
            (403, PostResult::Refused, true),
            (404, PostResult::Refused, true),
            (408, retry(), false),
            (413, PostResult::Refused, true),
            (429, retry(), false),
            (500, retry(), false),
            (502, retry(), false),
            (503, retry(), false),
        ] {
            let verdict = judged(&http(status, "<html>garbage</html>"), false);
            assert_eq!(
                (verdict.result, verdict.is_alarming),
                (expected, is_alarming),
                "{status}"
            );
        }
        // A message that says Success counts only where a message may stand.
        let PostEnd::Answered {
            content_type, body, ..
        } = response(SUCCESS, &[])
        else {
            panic!("no answer")
        };
        let not_found = PostEnd::Answered {
            status: 404,
            content_type,
            body,
        };
        assert_eq!(result_of(&not_found), PostResult::Refused);
    }

    #[test]
    fn what_was_not_sent_may_be_sent_again_unless_trust_failed() {
        let is_untrusted = |is_untrusted| judged(&PostEnd::NotSent { is_untrusted }, false);
        assert_eq!(is_untrusted(false).result, retry());
        assert_eq!(is_untrusted(true).result, PostResult::Refused);
        assert!(is_untrusted(true).is_alarming);
        assert_eq!(result_of(&PostEnd::AnswerLost), in_doubt());
    }
}
