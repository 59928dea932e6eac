//! Asking for decryptions and checking the answers.

use cipherloom_primitives::{
    Address, Bytes, Handle, U256,
    decryption::{ClassicPermit, DecryptionPermit, PublicDecryptionRequest, RequestedValue},
    eip712::signed_extra_data,
};
use cipherloom_signcryption::AnswerContext;

use crate::{
    Client, EXTRA_DATA,
    error::ClientError,
    gateway::Operation,
    permit::Permit,
    plaintext::Plaintext,
    shares::Nodes,
    signatures,
    wire::{self, PublicResult, UserResult},
};

const PUBLIC: Operation = Operation {
    what: "public-decrypt",
    jobs: "v2/public-decrypt",
    synchronous: Some("v1/public-decrypt"),
};
const USER: Operation = Operation {
    what: "user-decrypt",
    jobs: "v2/user-decrypt",
    synchronous: Some("v1/user-decrypt"),
};
const DELEGATED: Operation = Operation {
    what: "delegated-user-decrypt",
    jobs: "v2/delegated-user-decrypt",
    synchronous: None,
};
const UNIFIED: Operation = Operation {
    what: "user-decrypt (version 3)",
    jobs: "v3/user-decrypt",
    synchronous: None,
};

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
    /// Asks for the plaintexts of handles that were made public: at most 2048 bits together, `ebool` counts 2.
    ///
    /// A value that is not computed yet is waited for. Dropping the future abandons the request.
    ///
    /// # Errors
    /// [`ClientError::Request`] if there are none or too many, [`ClientError::Server`] with label `not_allowed_on_host_acl` if a handle is
    /// not public, [`ClientError::Verification`] if the answer is not signed by enough registered KMS nodes, and the errors of the network.
    pub async fn public_decrypt(&self, handles: &[Handle]) -> Result<PublicDecryption, ClientError> {
        let (domains, what) = (&self.config().domains, PUBLIC.what);
        let request = PublicDecryptionRequest {
            handles: handles.to_vec(),
            extra_data: EXTRA_DATA.into(),
        };
        request.validate(domains.host_chain_id)?;
        let result: PublicResult = self.shared.gateway.job(PUBLIC, &wire::public_body(handles, &EXTRA_DATA)).await?;

        let malformed = |reason| ClientError::Malformed { what, reason };
        let words = wire::bytes("decryptedValue", &result.decrypted_value).map_err(malformed)?;
        if !wire::is_extra_data(result.extra_data.as_deref(), &EXTRA_DATA).map_err(malformed)? {
            return Err(malformed("it has other extra data than was sent".into()));
        }
        let digest = domains.public_decryption_digest(handles, &words, &EXTRA_DATA);
        let counted = signatures::verify(what, digest, &result.signatures, &self.shared.chain.kms_signers().await?)?;
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

    /// Asks for the plaintexts of handles, each with the contract it belongs to, under a permit. The values are the signer's, or those of the
    /// delegator if the permit names one; for values of several accounts there is [`Self::user_decrypt_of`].
    ///
    /// # Errors
    /// [`ClientError::Request`] if the permit does not cover a contract or there are too many handles, [`ClientError::Server`] with label
    /// `not_allowed_on_host_acl` if user, contract or delegation lack a permission on chain, [`ClientError::Signcryption`] if the answer is not
    /// from the registered KMS node for this request, [`ClientError::Shares`] if too few nodes of a registered committee agree on the values, and the errors of the network.
    pub async fn user_decrypt(&self, pairs: &[(Handle, Address)], permit: &Permit) -> Result<Vec<(Handle, Plaintext)>, ClientError> {
        let owner = permit.owner();
        let value = |(handle, contract_address): &(_, _)| RequestedValue {
            handle: *handle,
            contract_address: *contract_address,
            owner,
        };
        self.user_decrypt_of(&pairs.iter().map(value).collect::<Vec<_>>(), permit).await
    }

    /// Asks for the plaintexts of values that say whose they are. A unified permit is good for values of its signer and of everybody who has
    /// delegated reading to the signer, together in one request; a classic one for values of one account.
    ///
    /// # Errors
    /// As [`Self::user_decrypt`], and [`ClientError::MissingRoute`] or [`ClientError::Server`] with label `not_found` for a unified permit if the
    /// gateway knows no version 3.
    pub async fn user_decrypt_of(&self, values: &[RequestedValue], permit: &Permit) -> Result<Vec<(Handle, Plaintext)>, ClientError> {
        let domains = &self.config().domains;
        let request = permit.request(values.to_vec());
        // Whether the permit is valid now is for the KMS to say, by its clock.
        request.validate(domains.host_chain_id, request.permit.start_timestamp())?;
        let operation = match &request.permit {
            DecryptionPermit::Classic(ClassicPermit { delegator: None, .. }) => USER,
            DecryptionPermit::Classic(ClassicPermit { delegator: Some(_), .. }) => DELEGATED,
            DecryptionPermit::Unified(_) => UNIFIED,
        };
        let nodes = Nodes::registered(self.shared.chain.kms_signers().await?)?;
        let body = wire::user_body(&request, domains.host_chain_id);
        let result: UserResult = self.shared.gateway.job(operation, &body).await?;
        let malformed = |reason| ClientError::Malformed {
            what: operation.what,
            reason,
        };
        let handles = request.handles();
        let context = AnswerContext {
            domains,
            public_key: permit.keys().public_key(),
            user: request.user,
            extra_data: &EXTRA_DATA,
        };
        let values = nodes.open(operation.what, &context, &handles, result, permit.keys())?;
        let typed = handles
            .into_iter()
            .zip(values)
            .map(|(handle, value)| Some((handle, Plaintext::new(handle.fhe_type(), value)?)));
        typed
            .collect::<Option<_>>()
            .ok_or_else(|| malformed("a value does not fit its type".into()))
    }
}
