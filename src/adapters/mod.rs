//! The outside world: one folder for each protocol. An adapter implements a port of [`crate::flows::ports`] or calls
//! a flow; adapters never use one another. Beside them lie [`pem_files`], the one thing that many of them read,
//! and [`http_tls`], what the HTTP listeners share.

pub mod certificates;
pub mod clock;
pub mod control;
pub mod dns;
pub mod fetch;
pub mod http_tls;
pub mod ldap;
pub mod operator;
pub mod pem_files;
pub mod smtp_client;
pub mod smtp_server;
pub mod soap_client;
pub mod soap_server;
pub mod store;
