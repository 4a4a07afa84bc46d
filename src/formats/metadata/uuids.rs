//! The UUIDs that ebRIM metadata is coded with (metadata.md section 2; ITI TF-3 4.2.5), and the URNs beside them.

/// SubmissionSet.
pub mod submission_set {
    #![expect(
        missing_docs,
        reason = "each constant is the UUID of the attribute that its name says"
    )]
    pub const NODE: &str = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd";
    pub const AUTHOR: &str = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d";
    pub const CONTENT_TYPE_CODE: &str = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500";
    pub const PATIENT_ID: &str = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446";
    pub const SOURCE_ID: &str = "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832";
    pub const UNIQUE_ID: &str = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8";
    pub const LIMITED_METADATA: &str = "urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707";
}

/// DocumentEntry.
pub mod document_entry {
    #![expect(
        missing_docs,
        reason = "each constant is the UUID of the attribute that its name says"
    )]
    pub const STABLE: &str = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1";
    pub const ON_DEMAND: &str = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248";
    pub const AUTHOR: &str = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d";
    pub const CLASS_CODE: &str = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a";
    pub const CONFIDENTIALITY_CODE: &str = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f";
    pub const EVENT_CODE_LIST: &str = "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4";
    pub const FORMAT_CODE: &str = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d";
    pub const HEALTHCARE_FACILITY_TYPE_CODE: &str = "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1";
    pub const PRACTICE_SETTING_CODE: &str = "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead";
    pub const TYPE_CODE: &str = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983";
    pub const PATIENT_ID: &str = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427";
    pub const UNIQUE_ID: &str = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab";
    pub const LIMITED_METADATA: &str = "urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85";
}

/// Folder.
pub mod folder {
    #![expect(
        missing_docs,
        reason = "each constant is the UUID of the attribute that its name says"
    )]
    pub const NODE: &str = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2";
    pub const CODE_LIST: &str = "urn:uuid:1ba97051-7806-41a8-a48b-8fce7af683c5";
    pub const PATIENT_ID: &str = "urn:uuid:f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a";
    pub const UNIQUE_ID: &str = "urn:uuid:75df8f67-9973-4fbe-a900-df66cefecc5a";
    pub const LIMITED_METADATA: &str = "urn:uuid:2c144a76-29a9-4b7c-af54-b25409fe7d03";
}

/// Scheme of the documentation code of a relationship Association.
pub const ASSOCIATION_DOCUMENTATION: &str = "urn:uuid:abd807a3-4432-4053-87b4-fd82c643d1f3";

/// `@objectType` of a Classification.
pub const CLASSIFICATION_OBJECT_TYPE: &str =
    "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Classification";

/// Association type HasMember (metadata.md section 4).
pub const HAS_MEMBER: &str = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember";

/// The relationship types of metadata.md section 4.
pub const RELATIONSHIPS: [&str; 6] = [
    "urn:ihe:iti:2007:AssociationType:RPLC",
    "urn:ihe:iti:2007:AssociationType:XFRM",
    "urn:ihe:iti:2007:AssociationType:APND",
    "urn:ihe:iti:2007:AssociationType:XFRM_RPLC",
    "urn:ihe:iti:2007:AssociationType:signs",
    "urn:ihe:iti:2010:AssociationType:IsSnapshotOf",
];

/// Whether `scheme`, as it was received, is `uuid`. Upper case is read (MD-7).
pub fn is(scheme: &str, uuid: &str) -> bool {
    scheme.trim().eq_ignore_ascii_case(uuid)
}
