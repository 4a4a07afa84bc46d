//! The correlator: one [`Exchange`] is one message's whole life in the bridge, in either direction. What happens
//! comes in as an [`Event`], what must be done goes out as [`Effect`]s, and [`step()`] in between is pure.
//!
//! Exchange 1-n Leg 1-n Recipient. The tables are those of mdn.md section 8 (XDR to Direct) and section 9
//! (Direct to XDR).

mod event;
mod operator;
mod reason;
#[cfg(test)]
mod samples;
mod state;
mod status;
mod step;
mod timers;
mod to_direct;
mod to_xdr;

pub use event::{
    Disposition, Effect, Event, EventKind, MdnToSend, Opening, PostResult, Scheduled, StatusResult,
};
pub use operator::{InOutbox, NotNow};
pub use reason::Reason;
pub use state::{
    Deadlines, Exchange, Hold, Leg, LegKind, LegState, MailLeg, MdnProgress, NextHop, Origin,
    Outcome, PreparedRequest, Recipient, RecipientAnswer, RecipientState, SealedMail, SealedMdn,
    StatusEnd, StatusReport, XdrLeg,
};
pub use step::step;
pub use timers::Timers;
