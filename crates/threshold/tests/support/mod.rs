//! What the tests and the cost table need: seeded randomness, synthetic ciphertexts, committees with shares.

use cipherloom_threshold::{
    Committee, ContextId, Dealing, EpochId, KeyDimensions, KeyId, KeyKind, Scope, SecretKeys, SquashedCiphertext, ValueShape, deal,
};
use rand_core::{TryCryptoRng, TryRng};
use shake::{ExtendableOutput, Shake256, Shake256Reader, Update, XofReader};

/// Reproducible randomness from a number.
pub(crate) struct Seeded(Shake256Reader);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        let mut hasher = Shake256::default();
        hasher.update(&seed.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read(&mut bytes);
        bytes
    }

    pub(crate) fn word(&mut self) -> u128 {
        u128::from_le_bytes(self.bytes())
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(u64::from_le_bytes(self.bytes()) % limit as u64).unwrap()
    }
}

impl TryRng for Seeded {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::from_le_bytes(self.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::from_le_bytes(self.bytes()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Seeded {}

/// The secrets of a key set.
pub(crate) struct Secrets {
    pub(crate) squashed: Vec<u128>,
    pub(crate) compressed: Vec<u128>,
}

impl Secrets {
    pub(crate) fn random(dimensions: KeyDimensions, rng: &mut Seeded) -> Self {
        let mut bits = |count| (0..count).map(|_| rng.word() & 1).collect();
        Self {
            squashed: bits(dimensions.squashed),
            compressed: bits(dimensions.compressed),
        }
    }

    pub(crate) fn of(&self, kind: KeyKind) -> &[u128] {
        match kind {
            KeyKind::Squashed => &self.squashed,
            KeyKind::Compressed => &self.compressed,
        }
    }

    pub(crate) fn borrowed(&self) -> SecretKeys<'_> {
        SecretKeys {
            squashed: &self.squashed,
            compressed: &self.compressed,
        }
    }

    /// Encrypts as noise squashing does: Delta = 2^123, two blocks per LWE ciphertext, noise in (-2^70, 2^70).
    pub(crate) fn encrypt(&self, kind: KeyKind, bits: u16, value: &[u8; 32], rng: &mut Seeded) -> SquashedCiphertext {
        let key = self.of(kind);
        let shape = ValueShape::new(bits).unwrap();
        let mut words = Vec::with_capacity(shape.lwe_count() * (key.len() + 1));
        for index in 0..shape.lwe_count() {
            let digit = u128::from(value[index / 2] >> (4 * (index % 2)) & 15);
            let noise = (rng.word() >> (128 - 71)).wrapping_sub(1 << 70);
            let mut body = (digit << 123).wrapping_add(noise);
            for bit in key {
                let number = rng.word();
                words.push(number);
                body = body.wrapping_add(number.wrapping_mul(*bit));
            }
            words.push(body);
        }
        SquashedCiphertext::new(kind, shape, key.len(), words).unwrap()
    }
}

/// Dimensions small enough for many runs.
pub(crate) const SMALL: KeyDimensions = KeyDimensions {
    squashed: 16,
    compressed: 24,
};

/// A scope with members of their own.
pub(crate) fn scope(parties: u8, threshold: u8, epoch: u8) -> Scope {
    Scope {
        key: KeyId([1; 32]),
        context: ContextId([2; 32]),
        epoch: EpochId([epoch; 32]),
        committee: Committee::new(threshold, (1..=parties).map(|member| [member; 32]).collect()).unwrap(),
    }
}

/// Deals the secrets to the parties of a scope.
pub(crate) fn dealing(scope: &Scope, secrets: &Secrets, rng: &mut Seeded) -> Dealing {
    deal(scope, secrets.borrowed(), rng).unwrap()
}

/// A random value of that many bits.
pub(crate) fn value(bits: u16, rng: &mut Seeded) -> [u8; 32] {
    let mut value: [u8; 32] = rng.bytes();
    for (index, byte) in value.iter_mut().enumerate() {
        let left = i32::from(bits) - 8 * i32::try_from(index).unwrap();
        if left < 8 {
            *byte &= u8::try_from((1u16 << left.max(0)) - 1).unwrap();
        }
    }
    value
}
