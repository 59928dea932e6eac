//! Re-randomisation: encryptions of zero, made with a public key from a seed, are added to a ciphertext's blocks.
//!
//! Afterwards mask and noise are fresh for whoever could have influenced them before, and the plaintext is the same. Public blocks are left
//! alone: they hide nothing, and stay as cheap to compute with as they were. The parameters count the added noise into that of a fresh
//! bootstrap, so a re-randomised block is still of nominal noise; `docs/fhe.md` shows that many times over it is, too.

use cipherloom_primitives::B256;
use tfhe::shortint::{Ciphertext as Block, ciphertext::ReRandomizationContext, parameters::NoiseLevel};

use crate::{
    ciphertext::Ciphertext,
    error::FheError,
    keys::EvaluationKeys,
    stored::{from_blocks, malformed},
};

/// Begins the hash that the generator's seed comes from.
const SEED_DOMAIN: [u8; 8] = *b"CLM_Rrnd";

/// Separates the generator of encryptions of zero from other uses of such seeds; tfhe-rs's own value.
const ENCRYPTION_DOMAIN: [u8; 8] = *b"TFHE_Enc";

/// Adds an encryption of zero to every secret block.
pub(super) fn rerandomise(keys: &EvaluationKeys, ciphertext: &mut Ciphertext, seed: &B256) -> Result<(), FheError> {
    let ty = ciphertext.ty;
    let blocks = keys.stored.clean_blocks(ciphertext)?;
    let is_secret = |block: &&Block| block.noise_level() != NoiseLevel::ZERO;
    let mut secret: Vec<Block> = blocks.iter().filter(is_secret).cloned().collect();
    if secret.is_empty() {
        return Ok(());
    }
    let mut context = ReRandomizationContext::new(SEED_DOMAIN, ENCRYPTION_DOMAIN);
    context.add_bytes(seed.as_slice());
    keys.randomising
        .re_randomize_ciphertexts(&mut secret, None, context.finalize().next_seed())
        .map_err(|error| malformed(ty, error.to_string()))?;
    let mut secret = secret.into_iter();
    let replaced = blocks
        .iter()
        .map(|block| {
            if is_secret(&block) {
                secret.next().unwrap_or_else(|| block.clone())
            } else {
                block.clone()
            }
        })
        .collect();
    *ciphertext = from_blocks(ty, replaced)?;
    Ok(())
}
