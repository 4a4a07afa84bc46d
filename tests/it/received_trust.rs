//! Whose mail a received mail is, and which of its recipients may have it.

use std::sync::Arc;

use jiff::Timestamp;
use openssl::{
    asn1::{Asn1Object, Asn1OctetString},
    x509::{X509, X509Extension},
};
use xdbridge::{
    app::pki::{Authority, KeyKind, KeyPurpose, Name, Profile, days, self_signed},
    bridge::{
        own_domain::OwnDomain,
        received::{Envelope, NotTrusted, Rejected, Trusted, judge},
        trust::{Binding, Demands, Fault, RecentJudgements, Revocation, TrustAnchors},
    },
    formats::{
        ids::{DirectAddress, DomainName},
        limits::Limits,
        mime::read,
        notification::request::FinalDelivery,
        smime::{Legacy, Leniency, Opened, SigningIdentity, VerifiedSigner},
    },
};

const ADA: &str = "ada.quill@direct.harbor.example";
const RUI: &str = "rui.silva@direct.harbor.example";
const NGOZI: &str = "ngozi.okafor@direct.elm.example";

fn address(text: &str) -> DirectAddress {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    "2026-11-22T08:00:00Z".parse().unwrap()
}

/// A CA whom direct.harbor.example trusts, and a mail of Ngozi's to Ada and Rui.
struct Ground {
    ca: Authority,
    header: String,
    envelope_from: Option<DirectAddress>,
    to: Vec<DirectAddress>,
    allow_legacy: Vec<Legacy>,
}

impl Ground {
    fn new() -> Self {
        Self {
            ca: Authority::root("Elm Root", now()).unwrap(),
            header: format!(
                "From: Ngozi Okafor <{NGOZI}>\r\nTo: {ADA}\r\nCc: Rui <{RUI}>\r\n\
                 Message-ID: <m7@direct.elm.example>\r\nDate: Sun, 22 Nov 2026 07:59:00 +0000\r\n"
            ),
            envelope_from: Some(address(NGOZI)),
            to: vec![address(ADA), address(RUI)],
            allow_legacy: Vec::new(),
        }
    }

    fn profile(&self) -> Profile {
        quick(Profile::address(&address(NGOZI), now()))
    }

    fn judge(&self, signers: &[SigningIdentity]) -> Result<Trusted, Rejected> {
        self.judge_opened(&opened(signers))
    }

    fn judge_opened(&self, opened: &Opened) -> Result<Trusted, Rejected> {
        let message = format!("{}\r\nHello\r\n", self.header);
        let mail = read::read(message.as_bytes(), &Limits::default()).unwrap();
        let envelope = Envelope {
            from: self.envelope_from.as_ref(),
            recipients: &self.to,
        };
        let own = Arc::new(own_domain(
            "direct.harbor.example",
            &self.ca,
            &self.allow_legacy,
        ));
        let other_ca = Authority::root("Other Root", now()).unwrap();
        let other = Arc::new(own_domain("direct.oak.example", &other_ca, &[]));
        let domain_of = |address: &DirectAddress| {
            let domains = [&own, &other];
            let mut served = domains.into_iter();
            served
                .find(|domain| domain.name == *address.domain())
                .cloned()
        };
        judge(opened, &mail.header, &envelope, &domain_of, now())
    }

    /// What is said of each recipient when `profile`, issued by the CA, signed.
    fn verdicts(&self, profile: &Profile) -> Vec<Result<Binding, NotTrusted>> {
        verdicts(self.judge(&[self.ca.issue(profile).unwrap()]).unwrap())
    }
}

fn verdicts(trusted: Trusted) -> Vec<Result<Binding, NotTrusted>> {
    let recipients = trusted.recipients.into_iter();
    recipients
        .map(|(_, verdict)| verdict.map(|signer| signer.binding))
        .collect()
}

fn quick(profile: Profile) -> Profile {
    Profile {
        key: KeyKind::P256,
        ..profile
    }
}

fn own_domain(name: &str, ca: &Authority, allow_legacy: &[Legacy]) -> OwnDomain {
    OwnDomain {
        name: name.parse().unwrap(),
        identities: Vec::new(),
        anchors: TrustAnchors::new([ca.certificate.clone()]),
        intermediates: Vec::new(),
        allow_legacy: allow_legacy.to_vec(),
        revocation: Revocation::default(),
        demands: Demands::default(),
        fetched: None,
        judged: RecentJudgements::default(),
    }
}

fn opened(signers: &[SigningIdentity]) -> Opened {
    Opened {
        outer_header: Vec::new(),
        entity: Vec::new(),
        sha256: [0; 32],
        signers: signers
            .iter()
            .map(|signer| valid(&signer.certificate))
            .collect(),
        failed_signers: Vec::new(),
        certificates: signers
            .iter()
            .flat_map(|signer| signer.intermediates.clone())
            .collect(),
        identity: 0,
        leniency: Leniency::None,
        legacy: Vec::new(),
        legacy_of_envelope: Vec::new(),
    }
}

fn valid(certificate: &X509) -> VerifiedSigner {
    VerifiedSigner {
        certificate: certificate.clone(),
        signing_time: None,
        legacy: Vec::new(),
    }
}

fn both<T: Clone>(verdict: T) -> Vec<T> {
    vec![verdict.clone(), verdict]
}

// rule: RCV-6, RCV-7, BIND-2
#[test]
fn a_signer_bound_to_the_sender_or_its_domain_is_trusted() {
    let ground = Ground::new();
    assert_eq!(
        ground.verdicts(&ground.profile()),
        both(Ok(Binding::Address))
    );
    let domain: DomainName = "direct.elm.example".parse().unwrap();
    let profile = quick(Profile::domain(&domain, now()));
    assert_eq!(ground.verdicts(&profile), both(Ok(Binding::Domain)));
    let trusted = ground.judge(&[ground.ca.issue(&profile).unwrap()]).unwrap();
    assert_eq!(trusted.sender, address(NGOZI));
    assert_eq!(
        trusted.message_id,
        Some("m7@direct.elm.example".parse().unwrap())
    );
    assert_eq!(trusted.final_delivery, FinalDelivery::NotRequested);
    assert_eq!(trusted.welcome().count(), 2);
    assert_eq!(trusted.signer().unwrap().binding, Binding::Domain);
}

// rule: RCV-R5, BIND-1, BIND-3, CERT-3, CERT-4, T-4
#[test]
fn a_signer_bound_to_anybody_else_is_not() {
    let ground = Ground::new();
    for name in [
        Name::Email("rui.else@direct.elm.example".into()),
        Name::Email(ADA.into()),
        Name::Dns("*.elm.example".into()),
        Name::Dns("elm.example".into()),
        Name::Dns("x.direct.elm.example".into()),
        Name::Dns("direct.harbor.example".into()),
    ] {
        let profile = Profile {
            names: vec![name.clone()],
            ..ground.profile()
        };
        assert_eq!(
            ground.verdicts(&profile),
            both(Err(NotTrusted::NotBound)),
            "{name:?}"
        );
    }
}

// rule: RCV-R6, CERT-7, CERT-11
#[test]
fn a_signer_out_of_its_time_or_use_is_not_trusted() {
    let ground = Ground::new();
    let fault = |profile: Profile| match ground.verdicts(&profile).remove(0) {
        Err(NotTrusted::Signer(fault)) => fault,
        other => panic!("{other:?}"),
    };
    let expired = Profile {
        not_before: days(now(), -9),
        not_after: days(now(), -1),
        ..ground.profile()
    };
    assert_eq!(fault(expired), Fault::Expired);
    let early = Profile {
        not_before: days(now(), 1),
        ..ground.profile()
    };
    assert_eq!(fault(early), Fault::NotYetValid);
    let encryption = Profile {
        purpose: KeyPurpose::MailEncryption,
        ..ground.profile()
    };
    assert_eq!(fault(encryption), Fault::Usage);
}

// rule: RCV-R6, TA-4, TA-6, T-13g
#[test]
fn nobody_is_trusted_by_an_anchor_that_is_not_ours_however_much_it_looks_like_it() {
    let ground = Ground::new();
    let is_path_fault = |signer: SigningIdentity| {
        let verdict = verdicts(ground.judge(&[signer]).unwrap()).remove(0);
        assert!(
            matches!(verdict, Err(NotTrusted::Signer(Fault::Path(_)))),
            "{verdict:?}"
        );
    };
    let namesake = Authority::root("Elm Root", now()).unwrap();
    is_path_fault(namesake.issue(&ground.profile()).unwrap());

    // A certificate that vouches for itself, under the anchor's subject and with its key identifier.
    let key_id = ground.ca.certificate.subject_key_id().unwrap().as_slice();
    let der = [&[0x04, u8::try_from(key_id.len()).unwrap()], key_id].concat();
    let copied = X509Extension::new_from_der(
        &Asn1Object::from_str("2.5.29.14").unwrap(),
        false,
        &Asn1OctetString::new_from_bytes(&der).unwrap(),
    )
    .unwrap();
    let forged = self_signed(&Profile {
        common_name: "Elm Root".into(),
        with_key_id: false,
        extensions: vec![copied],
        ..ground.profile()
    })
    .unwrap();
    assert_eq!(
        forged.certificate.subject_key_id().unwrap().as_slice(),
        key_id
    );
    is_path_fault(forged);
}

// rule: RCV-7
#[test]
fn one_trusted_signer_is_enough_whatever_the_others_are() {
    let ground = Ground::new();
    let good = ground.ca.issue(&ground.profile()).unwrap();
    let stranger = Authority::root("Strangers", now()).unwrap();
    let bad = stranger.issue(&ground.profile()).unwrap();
    let signers = [bad, good.clone()];
    let trusted = ground.judge(&signers).unwrap();
    let chosen = trusted.signer().unwrap().certificate.to_der().unwrap();
    assert_eq!(chosen, good.certificate.to_der().unwrap());
    assert_eq!(trusted.welcome().count(), 2);
}

// rule: WR-6, T-13c, MR-4
#[test]
fn only_recipients_that_the_signed_header_names_and_whose_domain_trusts_are_served() {
    let mut ground = Ground::new();
    let elsewhere = "someone.else@direct.harbor.example";
    let oak = "intake@direct.oak.example";
    let gone = "intake@direct.gone.example";
    ground.to = [ADA, elsewhere, oak, gone].map(address).to_vec();
    ground.header = ground
        .header
        .replace("Cc: ", &format!("Cc: {oak}, {gone}, "));
    let found = ground.verdicts(&ground.profile());
    assert_eq!(found[0], Ok(Binding::Address));
    assert_eq!(found[1], Err(NotTrusted::NotNamed));
    assert!(matches!(found[2], Err(NotTrusted::Signer(Fault::Path(_)))));
    assert_eq!(found[3], Err(NotTrusted::NotServed));
}

// rule: WR-6, ADR-4
#[test]
fn names_are_compared_without_regard_to_case() {
    let mut ground = Ground::new();
    ground.to = vec![address("Ada.Quill@DIRECT.harbor.example")];
    ground.envelope_from = Some(address("NGOZI.okafor@direct.ELM.example"));
    assert_eq!(ground.verdicts(&ground.profile()), [Ok(Binding::Address)]);
}

// rule: WR-7, WR-11, T-5
#[test]
fn the_envelope_and_the_signed_header_must_agree_about_the_sender() {
    let mut ground = Ground::new();
    let signer = [ground.ca.issue(&ground.profile()).unwrap()];
    ground.envelope_from = Some(address("mallory@direct.elm.example"));
    assert_eq!(
        ground.judge(&signer).err(),
        Some(Rejected::OtherEnvelopeSender)
    );
    // A notice comes from nobody.
    ground.envelope_from = None;
    assert_eq!(ground.judge(&signer).unwrap().welcome().count(), 2);

    let two = format!("From: {NGOZI}, mallory@direct.elm.example\r\n");
    let rest = format!("To: {ADA}\r\nCc: {RUI}\r\nMessage-ID: <1@x.example>\r\n");
    ground.header = format!("{two}{rest}");
    assert_eq!(ground.judge(&signer).err(), Some(Rejected::NoSender));
    ground.header = format!("{two}Sender: {NGOZI}\r\n{rest}");
    assert_eq!(ground.judge(&signer).unwrap().sender, address(NGOZI));
    ground.header = rest;
    assert_eq!(ground.judge(&signer).err(), Some(Rejected::NoSender));
}

// rule: SM-6
#[test]
fn weak_algorithms_count_only_for_the_domains_that_take_them() {
    let mut ground = Ground::new();
    let mut weak = opened(&[ground.ca.issue(&ground.profile()).unwrap()]);
    weak.signers[0].legacy = vec![Legacy::Sha1];
    let found = |ground: &Ground, opened: &Opened| verdicts(ground.judge_opened(opened).unwrap());
    assert_eq!(found(&ground, &weak), both(Err(NotTrusted::Weak)));
    ground.allow_legacy = vec![Legacy::Sha1];
    assert_eq!(found(&ground, &weak), both(Ok(Binding::Address)));
    weak.legacy_of_envelope = vec![Legacy::TripleDes];
    assert_eq!(found(&ground, &weak), both(Err(NotTrusted::Weak)));
}

// rule: MDN-10
#[test]
fn what_the_signed_header_asks_for_is_told() {
    let mut ground = Ground::new();
    ground.header +=
        "Disposition-Notification-Options: X-DIRECT-FINAL-DESTINATION-DELIVERY=optional,true\r\n";
    let signer = [ground.ca.issue(&ground.profile()).unwrap()];
    let trusted = ground.judge(&signer).unwrap();
    assert_eq!(trusted.final_delivery, FinalDelivery::Requested);
}
