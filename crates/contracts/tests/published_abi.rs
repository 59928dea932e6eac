//! The artifacts against the published ABI: every selector and event topic of the public protocol, sections 1.2 to 1.8.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail")]

use std::collections::BTreeMap;

use alloy_primitives::{B256, hex, keccak256};
use cipherloom_contracts::{HostContract, event_topic};
use cipherloom_primitives::operation::TABLE;
use serde_json::Value;

/// Everything callable and emitted, by canonical signature.
struct Interface {
    functions: BTreeMap<String, [u8; 4]>,
    events: BTreeMap<String, B256>,
    errors: Vec<String>,
    bytecode_bytes: usize,
}

fn artifact(name: &str) -> Interface {
    let path = format!("{}/../../contracts/artifacts/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut interface = Interface {
        functions: BTreeMap::new(),
        events: BTreeMap::new(),
        errors: Vec::new(),
        bytecode_bytes: json["deployedBytecode"].as_str().unwrap().len() / 2 - 1,
    };
    for item in json["abi"].as_array().unwrap().iter().filter(|item| item["name"].is_string()) {
        let signature = format!("{}{}", item["name"].as_str().unwrap(), parameters(&item["inputs"]));
        let hash = keccak256(signature.as_bytes());
        match item["type"].as_str().unwrap() {
            "function" => drop(interface.functions.insert(signature, [hash[0], hash[1], hash[2], hash[3]])),
            "event" => drop(interface.events.insert(signature, hash)),
            "error" => interface.errors.push(signature),
            other => panic!("unexpected ABI item {other}"),
        }
    }
    interface
}

fn parameters(inputs: &Value) -> String {
    let types: Vec<String> = inputs
        .as_array()
        .unwrap()
        .iter()
        .map(|input| match input["type"].as_str().unwrap().strip_prefix("tuple") {
            Some(array) => format!("{}{array}", parameters(&input["components"])),
            None => input["type"].as_str().unwrap().to_owned(),
        })
        .collect();
    format!("({})", types.join(","))
}

/// Checks lines of `name selector`; the name alone must be unique in the contract.
fn assert_selectors(contract: &str, published: &str) {
    let interface = artifact(contract);
    for line in published.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, selector) = line.split_once(' ').unwrap();
        let found: Vec<_> = interface
            .functions
            .iter()
            .filter(|(signature, _)| signature.split('(').next() == Some(name.split('(').next().unwrap()))
            .filter(|(signature, _)| !name.contains('(') || signature.as_str() == name)
            .collect();
        assert_eq!(found.len(), 1, "{contract}.{name}: {found:?}");
        assert_eq!(hex::encode(found[0].1), selector, "{contract}.{}", found[0].0);
    }
}

#[test]
fn the_executor_has_the_published_selectors() {
    assert_selectors(
        "FHEVMExecutor",
        "fheAdd(bytes32,bytes32,bytes1) 117b2f38
         fheSub(bytes32,bytes32,bytes1) 182b6d98
         fheMul(bytes32,bytes32,bytes1) 57f0a568
         fheDiv(bytes32,bytes32,bytes1) 5a53accb
         fheRem(bytes32,bytes32,bytes1) cf4d18aa
         fheBitAnd(bytes32,bytes32,bytes1) d99882d5
         fheBitOr(bytes32,bytes32,bytes1) 63a2db29
         fheBitXor(bytes32,bytes32,bytes1) 8b49ceb4
         fheShl(bytes32,bytes32,bytes1) ccc480a1
         fheShr(bytes32,bytes32,bytes1) 91f98ffe
         fheRotl(bytes32,bytes32,bytes1) 6754b360
         fheRotr(bytes32,bytes32,bytes1) c021329e
         fheEq(bytes32,bytes32,bytes1) f77f3f1d
         fheNe(bytes32,bytes32,bytes1) d8092cbc
         fheGe(bytes32,bytes32,bytes1) 1391547f
         fheGt(bytes32,bytes32,bytes1) 85362ee7
         fheLe(bytes32,bytes32,bytes1) 7513a404
         fheLt(bytes32,bytes32,bytes1) 72107681
         fheMin(bytes32,bytes32,bytes1) 04559f71
         fheMax(bytes32,bytes32,bytes1) 36318d64
         fheNeg(bytes32) d580c063
         fheNot(bytes32) f51ccfb0
         verifyInput(bytes32,address,bytes,uint8) 08bf832a
         cast(bytes32,uint8) 1c89ee44
         trivialEncrypt(uint256,uint8) 9cd07acb
         fheIfThenElse(bytes32,bytes32,bytes32) 7702dcff
         fheRand(uint8) d75d6e8a
         fheRandBounded(uint256,uint8) 48eef47e
         fheSum(bytes32[],uint8) 04a8d199
         fheIsIn(bytes32,bytes32[],uint8) 73729f60
         fheMulDiv(bytes32,bytes32,bytes32,bytes1) 94fdeb20
         getACLAddress f6859bdc
         getHCULimitAddress e0786972
         getInputVerifierAddress a8c7c2c1
         getHandleVersion 7a297f4b
         getVersion 0d8e6e2c",
    );
}

#[test]
fn the_acl_has_the_published_selectors() {
    assert_selectors(
        "ACL",
        "allow(bytes32,address) b9496b62
         allowForDecryption(bytes32[]) fadd2246
         allowTransient(bytes32,address) 3e395cec
         allowedTransient(bytes32,address) 74b79a5a
         isAllowed(bytes32,address) 82027b6d
         persistAllowed(bytes32,address) 1e2f86ba
         isAllowedForDecryption(bytes32) c0d02943
         cleanTransientStorage() 35334c23
         delegateForUserDecryption(address,address,uint64) 04f61a95
         revokeDelegationForUserDecryption(address,address) 669e6316
         getUserDecryptionDelegationExpirationDate(address,address,address) 3f462dbe
         isHandleDelegatedForUserDecryption(address,address,address,bytes32) d09c0dee
         isAccountDenied(address) 9edc01ec
         blockAccount(address) 7c0a893d
         unblockAccount(address) 4d78fdc6
         multicall(bytes[]) ac9650d8
         getFHEVMExecutorAddress 268d6d31
         getPauserSetAddress 2490fc9a
         getConfidentialBridgeAddress 57ad16cc
         invalidateDecryptionSignaturesBefore(uint256) 9718b695
         decryptionSignatureInvalidatedBefore(address) 0dff1525
         getVersion 0d8e6e2c
         pause 8456cb59
         unpause 3f4ba83a
         owner 8da5cb5b
         acceptOwnership 79ba5097",
    );
}

#[test]
fn the_verifiers_have_the_published_selectors() {
    assert_selectors(
        "InputVerifier",
        "verifyInput((address,address),bytes32,bytes) e6317df5
         getCoprocessorSigners 9164d0ae
         getThreshold e75235b8
         eip712Domain 84b0196e
         getVersion 0d8e6e2c",
    );
    assert_selectors(
        "KMSVerifier",
        "verifyDecryptionEIP712KMSSignatures(bytes32[],bytes,bytes) 78542ead
         getKmsSigners 7eaac8f2
         getThreshold e75235b8
         getCurrentKmsContextId 976f3eb9
         getSignersForKmsContext(uint256) 724f190b
         getContextSignersAndThresholdFromExtraData(bytes) b7f47bd6
         getProtocolConfigAddress ba82b011
         eip712Domain 84b0196e
         getVersion 0d8e6e2c",
    );
}

#[test]
fn named_functions_and_errors_exist() {
    let has = |contract: &str, functions: &[&str], errors: &[&str]| {
        let interface = artifact(contract);
        for function in functions {
            assert!(interface.functions.contains_key(*function), "{contract}.{function}");
        }
        for error in errors {
            assert!(interface.errors.iter().any(|found| found == error), "{contract}.{error}");
        }
    };
    has(
        "FHEVMExecutor",
        &["initializeFromEmptyProxy()"],
        &[
            "ACLNotAllowed(bytes32,address)",
            "DivisionByZero()",
            "IncompatibleTypes()",
            "InvalidType()",
            "IsNotScalar()",
            "NotPowerOfTwo()",
            "ScalarByteIsNotBoolean()",
            "InvalidMulDivScalarByte()",
            "UnsupportedType()",
            "UpperBoundAboveMaxTypeValue()",
            "FHECollectionSizeInvalid(uint256,uint256)",
        ],
    );
    has(
        "InputVerifier",
        &[
            "isSigner(address)",
            "defineNewContext(address[],uint256)",
            "setThreshold(uint256)",
            "cleanTransientStorage()",
            "getHandleVersion()",
            "initializeFromEmptyProxy(address,uint64,address[],uint256)",
        ],
        &[
            "InvalidSigner(address)",
            "SignatureThresholdNotReached(uint256)",
            "EmptyInputProof()",
        ],
    );
    has(
        "KMSVerifier",
        &[
            "isSigner(address)",
            "getCurrentKmsContextAndEpoch()",
            "initializeFromEmptyProxy(address,uint64)",
        ],
        &[
            "KMSInvalidSigner(address)",
            "KMSSignatureThresholdNotReached(uint256)",
            "UnsupportedExtraDataVersion(uint8)",
        ],
    );
    has(
        "ProtocolConfig",
        &[
            "getKmsSignersForContext(uint256)",
            "getPublicDecryptionThresholdForContext(uint256)",
            "getUserDecryptionThresholdForContext(uint256)",
            "getMpcThresholdForContext(uint256)",
            "getCurrentKmsContextAndEpoch()",
            "getVersion()",
        ],
        &["InvalidKMSContext(uint256)", "InvalidKMSEpoch(uint256)"],
    );
    has(
        "HCULimit",
        &[
            "setHCUPerBlock(uint48)",
            "setMaxHCUPerTx(uint48)",
            "setMaxHCUDepthPerTx(uint48)",
            "addToBlockHCUWhitelist(address)",
            "removeFromBlockHCUWhitelist(address)",
            "getGlobalHCUCapPerBlock()",
            "getMaxHCUPerTx()",
            "getMaxHCUDepthPerTx()",
            "isBlockHCUWhitelisted(address)",
            "getBlockMeter()",
        ],
        &["CallerMustBeFHEVMExecutorContract()", "HCUTransactionLimitExceeded()"],
    );
}

#[test]
fn the_executor_has_the_published_topics() {
    const PUBLISHED: [&str; 31] = [
        "db9050d65240431621d61d6f94b970e63f53a67a5766614ee6e5c5bbd41c8e2e",
        "eb6d37bd271abe1395b21d6d78f3487d6584862872c29ffd3f90736ee99b7393",
        "215346a4f9f975e6d5484e290bd4e53ca14453a9d282ebd3ccedb2a0f171753d",
        "3bab2ee0e2f90f4690c6a87bf63cf1a6b626086e95f231860b152966e8dabbf7",
        "0e691cd0bf8c4e9308e4ced1bb9c964117dc5c5bb9b9ab5bdfebf2c9b13a897c",
        "e42486b0ccdbef81a2075c48c8e515c079aea73c8b82429997c72a2fe1bf4fef",
        "56df279bbfb03d9ed097bbe2f28d520ca0c1161206327926e98664d70d2c24c4",
        "4d32284bd3193ecaa44e1ceca32f41c5d6c32803a92e07967dd3ee4229721582",
        "e84282aaebcca698443e39a2a948a345d0d2ebc654af5cb657a2d7e8053bf6cb",
        "324220bfc9cb158b492991c03c309cd86e5345cac45aacae2092ddabe31fa3d8",
        "eb0e4f8dc74058194d0602425fe602f955c222200f7f10c6fe67992f7b24c7e9",
        "c148675905d07ad5496f8ef4d8195c907503f3ec12fd10ed5f21240abc693634",
        "b3d5c664ec86575818e8d75ff25c5f867250df8954088549c41c848cd10e76cb",
        "6960c1e88f61c352dba34d1bbf6753e302795264d5d8ae82f7983c7004651e5d",
        "38c3a63c4230de5b741f494ffb54e3087104030279bc7bccee8ad9ad31712b21",
        "c9ff8f0d18a3f766ce5de3de216076050140e4fc2652f5e0e745f6fc836cda8b",
        "def2e704a077284a07f3d0b436db88f5d981b69f58ab7c1ae623252718a6de01",
        "0d483b100d8c73b208984ec697caa3091521ee5525ce69edcf97d7e395d3d059",
        "c11d62b13c360a83082487064be1ec0878b2f0be4f012bf59f89e128063d47ff",
        "fd7c9208f956bf0c6ab76a667f04361245ad3e0a2d0eff92eb827acfcca68ea9",
        "8c664d3c3ca583fc5803b8a91c49644bbd9550bfa87967c73ad1de83027768c0",
        "55aff4cc7a3d160c83f1f15b818011ede841a0b4597fb14dcd3603df3a11e5e0",
        "dc370db33589e73371dc3ee42c789c003d336eefcb7c3f56fe0f51ae5b1d9702",
        "31ccae6a2f8e3ced1692f77c8f668133e4afdaaa35afe844ff4659a6c27e627f",
        "063ccd1bba45151d91f6a418065047a3d048d058a922535747bb2b575a01d236",
        "60be9d61aad849facc28c38b048cb5c4be3420b8fa2233e08cfa06be1b6d1c3e",
        "0c8aca6017003326051e19913ef02631f24b801125e1fa8a1d812e868319fda6",
        "5222d96b836727a1d6fe1ee9aef27f9bb507bd41794defa376ff6c648aaf8ff1",
        "d24d1fc700ce6a96b04d0ef048cb74e4c9647351da21b84501d848e16c161deb",
        "a8b64ca323c46be8ad4087f46d85976cd3ab0bda32e171a8550a6c9b7c519a8a",
        "e5ed6be31c35a5bc572746ab3347fc754669f58bc0e9eaa3257350f10a62321e",
    ];
    let interface = artifact("FHEVMExecutor");
    for (spec, published) in TABLE.iter().zip(PUBLISHED) {
        let topic: B256 = published.parse().unwrap();
        assert_eq!(event_topic(spec.operation), topic, "{}", spec.function);
        let emitted = interface
            .events
            .iter()
            .filter(|(name, _)| name.split('(').next() == Some(spec.event().as_str()));
        assert_eq!(emitted.map(|(_, topic)| *topic).collect::<Vec<_>>(), [topic], "{}", spec.function);
    }
}

#[test]
fn the_acl_and_the_input_verifier_have_the_published_topics() {
    let events = artifact("ACL").events;
    for (signature, start, end) in [
        ("Allowed(address,address,bytes32)", "e2e1dece", "7366a"),
        ("AllowedForDecryption(address,bytes32[])", "d913ac93", "1fd0a"),
        (
            "DelegatedForUserDecryption(address,address,address,uint64,uint64,uint64)",
            "527b025d",
            "a5bfc",
        ),
        (
            "RevokedDelegationForUserDecryption(address,address,address,uint64,uint64)",
            "7aca80b6",
            "277e4",
        ),
        ("DecryptionSignaturesInvalidated(address,uint256)", "f1b88c0a", "52a3d"),
        ("BlockedAccount(address)", "86324895", "b24d9"),
        ("UnblockedAccount(address)", "a885a62d", "55e3f"),
    ] {
        let topic = hex::encode(events[signature]);
        assert!(topic.starts_with(start) && topic.ends_with(end), "{signature} is {topic}");
    }
    let topic = hex::encode(artifact("InputVerifier").events["NewContextSet(address[],uint256)"]);
    assert!(topic.starts_with("1dcd7e1d") && topic.ends_with("7cea"), "{topic}");
}

#[test]
fn only_the_caller_of_an_executor_event_is_indexed() {
    let path = format!("{}/../../contracts/artifacts/FHEVMExecutor.json", env!("CARGO_MANIFEST_DIR"));
    let json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let names: Vec<String> = TABLE.iter().map(cipherloom_primitives::OperationSpec::event).collect();
    let items = json["abi"].as_array().unwrap().iter();
    let events: Vec<_> = items
        .filter(|item| item["type"] == "event" && names.iter().any(|name| item["name"] == **name))
        .collect();
    assert_eq!(events.len(), 31);
    for event in events {
        let indexed: Vec<_> = event["inputs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|input| input["indexed"] == true)
            .collect();
        assert_eq!(indexed.len(), 1, "{}", event["name"]);
        assert_eq!(indexed[0]["name"], "caller");
    }
}

#[test]
fn every_contract_fits_a_block_chains_size_limit() {
    for name in HostContract::ALL.map(HostContract::name) {
        let bytes = artifact(name).bytecode_bytes;
        assert!((1..=24_576).contains(&bytes), "{name} has {bytes} bytes");
    }
}
