//! What a domain demands of its peers' certificates beyond the rules that all follow (CERT-16): who would be served
//! otherwise is refused, and told why.

use std::fs;

use openssl::{
    asn1::{Asn1Object, Asn1OctetString},
    hash::MessageDigest,
    x509::X509Extension,
};
use xdbridge::{
    app::pki::{Authority, KeyKind, Profile},
    bridge::{
        own_domain::OwnDomain,
        trust::{
            CertificateCandidate, Demands, Fault, Purpose, RecentJudgements, Revocation,
            TrustAnchors, Unmet,
        },
    },
    formats::{
        audit::AuditKind,
        smime::{Digest, SigningIdentity},
        xdr::response::Status,
    },
};

use crate::support::{
    asking::{Asking, address, der},
    bridge::{ELM, RUI, TestBridge, entries, now, pki},
    folder::TestFolder,
    keys,
    mailbox::received,
    request::TestRequest,
};

const MEMBER: &str = "1.3.6.1.4.1.41179.1.3";
const OTHER: &str = "1.3.6.1.4.1.41179.1.30";
const EMAIL_PROTECTION: &str = "1.3.6.1.5.5.7.3.4";
const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";
const ANNA: &str = "anna@direct.fjord.example";

fn demands(text: &str) -> Demands {
    toml::from_str(text).unwrap()
}

fn own(root: &Authority, demands: Demands) -> OwnDomain {
    OwnDomain {
        name: "direct.elm.example".parse().unwrap(),
        identities: Vec::new(),
        anchors: TrustAnchors::new([root.certificate.clone()]),
        intermediates: Vec::new(),
        allow_legacy: Vec::new(),
        revocation: Revocation::default(),
        demands,
        fetched: None,
        judged: RecentJudgements::default(),
    }
}

fn anna() -> Profile {
    address(ANNA)
}

fn with_policy(policies: &str) -> Profile {
    let short = |tag: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap();
        assert!(length < 0x80);
        [&[tag, length][..], content].concat()
    };
    let object = |oid: &str| Asn1Object::from_str(oid).unwrap();
    let each = policies.split(", ");
    let each = each.map(|oid| short(0x30, &short(0x06, object(oid).as_slice())));
    let value = short(0x30, &each.collect::<Vec<_>>().concat());
    let value = Asn1OctetString::new_from_bytes(&value).unwrap();
    let mut profile = anna();
    let extension = X509Extension::new_from_der(&object("2.5.29.32"), false, &value);
    profile.extensions = vec![extension.unwrap()];
    profile
}

/// What becomes of this certificate under these demands, for either purpose.
fn unmet(text: &str, identity: &SigningIdentity, root: &Authority) -> Option<Unmet> {
    let candidates = [CertificateCandidate {
        der: der(identity),
        origin: "test".to_owned(),
    }];
    let own = own(root, demands(text));
    let address = ANNA.parse().unwrap();
    let [encrypt, verify] = [Purpose::Encrypt, Purpose::Verify].map(|purpose| {
        let between = &identity.intermediates;
        let judgement = own.examine(&candidates, between, &address, purpose, now());
        match judgement.verdicts[0].fault.clone() {
            None => None,
            Some(Fault::Demands(unmet)) => Some(unmet),
            Some(fault) => panic!("{fault}"),
        }
    });
    assert_eq!(encrypt, verify);
    encrypt
}

// rule: CERT-14, CERT-16
#[test]
fn each_demand_is_met_or_named() {
    let root = &pki().authority;
    let plain = keys::issue(root, &anna());
    let told = |text: &str, identity: &SigningIdentity| {
        unmet(text, identity, root).map(|unmet| unmet.to_string())
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(told("", &plain), None);

    let policies = format!("policies = [\"{MEMBER}\", \"{OTHER}\"]");
    let lacks = format!(
        "asserts none of the certificate policies that are demanded: {MEMBER}, {OTHER} (CERT-14)"
    );
    assert_eq!(told(&policies, &plain), Some(lacks.clone()));
    for (asserted, is_met) in [
        (OTHER, true),
        ("1.2.3, 1.3.6.1.4.1.41179.1.3, 2.5.29.32.0", true),
        ("1.3.6.1.4.1.41179.1, 1.3.6.1.4.1.41179.1.300", false),
        // anyPolicy asserts nothing by name.
        ("2.5.29.32.0", false),
    ] {
        let identity = keys::issue(root, &with_policy(asserted));
        let expected = (!is_met).then(|| lacks.clone());
        assert_eq!(told(&policies, &identity), expected, "{asserted}");
    }

    let usages = format!("ext_key_usages = [\"{EMAIL_PROTECTION}\"]");
    assert_eq!(told(&usages, &plain), None);
    let usages = format!("ext_key_usages = [\"{EMAIL_PROTECTION}\", \"{TIME_STAMPING}\"]");
    let lacks = format!("extKeyUsage does not name {TIME_STAMPING}, which is demanded (CERT-16)");
    assert_eq!(told(&usages, &plain), Some(lacks));

    assert_eq!(told("keys = [\"p256\", \"rsa\"]", &plain), None);
    assert_eq!(
        told("keys = [\"p384\", \"p256\"]", &plain),
        some("its kind of key is none of those demanded: p384, p256 (CERT-16)")
    );
    let mut curve = anna();
    curve.key = KeyKind::P256;
    let curve = keys::issue(root, &curve);
    assert_eq!(told("keys = [\"p256\"]", &curve), None);
    assert_eq!(
        told("min_rsa_bits = 4096", &curve),
        None,
        "it is no RSA key"
    );

    assert_eq!(told("min_rsa_bits = 2048", &plain), None);
    assert_eq!(
        told("min_rsa_bits = 3072", &plain),
        some("RSA with 2048 bits is shorter than the 3072 bits that are demanded (CERT-16)")
    );
    assert_eq!(told("digests = [\"sha512\", \"sha256\"]", &plain), None);
    assert_eq!(
        told("digests = [\"sha384\", \"sha512\"]", &plain),
        some(
            "the signature on it uses none of the digests that are demanded: sha384, sha512 (CERT-16)"
        )
    );
}

// rule: CERT-16, TA-5
#[test]
fn cas_below_the_anchor_must_meet_what_is_demanded_of_keys_and_digests_and_the_anchor_need_not() {
    let root = &pki().authority;
    let between = root.intermediate("Fjord CA", now(), &[]).unwrap();
    let mut profile = anna();
    profile.digest = MessageDigest::sha384();
    // The CA's own certificate is signed with SHA-256.
    let identity = keys::issue(&between, &profile);
    let sha384 = "digests = [\"sha384\"]";
    let expected = Unmet::Digest {
        depth: 1,
        demanded: vec![Digest::Sha384],
    };
    assert_eq!(unmet(sha384, &identity, root), Some(expected));
    // Where the CA is the anchor, nothing is asked of its certificate.
    assert_eq!(unmet(sha384, &identity, &between), None);
}

// rule: CERT-16, DISC-9, RT-3
#[test]
fn explain_says_which_demand_was_not_met_and_takes_the_certificate_that_meets_it() {
    let mut asking = Asking::at(([127, 0, 0, 1], 9).into());
    asking.config.discovery.dns = false;
    asking.config.discovery.ldap = false;
    let domain = &mut asking.config.certificates.domains[0];
    domain.demands = demands(&format!("policies = [\"{MEMBER}\"]"));
    let root = &pki().authority;
    let (plain, member) = (
        keys::issue(root, &anna()),
        keys::issue(root, &with_policy(MEMBER)),
    );
    let files = ["plain.pem", "member.pem"].map(|name| asking.folder.path().join(name));
    for (file, identity) in files.iter().zip([&plain, &member]) {
        fs::write(file, identity.certificate.to_pem().unwrap()).unwrap();
    }
    asking.config.certificates.recipients = vec![files[0].clone()];
    let why = "demands: asserts none of the certificate policies that are demanded: 1.3.6.1.4.1.41179.1.3 (CERT-14)";
    asking.assert_refused(ANNA, "policyRefused", why);
    let text = asking.text(ANNA);
    for line in [
        "    passed    readable, end-entity, validity, binding (address), usage, strength, path, revocation\n".to_owned(),
        format!("    FAILED    {why}\n"),
        "= policyRefused: a local policy forbids sending to the address\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} in\n{text}");
    }
    asking.config.certificates.recipients = files.to_vec();
    let origin = format!("file {}", files[1].display());
    asking.assert_chosen(ANNA, &member, &origin);
}

// rule: CERT-16, RT-3
#[test]
fn a_sender_is_told_policy_refused_and_the_audit_which_demand_was_not_met() {
    // Anna has a key of another kind than Rui.
    let mut curve = anna();
    curve.key = KeyKind::P256;
    let curve = keys::issue(&pki().authority, &curve);
    let folder = TestFolder::new();
    let file = folder.path().join("anna.pem");
    fs::write(&file, curve.certificate.to_pem().unwrap()).unwrap();
    let domains = ["direct.harbor.example", "direct.fjord.example"];
    let (bridge, server) = TestBridge::beside_a_hop(&domains, |config| {
        config.certificates.recipients.push(file);
        for domain in &mut config.certificates.domains {
            domain.demands = demands("keys = [\"p256\"]");
        }
    });
    let response = bridge.submit(&TestRequest::new(ELM, &[RUI, ANNA]).mtom());
    assert_eq!(response.status, Status::Success);
    let told = entries(&response);
    assert_eq!((told.len(), told[0].2.as_str()), (1, "policyRefused"));
    bridge.wait_until_sent();
    let mails = received(&server);
    assert_eq!(
        (mails.len(), &mails[0].recipients[..]),
        (1, &[ANNA.to_owned()][..])
    );
    let records = bridge.audit_of(AuditKind::Recipient);
    let cause = records
        .iter()
        .find_map(|record| record.details.get("cause"));
    let cause = cause.map(String::as_str).unwrap_or_default();
    assert!(cause.starts_with("demands: its kind of key"), "{cause}");
}
