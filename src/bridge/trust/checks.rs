//! The checks that a certificate goes through, in their one order (DISC-9), by their names.

use super::{Fault, PathFault, Verdict};

/// A check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// It is one whole X.509 certificate in DER form (CERT-1).
    Readable,
    /// It is no CA's (CERT-6, DNS-8).
    EndEntity,
    /// The time is within its own (CERT-11).
    Validity,
    /// It names the address, or exactly its domain (BIND-1 to BIND-5).
    Binding,
    /// keyUsage and extKeyUsage allow what it is wanted for (CERT-7, CERT-8).
    Usage,
    /// Its key, and the signature on it, are strong enough (CERT-9, CERT-10).
    Strength,
    /// A valid path leads to a configured anchor (TA-4 to TA-11).
    Path,
    /// Nothing on the path is revoked (REV-4, REV-5).
    Revocation,
    /// It meets what the domain demands beyond the rules that all follow (CERT-14, CERT-16).
    Demands,
}

impl Check {
    /// All of them, in the order in which they are made.
    pub const ALL: [Self; 9] = [
        Self::Readable,
        Self::EndEntity,
        Self::Validity,
        Self::Binding,
        Self::Usage,
        Self::Strength,
        Self::Path,
        Self::Revocation,
        Self::Demands,
    ];

    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Readable => "readable",
            Self::EndEntity => "end-entity",
            Self::Validity => "validity",
            Self::Binding => "binding",
            Self::Usage => "usage",
            Self::Strength => "strength",
            Self::Path => "path",
            Self::Revocation => "revocation",
            Self::Demands => "demands",
        }
    }
}

impl Fault {
    /// The check that failed.
    pub fn check(&self) -> Check {
        match self {
            Self::Unreadable => Check::Readable,
            Self::NotEndEntity => Check::EndEntity,
            Self::NotYetValid | Self::Expired => Check::Validity,
            Self::NotBound => Check::Binding,
            Self::Usage => Check::Usage,
            Self::Key(_) | Self::Signature => Check::Strength,
            Self::Path(PathFault::Revoked { .. } | PathFault::RevocationUnknown { .. }) => {
                Check::Revocation
            }
            Self::Path(_) => Check::Path,
            Self::Demands(_) => Check::Demands,
        }
    }
}

impl Verdict {
    /// The checks that it passed, in their order: all but the one that it failed and those after that, which were not
    /// made any more.
    pub fn passed(&self) -> impl Iterator<Item = Check> {
        let failed = self.fault.as_ref().map(Fault::check);
        Check::ALL
            .into_iter()
            .filter(move |check| failed.is_none_or(|failed| *check < failed))
    }
}
