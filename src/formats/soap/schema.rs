//! The header before the schemas (MD-99), for partners that are held to them.

use super::fault::Fault;
use crate::formats::{
    finding::{Finding, MAX_FINDINGS},
    limits::Limits,
    xdr::ErrorCode,
    xml::{check_limits, kept::KeptXml, schema},
};

/// Each place where `header`, a soap:Header, is not as `schemas/` say: its blocks of WS-Addressing and Direct, and
/// that it has one wsa:Action. Blocks of others are free. The tree of it is bounded as that of metadata is.
pub(crate) fn violations(header: &KeptXml, limits: &Limits) -> Result<Vec<Finding>, Fault> {
    check_limits(header.as_str(), limits)
        .map_err(|error| Fault::sender("LIM-5", format!("soap:Header: {error}")))?;
    let document = roxmltree::Document::parse(header.as_str())
        .map_err(|_| Fault::sender("SOAP-80", "soap:Header is not well-formed"))?;
    let violations = schema::embedded().check(document.root_element(), MAX_FINDINGS);
    let findings = violations
        .into_iter()
        .map(|violation| violation.into_finding(ErrorCode::XdsRepositoryError, "soap:Header"));
    Ok(findings.collect())
}
