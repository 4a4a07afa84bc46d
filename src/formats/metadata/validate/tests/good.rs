//! What is just still right: each with the rule that must have nothing to say about it.

use super::{Case, Edits, NO_EDITS, WARDS, case};

const SET_LABEL: &str = r#"<rim:Classification id="label1" classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd" classifiedObject="Set01"/>"#;
const FOLDER_LABEL: &str = r#"<rim:Classification id="label2" classificationNode="urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2" classifiedObject="Folder01"/>"#;
/// The label of the SubmissionSet beside it, that of the Folder inside (MD-6).
const LABELS_CHANGE_PLACES: Edits = &[
    (SET_LABEL, ""),
    (FOLDER_LABEL, SET_LABEL),
    (
        r#"<rim:ExternalIdentifier id="e08""#,
        r#"<rim:Classification id="label2" classificationNode="urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2" classifiedObject="Folder01"/><rim:ExternalIdentifier id="e08""#,
    ),
];

pub(super) const CASES: &[(&str, Edits)] = &[
    ("MD-80", LABELS_CHANGE_PLACES),
    ("MD-81", LABELS_CHANGE_PLACES),
    // Symbolic ids are told apart by case.
    ("MD-82", &[(r#"id="c02""#, r#"id="C01""#)]),
    ("MD-83", LABELS_CHANGE_PLACES),
    (
        "MD-99",
        &[(
            "<rim:RegistryObjectList>",
            r#"<rs:RequestSlotList xmlns:rs="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"/><rim:RegistryObjectList><rim:ObjectRef id="urn:uuid:99999999-0000-4000-8000-000000000001"/>"#,
        )],
    ),
    ("MD-6", LABELS_CHANGE_PLACES),
    // Only UUIDs have a case.
    ("MD-7", &[(r#"id="Link02""#, r#"id="LINK02""#)]),
    // Whose ids are UUIDs has ids.
    (
        "XDR-6",
        &[(
            r#"id="c02""#,
            r#"id="urn:uuid:5e6f7081-92a3-4b4c-8d5e-6f708192a3b4""#,
        )],
    ),
    // ObjectRefs and slots are no Classifications.
    (
        "XDR-6",
        &[(
            "<rim:RegistryObjectList>",
            "<rim:RegistryObjectList><rim:ObjectRef/>",
        )],
    ),
    ("MD-86", &[("urn:uuid:7edca82f", "urn:uuid:7EDCA82F")]),
    ("MD-87", &[(r#"mimeType="text/xml""#, r#"mimeType="a/b""#)]),
    (
        "MD-98",
        &[
            (r#"value="Referral note é""#, r#"value="{128}""#),
            (r#"value="Referral for Ada Quill""#, r#"value="{256}""#),
        ],
    ),
    (
        "XDR-5",
        &[("<rim:Description/>", "<rim:Description/><rim:VersionInfo/>")],
    ),
    (
        "XDR-7",
        &[
            ("<rim:Value>Ward 4 – Süd", "<rim:Value>{256}"),
            (
                "<rim:Description/>",
                r#"<rim:Description><rim:LocalizedString value="{1024}"/></rim:Description>"#,
            ),
        ],
    ),
    ("MD-1", &[("<rim:Value>Ward 4 – Süd", "<rim:Value>0")]),
    // In upper case it is the same label.
    (
        "MD-21",
        &[(
            r#"id="limited2" classificationNode="urn:uuid:ab9b591b"#,
            r#"id="limited2" classificationNode="urn:uuid:AB9B591B"#,
        )],
    ),
    // Any text is a coding scheme (MD-60).
    ("MD-2", &[("2.16.840.1.113883.5.25", "local scheme")]),
    // An extra slot is no author's, and allowed.
    (
        "MD-3",
        &[(r#"name="authorRole""#, r#"name="urn:example:rank""#)],
    ),
    // An ExternalIdentifier of another scheme has its own Name.
    (
        "MD-4",
        &[
            ("urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427", "urn:other"),
            (
                r#"value="XDSDocumentEntry.patientId""#,
                r#"value="otherId""#,
            ),
        ],
    ),
    // What is required if known can never be missed (MD-20).
    (
        "MD-94",
        &[
            (r#"name="serviceStartTime""#, r#"name="urn:example:1""#),
            (r#"name="serviceStopTime""#, r#"name="urn:example:2""#),
        ],
    ),
    (
        "MD-23",
        &[(
            "<rim:Value>||^^Internet^intake@direct.harbor.example.org</rim:Value>",
            "",
        )],
    ),
    (
        "MD-84",
        &[(
            r#"<rim:Classification id="c05""#,
            r#"<rim:Classification id="c99" classificationScheme="urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f" classifiedObject="Document01" nodeRepresentation="R"/><rim:Classification id="c05""#,
        )],
    ),
    (
        "MD-85",
        &[(
            "<rim:Value>PID-8|F</rim:Value>",
            "<rim:Value>PID-8|F</rim:Value><rim:Value>PID-9|x</rim:Value>",
        )],
    ),
    ("MD-8", &[("urn:example:ward", "urn:ward")]),
    ("MD-40", &[("20260302141500", "20240229")]),
    ("MD-40", &[("20260302141500", "202602")]),
    (
        "MD-49",
        &[(
            "<rim:Value>2.999.77</rim:Value>",
            "<rim:Value>0.0</rim:Value>",
        )],
    ),
    (
        "MD-50",
        &[(r#"id="urn:uuid:2b3c4d5e"#, r#"id="urn:uuid:2B3C4D5E"#)],
    ),
    // Without that prefix it is a symbol.
    ("MD-50", &[(r#"id="Link02""#, r#"id="urn:example:2b3c""#)]),
    (
        "MD-51",
        &[(
            r#"value="2.999.30.1001^A77""#,
            r#"value="https://elm.example/a?b=c""#,
        )],
    ),
    (
        "MD-52",
        &[(
            r#"value="2.999.20""#,
            r#"value="2.25.329800735698586629295641978511506172918""#,
        )],
    ),
    (
        "MD-53",
        &[(
            "8174d57a3e3e09a7ac98777341a58d3b9d3d6aba",
            "8174D57A3E3E09A7AC98777341A58D3B9D3D6ABA",
        )],
    ),
    (
        "MD-54",
        &[(
            "<rim:Value>89</rim:Value>",
            "<rim:Value>0000000000000000089</rim:Value>",
        )],
    ),
    (
        "MD-55",
        &[(
            "<rim:Value>en-US</rim:Value>",
            "<rim:Value>zh-Hant-TW</rim:Value>",
        )],
    ),
    (
        "MD-56",
        &[(
            r#"mimeType="text/xml""#,
            r#"mimeType="application/vnd.elm.note+xml""#,
        )],
    ),
    (
        "MD-9",
        &[(
            r#"home="urn:oid:2.999.88""#,
            r#"status="urn:oasis:names:tc:ebxml-regrep:StatusType:Approved""#,
        )],
    ),
    // Free text may hold what it likes.
    (
        "XDR-64",
        &[(r#"value="Referral note é""#, r#"value=" Referral note é ""#)],
    ),
    (
        "MD-41",
        &[(
            "<rim:Value>MRN-42^^^&amp;2.999.10.2&amp;ISO</rim:Value>",
            r"<rim:Value>MRN\S\42^^^&amp;2.999.10.2&amp;ISO</rim:Value>",
        )],
    ),
    (
        "MD-43",
        &[("881^Okafor^Ngozi^^^Dr^^^&amp;2.999.20.1&amp;ISO", "^Okafor")],
    ),
    // What is unique by itself needs no authority.
    (
        "MD-43",
        &[(
            "881^Okafor^Ngozi^^^Dr^^^&amp;2.999.20.1&amp;ISO",
            "2.999.20.1.881^Okafor",
        )],
    ),
    (
        "MD-95",
        &[(
            WARDS,
            r#"name="documentAvailability"><rim:ValueList><rim:Value>urn:ihe:iti:2010:DocumentAvailability:Offline"#,
        )],
    ),
    (
        "MD-44",
        &[(
            "Elm Street Clinic^^^^^^^^^2.999.20",
            "Elm Street Clinic^^^^^&amp;2.999.20&amp;ISO^^^^7",
        )],
    ),
    (
        "MD-45",
        &[("^^Internet^ngozi.okafor@", "^NET^Internet^ngozi.okafor@")],
    ),
    (
        "MD-45",
        &[(
            "^^Internet^ngozi.okafor@direct.elm.example.org",
            "^PRN^PH^^1^503^5550100",
        )],
    ),
    (
        "XDR-61",
        &[(
            "||^^Internet^intake@direct.harbor.example.org",
            "Harbor Hospital^^^^^^^^^2.999.40",
        )],
    ),
    (
        "XDR-61",
        &[(
            "||^^Internet^intake@direct.harbor.example.org",
            "|^Silva^Rui",
        )],
    ),
    ("MD-48", &[("R-5^^^&amp;2.999.60&amp;ISO^", "R-5^^^^")]),
    // A field without content is passed over.
    ("MD-57", &[("PID-8|F", "PID-8|")]),
    (
        "MD-47",
        &[(
            "<rim:Value>Attending",
            "<rim:Value>46255001^^^&amp;2.16.840.1.113883.6.96&amp;ISO",
        )],
    ),
    (
        "MD-58",
        &[("PID-5|Quill^Ada^M", r"PID-5|Quill^Ada^M\T\N\E\")],
    ),
    (
        "MD-61",
        &[(
            "<rim:Value>20260302134500</rim:Value>",
            "<rim:Value>20260302130000</rim:Value>",
        )],
    ),
    // Compared at the precision that both have.
    (
        "MD-61",
        &[(
            "<rim:Value>20260302134500</rim:Value>",
            "<rim:Value>2026</rim:Value>",
        )],
    ),
    ("MD-62", &[("20260302141500", "202603")]),
    // Clocks differ by minutes.
    ("MD-62", &[("20260302141500", "20260302144500")]),
    // An unknown type is a type, and a target elsewhere is a target.
    (
        "MD-30",
        &[(
            "urn:ihe:iti:2007:AssociationType:RPLC",
            "urn:example:AssociationType:other",
        )],
    ),
    (
        "MD-97",
        &[(
            "urn:ihe:iti:2007:AssociationType:RPLC",
            "urn:ihe:iti:2010:AssociationType:IsSnapshotOf",
        )],
    ),
    (
        "MD-36",
        &[("AssociationType:RPLC", "AssociationType:signs")],
    ),
    // A UUID may name what is elsewhere (MD-37).
    (
        "MD-90",
        &[(
            r#"targetObject="Folder01""#,
            r#"targetObject="urn:uuid:99999999-0000-4000-8000-000000000004""#,
        )],
    ),
    ("MD-35", &[("AssociationType:RPLC", "AssociationType:APND")]),
    // What adds to a Folder from elsewhere, held by the SubmissionSet.
    (
        "MD-33",
        &[(
            r#"sourceObject="Folder01" targetObject="Document01""#,
            r#"sourceObject="Folder01" targetObject="urn:uuid:99999999-0000-4000-8000-000000000004""#,
        )],
    ),
    (
        "MD-34",
        &[(
            r#"AssociationType:RPLC" sourceObject="Document02" targetObject="urn:uuid:99999999-0000-4000-8000-000000000001""#,
            r#"AssociationType:XFRM" sourceObject="Document02" targetObject="Document01""#,
        )],
    ),
    (
        "MD-89",
        &[(
            "</rim:RegistryObjectList>",
            r#"<rim:Association id="more" associationType="urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember" sourceObject="Set01" targetObject="urn:uuid:99999999-0000-4000-8000-000000000009"><rim:Slot name="SubmissionSetStatus"><rim:ValueList><rim:Value>Reference</rim:Value></rim:ValueList></rim:Slot></rim:Association></rim:RegistryObjectList>"#,
        )],
    ),
    // A Folder's HasMember does not count, and a relationship is none.
    (
        "MD-88",
        &[(
            r#"AssociationType:RPLC" sourceObject="Document02" targetObject="urn:uuid:99999999-0000-4000-8000-000000000001""#,
            r#"AssociationType:XFRM" sourceObject="Document02" targetObject="Document01""#,
        )],
    ),
    (
        "MD-91",
        &[(
            r#"sourceObject="Set01" targetObject="Folder01"/>"#,
            r#"sourceObject="Set01" targetObject="Folder01"><rim:Slot name="urn:example:note"><rim:ValueList><rim:Value>x</rim:Value></rim:ValueList></rim:Slot></rim:Association>"#,
        )],
    ),
    // Another extension is another id.
    (
        "MD-93",
        &[(r#"value="2.999.30.1002""#, r#"value="2.999.30.1001^A78""#)],
    ),
    // Delimiters at the end do not count, and a missing one is no mismatch.
    (
        "MD-92",
        &[(
            r#"value="PT-7731^^^&amp;2.999.10.1&amp;ISO""#,
            r#"value="PT-7731^^^&amp;2.999.10.1&amp;ISO^^""#,
        )],
    ),
    (
        "MD-92",
        &[("urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427", "urn:other")],
    ),
    (
        "XDR-21",
        &[(
            "8174d57a3e3e09a7ac98777341a58d3b9d3d6aba",
            "8174D57A3E3E09A7AC98777341A58D3B9D3D6ABA",
        )],
    ),
    (
        "XDR-21",
        &[(r#"name="hash""#, r#"name="urn:example:hash""#)],
    ),
    (
        "XDR-22",
        &[(r#"name="size""#, r#"name="urn:example:size""#)],
    ),
];

/// The same where it hangs on what comes with the metadata.
pub(super) const AROUND: &[Case] = &[
    // There are two.
    case("LIM-4", NO_EDITS, "").context(|context| context.max_document_entries = 2),
    // Entries whose documents did not come are XDR-24's.
    case("XDR-12", NO_EDITS, "").documents(|documents| documents.clear()),
    // In another order than their entries.
    case("XDR-24", NO_EDITS, "").documents(|documents| documents.reverse()),
    // Metadata that is judged alone misses no documents.
    case("XDR-24", NO_EDITS, "").context(|context| context.documents = None),
    case("XDR-25", NO_EDITS, "").documents(|documents| documents.reverse()),
    // An entry too many is no document too many.
    case("XDR-25", NO_EDITS, "").documents(|documents| documents.truncate(1)),
];
