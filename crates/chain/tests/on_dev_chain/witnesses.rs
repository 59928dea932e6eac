//! Reading rights through nodes of which some lie.

use std::{collections::BTreeSet, time::Duration};

use alloy::{
    primitives::{Address, B256, Bytes, U256, hex},
    providers::{Provider, RootProvider},
    sol_types::SolCall,
};
use cipherloom_chain::{
    AclCheck, AclEvidence, AclSource, CallLimits, ChainError, ContextOnChain, Finality, HostChain, PinnedChain, WitnessOptions,
    WitnessedChain, deploy,
};
use cipherloom_contracts::bindings::ACL;
use cipherloom_primitives::{AclFacts, AclQuestion, Handle, acl::ANY_CONTRACT};
use cipherloom_private_anvil::{AnvilOptions, PrivateAnvil};
use serde_json::{Value, json};

use crate::{
    fixture::{Bench, KMS, addresses, deployer, steps},
    liar::liar,
};

const LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_secs(5),
    attempts: 1,
    first_pause: Duration::from_millis(1),
};

const DELEGATE: Address = Address::repeat_byte(0xde);
const STRANGER: Address = Address::repeat_byte(0x57);
const CONTRACT: Address = Address::repeat_byte(0xc0);
const EXPIRATION: u64 = 4_000_000_000;

fn connect(urls: &[String], by: AclSource, finality: Finality, quorum: usize) -> WitnessedChain {
    let options = WitnessOptions {
        check: AclCheck { by, finality },
        quorum,
        ..WitnessOptions::default()
    };
    WitnessedChain::connect(urls, addresses(), LIMITS, 31337, options).unwrap()
}

/// A chain on which the user may read a value, has published it, lets a delegate read, and has invalidated old permits.
struct Rights {
    bench: Bench,
    handle: Handle,
    url: String,
}

impl Rights {
    async fn new() -> Self {
        let bench = Bench::deployed().await;
        // Code that was put in place by hand is in the state of the next block.
        bench.node.chain().mine(1).unwrap();
        let (handle, _) = bench.request_value(7).await;
        let publish = ACL::allowForDecryptionCall {
            handlesList: vec![handle.as_b256()],
        };
        bench.send(addresses().acl, publish.abi_encode()).await;
        for contract in [CONTRACT, ANY_CONTRACT] {
            let delegate = ACL::delegateForUserDecryptionCall {
                delegate: DELEGATE,
                contractAddress: contract,
                expirationDate: EXPIRATION,
            };
            bench.send(addresses().acl, delegate.abi_encode()).await;
        }
        let invalidate = ACL::invalidateDecryptionSignaturesBeforeCall {
            timestamp: U256::from(1234),
        };
        bench.send(addresses().acl, invalidate.abi_encode()).await;
        let url = bench.node.rpc_url();
        Self { bench, handle, url }
    }

    /// Questions with their true answers.
    fn truth(&self) -> AclFacts {
        let user = self.bench.user();
        let allowed = |account| AclQuestion::PersistAllowed {
            handle: self.handle,
            account,
        };
        let delegated = |delegate, contract| AclQuestion::DelegationExpiration {
            delegator: user,
            delegate,
            contract,
        };
        [
            (AclQuestion::AllowedForDecryption(self.handle), 1),
            (allowed(user), 1),
            (allowed(STRANGER), 0),
            (delegated(DELEGATE, CONTRACT), EXPIRATION),
            (delegated(DELEGATE, ANY_CONTRACT), EXPIRATION),
            (delegated(STRANGER, CONTRACT), 0),
            (AclQuestion::SignaturesInvalidatedBefore(user), 1234),
            (AclQuestion::SignaturesInvalidatedBefore(STRANGER), 0),
        ]
        .into_iter()
        .collect()
    }

    fn questions(&self) -> BTreeSet<AclQuestion> {
        self.truth().iter().map(|(question, _)| *question).collect()
    }

    /// The one question whose answer the liars change.
    fn at_stake(&self) -> BTreeSet<AclQuestion> {
        BTreeSet::from([AclQuestion::PersistAllowed {
            handle: self.handle,
            account: STRANGER,
        }])
    }

    /// A node that says that everybody may everything, when called.
    async fn liar_when_called(&self) -> String {
        liar(&self.url, |method, _, answer| {
            if method == "eth_call" {
                let text = answer.as_str().unwrap();
                *answer = json!(format!("{}1", &text[..text.len() - 1]));
            }
        })
        .await
    }

    /// A node that changes the values that it proves.
    async fn liar_when_proving(&self) -> String {
        liar(&self.url, |method, _, answer| {
            if method == "eth_getProof" {
                for slot in answer["storageProof"].as_array_mut().unwrap() {
                    slot["value"] = json!("0x1");
                }
            }
        })
        .await
    }
}

async fn pinned(chain: &WitnessedChain) -> PinnedChain {
    chain.pin(0, None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_proofs_say_the_same_at_every_finality() {
    let rights = Rights::new().await;
    let urls = vec![rights.url.clone(); 3];
    for by in AclSource::ALL {
        for finality in [Finality::Latest, Finality::Safe, Finality::Finalized, Finality::Depth(0)] {
            for quorum in [1, 2, 3] {
                let pinned = pinned(&connect(&urls, by, finality, quorum)).await;
                assert_eq!(
                    pinned.acl(&rights.questions()).await.unwrap(),
                    rights.truth(),
                    "{by} {finality} {quorum}"
                );
            }
        }
        // Below the block in which it was granted, the right does not exist.
        let deep = pinned(&connect(&urls, by, Finality::Depth(5), 2)).await;
        let granted = AclQuestion::PersistAllowed {
            handle: rights.handle,
            account: rights.bench.user(),
        };
        assert!(!deep.acl(&BTreeSet::from([granted])).await.unwrap().holds(&granted), "{by}");
        let since = pinned(&connect(&urls, by, Finality::Depth(4), 2)).await;
        assert!(since.acl(&BTreeSet::from([granted])).await.unwrap().holds(&granted), "{by}");
    }
    let none: [String; 0] = [];
    assert!(matches!(
        WitnessedChain::connect(&none, addresses(), LIMITS, 31337, WitnessOptions::default()),
        Err(ChainError::Quorum { needed: 1, nodes: 0 })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_questions_are_answered_in_parts() {
    let rights = Rights::new().await;
    let mut questions = rights.questions();
    for number in 0..1200u64 {
        let account = Address::from_word(B256::from(U256::from(number + 1)));
        questions.insert(AclQuestion::SignaturesInvalidatedBefore(account));
    }
    let chain = connect(&vec![rights.url.clone(); 2], AclSource::Both, Finality::Latest, 2);
    let facts = pinned(&chain).await.acl(&questions).await.unwrap();
    assert!(facts.answer_all(&questions));
    for (question, answer) in rights.truth().iter() {
        assert_eq!(facts.number(question), answer);
    }
    let evidence = AclEvidence::gather_at(&rights.bench.host, Finality::Latest, &questions)
        .await
        .unwrap();
    assert!(evidence.encode().len() < cipherloom_chain::evidence::MAX_EVIDENCE_BYTES / 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_that_lies_is_outvoted_or_stops_the_request() {
    let rights = Rights::new().await;
    let (honest, lying) = (rights.url.clone(), rights.liar_when_called().await);
    let question = rights.at_stake();
    let answer = async |urls: &[String], by, quorum| pinned(&connect(urls, by, Finality::Latest, quorum)).await.acl(&question).await;
    let is_allowed = |facts: AclFacts| question.iter().all(|question| facts.holds(question));

    // Alone it is believed: that is what a quorum is for.
    assert!(is_allowed(answer(std::slice::from_ref(&lying), AclSource::Call, 1).await.unwrap()));
    for by in AclSource::ALL {
        let three = [lying.clone(), honest.clone(), honest.clone()];
        assert!(!is_allowed(answer(&three, by, 2).await.unwrap()), "{by}");
    }
    let two = [lying.clone(), honest.clone()];
    let error = answer(&two, AclSource::Call, 2).await.unwrap_err();
    assert!(matches!(error, ChainError::Disagreement { needed: 2, .. }), "{error}");
    assert!(error.is_retryable());
    // Proofs need nobody to contradict it.
    let alone = [lying];
    assert!(!is_allowed(answer(&alone, AclSource::Proof, 1).await.unwrap()));
    let error = answer(&alone, AclSource::Both, 1).await.unwrap_err();
    assert!(matches!(error, ChainError::Contradiction { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_that_prove_nothing_are_fetched_elsewhere_or_refused() {
    let rights = Rights::new().await;
    let (honest, lying) = (rights.url.clone(), rights.liar_when_proving().await);
    let question = rights.at_stake();
    for by in [AclSource::Proof, AclSource::Both] {
        let both = connect(&[lying.clone(), honest.clone()], by, Finality::Latest, 1);
        let facts = pinned(&both).await.acl(&question).await.unwrap();
        assert!(facts.answer_all(&question));
        assert!(!facts.holds(question.first().unwrap()), "{by}");
        let alone = connect(std::slice::from_ref(&lying), by, Finality::Latest, 1);
        let error = pinned(&alone).await.acl(&question).await.unwrap_err();
        assert!(matches!(error, ChainError::Proof { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_headers_are_noticed() {
    let rights = Rights::new().await;
    let honest = rights.url.clone();
    // One that does not fit its hash, and one that does.
    let clumsy = liar(&honest, |method, _, answer| {
        if method == "eth_getBlockByNumber" {
            answer["stateRoot"] = json!(B256::repeat_byte(1));
        }
    })
    .await;
    let alone = connect(std::slice::from_ref(&clumsy), AclSource::Proof, Finality::Latest, 1);
    let error = alone.pin(0, None).await.unwrap_err();
    assert!(matches!(error, ChainError::Contradiction { .. }), "{error}");
    let careful = liar(&honest, |method, _, answer| {
        if method == "eth_getBlockByNumber" {
            answer["stateRoot"] = json!(B256::repeat_byte(1));
            let header: alloy::rpc::types::Header = serde_json::from_value(answer.clone()).unwrap();
            answer["hash"] = json!(header.inner.hash_slow());
        }
    })
    .await;
    let three = [careful.clone(), honest.clone(), honest.clone()];
    for finality in [Finality::Latest, Finality::Depth(1)] {
        let pinned = pinned(&connect(&three, AclSource::Proof, finality, 2)).await;
        let known = rights.bench.host.header(pinned.number().into()).await.unwrap().unwrap();
        assert_eq!(pinned.hash(), known.hash);
    }
    let two = connect(&[careful, honest], AclSource::Proof, Finality::Latest, 2);
    let error = two.pin(0, None).await.unwrap_err();
    assert!(matches!(error, ChainError::Disagreement { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_stand_still_do_not_hold_the_others_in_the_past() {
    let rights = Rights::new().await;
    let honest = rights.url.clone();
    let newest = rights.bench.node.chain().block_number().unwrap();
    let old = rights.bench.host.header(1.into()).await.unwrap().unwrap();
    let (number, hash, timestamp) = (old.inner.number, old.hash, old.inner.timestamp);
    let old = serde_json::to_value(&old).unwrap();
    let frozen = liar(&honest, move |method, params, answer| {
        if method == "eth_getBlockByNumber" && params[0] == "latest" {
            let mut block = old.clone();
            block["transactions"] = json!([]);
            block["uncles"] = json!([]);
            *answer = block;
        }
    })
    .await;
    let three = connect(&[frozen.clone(), honest.clone(), honest], AclSource::Call, Finality::Latest, 2);
    assert_eq!(pinned(&three).await.number(), newest);

    // Where all that must agree stand still, their age gives them away.
    let options = WitnessOptions {
        max_age: Some(Duration::from_secs(60)),
        ..WitnessOptions::default()
    };
    let alone = WitnessedChain::connect(&[frozen], addresses(), LIMITS, 31337, options).unwrap();
    let pinned = alone.pin(timestamp + 60, None).await.unwrap();
    assert_eq!((pinned.number(), pinned.hash()), (number, hash));
    let error = alone.pin(timestamp + 61, None).await.unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::StaleHead {
                age_s: 61,
                limit_s: 60,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_holds_nobody_up_while_enough_are_left() {
    let rights = Rights::new().await;
    let gone = "http://127.0.0.1:1".to_owned();
    let three = connect(
        &[gone.clone(), rights.url.clone(), rights.url.clone()],
        AclSource::Both,
        Finality::Latest,
        2,
    );
    assert_eq!(pinned(&three).await.acl(&rights.questions()).await.unwrap(), rights.truth());
    let two = connect(&[gone, rights.url.clone()], AclSource::Both, Finality::Latest, 2);
    assert!(two.pin(0, None).await.unwrap_err().is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_replaces_proofs_that_nodes_do_not_give() {
    let rights = Rights::new().await;
    let questions = rights.questions();
    let without_proofs = liar(&rights.url, |method, _, answer| {
        if method == "eth_getProof" {
            *answer = Value::Null;
        }
    })
    .await;
    let chain = connect(&[without_proofs], AclSource::Proof, Finality::Latest, 1);
    let evidence = AclEvidence::gather_at(&rights.bench.host, Finality::Latest, &questions)
        .await
        .unwrap();
    let carried = AclEvidence::decode(&evidence.encode()).unwrap();
    assert_eq!(carried, evidence);
    let with = chain.pin(0, Some(carried.clone())).await.unwrap();
    assert_eq!(with.acl(&questions).await.unwrap(), rights.truth());
    assert!(pinned(&chain).await.acl(&questions).await.is_err());

    // A few blocks later it still counts; many blocks later no more.
    rights.bench.node.chain().mine(16).unwrap();
    let later = chain.pin(0, Some(carried.clone())).await.unwrap();
    assert_eq!(later.hash(), carried.block_hash());
    assert_eq!(later.acl(&questions).await.unwrap(), rights.truth());
    rights.bench.node.chain().mine(1).unwrap();
    let too_late = chain.pin(0, Some(carried.clone())).await.unwrap();
    assert_ne!(too_late.hash(), carried.block_hash());
    assert!(too_late.acl(&questions).await.is_err());
    // Nor does evidence of a block that is not final enough.
    let final_only = connect(std::slice::from_ref(&rights.url), AclSource::Proof, Finality::Depth(20), 1);
    assert_ne!(final_only.pin(0, Some(carried.clone())).await.unwrap().hash(), carried.block_hash());
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_of_something_else_is_left_aside() {
    let rights = Rights::new().await;
    let chain = connect(std::slice::from_ref(&rights.url), AclSource::Proof, Finality::Latest, 1);
    // Of another chain, on which the stranger has the right.
    let other = Bench::deployed().await;
    let (handle, _) = other.request_value(7).await;
    let foreign = BTreeSet::from([AclQuestion::PersistAllowed {
        handle,
        account: other.user(),
    }]);
    let evidence = AclEvidence::gather_at(&other.host, Finality::Latest, &foreign).await.unwrap();
    let pinned = chain.pin(0, Some(evidence.clone())).await.unwrap();
    assert_ne!(pinned.hash(), evidence.block_hash());
    assert_eq!(pinned.acl(&rights.questions()).await.unwrap(), rights.truth());
    // Of this chain, about other questions.
    let evidence = AclEvidence::gather_at(&rights.bench.host, Finality::Latest, &rights.at_stake())
        .await
        .unwrap();
    let error = evidence.facts(addresses().acl, &rights.questions()).unwrap_err();
    assert!(matches!(error, ChainError::Proof { .. }), "{error}");
    assert!(evidence.facts(addresses().executor, &rights.at_stake()).is_err());
    let pinned = chain.pin(0, Some(evidence)).await.unwrap();
    assert_eq!(pinned.acl(&rights.questions()).await.unwrap(), rights.truth());
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_was_changed_proves_nothing_else() {
    let rights = Rights::new().await;
    let questions = rights.questions();
    let evidence = AclEvidence::gather_at(&rights.bench.host, Finality::Latest, &questions)
        .await
        .unwrap();
    let (bytes, truth) = (evidence.encode(), rights.truth());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let Ok(changed) = AclEvidence::decode(&changed) else { continue };
        // Whoever verifies it has the block's hash from elsewhere.
        if changed.block_hash() != evidence.block_hash() {
            continue;
        }
        if let Ok(facts) = changed.facts(addresses().acl, &questions) {
            assert_eq!(facts, truth, "byte {at}");
        }
    }
    for end in 0..bytes.len() {
        assert!(AclEvidence::decode(&bytes[..end]).is_err(), "{end}");
    }
    assert!(AclEvidence::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    // What it claims to hold is never allocated.
    let huge = [&[1][..], &[0xff; 4]].concat();
    assert!(AclEvidence::decode(&huge).is_err());
    assert!(AclEvidence::decode(&vec![1; cipherloom_chain::evidence::MAX_EVIDENCE_BYTES + 1]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_are_those_the_verifier_knows() {
    let rights = Rights::new().await;
    let chain = connect(&vec![rights.url.clone(); 2], AclSource::Call, Finality::Latest, 2);
    let pinned = pinned(&chain).await;
    let (context, epoch) = rights.bench.host.kms_context_and_epoch().await.unwrap();
    let extra = |version: u8, words: &[U256]| {
        let mut bytes = vec![version];
        words.iter().for_each(|word| bytes.extend(word.to_be_bytes::<32>()));
        bytes
    };
    for known in [vec![], vec![0], extra(1, &[context]), extra(2, &[context, epoch])] {
        assert_eq!(pinned.kms_context(&known).await.unwrap(), ContextOnChain::Signers(vec![KMS]));
    }
    let next = U256::from(1);
    for unknown in [extra(1, &[context + next]), extra(2, &[context + next, epoch])] {
        assert_eq!(pinned.kms_context(&unknown).await.unwrap(), ContextOnChain::NoSuchContext);
    }
    let no_epoch = extra(2, &[context, epoch + next]);
    assert_eq!(pinned.kms_context(&no_epoch).await.unwrap(), ContextOnChain::NoSuchEpoch);
    assert_eq!(pinned.coprocessor_signers().await.unwrap().threshold, U256::from(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_others_proves_and_answers_the_same() {
    let anvil = PrivateAnvil::start(&AnvilOptions::default()).unwrap();
    let url = anvil.http_url();
    let host = HostChain::connect(&url, addresses()).unwrap();
    let provider: RootProvider = RootProvider::new_http(url.parse().unwrap());
    let call = async |method: &'static str, params: Value| provider.raw_request::<Value, Value>(method.into(), params).await.unwrap();
    call("anvil_setBalance", json!([deployer().address(), "0x21e19e0c9bab2400000"])).await;
    deploy(&host, &steps(), &deployer()).await.unwrap();
    let accounts = call("eth_accounts", json!([])).await;
    let user: Address = serde_json::from_value(accounts[0].clone()).unwrap();
    let delegation = ACL::delegateForUserDecryptionCall {
        delegate: DELEGATE,
        contractAddress: CONTRACT,
        expirationDate: EXPIRATION,
    };
    let invalidation = ACL::invalidateDecryptionSignaturesBeforeCall {
        timestamp: U256::from(1234),
    };
    for data in [delegation.abi_encode(), invalidation.abi_encode()] {
        let transaction = json!([{ "from": user, "to": addresses().acl, "data": Bytes::from(data) }]);
        call("eth_sendTransaction", transaction).await;
    }
    let delegated = |contract| AclQuestion::DelegationExpiration {
        delegator: user,
        delegate: DELEGATE,
        contract,
    };
    let truth: AclFacts = [
        (delegated(CONTRACT), EXPIRATION),
        (delegated(ANY_CONTRACT), 0),
        (AclQuestion::SignaturesInvalidatedBefore(user), 1234),
        (AclQuestion::SignaturesInvalidatedBefore(STRANGER), 0),
    ]
    .into_iter()
    .collect();
    let questions: BTreeSet<AclQuestion> = truth.iter().map(|(question, _)| *question).collect();
    let digest = B256::repeat_byte(0x11);
    for by in AclSource::ALL {
        let chain = connect(&vec![url.clone(); 2], by, Finality::Latest, 2);
        assert_eq!(pinned(&chain).await.acl(&questions).await.unwrap(), truth, "{by}");
        let before = pinned(&connect(std::slice::from_ref(&url), by, Finality::Depth(1), 1)).await;
        assert_eq!(
            before
                .acl(&questions)
                .await
                .unwrap()
                .number(&AclQuestion::SignaturesInvalidatedBefore(user)),
            0
        );
    }
    let wallet = Address::repeat_byte(0xa1);
    for (what, code, recognises) in wallets(digest) {
        call("anvil_setCode", json!([wallet, format!("0x{code}")])).await;
        call("anvil_mine", json!(["0x1"])).await;
        let pinned = pinned(&connect(std::slice::from_ref(&url), AclSource::Call, Finality::Latest, 1)).await;
        let answer = pinned.is_valid_signature(wallet, digest, &Bytes::from(vec![0xff; 4096])).await;
        assert_eq!(answer.unwrap(), recognises, "a wallet that {what}");
    }
}

/// The word that ERC-1271 wants.
fn magic() -> String {
    format!("1626ba7e{}", "00".repeat(28))
}

/// Wallets by their code, and whether they recognise anything. The first one recognises one digest.
fn wallets(digest: B256) -> Vec<(&'static str, String, bool)> {
    let digest = hex::encode(digest);
    let magic = magic();
    vec![
        ("recognises the digest", format!("7f{digest}600435147f{magic}025f5260205ff3"), true),
        ("says no", "5f5f5260205ff3".to_owned(), false),
        (
            "says yes with something behind",
            format!("7f1626ba7e{}015f5260205ff3", "00".repeat(27)),
            false,
        ),
        ("answers with two words", format!("7f{magic}5f5260405ff3"), false),
        ("answers with four bytes", format!("7f{magic}5f5260045ff3"), false),
        ("answers with nothing", "00".to_owned(), false),
        ("reverts with the word", format!("7f{magic}5f5260205ffd"), false),
        ("writes", format!("60015f557f{magic}5f5260205ff3"), false),
        ("goes round in circles", "5b5f56".to_owned(), false),
        ("answers with a megabyte", "620f42405ff3".to_owned(), false),
        ("does what nobody defined", "fe".to_owned(), false),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn wallets_are_asked_without_being_able_to_do_harm() {
    let rights = Rights::new().await;
    let digest = B256::repeat_byte(0x11);
    let wallet = Address::repeat_byte(0xa1);
    let chain = connect(&vec![rights.url.clone(); 2], AclSource::Call, Finality::Latest, 2);
    for (what, code, recognises) in wallets(digest) {
        rights
            .bench
            .node
            .chain()
            .set_code(wallet, hex::decode(&code).unwrap().into())
            .unwrap();
        rights.bench.node.chain().mine(1).unwrap();
        let pinned = pinned(&chain).await;
        for signature in [Bytes::new(), Bytes::from(vec![0xff; 4096])] {
            let answer = pinned.is_valid_signature(wallet, digest, &signature).await.unwrap();
            assert_eq!(answer, recognises, "a wallet that {what}, {} bytes", signature.len());
        }
        let other = pinned
            .is_valid_signature(wallet, B256::repeat_byte(0x12), &Bytes::new())
            .await
            .unwrap();
        assert!(!other, "a wallet that {what} recognises another digest");
    }
    let pinned = pinned(&chain).await;
    assert!(!pinned.is_valid_signature(STRANGER, digest, &Bytes::new()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lies_about_a_wallet_is_outvoted() {
    let rights = Rights::new().await;
    let lying = rights.liar_when_called().await;
    let three = connect(
        &[lying, rights.url.clone(), rights.url.clone()],
        AclSource::Proof,
        Finality::Latest,
        2,
    );
    let answer = pinned(&three).await.is_valid_signature(STRANGER, B256::ZERO, &Bytes::new()).await;
    assert!(!answer.unwrap());
}
