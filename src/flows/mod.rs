//! What happens, in order: one file for each use case. Flows speak to the world through [`ports`]; they read like
//! the description of the process.

pub mod answer_cache;
pub mod budget;
pub mod convert;
pub mod cpu;
pub mod deadlines;
pub mod directory;
pub mod edge_reports;
pub mod effects;
pub mod fault_points;
pub mod guard;
pub mod inspect;
mod intake;
pub mod joined;
pub mod keyed;
pub mod look_ups;
pub mod material;
pub mod measures;
pub mod operators;
pub mod outbox;
pub mod ports;
mod posting;
mod records;
pub mod report;
pub mod room;
pub mod settings;
pub mod to_direct;
pub mod to_xdr;
pub mod transition;
