//! Clients that are known by an API key: who they are, and what they may do.
//!
//! A key is sent as `x-api-key` or as `Authorization: Bearer`, as SDKs are configured. Only its SHA-256 digest is configured: generated
//! keys are 256 random bits, so that a digest tells nothing and a slow hash would only slow down every request.

use std::{collections::BTreeSet, fmt, str::FromStr};

use alloy_primitives::hex;
use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{config::RateLimit, error::GatewayError, requests::OperationKind};

/// The header in which SDKs send a key unless they are told another way.
const API_KEY: &str = "x-api-key";

/// The longest key that is looked at, in bytes.
const MAX_KEY_BYTES: usize = 512;

/// The longest name of a client, in characters.
const MAX_NAME_CHARACTERS: usize = 64;

/// A client that is known by its key.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What operators call it, in metrics and logs: 1 to 64 letters, digits, `-`, `_` and `.`, unique.
    pub name: String,
    /// The digest of its key.
    pub key: ApiKeyDigest,
    /// How often it may post, instead of [`crate::Config::rate_limit`].
    pub rate_limit: Option<RateLimit>,
    /// What it may ask for; everything without it. A client with an empty set can only read: poll jobs whose ids it knows.
    pub operations: Option<BTreeSet<Operation>>,
}

/// What a client may be allowed to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Verify encrypted inputs.
    InputProof,
    /// Decrypt values that were made public.
    PublicDecrypt,
    /// Decrypt values to a user's key, delegated or not.
    UserDecrypt,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 3] = [Self::InputProof, Self::PublicDecrypt, Self::UserDecrypt];

    /// Returns the name, as in the routes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InputProof => "input-proof",
            Self::PublicDecrypt => "public-decrypt",
            Self::UserDecrypt => "user-decrypt",
        }
    }
}

impl From<OperationKind> for Operation {
    fn from(kind: OperationKind) -> Self {
        match kind {
            OperationKind::InputProof => Self::InputProof,
            OperationKind::PublicDecrypt => Self::PublicDecrypt,
            // All others decrypt to a user's key.
            _ => Self::UserDecrypt,
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::as_str);
        Self::ALL
            .into_iter()
            .find(|operation| operation.as_str() == text)
            .ok_or_else(|| format!("{text:?} is none of the operations {}", known.join(", ")))
    }
}

/// The SHA-256 digest of an API key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ApiKeyDigest([u8; 32]);

impl ApiKeyDigest {
    /// Digests a key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

impl FromStr for ApiKeyDigest {
    type Err = String;

    /// Reads 64 hexadecimal digits, as `sha256sum` prints them.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).map_err(|_| "the SHA-256 digest of a key has 64 hexadecimal digits".to_owned())?;
        Ok(Self(digest))
    }
}

impl fmt::Display for ApiKeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ApiKeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A new API key. It is shown once, to whoever will use it.
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// Makes a key of random bytes.
    #[must_use]
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        const PREFIX: &str = "clk_";
        // Exactly as long as it gets, so that no copy is left behind.
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 64));
        text.push_str(PREFIX);
        for byte in bytes {
            for digit in [byte >> 4, byte & 0xf] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        Self(text)
    }

    /// Returns the text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns what the gateway is configured with.
    #[must_use]
    pub fn digest(&self) -> ApiKeyDigest {
        ApiKeyDigest::of(&self.0)
    }
}

/// The place of a client among the known ones.
pub(crate) type ClientIndex = usize;

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unauthorized {
    /// It has no key and needs one.
    Missing,
    /// Its key belongs to nobody.
    Unknown,
}

/// The known clients.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    known: Vec<ClientConfig>,
    required: bool,
}

impl Clients {
    /// Takes the configured clients.
    ///
    /// # Errors
    /// [`GatewayError::Clients`] if a name is unusable, or a name or key is there twice, or a key is required that nobody has.
    pub(crate) fn new(known: Vec<ClientConfig>, required: bool) -> Result<Self, GatewayError> {
        for (index, client) in known.iter().enumerate() {
            let characters = client.name.chars().count();
            let plain = client
                .name
                .chars()
                .all(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.'));
            if !(1..=MAX_NAME_CHARACTERS).contains(&characters) || !plain {
                return Err(GatewayError::Clients(format!(
                    "the name {:?} is not 1 to {MAX_NAME_CHARACTERS} letters, digits, '-', '_' or '.'",
                    client.name
                )));
            }
            let earlier = known.iter().take(index);
            if earlier.clone().any(|other| other.name == client.name) {
                return Err(GatewayError::Clients(format!("there are two clients {}", client.name)));
            }
            if earlier.clone().any(|other| other.key == client.key) {
                return Err(GatewayError::Clients(format!("{} has the key of another client", client.name)));
            }
        }
        if required && known.is_empty() {
            return Err(GatewayError::Clients("API keys are required, but no client has one".to_owned()));
        }
        Ok(Self { known, required })
    }

    /// Finds whose key a request has; nobody's if it has none and needs none.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Option<ClientIndex>, Unauthorized> {
        if self.known.is_empty() {
            // A page that is configured for a gateway with keys can be pointed to this one as it is.
            return Ok(None);
        }
        let Some(key) = presented(headers) else {
            return if self.required { Err(Unauthorized::Missing) } else { Ok(None) };
        };
        if key.len() > MAX_KEY_BYTES {
            return Err(Unauthorized::Unknown);
        }
        let digest = ApiKeyDigest(Sha256::digest(key).into());
        // All are compared, each in constant time, so that time does not tell how many there are before the right one.
        let found = self.known.iter().enumerate().fold(None, |found, (index, client)| {
            if bool::from(client.key.0.ct_eq(&digest.0)) {
                Some(index)
            } else {
                found
            }
        });
        found.map(Some).ok_or(Unauthorized::Unknown)
    }

    /// Returns a known client.
    pub(crate) fn get(&self, index: ClientIndex) -> Option<&ClientConfig> {
        self.known.get(index)
    }

    /// Lists the names, in the order of the indexes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|client| client.name.as_str())
    }
}

/// Returns the key that a request has, if any.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let api_key = headers.get(API_KEY).map(|value| value.as_bytes());
    let bearer = || {
        let value = headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, key) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    };
    api_key.or_else(bearer).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn client(name: &str, key: &str) -> ClientConfig {
        ClientConfig {
            name: name.to_owned(),
            key: ApiKeyDigest::of(key),
            rate_limit: None,
            operations: None,
        }
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn a_client_is_known_by_its_key_in_either_header() {
        let clients = Clients::new(vec![client("one", "first key"), client("two", "second key")], true).unwrap();
        assert_eq!(clients.identify(&headers("x-api-key", "second key")), Ok(Some(1)));
        assert_eq!(clients.identify(&headers("authorization", "Bearer first key")), Ok(Some(0)));
        assert_eq!(clients.identify(&headers("authorization", "bearer first key")), Ok(Some(0)));
        for wrong in ["first", "First key", "first key.", "Bearer first key"] {
            assert_eq!(
                clients.identify(&headers("x-api-key", wrong)),
                Err(Unauthorized::Unknown),
                "{wrong}"
            );
        }
        for none in [
            HeaderMap::new(),
            headers("authorization", "Basic first key"),
            headers("x-api-key", ""),
        ] {
            assert_eq!(clients.identify(&none), Err(Unauthorized::Missing));
        }
    }

    #[test]
    fn keys_are_optional_unless_required_but_never_wrong() {
        let clients = Clients::new(vec![client("one", "first key")], false).unwrap();
        assert_eq!(clients.identify(&HeaderMap::new()), Ok(None));
        assert_eq!(clients.identify(&headers("x-api-key", "wrong")), Err(Unauthorized::Unknown));
        let nobody = Clients::new(Vec::new(), false).unwrap();
        assert_eq!(nobody.identify(&headers("x-api-key", "any")), Ok(None));
    }

    #[test]
    fn clients_that_cannot_be_told_apart_are_refused() {
        for wrong in [
            vec![client("one", "a"), client("one", "b")],
            vec![client("one", "a"), client("two", "a")],
            vec![client("", "a")],
            vec![client("quote\"", "a")],
        ] {
            assert!(Clients::new(wrong, false).is_err());
        }
        assert!(Clients::new(Vec::new(), true).is_err());
    }

    #[test]
    fn a_new_key_is_known_by_the_digest_that_sha256sum_prints() {
        let key = ApiKey::from_random(&[0xab; 32]);
        assert_eq!(key.expose(), format!("clk_{}", "ab".repeat(32)));
        assert_eq!(key.digest().to_string().parse::<ApiKeyDigest>().unwrap(), key.digest());
        // printf abc | sha256sum
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(ApiKeyDigest::of("abc").to_string(), abc);
        assert!("ba78".parse::<ApiKeyDigest>().is_err());
    }
}
