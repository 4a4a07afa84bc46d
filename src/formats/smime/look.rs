//! What can be told of an S/MIME mail without a key.

use super::{
    ber::{self, CmsKind},
    entity::Entity,
    open::OpenError,
};
use crate::formats::limits::Limits;

/// How a mail is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// In which way.
    pub form: SecuredForm,
    /// How many recipients its RecipientInfos identify; 0 for one that is only signed.
    pub recipient_infos: usize,
}

/// The ways of S/MIME (RFC 8551 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecuredForm {
    /// EnvelopedData: encrypted.
    Enveloped,
    /// AuthEnvelopedData: encrypted with an authenticating cipher.
    AuthEnveloped,
    /// Signed and readable for everybody.
    Signed,
}

impl SecuredForm {
    /// The word for it: `enveloped`, `auth-enveloped` or `signed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enveloped => "enveloped",
            Self::AuthEnveloped => "auth-enveloped",
            Self::Signed => "signed",
        }
    }
}

/// Looks at `mail`, a whole message with its header, whose CMS is counted before anything works on it (LIM-16).
/// Plain mail is [`OpenError::NotEncrypted`].
pub fn look(mail: &[u8], limits: &Limits) -> Result<Look, OpenError> {
    let outer = Entity::read(mail)?;
    if outer.kind == "multipart/signed" {
        return Ok(Look {
            form: SecuredForm::Signed,
            recipient_infos: 0,
        });
    }
    if !outer.is_pkcs7_mime() {
        return Err(OpenError::NotEncrypted);
    }
    look_at_cms(&outer.decoded_body(mail)?, limits)
}

/// The same of a CMS that no mail is around.
pub fn look_at_cms(cms: &[u8], limits: &Limits) -> Result<Look, OpenError> {
    let survey = ber::survey(cms, limits)?;
    Ok(Look {
        form: match survey.kind {
            CmsKind::Enveloped => SecuredForm::Enveloped,
            CmsKind::AuthEnveloped => SecuredForm::AuthEnveloped,
            CmsKind::Signed => SecuredForm::Signed,
        },
        recipient_infos: survey.recipient_infos,
    })
}
