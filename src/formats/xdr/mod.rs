//! ITI-41 Provide and Register Document Set-b: the request, its answer, the RegistryResponse, and the document of a
//! delivery notification.

pub mod disposition;
mod error_code;
pub mod request;
pub mod response;

pub use error_code::ErrorCode;
