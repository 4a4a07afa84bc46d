//! The XDR systems around the bridge: two endpoints that mail is posted to, and the partner who is told of outcomes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use openssl::x509::X509;
use xdbridge::formats::{limits::Limits, xdr::disposition::MessageDisposition};

use super::{
    dice::Dice,
    ground::{World, digest, node_of},
    record::{Arrival, Says, Told},
    senders::{item_of_documents, item_of_soap_id},
};
use crate::support::{
    crossing_ground::Workshop,
    receiving_ground::{response, success, understood},
    scripted_xdr::{Act, ScriptedXdr, Seen},
    tls::Identity,
};

/// How many answers in a hundred are lost.
const LOST_PERCENT: usize = 3;
const KNOWN: &str = "<rs:RegistryErrorList><rs:RegistryError errorCode=\"XDSDuplicateUniqueIdInRegistry\" \
     codeContext=\"x\" severity=\"urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error\"/>\
     </rs:RegistryErrorList>";
const REFUSED: &str = "<rs:RegistryErrorList><rs:RegistryError errorCode=\"XDSRepositoryMetadataError\" \
     codeContext=\"x\" severity=\"urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error\"/>\
     </rs:RegistryErrorList>";

pub(super) struct Edge {
    /// Knows what it has had.
    pub(super) knowing: ScriptedXdr,
    /// Does not.
    pub(super) once: ScriptedXdr,
    /// Where the partner is told.
    pub(super) status: ScriptedXdr,
}

impl Edge {
    /// `ca` vouches for the bridge.
    pub(super) fn start(world: &Arc<World>, workshop: &Workshop, ca: X509) -> Self {
        let client_ca = Identity {
            certificate: ca,
            key: workshop.relay().key.clone(),
        };
        let start = |judge: Box<dyn Fn(&Seen) -> Act + Send + Sync>| {
            ScriptedXdr::judging(workshop.relay(), &client_ca, judge)
        };
        let endpoint = |is_knowing: bool| {
            let endpoint = Endpoint {
                world: Arc::clone(world),
                dice: Dice::new(world.seed, if is_knowing { 1001 } else { 1002 }),
                had: Mutex::default(),
                is_knowing,
            };
            start(Box::new(move |seen| endpoint.take(seen)))
        };
        let partner = Partner {
            world: Arc::clone(world),
            dice: Dice::new(world.seed, 1003),
            had: Mutex::default(),
        };
        Self {
            knowing: endpoint(true),
            once: endpoint(false),
            status: start(Box::new(move |seen| partner.take(seen))),
        }
    }

    pub(super) fn wait_for_silence(&self) {
        for one in [&self.knowing, &self.once, &self.status] {
            one.wait_for_silence();
        }
    }
}

/// The node that a request comes from.
fn node(seen: &Seen) -> usize {
    node_of(seen.head.split(' ').nth(1).unwrap_or_default())
}

struct Endpoint {
    world: Arc<World>,
    dice: Dice,
    had: Mutex<BTreeSet<String>>,
    is_knowing: bool,
}

impl Endpoint {
    fn take(&self, seen: &Seen) -> Act {
        let (request, documents) = understood(seen);
        let identity = request.addressing.message_id.unwrap().to_string();
        let Some(item) = item_of_documents(&documents) else {
            self.world
                .complain(format!("the request {identity} has changed"));
            return response("Failure", REFUSED);
        };
        let to = request.address_block.unwrap().to;
        let to: Vec<String> = to.iter().map(ToString::to_string).collect();
        let is_refused = to.iter().any(|to| to.starts_with("rejected."));
        let is_first = self.had.lock().unwrap().insert(identity.clone());
        let is_answered = !(is_first && self.dice.percent(LOST_PERCENT));
        let mut record = self.world.record();
        let era = record.era();
        record.arrivals.push(Arrival {
            item,
            identity,
            digest: digest(&seen.body),
            to,
            node: node(seen),
            era,
            is_answered,
            is_repeatable: self.is_knowing,
        });
        drop(record);
        if !is_answered {
            Act::CloseAfterBody
        } else if is_refused {
            response("Failure", REFUSED)
        } else if is_first || !self.is_knowing {
            success()
        } else {
            response("Failure", KNOWN)
        }
    }
}

struct Partner {
    world: Arc<World>,
    dice: Dice,
    had: Mutex<BTreeSet<String>>,
}

impl Partner {
    fn take(&self, seen: &Seen) -> Act {
        let (request, documents) = understood(seen);
        let identity = request.addressing.message_id.unwrap().to_string();
        let about = request.notification_relates_to.unwrap();
        let told = documents
            .first()
            .and_then(|octets| MessageDisposition::read(octets, &Limits::default()).ok());
        let (Some(item), Some(told)) = (item_of_soap_id(&about), told) else {
            self.world
                .complain(format!("the status {identity} is about nothing known"));
            return success();
        };
        let word = match told.reason {
            _ if told.is_success => "success".to_owned(),
            Some(reason) => reason,
            None => "failed".to_owned(),
        };
        let is_first = self.had.lock().unwrap().insert(identity.clone());
        let is_answered = !(is_first && self.dice.percent(LOST_PERCENT));
        let mut record = self.world.record();
        let era = record.era();
        record.tell(Told {
            item,
            recipient: told.recipient.to_string(),
            identity,
            digest: digest(&seen.body),
            says: Says::Final(word),
            node: node(seen),
            era,
            is_answered,
        });
        if is_answered {
            success()
        } else {
            Act::CloseAfterBody
        }
    }
}
