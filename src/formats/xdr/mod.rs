//! ITI-41 Provide and Register Document Set-b: the request and its answer, the RegistryResponse.

mod error_code;
pub mod request;
pub mod response;

pub use error_code::ErrorCode;
