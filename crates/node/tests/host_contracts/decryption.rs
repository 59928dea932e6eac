//! Public decryptions: what the KMS must have signed, contexts, and the domains that SDKs read.

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    signers::local::PrivateKeySigner,
    sol_types::SolEventInterface,
};
use cipherloom_contracts::{
    bindings::{
        IProtocolConfig::KmsThresholds,
        InputVerifier, KMSVerifier,
        ProtocolConfig::{self, ProtocolConfigEvents},
    },
    development,
};
use cipherloom_primitives::{FheType, Handle, eip712::SigningDomains};

use crate::stage::{Revert, Stage, assert_reverts, sign};

const RESULT: &[u8] = b"the values, ABI-encoded";

fn handles() -> Vec<Handle> {
    [(1, FheType::Uint64), (2, FheType::Bool)]
        .map(|(seed, ty)| Handle::computed(B256::repeat_byte(seed), 31337, ty))
        .to_vec()
}

/// The highest byte of context identifiers is 7, that of epochs 8.
fn tagged(tag: u64, number: u64) -> U256 {
    (U256::from(tag) << 248) | U256::from(number)
}

fn extra_data(version: u8, words: &[U256]) -> Vec<u8> {
    let words = words.iter().flat_map(|word| word.to_be_bytes::<32>());
    std::iter::once(version).chain(words).collect()
}

fn proof(domains: &SigningDomains, keys: &[&PrivateKeySigner], result: &[u8], extra_data: &[u8]) -> Vec<u8> {
    let digest = domains.public_decryption_digest(&handles(), result, extra_data);
    let mut bytes = vec![u8::try_from(keys.len()).unwrap()];
    keys.iter().for_each(|key| bytes.extend_from_slice(&sign(key, digest)));
    bytes.extend_from_slice(extra_data);
    bytes
}

fn thresholds(public_decryption: u64, user_decryption: u64, mpc: u64) -> KmsThresholds {
    KmsThresholds {
        publicDecryption: U256::from(public_decryption),
        userDecryption: U256::from(user_decryption),
        mpc: U256::from(mpc),
    }
}

fn verify(stage: &Stage, proof: &[u8]) -> Result<bool, Revert> {
    let call = KMSVerifier::verifyDecryptionEIP712KMSSignaturesCall {
        handlesList: handles().iter().map(Handle::as_b256).collect(),
        decryptedResult: RESULT.into(),
        decryptionProof: proof.to_vec().into(),
    };
    stage.call(stage.user(0), stage.host.kms_verifier, &call)
}

#[test]
fn a_signed_decryption_is_accepted_with_every_version_of_extra_data() {
    let stage = Stage::new();
    let (domains, key) = (development::signing_domains(), &stage.kms[0]);
    let context = tagged(7, 1);
    for extra in [
        vec![],
        vec![0, 1, 2],
        extra_data(1, &[context]),
        extra_data(2, &[context, tagged(8, 1)]),
    ] {
        assert_eq!(
            verify(&stage, &proof(&domains, &[key], RESULT, &extra)),
            Ok(true),
            "extra data {extra:?}"
        );
    }
}

#[test]
fn forged_and_malformed_decryptions_revert() {
    let stage = Stage::new();
    let (domains, key) = (development::signing_domains(), &stage.kms[0]);
    let stranger = PrivateKeySigner::from_bytes(&B256::repeat_byte(9)).unwrap();
    let unknown = KMSVerifier::KMSInvalidSigner {
        invalidSigner: stranger.address(),
    };
    assert_reverts(verify(&stage, &proof(&domains, &[&stranger], RESULT, &[])), unknown);
    for forged in [
        proof(&domains, &[key], b"other values", &[]),
        proof(
            &SigningDomains {
                gateway_chain_id: 31337,
                ..domains
            },
            &[key],
            RESULT,
            &[],
        ),
        proof(
            &SigningDomains {
                decryption: stage.host.kms_verifier,
                ..domains
            },
            &[key],
            RESULT,
            &[],
        ),
        [proof(&domains, &[key], RESULT, &[]), vec![0]].concat(),
    ] {
        verify(&stage, &forged).unwrap_err().is_some::<KMSVerifier::KMSInvalidSigner>();
    }
    assert_reverts(verify(&stage, &[]), KMSVerifier::EmptyDecryptionProof {});
    assert_reverts(verify(&stage, &[0]), KMSVerifier::KMSZeroSignature {});
    let whole = proof(&domains, &[key], RESULT, &[]);
    for length in 1..whole.len() {
        assert_reverts(verify(&stage, &whole[..length]), KMSVerifier::DeserializingDecryptionProofFail {});
    }
}

#[test]
fn extra_data_must_fit_their_version() {
    let stage = Stage::new();
    let read = |extra: &[u8]| {
        let call = KMSVerifier::getContextSignersAndThresholdFromExtraDataCall {
            extraData: Bytes::copy_from_slice(extra),
        };
        stage.call(stage.user(0), stage.host.kms_verifier, &call)
    };
    let context = tagged(7, 1);
    for good in [vec![], vec![0], extra_data(1, &[context]), extra_data(2, &[context, tagged(8, 1)])] {
        let found = read(&good).unwrap();
        assert_eq!((found.signers, found.threshold), (vec![stage.kms[0].address()], U256::ONE));
    }
    for version in [3, 4, 255] {
        let unsupported = KMSVerifier::UnsupportedExtraDataVersion { version };
        assert_reverts(read(&extra_data(version, &[context])).map(|_| ()), unsupported);
    }
    for bad in [
        vec![1],
        extra_data(1, &[context, context]),
        extra_data(2, &[context]),
        vec![2; 64],
        vec![1; 34],
    ] {
        assert_reverts(read(&bad).map(|_| ()), KMSVerifier::DeserializingExtraDataFail {});
    }
    for context_id in [U256::ZERO, U256::ONE, tagged(7, 0), tagged(7, 2)] {
        assert_reverts(
            read(&extra_data(1, &[context_id])).map(|_| ()),
            KMSVerifier::InvalidKMSContext { contextId: context_id },
        );
    }
    let epoch_id = tagged(8, 2);
    assert_reverts(
        read(&extra_data(2, &[context, epoch_id])).map(|_| ()),
        KMSVerifier::InvalidKMSEpoch { epochId: epoch_id },
    );
}

#[test]
fn several_kms_nodes_must_reach_the_threshold() {
    let stage = Stage::with_signers(1, 4, 1);
    stage.administer(
        stage.host.protocol_config,
        &ProtocolConfig::setKmsThresholdsCall {
            thresholds: thresholds(3, 3, 1),
        },
    );
    let keys: Vec<&PrivateKeySigner> = stage.kms.iter().collect();
    let attempt = |which: &[usize]| {
        let signers: Vec<&PrivateKeySigner> = which.iter().map(|index| keys[*index]).collect();
        verify(&stage, &proof(&development::signing_domains(), &signers, RESULT, &[]))
    };
    assert_eq!(attempt(&[0, 1, 2]), Ok(true));
    assert_eq!(attempt(&[3, 1, 1, 0]), Ok(true));
    assert_eq!(attempt(&[0, 0, 1]), Ok(false), "too few different signers");
    let too_few = KMSVerifier::KMSSignatureThresholdNotReached {
        numSignatures: U256::from(2),
    };
    assert_reverts(attempt(&[0, 1]), too_few);
}

#[test]
fn a_former_context_is_accepted_until_it_is_destroyed() {
    let stage = Stage::new();
    let (verifier, config, domains) = (stage.host.kms_verifier, stage.host.protocol_config, development::signing_domains());
    let new_key = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
    let define = ProtocolConfig::defineNewKmsContextCall {
        signers: vec![new_key.address()],
        thresholds: thresholds(1, 1, 0),
    };
    let sender = stage.user(1);
    assert_reverts(stage.send(sender, config, &define), ProtocolConfig::NotHostOwner { sender });
    stage.administer(config, &define);

    let (old_context, new_context) = (tagged(7, 1), tagged(7, 2));
    assert_eq!(stage.read(verifier, &KMSVerifier::getCurrentKmsContextIdCall {}), new_context);
    assert_eq!(stage.read(verifier, &KMSVerifier::getKmsSignersCall {}), [new_key.address()]);
    let of = |id| stage.call(sender, verifier, &KMSVerifier::getSignersForKmsContextCall { contextId: id });
    assert_eq!(of(old_context), Ok(vec![stage.kms[0].address()]));

    let old_proof = proof(&domains, &[&stage.kms[0]], RESULT, &extra_data(1, &[old_context]));
    let old_epoch = proof(&domains, &[&stage.kms[0]], RESULT, &extra_data(2, &[old_context, tagged(8, 1)]));
    assert_eq!(verify(&stage, &proof(&domains, &[&new_key], RESULT, &[])), Ok(true));
    assert_eq!(verify(&stage, &old_proof), Ok(true));
    assert_eq!(verify(&stage, &old_epoch), Ok(true));
    let unversioned = proof(&domains, &[&stage.kms[0]], RESULT, &[]);
    verify(&stage, &unversioned).unwrap_err().is_some::<KMSVerifier::KMSInvalidSigner>();
    // An epoch belongs to one context.
    let mixed = proof(&domains, &[&stage.kms[0]], RESULT, &extra_data(2, &[old_context, tagged(8, 2)]));
    assert_reverts(verify(&stage, &mixed), KMSVerifier::InvalidKMSEpoch { epochId: tagged(8, 2) });

    let destroy = |id| stage.send(stage.owner(), config, &ProtocolConfig::destroyKmsContextCall { contextId: id });
    let current = ProtocolConfig::CurrentKmsContextCannotBeDestroyed { contextId: new_context };
    assert_reverts(destroy(new_context), current);
    let refused = stage.send(sender, config, &ProtocolConfig::destroyKmsContextCall { contextId: old_context });
    assert_reverts(refused, ProtocolConfig::NotHostOwner { sender });
    destroy(old_context).unwrap();
    let gone = || KMSVerifier::InvalidKMSContext { contextId: old_context };
    assert_reverts(verify(&stage, &old_proof), gone());
    assert_reverts(verify(&stage, &old_epoch), gone());
    assert_reverts(of(old_context), gone());
    assert_reverts(destroy(old_context), gone());
    let is_valid = |call: ProtocolConfig::isValidKmsEpochCall| stage.read(config, &call);
    assert!(!is_valid(ProtocolConfig::isValidKmsEpochCall { epochId: tagged(8, 1) }));
    assert!(is_valid(ProtocolConfig::isValidKmsEpochCall { epochId: tagged(8, 2) }));
}

#[test]
fn a_new_epoch_keeps_the_signers_and_former_ones_end_when_destroyed() {
    let stage = Stage::new();
    let (config, domains) = (stage.host.protocol_config, development::signing_domains());
    let sender = stage.user(1);
    let begin = ProtocolConfig::defineNewKmsEpochCall {};
    assert_reverts(stage.send(sender, config, &begin), ProtocolConfig::NotHostOwner { sender });
    let mined = stage.send(stage.owner(), config, &begin).unwrap();
    let event = ProtocolConfigEvents::decode_log(&mined.logs[0]).unwrap().data;
    let (context, first, second) = (tagged(7, 1), tagged(8, 1), tagged(8, 2));
    assert!(matches!(event, ProtocolConfigEvents::NewKmsEpoch(epoch) if (epoch.contextId, epoch.epochId) == (context, second)));
    for reader in [config, stage.host.kms_verifier] {
        let current = stage.read(reader, &ProtocolConfig::getCurrentKmsContextAndEpochCall {});
        assert_eq!((current.contextId, current.epochId), (context, second));
    }

    let signed_in = |epoch: U256| proof(&domains, &[&stage.kms[0]], RESULT, &extra_data(2, &[context, epoch]));
    assert_eq!(verify(&stage, &signed_in(first)), Ok(true));
    assert_eq!(verify(&stage, &signed_in(second)), Ok(true));
    let unknown = tagged(8, 3);
    assert_reverts(
        verify(&stage, &signed_in(unknown)),
        KMSVerifier::InvalidKMSEpoch { epochId: unknown },
    );

    let destroy = |from, id| stage.send(from, config, &ProtocolConfig::destroyKmsEpochCall { epochId: id });
    assert_reverts(destroy(sender, first), ProtocolConfig::NotHostOwner { sender });
    let owner = stage.owner();
    let current = ProtocolConfig::CurrentKmsEpochCannotBeDestroyed { epochId: second };
    assert_reverts(destroy(owner, second), current);
    assert_reverts(destroy(owner, unknown), ProtocolConfig::InvalidKMSEpoch { epochId: unknown });
    destroy(owner, first).unwrap();
    assert_reverts(destroy(owner, first), ProtocolConfig::InvalidKMSEpoch { epochId: first });
    assert_reverts(verify(&stage, &signed_in(first)), KMSVerifier::InvalidKMSEpoch { epochId: first });
    assert_eq!(verify(&stage, &signed_in(second)), Ok(true));
    let of_context = proof(&domains, &[&stage.kms[0]], RESULT, &extra_data(1, &[context]));
    assert_eq!(verify(&stage, &of_context), Ok(true), "an epoch's end is not its context's");
}

#[test]
fn thresholds_of_a_context_lie_within_its_signers() {
    let stage = Stage::with_signers(4, 4, 2);
    let (config, owner, context) = (stage.host.protocol_config, stage.owner(), tagged(7, 1));
    let set = |from, thresholds| stage.send(from, config, &ProtocolConfig::setKmsThresholdsCall { thresholds });
    let sender = stage.user(1);
    assert_reverts(set(sender, thresholds(1, 1, 0)), ProtocolConfig::NotHostOwner { sender });
    assert_reverts(set(owner, thresholds(0, 1, 0)), ProtocolConfig::ThresholdIsNull {});
    assert_reverts(set(owner, thresholds(5, 1, 0)), ProtocolConfig::ThresholdIsAboveNumberOfSigners {});
    for threshold in [0, 5] {
        let refused = set(owner, thresholds(1, threshold, 0));
        let threshold = U256::from(threshold);
        assert_reverts(refused, ProtocolConfig::InvalidUserDecryptionThreshold { threshold });
    }
    for threshold in [4, 5] {
        let refused = set(owner, thresholds(1, 1, threshold));
        let threshold = U256::from(threshold);
        assert_reverts(refused, ProtocolConfig::InvalidMpcThreshold { threshold });
    }
    set(owner, thresholds(4, 3, 1)).unwrap();
    let of = |id: U256| {
        (
            stage.read(
                config,
                &ProtocolConfig::getPublicDecryptionThresholdForContextCall { contextId: id },
            ),
            stage.read(config, &ProtocolConfig::getUserDecryptionThresholdForContextCall { contextId: id }),
            stage.read(config, &ProtocolConfig::getMpcThresholdForContextCall { contextId: id }),
        )
    };
    assert_eq!(of(context), (U256::from(4), U256::from(3), U256::from(1)));
    assert_eq!(
        stage.read(stage.host.kms_verifier, &KMSVerifier::getThresholdCall {}),
        U256::from(4)
    );

    let account = stage.kms[3].address();
    assert!(stage.read(config, &ProtocolConfig::isKmsSignerCall { account }));
    assert!(stage.read(
        config,
        &ProtocolConfig::isKmsSignerForContextCall {
            contextId: context,
            account
        }
    ));
    assert!(stage.read(stage.host.kms_verifier, &KMSVerifier::isSignerCall { account }));
    let account = stage.user(1);
    assert!(!stage.read(config, &ProtocolConfig::isKmsSignerCall { account }));
    let unknown = tagged(7, 2);
    assert!(!stage.read(config, &ProtocolConfig::isValidKmsContextCall { contextId: unknown }));
    let refused = stage.call(
        account,
        config,
        &ProtocolConfig::getMpcThresholdForContextCall { contextId: unknown },
    );
    assert_reverts(refused, ProtocolConfig::InvalidKMSContext { contextId: unknown });
}

#[test]
fn sdks_find_the_domains_signers_and_versions_they_expect() {
    let stage = Stage::new();
    let domain = stage.read(stage.host.kms_verifier, &KMSVerifier::eip712DomainCall {});
    assert_eq!(
        (domain.name.as_str(), domain.version.as_str(), domain.fields.0),
        ("Decryption", "1", [0x0f])
    );
    assert_eq!(domain.chainId, U256::from(development::GATEWAY_CHAIN_ID));
    assert_eq!(domain.verifyingContract, development::DECRYPTION);
    assert!(domain.salt.is_zero() && domain.extensions.is_empty());
    let domain = stage.read(stage.host.input_verifier, &InputVerifier::eip712DomainCall {});
    assert_eq!((domain.name.as_str(), domain.version.as_str()), ("InputVerification", "1"));
    assert_eq!(domain.chainId, U256::from(development::GATEWAY_CHAIN_ID));
    assert_eq!(domain.verifyingContract, development::INPUT_VERIFICATION);

    let kms = stage.host.kms_verifier;
    assert_eq!(stage.read(kms, &KMSVerifier::getThresholdCall {}), U256::ONE);
    assert_eq!(stage.read(kms, &KMSVerifier::getKmsSignersCall {}), [stage.kms[0].address()]);
    let current = stage.read(kms, &KMSVerifier::getCurrentKmsContextAndEpochCall {});
    assert_eq!((current.contextId, current.epochId), (tagged(7, 1), tagged(8, 1)));
    let config = stage.host.protocol_config;
    assert_eq!(stage.read(kms, &KMSVerifier::getProtocolConfigAddressCall {}), config);
    let current = stage.read(config, &ProtocolConfig::getCurrentKmsContextAndEpochCall {});
    assert_eq!((current.contextId, current.epochId), (tagged(7, 1), tagged(8, 1)));
    let signers = stage.read(
        config,
        &ProtocolConfig::getKmsSignersForContextCall {
            contextId: current.contextId,
        },
    );
    assert_eq!(signers, [stage.kms[0].address()]);
    let inputs = stage.host.input_verifier;
    assert_eq!(stage.read(inputs, &InputVerifier::getThresholdCall {}), U256::ONE);
    assert_eq!(
        stage.read(inputs, &InputVerifier::getCoprocessorSignersCall {}),
        [stage.coprocessors[0].address()]
    );
    assert_ne!(stage.coprocessors[0].address(), Address::ZERO);
}
