//! XDM media (IHE ITI TF-2 3.32): the zip that carries one or more submission sets through mail.
//!
//! [`pack`] writes one; reading takes what others wrote, hostile or merely odd, without ever trusting a header:
//! [`directory`] checks the archive's structure, [`names`] turns entry names into paths.

pub mod directory;
mod error;
pub mod names;
pub mod pack;
mod pages;

pub use error::XdmError;
pub use pack::{Institution, PackError, PackagePlan, PlannedFile, pack};
