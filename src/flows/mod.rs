//! What happens, in order: one file for each use case. Flows speak to the world through [`ports`]; they read like
//! the description of the process.

pub mod budget;
pub mod cpu;
pub mod fault_points;
pub mod measures;
pub mod ports;
