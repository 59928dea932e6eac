//! Asking for decryptions and checking the answers.

use cipherloom_primitives::{Address, Bytes, Handle, U256, decryption::PublicDecryptionRequest, eip712::signed_extra_data};
use cipherloom_signcryption::{AnswerContext, open};

use crate::{
    Client, EXTRA_DATA,
    error::ClientError,
    permit::Permit,
    plaintext::Plaintext,
    signatures,
    wire::{self, PublicResult, UserResult},
};

const PUBLIC: &str = "public-decrypt";
const USER: &str = "user-decrypt";
const DELEGATED: &str = "delegated-user-decrypt";

/// Published plaintexts, with what convinces contracts of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicDecryption {
    /// The plaintexts, in the order of the request.
    pub values: Vec<(Handle, Plaintext)>,
    /// The plaintexts as contracts decode them: one 32-byte word each.
    pub abi_encoded: Bytes,
    /// The `proof` argument of `FHE.checkSignatures`.
    pub proof: Bytes,
}

impl Client {
    /// Asks for the plaintexts of handles that were made public.
    ///
    /// # Errors
    /// [`ClientError::Request`] if there are none or too many, [`ClientError::Server`] with label `not_allowed_on_host_acl` if a handle is
    /// not public, [`ClientError::Verification`] if the answer is not signed by enough registered KMS nodes, and the errors of the network.
    pub async fn public_decrypt(&self, handles: &[Handle]) -> Result<PublicDecryption, ClientError> {
        let domains = &self.config().domains;
        let request = PublicDecryptionRequest {
            handles: handles.to_vec(),
            extra_data: EXTRA_DATA.into(),
        };
        request.validate(domains.host_chain_id)?;
        let result: PublicResult = self.shared.gateway.job(PUBLIC, &wire::public_body(handles, &EXTRA_DATA)).await?;

        let malformed = |reason| ClientError::Malformed { what: PUBLIC, reason };
        let words = wire::bytes("decryptedValue", &result.decrypted_value).map_err(malformed)?;
        if wire::bytes("extraData", &result.extra_data).map_err(malformed)? != EXTRA_DATA {
            return Err(malformed("it has other extra data than was sent".into()));
        }
        let digest = domains.public_decryption_digest(handles, &words, &EXTRA_DATA);
        let counted = signatures::verify(PUBLIC, digest, &result.signatures, &self.shared.chain.kms_signers().await?)?;
        let signature_count = u8::try_from(counted.len()).map_err(|_| malformed("too many signatures".into()))?;

        if words.len() != handles.len() * 32 {
            return Err(malformed(format!("{} bytes for {} values", words.len(), handles.len())));
        }
        let value = |(handle, word): (&Handle, &[u8])| {
            let plaintext = Plaintext::new(handle.fhe_type(), U256::try_from_be_slice(word)?)?;
            Some((*handle, plaintext))
        };
        let values = handles.iter().zip(words.chunks(32)).map(value).collect::<Option<_>>();
        Ok(PublicDecryption {
            values: values.ok_or_else(|| malformed("a value does not fit its type".into()))?,
            abi_encoded: words.into(),
            // The proof carries what was signed over, which for version 0 is nothing.
            proof: signatures::proof(&[signature_count], counted.into_iter(), signed_extra_data(&EXTRA_DATA)),
        })
    }

    /// Asks for the plaintexts of handles, each with the contract it belongs to, under a permit.
    ///
    /// # Errors
    /// [`ClientError::Request`] if the permit does not cover a contract or there are too many handles, [`ClientError::Server`] with label
    /// `not_allowed_on_host_acl` if user, contract or delegation lack a permission on chain, [`ClientError::Signcryption`] if the answer is not
    /// from the registered KMS node for this request, and the errors of the network.
    pub async fn user_decrypt(&self, pairs: &[(Handle, Address)], permit: &Permit) -> Result<Vec<(Handle, Plaintext)>, ClientError> {
        let domains = &self.config().domains;
        let request = permit.request(pairs);
        // Whether the permit is valid now is for the KMS to say, by its clock.
        request.validate(domains.host_chain_id, request.permit.start_timestamp())?;
        let what = if permit.terms().delegator.is_some() { DELEGATED } else { USER };
        let registered = self.shared.chain.kms_signers().await?;
        let [node] = registered.signers.as_slice() else {
            return Err(ClientError::ThresholdKms(registered.signers.len()));
        };
        let result: UserResult = self
            .shared
            .gateway
            .job(what, &wire::user_body(&request, domains.host_chain_id))
            .await?;
        let mut shares = result.result;
        let (Some(share), true) = (shares.pop(), shares.is_empty()) else {
            return Err(ClientError::Malformed {
                what,
                reason: "it does not hold exactly one answer".into(),
            });
        };
        let share = share.into_share().map_err(|reason| ClientError::Malformed { what, reason })?;
        let handles: Vec<Handle> = pairs.iter().map(|(handle, _)| *handle).collect();
        let context = AnswerContext {
            domains,
            public_key: permit.keys().public_key(),
            user: request.user,
            extra_data: &EXTRA_DATA,
        };
        let values = open(&context, &handles, &share, permit.keys(), *node)?;
        let typed = handles
            .into_iter()
            .zip(values)
            .map(|(handle, value)| Some((handle, Plaintext::new(handle.fhe_type(), value)?)));
        typed.collect::<Option<_>>().ok_or(ClientError::Malformed {
            what,
            reason: "a value does not fit its type".into(),
        })
    }
}
