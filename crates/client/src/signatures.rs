//! Counting signatures of registered signers.

use cipherloom_chain::SignerSetOnChain;
use cipherloom_primitives::{Address, B256, Bytes, U256, eip712::recover_signer};

use crate::{error::ClientError, wire};

/// The most signatures looked at: a proof counts them in one byte.
const MAX_SIGNATURES: usize = 255;

/// Reads signatures and returns those that count: by registered signers, each once. There are at least as many as the threshold, and at least one.
pub(crate) fn verify(
    what: &'static str,
    digest: B256,
    signatures: &[String],
    registered: &SignerSetOnChain,
) -> Result<Vec<Bytes>, ClientError> {
    if signatures.len() > MAX_SIGNATURES {
        return Err(ClientError::Malformed {
            what,
            reason: format!("{} signatures", signatures.len()),
        });
    }
    let mut counted: Vec<(Address, Bytes)> = Vec::new();
    for text in signatures {
        let signature = wire::bytes("signature", text).map_err(|reason| ClientError::Malformed { what, reason })?;
        if let Some(signer) = recover_signer(digest, &signature)
            && registered.signers.contains(&signer)
            && counted.iter().all(|(known, _)| *known != signer)
        {
            counted.push((signer, signature.into()));
        }
    }
    if counted.is_empty() || U256::from(counted.len()) < registered.threshold {
        return Err(ClientError::Verification {
            what,
            reason: format!(
                "{} of {} required registered signers signed it",
                counted.len(),
                registered.threshold.max(U256::ONE)
            ),
        });
    }
    Ok(counted.into_iter().map(|(_, signature)| signature).collect())
}

/// Writes a proof: numbers, then what is counted, then the extra data.
pub(crate) fn proof(counts: &[u8], parts: impl Iterator<Item = Bytes>, extra_data: &[u8]) -> Bytes {
    let mut proof = counts.to_vec();
    parts.for_each(|part| proof.extend_from_slice(&part));
    proof.extend_from_slice(extra_data);
    proof.into()
}
