//! XDM media (IHE ITI TF-2 3.32): the zip that carries one or more submission sets through mail.
//!
//! [`pack()`] writes one; [`unpack()`] reads what others wrote, hostile or merely odd, without ever trusting a header:
//! [`directory`] checks the archive's structure, `names` turns entry names into paths, `uri` finds the file that a
//! DocumentEntry means.

pub mod directory;
mod error;
pub mod names;
mod nested;
pub mod pack;
mod pages;
mod tree;
pub mod unpack;
mod uri;

pub use pack::{Institution, PackError, PackagePlan, PlannedFile, pack};
pub use unpack::{XdmDocument, XdmDocuments, XdmError, XdmPackage, XdmSet, unpack};
