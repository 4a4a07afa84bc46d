//! Metadata before the schemas (MD-99), for partners that are held to them.

use super::{Metadata, MetadataError, parse};
use crate::formats::{finding::Finding, xdr::ErrorCode, xml::schema};

impl Metadata {
    /// Each place where the `lcm:SubmitObjectsRequest` is not as `schemas/` say, up to `max` of them. The text was
    /// checked by the limits when it was read.
    pub fn schema_violations(&self, max: usize) -> Result<Vec<Finding>, MetadataError> {
        let document = parse(self.xml.as_str())?;
        let violations = schema::embedded().check(document.root_element(), max);
        let findings = violations.into_iter().map(|violation| {
            violation.into_finding(
                ErrorCode::XdsRepositoryMetadataError,
                "lcm:SubmitObjectsRequest",
            )
        });
        Ok(findings.collect())
    }
}
