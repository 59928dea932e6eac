//! The parameter sets a key set can be made for.
//!
//! Sources: the production set is tfhe's `V1_8_META_PARAM_CPU_2_2_KS_PBS_PKE_TO_SMALL_ZKV2_TUNIFORM_2M128` (128 bits of
//! security, failure probability below 2^-128), the one existing clients of the public protocol encrypt for (section 5.1). Clients of the 0.6
//! generation know only the first scheme of proofs, whose set is `V1_8_META_PARAM_CPU_2_2_KS_PBS_PKE_TO_SMALL_ZKV1_TUNIFORM_2M128`.

mod description;

use cipherloom_primitives::input::MAX_INPUT_BITS;
use tfhe::{
    Config, ConfigBuilder,
    core_crypto::prelude::{CiphertextModulus, LweCiphertext, LweCiphertextCount, LweSize},
    shortint::{
        AtomicPatternParameters, CarryModulus, Ciphertext, MessageModulus, ShortintParameterSet,
        parameters::{
            AtomicPatternKind, CompactPublicKeyEncryptionParameters, CompressionParameters, Degree, NoiseLevel, ReRandomizationParameters,
            ShortintKeySwitchingParameters, SupportedCompactPkeZkScheme,
            meta::MetaParameters,
            noise_squashing::MetaNoiseSquashingParameters,
            v1_8::meta::cpu::{
                V1_8_META_PARAM_CPU_2_2_KS_PBS_PKE_TO_SMALL_ZKV1_TUNIFORM_2M128,
                V1_8_META_PARAM_CPU_2_2_KS_PBS_PKE_TO_SMALL_ZKV2_TUNIFORM_2M128,
            },
        },
    },
    zk::{CompactPkeCrs, CompactPkeCrsConformanceParams, CompactPkeZkScheme, new_compact_pke_crs_conformance_params},
};

pub use self::description::{KeyDescription, ParameterDescription};
use crate::{
    backend::BackendKind,
    error::FheError,
    keys::KeySetId,
    stored::{PackedShape, StoredFormat},
};

/// The most bytes accepted as a reference string: nearly twice the largest of any parameter set.
const MAX_CRS_BYTES: u64 = 1 << 23;
/// The same where proofs are of the first scheme, whose reference strings are ten times as long.
pub(crate) const MAX_CRS_BYTES_0_6: u64 = 1 << 26;

/// The cryptographic parameters of a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParameterSet {
    /// 128 bits of security and a failure probability below 2^-128 per bootstrap.
    Production,
    /// The same parameters for key sets that GPUs compute on. Their results have other bytes, so a key set is made for one or the other.
    ProductionGpu,
    /// As strong, with the public key, the reference string and the proofs of clients of the 0.6 generation (`fhevmjs`). Only for them: a proof
    /// takes about a minute of CPU to check.
    Production06,
    /// No encryption at all: the parameter set of the clear backend.
    InsecureClear,
    /// Real TFHE on parameters without any security, on which a bootstrap takes about 10 µs. For tests.
    #[cfg(feature = "insecure-toy-parameters")]
    InsecureToy,
}

/// What one encrypted block looks like; every ciphertext of a key set has the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BlockShape {
    pub(crate) lwe_size: LweSize,
    pub(crate) ciphertext_modulus: CiphertextModulus<u64>,
    pub(crate) message_modulus: MessageModulus,
    pub(crate) carry_modulus: CarryModulus,
    pub(crate) atomic_pattern: AtomicPatternKind,
}

impl BlockShape {
    /// Makes a block of mask and body.
    pub(crate) fn block(&self, words: Vec<u64>, degree: u8, noise: NoiseLevel) -> Ciphertext {
        Ciphertext::new(
            LweCiphertext::from_container(words, self.ciphertext_modulus),
            Degree::new(degree.into()),
            noise,
            self.message_modulus,
            self.carry_modulus,
            self.atomic_pattern,
        )
    }
}

/// The parameters of a set on the CPU backend.
#[derive(Clone, Copy)]
pub(crate) struct CpuParameters {
    meta: MetaParameters,
    /// Public-key encryption of inputs, on parameters of its own.
    pub(crate) public_key: CompactPublicKeyEncryptionParameters,
    /// The key switch from those to the parameters of the computation.
    casting: ShortintKeySwitchingParameters,
    /// The packed form of ciphertexts.
    compression: CompressionParameters,
}

impl ParameterSet {
    /// Every set this build knows.
    pub const ALL: &'static [Self] = &[
        Self::Production,
        Self::ProductionGpu,
        Self::Production06,
        Self::InsecureClear,
        #[cfg(feature = "insecure-toy-parameters")]
        Self::InsecureToy,
    ];

    /// Returns the name that key-set manifests use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Production => "tfhe-1.8-2-2-tuniform-2m128",
            Self::ProductionGpu => "tfhe-1.8-2-2-tuniform-2m128-gpu",
            Self::Production06 => "tfhe-1.8-2-2-tuniform-2m128-zkv1",
            Self::InsecureClear => "insecure-clear",
            #[cfg(feature = "insecure-toy-parameters")]
            Self::InsecureToy => "insecure-toy",
        }
    }

    /// Finds the set with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|set| set.name() == name)
    }

    /// Says which backend computes on key sets of these parameters.
    #[must_use]
    pub const fn backend(self) -> BackendKind {
        match self {
            Self::InsecureClear => BackendKind::Clear,
            Self::ProductionGpu => BackendKind::Gpu,
            _ => BackendKind::Cpu,
        }
    }

    /// Says whether key sets of these parameters can have noise squashing, which threshold decryption needs.
    #[must_use]
    pub fn can_squash_noise(self) -> bool {
        let squashing = self.cpu().and_then(|cpu| cpu.squashing());
        self.backend() == BackendKind::Cpu && squashing.is_some_and(|squashing| squashing.compression_parameters.is_some())
    }

    /// Says whether the set gives any security.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Production | Self::ProductionGpu | Self::Production06)
    }

    /// Returns the CPU backend's parameters; `None` for the clear backend.
    pub(crate) fn cpu(self) -> Option<CpuParameters> {
        match self {
            Self::Production | Self::ProductionGpu => CpuParameters::new(V1_8_META_PARAM_CPU_2_2_KS_PBS_PKE_TO_SMALL_ZKV2_TUNIFORM_2M128),
            Self::Production06 => CpuParameters::new(V1_8_META_PARAM_CPU_2_2_KS_PBS_PKE_TO_SMALL_ZKV1_TUNIFORM_2M128),
            Self::InsecureClear => None,
            #[cfg(feature = "insecure-toy-parameters")]
            Self::InsecureToy => CpuParameters::new(insecure_toy()),
        }
    }

    /// Finds the CPU set whose inputs are encrypted with these parameters.
    pub(crate) fn for_public_key(parameters: CompactPublicKeyEncryptionParameters) -> Option<(Self, CpuParameters)> {
        let cpu = |set: &Self| set.cpu().map(|cpu| (*set, cpu));
        Self::ALL.iter().filter_map(cpu).find(|(_, cpu)| cpu.public_key == parameters)
    }
}

impl std::fmt::Display for ParameterSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl CpuParameters {
    fn new(meta: MetaParameters) -> Option<Self> {
        let dedicated = meta.dedicated_compact_public_key_parameters?;
        Some(Self {
            meta,
            public_key: dedicated.pke_params,
            casting: dedicated.ksk_params,
            compression: meta.compression_parameters?,
        })
    }

    /// What the evaluation key holds: computation, inputs, randomness, re-randomisation, packing. It leaves out noise squashing with
    /// its compression, and transciphering, which together would make it five times as large.
    pub(crate) fn evaluation_config(&self) -> Config {
        ConfigBuilder::with_custom_parameters(self.meta.compute_parameters)
            .use_dedicated_compact_public_key_parameters((self.public_key, self.casting))
            .use_dedicated_oprf_key(true)
            .enable_ciphertext_re_randomization(ReRandomizationParameters::DerivedCPKWithoutKeySwitch)
            .enable_compression(self.compression)
            .build()
    }

    /// Returns the parameters of noise squashing, for which a key set needs keys besides the evaluation key.
    pub(crate) const fn squashing(&self) -> Option<MetaNoiseSquashingParameters> {
        self.meta.noise_squashing_parameters
    }

    /// Returns the parameters of the computation.
    pub(crate) const fn compute(&self) -> AtomicPatternParameters {
        self.meta.compute_parameters
    }

    /// Returns the shape of packed ciphertexts.
    fn packed_shape(&self) -> PackedShape {
        PackedShape {
            glwe_dimension: self.compression.packing_ks_glwe_dimension().0,
            polynomial_size: self.compression.packing_ks_polynomial_size().0,
            coefficient_bits: self.compression.storage_log_modulus().0,
        }
    }

    /// Returns the shape of encrypted blocks.
    fn block_shape(&self) -> BlockShape {
        let compute: AtomicPatternParameters = self.meta.compute_parameters;
        BlockShape {
            lwe_size: ShortintParameterSet::from(compute).encryption_lwe_dimension().to_lwe_size(),
            ciphertext_modulus: compute.ciphertext_modulus(),
            message_modulus: compute.message_modulus(),
            carry_modulus: compute.carry_modulus(),
            atomic_pattern: compute.atomic_pattern(),
        }
    }

    /// Says how ciphertexts of a key set are stored.
    pub(crate) fn stored_format(&self, key_set: KeySetId) -> StoredFormat {
        StoredFormat {
            shape: self.block_shape(),
            packed: self.packed_shape(),
            key_set,
        }
    }

    /// Generates the reference string for proofs over up to [`MAX_INPUT_BITS`] bits: most of the time of a key generation.
    pub(crate) fn generate_crs(&self) -> Result<CompactPkeCrs, FheError> {
        CompactPkeCrs::from_config(self.evaluation_config(), MAX_INPUT_BITS as usize).map_err(|e| FheError::key("CRS", e))
    }

    /// Says whether inputs come from clients of the 0.6 generation, which know only the first scheme of proofs.
    pub(crate) fn is_for_generation_0_6(&self) -> bool {
        self.public_key.zk_scheme == SupportedCompactPkeZkScheme::V1
    }

    /// The most bytes a reference string has.
    pub(crate) fn max_crs_bytes(&self) -> u64 {
        if self.is_for_generation_0_6() {
            MAX_CRS_BYTES_0_6
        } else {
            MAX_CRS_BYTES
        }
    }

    /// What a reference string of these parameters must look like.
    pub(crate) fn crs_conformance(&self) -> Result<CompactPkeCrsConformanceParams, FheError> {
        if !self.is_for_generation_0_6() {
            return new_compact_pke_crs_conformance_params(self.public_key, self.crs_messages()).map_err(|e| FheError::key("CRS", e));
        }
        // The function above knows the second scheme only, whose bound of the noise is another one.
        let key = &self.public_key;
        let (dimension, messages, noise, ciphertext_modulus, plaintext_modulus) = CompactPkeCrs::prepare_crs_parameters(
            key.encryption_lwe_dimension,
            self.crs_messages(),
            key.encryption_noise_distribution,
            key.ciphertext_modulus,
            // One bit more than message and carry: the padding.
            2 * key.message_modulus.0 * key.carry_modulus.0,
            CompactPkeZkScheme::V1,
        )
        .map_err(|e| FheError::key("CRS", e))?;
        Ok(CompactPkeCrsConformanceParams::new(
            dimension.0,
            messages.0,
            noise,
            ciphertext_modulus,
            plaintext_modulus,
            1,
        ))
    }

    /// How many packed blocks a proof covers at most.
    pub(crate) fn crs_messages(&self) -> LweCiphertextCount {
        let bits_per_message = (self.public_key.message_modulus.0 * self.public_key.carry_modulus.0).ilog2();
        LweCiphertextCount(MAX_INPUT_BITS.div_ceil(bits_per_message) as usize)
    }
}

/// The production set shrunk until nothing is left of its security, with the same structure: same block size, same kinds of
/// keys, same proof scheme, so that the same code runs.
#[cfg(feature = "insecure-toy-parameters")]
fn insecure_toy() -> MetaParameters {
    use tfhe::{
        core_crypto::prelude::{
            CiphertextModulusLog, DecompositionBaseLog, DecompositionLevelCount, DynamicDistribution, GlweDimension, LweDimension,
            PolynomialSize,
        },
        shortint::{
            PBSParameters,
            parameters::{
                ClassicPBSParameters, ModulusSwitchType,
                list_compression::ClassicCompressionParameters,
                meta::DedicatedCompactPublicKeyParameters,
                noise_squashing::{NoiseSquashingClassicParameters, NoiseSquashingCompressionParameters, NoiseSquashingParameters},
                v1_8::{
                    V1_8_PARAM_KEYSWITCH_PKE_TO_SMALL_MESSAGE_2_CARRY_2_KS_PBS_TUNIFORM_2M128_ZKV2,
                    V1_8_PARAM_MESSAGE_2_CARRY_2_KS_PBS_TUNIFORM_2M128,
                    V1_8_PARAM_PKE_TO_SMALL_MESSAGE_2_CARRY_2_KS_PBS_TUNIFORM_2M128_ZKV2,
                },
            },
        },
    };

    let compute = ClassicPBSParameters {
        lwe_dimension: LweDimension(4),
        polynomial_size: PolynomialSize(256),
        lwe_noise_distribution: DynamicDistribution::new_t_uniform(0),
        glwe_noise_distribution: DynamicDistribution::new_t_uniform(0),
        pbs_base_log: DecompositionBaseLog(24),
        pbs_level: DecompositionLevelCount(1),
        ks_base_log: DecompositionBaseLog(37),
        ks_level: DecompositionLevelCount(1),
        ..V1_8_PARAM_MESSAGE_2_CARRY_2_KS_PBS_TUNIFORM_2M128
    };
    let compression = ClassicCompressionParameters {
        br_level: DecompositionLevelCount(1),
        br_base_log: DecompositionBaseLog(24),
        packing_ks_level: DecompositionLevelCount(1),
        packing_ks_base_log: DecompositionBaseLog(24),
        // A value has up to 128 blocks, which must not be more than a polynomial has coefficients.
        packing_ks_polynomial_size: PolynomialSize(128),
        packing_ks_glwe_dimension: GlweDimension(1),
        lwe_per_glwe: LweCiphertextCount(128),
        storage_log_modulus: CiphertextModulusLog(9),
        packing_ks_key_noise_distribution: DynamicDistribution::new_t_uniform(0),
    };
    let squashing = NoiseSquashingParameters::Classic(NoiseSquashingClassicParameters {
        glwe_dimension: GlweDimension(1),
        polynomial_size: PolynomialSize(256),
        glwe_noise_distribution: DynamicDistribution::new_t_uniform(30),
        decomp_base_log: DecompositionBaseLog(24),
        decomp_level_count: DecompositionLevelCount(3),
        modulus_switch_noise_reduction_params: ModulusSwitchType::CenteredMeanNoiseReduction,
        message_modulus: compute.message_modulus,
        carry_modulus: compute.carry_modulus,
        ciphertext_modulus: CiphertextModulus::new_native(),
    });
    let squashed_lists = NoiseSquashingCompressionParameters {
        packing_ks_level: DecompositionLevelCount(2),
        packing_ks_base_log: DecompositionBaseLog(41),
        packing_ks_polynomial_size: PolynomialSize(128),
        packing_ks_glwe_dimension: GlweDimension(1),
        lwe_per_glwe: LweCiphertextCount(128),
        packing_ks_key_noise_distribution: DynamicDistribution::new_t_uniform(3),
        ciphertext_modulus: CiphertextModulus::new_native(),
        message_modulus: compute.message_modulus,
        carry_modulus: compute.carry_modulus,
    };
    MetaParameters {
        compute_parameters: AtomicPatternParameters::Standard(PBSParameters::PBS(compute)),
        dedicated_compact_public_key_parameters: Some(DedicatedCompactPublicKeyParameters {
            pke_params: CompactPublicKeyEncryptionParameters {
                // A proof over 2048 bits has 512 messages, which must not be more than the dimension.
                encryption_lwe_dimension: LweDimension(512),
                encryption_noise_distribution: DynamicDistribution::new_t_uniform(0),
                ..V1_8_PARAM_PKE_TO_SMALL_MESSAGE_2_CARRY_2_KS_PBS_TUNIFORM_2M128_ZKV2
            },
            ksk_params: ShortintKeySwitchingParameters {
                ks_base_log: DecompositionBaseLog(37),
                ks_level: DecompositionLevelCount(1),
                ..V1_8_PARAM_KEYSWITCH_PKE_TO_SMALL_MESSAGE_2_CARRY_2_KS_PBS_TUNIFORM_2M128_ZKV2
            },
            re_randomization_parameters: None,
        }),
        compression_parameters: Some(CompressionParameters::Classic(compression)),
        noise_squashing_parameters: Some(MetaNoiseSquashingParameters {
            parameters: squashing,
            compression_parameters: Some(squashed_lists),
        }),
        transciphering_parameters: None,
        ..V1_8_META_PARAM_CPU_2_2_KS_PBS_PKE_TO_SMALL_ZKV2_TUNIFORM_2M128
    }
}
