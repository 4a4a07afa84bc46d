//! What became of a recipient is told under one identity, however often the bridge is killed on the way (STS-3; design.md
//! section 1, points 3 and 4). These tests need the fault points.
#![cfg(feature = "fault-points")]

use std::{collections::BTreeSet, fs, os::unix::process::ExitStatusExt};

use openssl::x509::X509;
use xdbridge::{
    bridge::exchange::{Exchange, StatusEnd},
    flows::fault_points,
    formats::ids::DirectAddress,
};

use crate::support::{
    crossing_ground::{Answered, CrossingGround, HISP_DOMAIN, Letter, Workshop, address},
    receiving_ground::{success, understood},
    scripted_xdr::{Act, ScriptedXdr},
    tls::Identity,
    wait_until,
};

const SIGKILL: i32 = 9;
/// Starts after which everything must have settled.
const MOST_STARTS: usize = 4;

/// A bridge whose partner takes outcomes, and a letter to one recipient who can be served and one who cannot.
struct Ground<'a> {
    crossing: CrossingGround<'a>,
    edge: ScriptedXdr,
    letter: Letter,
}

impl<'a> Ground<'a> {
    fn new(workshop: &'a Workshop, script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let crossing = workshop.ground();
        let folder = crossing.path();
        let pem = fs::read(folder.join("ca/ca.pem")).unwrap();
        let client_ca = Identity {
            certificate: X509::from_pem(&pem).unwrap(),
            key: workshop.relay().key.clone(),
        };
        let edge = ScriptedXdr::start(workshop.relay(), &client_ca, script);
        let config = folder.join("xdbridge.toml");
        let told = format!("[[partner]]\nstatus_endpoint = \"{}\"\n", edge.url());
        let text = fs::read_to_string(&config).unwrap();
        assert_eq!(text.matches("[[partner]]\n").count(), 1, "{text}");
        fs::write(&config, text.replace("[[partner]]\n", &told)).unwrap();
        crossing.add_settings(
            "\n[soap.client]\ncertificate = \"tls/trial-ehr.pem\"\nkey = \"tls/trial-ehr.key\"\n\
             ca_files = [\"relay-ca.pem\"]\n\n[sources]\ngateway_oid = \"2.999.1\"\n",
        );
        let mut letter = Letter::small();
        letter.to = vec![address("rui.silva", HISP_DOMAIN), nobody()];
        Self {
            crossing,
            edge,
            letter,
        }
    }

    /// How the report about the recipient who cannot be served ended.
    fn end(&self) -> Option<StatusEnd> {
        let exchanges: Vec<Exchange> = self.crossing.exchanges();
        assert!(exchanges.len() <= 1, "{} exchanges", exchanges.len());
        // None yet, if the bridge was killed before it took the request over.
        let recipient = exchanges.first()?.recipient(&nobody()).unwrap();
        recipient.status.as_ref()?.end
    }
}

fn nobody() -> DirectAddress {
    address("omar.haddad", "direct.fjord.example")
}

fn is_told_as_one(
    workshop: &Workshop,
    case: &str,
    script: impl Fn(usize) -> Act + Send + Sync + 'static,
) {
    let ground = Ground::new(workshop, script);
    let mut bridge = ground.crossing.start_with(case);
    let answered = ground.crossing.post(&bridge, &ground.letter);
    // A point that is never passed fails here.
    let status = bridge.ended();
    assert_eq!(status.signal(), Some(SIGKILL), "{case}: {status}");
    for _ in 0..MOST_STARTS {
        let (is_told, told_before) = (ground.end().is_some(), ground.edge.seen().len());
        ground.crossing.let_retries_be_due();
        let bridge = ground.crossing.start();
        if answered == Answered::Nothing {
            // The sender repeats what it has no answer to.
            let again = ground.crossing.post(&bridge, &ground.letter);
            assert_eq!(again, Answered::Success, "{case}");
        }
        wait_until("the edge is told", || {
            is_told || ground.edge.seen().len() > told_before
        });
        bridge.stop();
        if ground.end().is_some() {
            break;
        }
    }
    assert_eq!(ground.end(), Some(StatusEnd::Taken), "{case}");
    let seen = ground.edge.seen();
    let ids: BTreeSet<String> = seen
        .iter()
        .filter(|one| one.is_whole)
        .map(|one| understood(one).0.addressing.message_id.unwrap().to_string())
        .collect();
    assert_eq!(ids.len(), 1, "{case}");
    let bodies: BTreeSet<&Vec<u8>> = seen
        .iter()
        .filter(|one| one.is_whole)
        .map(|one| &one.body)
        .collect();
    assert_eq!(
        bodies.len(),
        1,
        "{case}: a repeated status has other octets"
    );
}

// rule: STS-3
#[test]
fn a_status_submission_survives_sigkill_at_every_fault_point_as_one() {
    let workshop = Workshop::new();
    for point in fault_points::STATUS {
        is_told_as_one(&workshop, &format!("{point}@1=kill"), |_| success());
    }
}

// rule: STS-3
#[test]
fn a_status_submission_whose_answers_are_lost_besides_is_one_all_the_same() {
    let workshop = Workshop::new();
    for case in ["status.posted@1=kill", "status.recorded@1=kill"] {
        is_told_as_one(&workshop, case, |number| match number {
            0 | 1 => Act::CloseAfterBody,
            _ => success(),
        });
    }
}
