//! Joins settings, picks the concrete adapters, and holds one file for each subcommand.

pub mod commands;
pub mod config;
mod crl_watch;
#[cfg(feature = "demo")]
pub mod demo;
pub mod exit;
mod expiry_watch;
pub mod http_thread;
pub mod logging;
mod new_files;
pub mod pki;
pub mod process;
mod terminal;
pub mod wiring;
