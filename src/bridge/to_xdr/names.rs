//! Identifiers that a retry of the same mail repeats (MD-111, XDR-109).

use uuid::Uuid;

use crate::formats::{
    document::hex,
    ids::{DomainName, MessageId, Oid, SoapMessageId},
};

/// Makes the identifiers of one mail.
pub(super) struct Names {
    namespace: Uuid,
    /// The Message-ID, or where there is none the digest of the signed entity.
    mail: String,
    digest: String,
}

impl Names {
    pub(super) fn of(sender: &DomainName, message_id: Option<&MessageId>, digest: &[u8]) -> Self {
        let digest = hex(digest);
        Self {
            namespace: Uuid::new_v5(&Uuid::NAMESPACE_DNS, sender.as_str().as_bytes()),
            mail: message_id.map_or_else(|| digest.clone(), |id| id.as_str().to_owned()),
            digest,
        }
    }

    fn uuid(&self, kind: &str, path: &str) -> Uuid {
        let name = format!("{kind}\n{}\n{path}", self.mail);
        Uuid::new_v5(&self.namespace, name.as_bytes())
    }

    /// A URN for the object of this kind that the part stands for; the set has no path.
    pub(super) fn urn(&self, kind: &str, path: &str) -> String {
        format!("urn:uuid:{}", self.uuid(kind, path))
    }

    /// An OID of the same UUID (MD-112, MD-121).
    pub(super) fn oid(&self, kind: &str, path: &str) -> Oid {
        Oid::from_uuid(self.uuid(kind, path))
    }

    /// The wsa:MessageID of the request about `leg` to `endpoint`. Another mail under the same Message-ID is another
    /// message (DST-6), so the digest counts as well.
    pub(super) fn soap_message_id(&self, endpoint: &str, leg: &str) -> SoapMessageId {
        let name = format!("request\n{}\n{}\n{endpoint}\n{leg}", self.mail, self.digest);
        SoapMessageId::from_uuid(Uuid::new_v5(&self.namespace, name.as_bytes()))
    }
}
