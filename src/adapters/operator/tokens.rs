//! Who may ask what: the operators' token and those of partners, known by their digests.

use std::{
    net::IpAddr,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use actix_web::{HttpRequest, http::header};
use openssl::{memcmp, sha::sha256};
use secrecy::{ExposeSecret, SecretString};

use super::{OperatorConfig, OperatorError, tls};
use crate::flows::ports::Asker;

const OPERATORS_SETTING: &str = "operator.token_file";
const PARTNERS_SETTING: &str = "operator.partner_tokens";

/// The tokens that are known now. Clones share them.
#[derive(Clone)]
pub(super) struct CurrentTokens(Arc<RwLock<Arc<Tokens>>>);

impl CurrentTokens {
    pub(super) fn of(tokens: Tokens) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(tokens))))
    }

    pub(super) fn get(&self) -> Arc<Tokens> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, new: Tokens) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }
}

/// The tokens that are known. Digests have one length, so the time of a comparison tells nothing of a token's.
pub(super) struct Tokens {
    operators: Option<[u8; 32]>,
    partners: Vec<(String, [u8; 32])>,
}

impl Tokens {
    /// Reads the files that `config` names. No two may hold the same token: nobody could tell who asks.
    pub(super) fn read(config: &OperatorConfig) -> Result<Self, OperatorError> {
        let read = |setting, path: &Path| tls::token(setting, path).map(|token| digest(&token));
        let operators = config.token_file.as_deref();
        let operators = operators
            .map(|path| read(OPERATORS_SETTING, path))
            .transpose()?;
        let mut partners: Vec<(String, [u8; 32])> = Vec::new();
        for token in &config.partner_tokens {
            let known = read(PARTNERS_SETTING, &token.file)?;
            let mut all = partners.iter().map(|(_, other)| other).chain(&operators);
            if all.any(|other| *other == known) {
                return Err(OperatorError::SharedToken {
                    path: token.file.clone(),
                });
            }
            partners.push((token.partner.clone(), known));
        }
        Ok(Self {
            operators,
            partners,
        })
    }

    /// Whether the measures may be shown: to whoever has the operators' token, or to everybody where there is none.
    pub(super) fn may_measure(&self, request: &HttpRequest) -> bool {
        let Some(operators) = &self.operators else {
            return true;
        };
        given(request).is_some_and(|given| memcmp::eq(&given, operators))
    }

    /// Who asks, by the token that came with the request. Exchanges name people: without a token nobody sees them.
    pub(super) fn asker(&self, request: &HttpRequest) -> Option<Asker> {
        let given = given(request)?;
        let address: Option<IpAddr> = request.peer_addr().map(|peer| peer.ip());
        let is_it = |known: &[u8; 32]| memcmp::eq(&given, known);
        if self.operators.as_ref().is_some_and(is_it) {
            return Some(Asker::TokenOperator { address });
        }
        let mut partners = self.partners.iter();
        let (name, _) = partners.find(|(_, known)| is_it(known))?;
        Some(Asker::Partner {
            name: name.clone(),
            address,
        })
    }
}

fn given(request: &HttpRequest) -> Option<[u8; 32]> {
    let value = request.headers().get(header::AUTHORIZATION)?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    is_bearer.then(|| sha256(token.trim().as_bytes()))
}

fn digest(token: &SecretString) -> [u8; 32] {
    sha256(token.expose_secret().as_bytes())
}
