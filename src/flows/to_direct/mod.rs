//! XDR to Direct (deployment model E.2). [`ToDirect`] accepts a submission: it records, decides every recipient, and
//! answers. Later, as the outbox says, it delivers: seals a leg, hands it to the next hop, looks for certificates that
//! were not found in time.
//!
//! The bridge owns a message from the moment it answers Success. So accept writes before it answers, and delivery can
//! run again after a crash: ids and sealed bytes are stored, and a repeat is recognised as one.

mod accept;
mod answer;
mod certificates;
mod checks;
mod look_up;
mod notification;
mod readings;
mod record;
mod refuse;
mod resubmission;
mod seal;
mod send;
mod understand;

use std::sync::Arc;

use super::{
    cpu::CpuPool,
    deadlines,
    directory::Directory,
    edge_reports::EdgeReports,
    look_ups::LookUps,
    ports::{Bodies, Claim, Clock, Exchanges, OwnDomains, SendMail, StoreError},
    settings::DeliverySettings,
};
use crate::{
    bridge::{
        destination::Destinations,
        endpoint::XdrEndpoints,
        exchange::{Effect, Timers},
        routing::Routes,
    },
    formats::{audit::PatientIdPolicy, keyed_hash::KeyedHash, limits::Limits, xdm::Institution},
};
pub use readings::Readings;
pub use resubmission::SubmissionsUnderWay;

/// The use case, with everything that it needs of the world.
pub struct ToDirect {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Exchanges, outbox, audit.
    pub store: Arc<dyn Exchanges>,
    /// Bodies.
    pub bodies: Arc<dyn Bodies>,
    /// Where certificates of recipients are looked for.
    pub directory: Directory,
    /// The domains that we serve: signing keys and trust anchors.
    pub own_domains: Arc<dyn OwnDomains>,
    /// The XDR systems behind the domains that we serve: their mail is taken here as well (MR-5).
    pub endpoints: Arc<XdrEndpoints>,
    /// The next hop; for a domain that we serve, our own accept step.
    pub mail: Arc<dyn SendMail>,
    /// Threads for XML, zip and CMS.
    pub cpu: CpuPool,
    /// Limits on what comes from outside.
    pub limits: Arc<Limits>,
    /// How accepted messages are worked on.
    pub settings: Arc<DeliverySettings>,
    /// How long an exchange waits for what.
    pub timers: Arc<Timers>,
    /// How each destination gets its mail.
    pub destinations: Arc<Destinations>,
    /// Where values that are no address go.
    pub routes: Arc<Routes>,
    /// Who makes the packages.
    pub institution: Arc<Institution>,
    /// What the audit keeps of patient identifiers.
    pub patient_ids: PatientIdPolicy,
    /// The key of opaque patient identifiers.
    pub patient_id_key: KeyedHash,
    /// Takes what comes in place of submissions: what endpoints say later.
    pub edges: Arc<EdgeReports>,
    /// Look-ups that are under way in the background.
    pub look_ups: Arc<LookUps>,
    /// Submissions that are being decided now.
    pub under_way: SubmissionsUnderWay,
    /// What was read of requests and not sealed yet.
    pub readings: Readings,
}

impl ToDirect {
    /// Runs one of this flow's effects.
    pub async fn deliver(&self, claim: &Claim) -> Result<(), StoreError> {
        match &claim.effect {
            Effect::LookUp { recipient, attempt } => {
                self.look_up(claim, *recipient, *attempt).await
            }
            Effect::Seal { leg } => self.seal(claim, *leg).await,
            Effect::Send {
                leg,
                domain,
                attempt,
            } => self.send(claim, *leg, domain, *attempt).await,
            _ => self.drop_claim(claim).await,
        }
    }

    /// Completes an effect that has nothing left to do: its recipients were settled meanwhile.
    async fn drop_claim(&self, claim: &Claim) -> Result<(), StoreError> {
        deadlines::complete(&self.store, claim).await
    }
}
