//! How a submission is made up: metadata.md section 6.

use super::*;

pub(super) const CASES: &[Case] = &[
    case("MD-80", &[(r#"classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd""#, r#"classificationNode="urn:other""#)], "Submission.SubmissionSet").also(&["MD-33", "MD-81", "MD-88", "MD-91"]),
    case("MD-81", &[(r#"classificationNode="urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2""#, r#"classificationNode="urn:other""#)], "RegistryObject(Folder01).label").also(&["MD-33"]),
    case("MD-82", &[(r#"id="c02""#, r#"id="c01""#)], "Submission(c01).id"),
    case("MD-83", &[(r#"id="c02" classificationScheme="urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a" classifiedObject="Document01""#, r#"id="c02" classificationScheme="urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a" classifiedObject="Document02""#)], "DocumentEntry(Document01).classifiedObject"),
    case("MD-83", &[(r#"registryObject="Document01" value="PT"#, r#"value="PT"#)], "DocumentEntry(Document01).registryObject").only_if_strict(),
    case("MD-83", &[(r#"classificationNode="urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2" classifiedObject="Folder01""#, r#"classificationNode="urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2" classifiedObject="nobody""#)], "Classification(label2).classifiedObject").also(&["MD-33", "MD-81"]),
    case("MD-99", &[("</rim:RegistryObjectList>", "</rim:RegistryObjectList><rim:RegistryObjectList/>")], "Submission.RegistryObjectList"),
    case("MD-99", &[("</rim:RegistryObjectList>", r#"<rim:Service id="s1"/></rim:RegistryObjectList>"#)], "line ").only_if_strict(),
    case("MD-99", &[("<rim:RegistryObjectList>", "<rim:Odd/><rim:RegistryObjectList>")], "line ").only_if_strict(),
    case("LIM-4", NO_EDITS, "Submission.DocumentEntry").context(|context| context.max_document_entries = 1),
    case("MD-6", &[(r#"<rim:Classification id="label2""#, r#"<rim:Classification id="odd" classificationNode="urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85" classifiedObject="Folder01"/><rim:Classification id="label2""#)], "Folder(Folder01).label"),
    case("MD-6", &[(r#"<rim:Classification id="label1""#, r#"<rim:Classification id="odd" classifiedObject="Set01"/><rim:Classification id="label1""#)], "SubmissionSet(Set01).label"),
    case("MD-6", &[(r#"<rim:Classification id="label2""#, r#"<rim:Classification id="odd" classificationScheme="urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4" classifiedObject="Document01" nodeRepresentation="x"/><rim:Classification id="label2""#)], "DocumentEntry(Document01).label"),
    case("MD-7", &[(r#"id="urn:uuid:2b3c4d5e"#, r#"id="urn:uuid:2B3C4D5E"#)], "Association(urn:uuid:2B3C4D5E-6f70-4b8c-9d0e-1f2a3b4c5d6e).entryUUID"),
    case("MD-7", &[(r#"targetObject="urn:uuid:99999999-0000-4000-8000-000000000001""#, r#"targetObject="urn:uuid:99999999-0000-4000-8000-00000000000A""#)], "Association(Link07).targetObject"),
    case("MD-7", &[(r#"classificationScheme="urn:uuid:f0306f51"#, r#"classificationScheme="urn:uuid:F0306F51"#)], "DocumentEntry(Document01).classificationScheme"),
    case("MD-7", &[(r#"id="label2" classificationNode="urn:uuid:d9d542f3"#, r#"id="label2" classificationNode="urn:uuid:D9D542F3"#)], "Classification(label2).classificationNode"),
    case("XDR-6", &[(r#" id="c02""#, "")], "DocumentEntry(Document01).id"),
    case("XDR-6", &[(r#"<rim:Classification id="label2""#, "<rim:Classification")], "Submission.id"),
];
