//! Fetching the public key and the reference string.

use std::sync::Arc;

use cipherloom_fhe::{EncryptInputs, encryptor_for_key_set, encryptor_from_bytes, parameters_of_public_key};

use crate::{
    Client, Encryptor,
    config::KeyTrust,
    error::ClientError,
    wire::{KeyUrl, Located},
};

/// The reference string's entry: for lists of up to this many bits.
const CRS_BITS: &str = "2048";
const WHAT: &str = "keyurl";

impl Client {
    /// Returns what inputs are encrypted with, fetched once per client.
    pub(crate) async fn encryptor(&self) -> Result<&Encryptor, ClientError> {
        self.shared.encryptor.get_or_try_init(|| self.fetch_encryptor()).await
    }

    async fn fetch_encryptor(&self) -> Result<Encryptor, ClientError> {
        let gateway = &self.shared.gateway;
        let KeyUrl { response } = gateway.json(WHAT, "v2/keyurl").await?;
        let [info] = response.fhe_key_info.as_slice() else {
            return Err(malformed("it does not name exactly one public key"));
        };
        let crs = response
            .crs
            .get(CRS_BITS)
            .ok_or_else(|| malformed("it names no reference string for 2048 bits"))?;
        let public_key = gateway.download("public key", first_url(&info.fhe_public_key)?).await?;
        let crs = gateway.download("reference string", first_url(crs)?).await?;
        let trust = self.config().key_trust;
        // Reading and checking megabytes of group elements takes a while.
        let encrypt = tokio::task::spawn_blocking(move || trusted_encryptor(trust, &public_key, &crs))
            .await
            .map_err(|_| ClientError::Task)??;
        Ok(Encryptor {
            public_key_id: info.fhe_public_key.data_id.clone(),
            encrypt: Arc::from(encrypt),
        })
    }
}

fn trusted_encryptor(trust: KeyTrust, public_key: &[u8], crs: &[u8]) -> Result<Box<dyn EncryptInputs>, ClientError> {
    match trust {
        KeyTrust::KeySet(id) => Ok(encryptor_for_key_set(id, public_key, crs)?),
        KeyTrust::InsecureAny => Ok(encryptor_from_bytes(public_key, crs)?),
        KeyTrust::AnySecure => {
            let parameters = parameters_of_public_key(public_key)?;
            if parameters.is_secure() {
                Ok(encryptor_from_bytes(public_key, crs)?)
            } else {
                Err(ClientError::InsecureKey(parameters.name()))
            }
        }
    }
}

fn first_url(file: &Located) -> Result<&str, ClientError> {
    file.urls.first().map(String::as_str).ok_or_else(|| malformed("a file has no URL"))
}

fn malformed(reason: &str) -> ClientError {
    ClientError::Malformed {
        what: WHAT,
        reason: reason.to_owned(),
    }
}
