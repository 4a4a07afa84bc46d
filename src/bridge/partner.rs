//! The XDR systems that we serve.

/// An XDR system that we exchange with.
#[derive(Clone, Debug)]
pub struct Partner {
    /// Its name in the configuration.
    pub name: String,
}
