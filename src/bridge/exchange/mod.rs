//! The correlator: one [`Exchange`] is one message's whole life in the bridge, in either direction. What happens
//! comes in as an [`Event`], what must be done goes out as [`Effect`]s, and [`step`] in between is pure.
//!
//! Exchange 1-n Leg 1-n Recipient. The tables are those of mdn.md section 8 (XDR to Direct) and section 9
//! (Direct to XDR).

mod event;
mod reason;
mod state;
mod step;

pub use event::{Disposition, Effect, Event, EventKind, MdnToSend, PostResult, Scheduled};
pub use reason::Reason;
pub use state::{
    Deadlines, Exchange, Leg, LegKind, LegState, MailLeg, Origin, Outcome, Recipient,
    RecipientState, SealedMail, XdrLeg,
};
pub use step::step;
