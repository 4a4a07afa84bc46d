//! What is wrong, or merely odd, about metadata: rules as data.
//!
//! [`rules`] is the table: each row names its rule, what it is about, what comes of a violation, and, in this module
//! alone, the function that looks for violations. [`validate`] runs every row and collects all findings before anything
//! is answered (XDR-34). The attributes and who must send them are a table of their own, [`attributes`].
//!
//! Rules that are judged elsewhere (the envelope, sender and recipients, a package's files) have rows without a
//! function: the bridge joins them to these.

pub mod attributes;
mod codes;
mod context;
mod datatypes;
mod documents;
mod hl7_types;
mod objects;
mod patients;
mod presence;
mod references;
mod scope;
mod structure;
mod table;
mod times;

use super::{
    super::finding::{Finding, Findings},
    Metadata,
};
pub use context::{BoundDocument, Container, Context, Profile};
use scope::{Object, Report, Scope};
use table::Row;
pub use table::{Consequence, ObjectKind, Rule};

/// Every row, in the order in which it is looked at.
fn rows() -> impl Iterator<Item = &'static Row> {
    [
        structure::ROWS,
        objects::ROWS,
        codes::ROWS,
        presence::ROWS,
        datatypes::ROWS,
        hl7_types::ROWS,
        times::ROWS,
        references::ROWS,
        patients::ROWS,
        documents::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// Every rule that is judged here.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    rows().map(|row| &row.rule)
}

/// Judges metadata. An empty answer means that nothing at all is odd about it.
pub fn validate(metadata: &Metadata, context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Findings::up_to(context.max_findings);
    collect(metadata, context, &mut findings);
    findings.finish()
}

/// The same, added to what was found before; [`Context::max_findings`] is not looked at.
pub fn collect(metadata: &Metadata, context: &Context<'_>, findings: &mut Findings) {
    let scope = Scope::of(metadata, context);
    let level = context.effective_level();
    for row in rows().filter(|row| row.rule.levels.contains(&level)) {
        let mut report = Report {
            rule: &row.rule,
            findings: &mut *findings,
        };
        (row.check)(&scope, &mut report);
    }
}

#[cfg(test)]
mod tests;
