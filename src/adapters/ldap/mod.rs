//! Certificates of an address from the LDAP servers of its domain (certificates.md section 5; RFC 4511, RFC 2798).
//!
//! The protocol is spoken here and in [`crate::formats::ldap`], by a library for BER and none for LDAP: what a server
//! sends is a stranger's, and is bounded before any of it is read.

mod connection;
mod ldif;
mod questions;
mod values;

pub use ldif::{BaseRecord, PersonRecord, base_of};
pub use questions::{LdapQuestions, LdapSettings};

use std::sync::Arc;

use async_trait::async_trait;

use self::questions::Told;
use crate::{
    bridge::trust::CertificateCandidate,
    flows::{
        measures,
        ports::{FindCertificates, Lookup},
    },
    formats::{ids::DirectAddress, ldap::Filter},
};

/// The attribute by which an entry is found (LDAP-6).
const MAIL: &str = "mail";

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// The address.
    Address,
    /// Its domain.
    Domain,
}

/// One source of certificates: the entries of addresses, or those of domains.
pub struct LdapCertificates {
    questions: Arc<LdapQuestions>,
    level: Level,
}

impl LdapCertificates {
    /// The source of what is published for an address itself (LDAP-6).
    pub fn of_addresses(questions: Arc<LdapQuestions>) -> Self {
        let level = Level::Address;
        Self { questions, level }
    }

    /// The source of what is published for a whole domain (LDAP-7).
    pub fn of_domains(questions: Arc<LdapQuestions>) -> Self {
        let level = Level::Domain;
        Self { questions, level }
    }

    /// The value of `mail` that is looked for, in the case in which names are compared.
    fn mail(&self, owner: &DirectAddress) -> String {
        match self.level {
            Level::Address => owner.to_string().to_ascii_lowercase(),
            Level::Domain => owner.domain().to_string(),
        }
    }

    fn count(&self, told: &Told) {
        let name = match self.level {
            Level::Address => "address",
            Level::Domain => "domain",
        };
        let answer = match &told.certificates {
            Some(found) if found.is_empty() => "none",
            Some(_) => "certificates",
            None => "failed",
        };
        let from = if told.is_from_memory {
            "cache"
        } else {
            "servers"
        };
        metrics::counter!(measures::LDAP_QUERIES, "name" => name, "answer" => answer, "from" => from)
            .increment(1);
    }
}

#[async_trait]
impl FindCertificates for LdapCertificates {
    fn question(&self, owner: &DirectAddress) -> String {
        questions::question(owner.domain(), &self.mail(owner))
    }

    async fn find(&self, owner: &DirectAddress) -> Lookup {
        let mail = self.mail(owner);
        let told = self.questions.ask(owner.domain(), &mail).await;
        self.count(&told);
        let found = told.certificates.iter().flat_map(|found| found.iter());
        let candidates = found.map(|der| CertificateCandidate {
            der: der.clone(),
            origin: format!("ldap {} {}", told.server, Filter::Equal(MAIL, &mail)),
        });
        Lookup {
            candidates: candidates.collect(),
            steps: told.steps.clone(),
            is_transient: told.certificates.is_none(),
            ..Lookup::default()
        }
    }
}
