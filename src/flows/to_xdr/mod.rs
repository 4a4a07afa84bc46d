//! Direct to XDR (deployment model E.1). [`ToXdr`] receives a sealed mail and records it before it says 250. Later, as
//! the outbox says, it opens the mail, decides whom it trusts, prepares one ITI-41 request for each endpoint and
//! submission set, posts them, and tells the sender of each recipient what became of it.
//!
//! A notice that answers a mail of the other direction goes to the exchange whose mail it is. Mail of this bridge's own
//! for a domain that it serves is taken by the same step, without SMTP.
//!
//! Nothing of a mail's content is used before its signature held and was trusted. Requests and notices are made once and
//! stored before they are sent first: a repeat is the same, octet by octet.

mod bounce;
mod duplicate;
mod inline;
mod judge;
mod notice;
mod notify;
mod open;
mod own_mail;
mod post;
mod postmaster;
mod prepare;
mod receive;

use std::sync::Arc;

use notify::Due;

use super::{
    budget::ByteBudget,
    cpu::CpuPool,
    deadlines,
    directory::Directory,
    keyed::KeyedPlaces,
    look_ups::LookUps,
    outbox::Prepared,
    ports::{
        Bodies, Claim, Clock, Exchanges, KeepPostmasterMail, LookupKey, OwnDomains, PostXdr,
        SendMail, StoreError,
    },
    settings::{NotificationSettings, ReceivingSettings},
};
use crate::{
    bridge::{
        endpoint::{SourcesConfig, XdrEndpoints},
        exchange::{Effect, Timers},
        partner::Partners,
    },
    formats::{ids::DomainName, limits::Limits},
};

/// The use case, with everything that it needs of the world.
pub struct ToXdr {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Exchanges, outbox, audit.
    pub store: Arc<dyn Exchanges>,
    /// Bodies.
    pub bodies: Arc<dyn Bodies>,
    /// The domains that we serve: keys that open mail, and trust anchors.
    pub own_domains: Arc<dyn OwnDomains>,
    /// Where certificates of the senders are looked for, for notices.
    pub directory: Directory,
    /// The look-ups that are under way.
    pub look_ups: Arc<LookUps>,
    /// The XDR systems, and whom each serves.
    pub endpoints: Arc<XdrEndpoints>,
    /// The XDR systems that submit: notices come to the addresses that they send as.
    pub partners: Arc<Partners>,
    /// What senders' domains are called as sources.
    pub sources: Arc<SourcesConfig>,
    /// Posts requests.
    pub posts: Arc<dyn PostXdr>,
    /// The next hop of notices to domains that are not our own.
    pub mail: Arc<dyn SendMail>,
    /// Threads for XML, zip and CMS.
    pub cpu: CpuPool,
    /// Octets in flight: a mail is opened when there is room for it.
    pub budget: ByteBudget,
    /// Limits on what comes from outside.
    pub limits: Arc<Limits>,
    /// How notices are written.
    pub settings: Arc<NotificationSettings>,
    /// Keeps mail for whoever runs this bridge.
    pub postmaster: Arc<dyn KeepPostmasterMail>,
    /// How received mail is taken.
    pub receiving: Arc<ReceivingSettings>,
    /// How long an exchange waits for what.
    pub timers: Arc<Timers>,
    /// The host that reports in notices.
    pub host: DomainName,
    /// Mails that are being opened now, by what they would be found by: two copies of one mail are looked at one after the
    /// other.
    pub under_way: KeyedPlaces<LookupKey>,
}

impl ToXdr {
    /// Runs one of this flow's effects.
    pub async fn deliver(&self, claim: &Claim) -> Result<(), StoreError> {
        match &claim.effect {
            Effect::Open => self.open(claim).await,
            Effect::Post { leg, attempt, .. } => self.post(claim, *leg, *attempt).await,
            effect => match Due::of(effect) {
                Some(due) => self.notify(claim, due).await,
                None => deadlines::complete(&self.store, claim).await,
            },
        }
    }

    /// Does what comes before one of this flow's hand-overs: a notice is made.
    pub async fn before_hand_over(&self, claim: &Claim) -> Result<Prepared, StoreError> {
        match Due::of(&claim.effect) {
            Some(due) => self.make_ready(claim, due).await,
            None => Ok(Prepared::Ready),
        }
    }
}
