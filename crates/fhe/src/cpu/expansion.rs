//! The expansion of input lists: from blocks under the key of public-key encryption to ciphertexts of the computation.
//!
//! A list carries two blocks of two bits in every LWE ciphertext. Each is switched to the computation's small key, and looked up twice: for
//! its low and for its high half. These are the bootstraps of tfhe-rs's own expansion, with its bits, and they are spent only on the values asked
//! for. The lookup of an `ebool` makes every value but 0 a 1, because a proof bounds blocks and not booleans.

use cipherloom_primitives::FheType;
use tfhe::{
    core_crypto::prelude::{
        CiphertextModulus, ContiguousEntityContainer, LweCiphertext, LweCiphertextList, LweCiphertextListOwned,
        expand_lwe_compact_ciphertext_list, keyswitch_lwe_ciphertext,
    },
    integer::ProvenCompactCiphertextList,
    shortint::{atomic_pattern::AtomicPatternServerKey, parameters::NoiseLevel},
};

use super::lookups::{Lookup, LookupKey};
use crate::{
    ciphertext::Ciphertext,
    error::FheError,
    input::malformed,
    keys::EvaluationKeys,
    stored::{block_count, from_blocks},
};

/// How many blocks an LWE ciphertext of a list carries.
const BLOCKS_PER_CIPHERTEXT: usize = 2;

/// For the 16 values of a pair of digits, low one first: what a lookup gives.
type Table = [u8; 16];

const LOW_DIGIT: Table = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3];
const HIGH_DIGIT: Table = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3];
const LOW_IS_NOT_0: Table = [0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1];
const HIGH_IS_NOT_0: Table = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];

/// Expands the values at these positions of a list, or all.
pub(super) fn expand(keys: &EvaluationKeys, list: &[u8], positions: Option<&[u8]>) -> Result<Vec<Ciphertext>, FheError> {
    let (list, types) = keys.input.read_list(list)?;
    let places = places(&types);
    let wanted: Vec<Place> = match positions {
        None => places,
        Some(positions) => positions
            .iter()
            .map(|position| {
                let place = places.get(usize::from(*position)).copied();
                place.ok_or_else(|| FheError::no_input_at(*position, places.len()))
            })
            .collect::<Result<_, _>>()?,
    };
    let pairs = Pairs::of(list)?;
    let mut jobs: Vec<Lookup<'_>> = Vec::new();
    let mut last = None;
    for (ty, block) in wanted.iter().flat_map(Place::blocks) {
        let pair = block / BLOCKS_PER_CIPHERTEXT;
        // Both halves of a pair usually belong to one value.
        let switched = match jobs.last() {
            Some(job) if last == Some(pair) => job.block.clone(),
            _ => pairs.switched(keys, pair)?,
        };
        last = Some(pair);
        jobs.push(Lookup {
            block: switched,
            table: table(ty, block),
        });
    }
    let AtomicPatternServerKey::Standard(key) = &AsRef::<tfhe::shortint::ServerKey>::as_ref(&keys.integer).atomic_pattern else {
        return Err(FheError::key("evaluation key", "has another atomic pattern"));
    };
    let mut digits = LookupKey::of(&key.bootstrapping_key)?.look_up(&jobs).into_iter();
    let shape = &keys.stored.shape;
    let value = |place: &Place| {
        let degree = if place.ty == FheType::Bool { 1 } else { 3 };
        let words = digits.by_ref().take(block_count(place.ty));
        from_blocks(
            place.ty,
            words.map(|words| shape.block(words, degree, NoiseLevel::NOMINAL)).collect(),
        )
    };
    wanted.iter().map(value).collect()
}

/// Where a value is in a list.
#[derive(Clone, Copy)]
struct Place {
    ty: FheType,
    /// How many blocks there are before it.
    first_block: usize,
}

impl Place {
    fn blocks(&self) -> impl Iterator<Item = (FheType, usize)> + use<> {
        let Self { ty, first_block } = *self;
        (first_block..first_block + block_count(ty)).map(move |block| (ty, block))
    }
}

fn places(types: &[FheType]) -> Vec<Place> {
    let mut first_block = 0;
    let place = |ty: &FheType| {
        let place = Place { ty: *ty, first_block };
        first_block += block_count(*ty);
        place
    };
    types.iter().map(place).collect()
}

const fn table(ty: FheType, block: usize) -> &'static Table {
    match (matches!(ty, FheType::Bool), block.is_multiple_of(BLOCKS_PER_CIPHERTEXT)) {
        (false, true) => &LOW_DIGIT,
        (false, false) => &HIGH_DIGIT,
        (true, true) => &LOW_IS_NOT_0,
        (true, false) => &HIGH_IS_NOT_0,
    }
}

/// The pairs of blocks of a list, still under the key of public-key encryption.
struct Pairs(Vec<LweCiphertextListOwned<u64>>);

impl Pairs {
    fn of(list: ProvenCompactCiphertextList) -> Result<Self, FheError> {
        if !list.is_packed() || !list.needs_casting() {
            return Err(malformed("its blocks are not in pairs under the key of public-key encryption"));
        }
        let (lists, _) = list.into_raw_parts();
        let expand = |list| {
            let (compact, ..) = tfhe::shortint::ciphertext::CompactCiphertextList::into_raw_parts(list);
            let mut expanded = LweCiphertextList::new(0, compact.lwe_size(), compact.lwe_ciphertext_count(), compact.ciphertext_modulus());
            expand_lwe_compact_ciphertext_list(&mut expanded, &compact);
            expanded
        };
        Ok(Self(
            lists.into_raw_parts().into_iter().map(|(list, _proof)| expand(list)).collect(),
        ))
    }

    /// Switches a pair to the computation's small key.
    fn switched(&self, keys: &EvaluationKeys, mut index: usize) -> Result<Vec<u64>, FheError> {
        for list in &self.0 {
            let count = list.lwe_ciphertext_count().0;
            if index < count {
                let mut switched = LweCiphertext::new(0, keys.casting.output_lwe_size(), CiphertextModulus::new_native());
                keyswitch_lwe_ciphertext(&keys.casting, &list.get(index), &mut switched);
                return Ok(switched.into_container());
            }
            index -= count;
        }
        Err(malformed("it has fewer blocks than its types say"))
    }
}
