//! One bootstrap at a time, by tfhe-rs alone.

use tfhe::{
    core_crypto::prelude::LweCiphertext,
    shortint::{
        Ciphertext, ServerKey,
        parameters::{Degree, NoiseLevel},
    },
};

use super::SecretJob;
use crate::{
    blocks::{Block, BlockBounds, block::Content},
    keys::EvaluationKeys,
};

/// Looks one block up on this thread.
pub(super) fn bootstrap(keys: &EvaluationKeys, job: &SecretJob<'_>) -> Vec<Block> {
    let key: &ServerKey = keys.integer.as_ref();
    let shape = &keys.stored.shape;
    let input = Ciphertext::new(
        LweCiphertext::from_container(job.words.to_vec(), shape.ciphertext_modulus),
        Degree::new(job.table.max_input().into()),
        NoiseLevel::NOMINAL,
        shape.message_modulus,
        shape.carry_modulus,
        shape.atomic_pattern,
    );
    let functions: Vec<_> = job.table.functions().iter().map(|outputs| output_of(outputs)).collect();
    let results = match functions.as_slice() {
        [function] => vec![key.apply_lookup_table(&input, &key.generate_lookup_table(function))],
        functions => {
            let functions: Vec<&dyn Fn(u64) -> u64> = functions.iter().map(|function| function as &dyn Fn(u64) -> u64).collect();
            key.apply_many_lookup_table(&input, &key.generate_many_lookup_table(&functions))
        }
    };
    results.iter().map(block).collect()
}

/// Returns the function with these outputs.
fn output_of(outputs: &[u8]) -> impl Fn(u64) -> u64 {
    |input| {
        let input = usize::try_from(input).unwrap_or(usize::MAX);
        outputs.get(input).copied().unwrap_or_default().into()
    }
}

fn block(result: &Ciphertext) -> Block {
    let words: &[u64] = result.ct.as_ref();
    let degree = u8::try_from(result.degree.get()).unwrap_or(u8::MAX);
    Block::new(Content::Lwe(words.into()), BlockBounds::bootstrapped(degree))
}
