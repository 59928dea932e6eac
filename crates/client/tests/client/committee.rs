//! A committee of KMS nodes behind the gateway: nodes that are silent, lie, or answer twice, and a gateway that makes things up.

use std::sync::{Arc, Mutex};

use alloy::signers::local::PrivateKeySigner;
use cipherloom_client::{Client, ClientError, ErrorKind, PermitTerms};
use cipherloom_primitives::{
    Address, FheType, Handle, U256,
    decryption::{UserDecryptionShare, abi_words},
};
use cipherloom_signcryption::{AnswerContext, CommitteeParty, Randomness, SigningKey, node_address, seal_shares, sign_digest};
use cipherloom_threshold::{
    BITS_PER_LWE, Committee, ContextId, DELTA_BITS, EpochId, KeyId, KeyKind, KeyShare, Scope, SecretKeys, SquashedCiphertext, ValueShape,
    deal,
};
use getrandom::{SysRng, rand_core::UnwrapErr};

use crate::server::{Stack, key};

const CONTRACT: Address = Address::repeat_byte(0xcc);

/// The secret key of these tests, which is short: what shares look like does not depend on its length.
const SECRET: [u128; 8] = [1, 0, 1, 1, 0, 0, 1, 0];

/// What a node does, or the gateway with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    Honest,
    /// The node answers nothing.
    Silent,
    /// The node signs what is wrong.
    Lies,
    /// The gateway changes the answer.
    Changed,
    /// The node signs something that is not its share of the values at all.
    Nonsense,
    /// Somebody who is not registered answers in the node's place.
    Impostor,
    /// The answer comes twice.
    Twice,
}

/// Nodes that share [`SECRET`].
pub(crate) struct Nodes {
    keys: Vec<SigningKey>,
    shares: Vec<KeyShare>,
    conduct: Mutex<Vec<Conduct>>,
}

impl Nodes {
    fn new(parties: u8) -> Arc<Self> {
        let keys: Vec<SigningKey> = (1..=parties).map(|number| key(0x40 + number)).collect();
        let members = keys.iter().map(|key| node_address(key).into_word().0).collect();
        let scope = Scope {
            key: KeyId([1; 32]),
            context: ContextId([2; 32]),
            epoch: EpochId([3; 32]),
            committee: Committee::new((parties - 1) / 3, members).unwrap(),
        };
        let secrets = SecretKeys {
            squashed: &SECRET,
            compressed: &SECRET,
        };
        Arc::new(Self {
            shares: deal(&scope, secrets, &mut UnwrapErr(SysRng)).unwrap().shares,
            conduct: Mutex::new(vec![Conduct::Honest; keys.len()]),
            keys,
        })
    }

    fn addresses(&self) -> Vec<Address> {
        self.keys.iter().map(node_address).collect()
    }

    /// Has nodes, counted from 1, do this, and all others be honest.
    fn behave(&self, deviating: &[(usize, Conduct)]) {
        let mut conduct = self.conduct.lock().unwrap();
        conduct.fill(Conduct::Honest);
        for (number, what) in deviating {
            conduct[number - 1] = *what;
        }
    }

    fn conduct(&self) -> Vec<Conduct> {
        self.conduct.lock().unwrap().clone()
    }

    /// Returns the answers to a user.
    pub(crate) fn answers(&self, context: &AnswerContext<'_>, values: &[(Handle, U256)]) -> Vec<UserDecryptionShare> {
        let ciphertexts: Vec<SquashedCiphertext> = values.iter().map(|(handle, value)| encrypt(*handle, *value)).collect();
        let mut answers = Vec::new();
        for ((share, key), conduct) in self.shares.iter().zip(&self.keys).zip(self.conduct()) {
            let mut parts: Vec<Vec<u8>> = ciphertexts
                .iter()
                .map(|one| share.decrypt(one).unwrap().share_bytes().to_vec())
                .collect();
            match conduct {
                Conduct::Silent => continue,
                // High enough to change the value.
                Conduct::Lies => parts.iter_mut().for_each(|part| part[8 + 15] ^= 0x20),
                Conduct::Nonsense => parts.iter_mut().for_each(|part| part.truncate(9)),
                Conduct::Honest | Conduct::Changed | Conduct::Impostor | Conduct::Twice => {}
            }
            let parts: Vec<(Handle, &[u8])> = values
                .iter()
                .zip(&parts)
                .map(|((handle, _), part)| (*handle, part.as_slice()))
                .collect();
            let party = CommitteeParty {
                number: share.party().number().into(),
                threshold: share.scope().committee.size().threshold().into(),
            };
            let stranger = crate::server::key(0x99);
            let key = if conduct == Conduct::Impostor { &stranger } else { key };
            let mut answer = seal_shares(context, &parts, party, key, Randomness::generate).unwrap();
            if conduct == Conduct::Changed {
                let mut payload = answer.payload.to_vec();
                payload[300] ^= 1;
                answer.payload = payload.into();
            }
            if conduct == Conduct::Twice {
                answers.push(seal_shares(context, &parts, party, key, Randomness::generate).unwrap());
            }
            answers.push(answer);
        }
        // A gateway may send them in any order.
        answers.reverse();
        answers
    }

    /// Returns signatures of public values.
    pub(crate) fn signatures(&self, stack: &Stack, handles: &[Handle], values: &[U256]) -> Vec<Vec<u8>> {
        let mut signatures = Vec::new();
        for (key, conduct) in self.keys.iter().zip(self.conduct()) {
            let changed: Vec<U256> = values.iter().map(|value| value ^ U256::ONE).collect();
            let (key, values) = match conduct {
                Conduct::Silent => continue,
                Conduct::Impostor => (crate::server::key(0x99), values),
                Conduct::Lies | Conduct::Nonsense | Conduct::Changed => (key.clone(), changed.as_slice()),
                Conduct::Honest | Conduct::Twice => (key.clone(), values),
            };
            let digest = stack.domains.public_decryption_digest(handles, &abi_words(values), &[]);
            let signature = sign_digest(&key, digest).unwrap().to_vec();
            signatures.extend(vec![signature; if conduct == Conduct::Twice { 2 } else { 1 }]);
        }
        signatures
    }
}

/// Encrypts as noise squashing does: four bits an element, a little noise.
fn encrypt(handle: Handle, value: U256) -> SquashedCiphertext {
    let shape = ValueShape::new(u16::try_from(handle.fhe_type().bits()).unwrap()).unwrap();
    let mut words = Vec::new();
    for index in 0..u32::try_from(shape.lwe_count()).unwrap() {
        let digit: u128 = ((value >> (u32::from(BITS_PER_LWE) * index)) & U256::from(15)).to();
        let mask: Vec<u128> = (1..=8).map(|number| (1 << 127) / (u128::from(index) + number)).collect();
        let product = mask
            .iter()
            .zip(&SECRET)
            .fold(0u128, |sum, (a, s)| sum.wrapping_add(a.wrapping_mul(*s)));
        words.extend(mask);
        words.push((digit << DELTA_BITS).wrapping_add(product).wrapping_add(12_345));
    }
    SquashedCiphertext::new(KeyKind::Squashed, shape, SECRET.len(), words).unwrap()
}

/// A stack with a committee, of which `threshold` signatures convince contracts.
async fn start(parties: u8, threshold: u64) -> (Arc<Stack>, Client, Arc<Nodes>) {
    let (stack, client) = Stack::start().await;
    let nodes = Nodes::new(parties);
    *stack.kms_signers.lock().unwrap() = nodes.addresses();
    *stack.threshold.lock().unwrap() = threshold;
    *stack.committee.lock().unwrap() = Some(Arc::clone(&nodes));
    (stack, client, nodes)
}

fn one_of_each(stack: &Stack) -> Vec<(Handle, U256)> {
    let of = |ty: FheType| {
        let value = ty.max_value() - (ty.max_value() >> 2);
        (stack.store(ty.id(), ty, value), value)
    };
    FheType::ALL.into_iter().map(of).collect()
}

async fn read(client: &Client, stored: &[(Handle, U256)]) -> Result<(), ClientError> {
    let wallet = PrivateKeySigner::from_slice(&[0x31; 32]).unwrap();
    let permit = client.permit(&wallet, PermitTerms::starting_now(vec![CONTRACT], 1)).await.unwrap();
    let pairs: Vec<(Handle, Address)> = stored.iter().map(|(handle, _)| (*handle, CONTRACT)).collect();
    let values = client.user_decrypt(&pairs, &permit).await?;
    let values: Vec<(Handle, U256)> = values.iter().map(|(handle, plaintext)| (*handle, plaintext.to_u256())).collect();
    assert_eq!(values, stored, "never a wrong value");
    Ok(())
}

#[tokio::test]
async fn values_are_put_together_whoever_of_a_committee_deviates() {
    let (stack, client, nodes) = start(4, 2).await;
    let stored = one_of_each(&stack);
    read(&client, &stored).await.unwrap();
    for number in 1..=4 {
        for conduct in [
            Conduct::Silent,
            Conduct::Lies,
            Conduct::Changed,
            Conduct::Nonsense,
            Conduct::Impostor,
            Conduct::Twice,
        ] {
            nodes.behave(&[(number, conduct)]);
            let result = read(&client, &stored).await;
            result.unwrap_or_else(|error| panic!("node {number} {conduct:?}: {error}"));
        }
    }
}

#[tokio::test]
async fn two_of_four_that_deviate_give_an_error_that_says_what_is_wrong() {
    let (stack, client, nodes) = start(4, 2).await;
    let stored = [(stack.store(1, FheType::Uint64, U256::from(42)), U256::from(42))];
    for (first, second, said) in [
        (Conduct::Silent, Conduct::Silent, "2 usable shares"),
        (Conduct::Silent, Conduct::Lies, "more wrong shares"),
        (Conduct::Lies, Conduct::Lies, "more wrong shares"),
        (Conduct::Changed, Conduct::Impostor, "not signed by a registered node"),
        (Conduct::Silent, Conduct::Nonsense, "2 usable shares"),
    ] {
        nodes.behave(&[(2, first), (4, second)]);
        let error = read(&client, &stored).await.unwrap_err();
        assert!(matches!(error, ClientError::Shares { .. }), "{first:?} and {second:?}: {error}");
        assert!(error.to_string().contains(said), "{first:?} and {second:?}: {error}");
        assert_eq!(error.kind(), ErrorKind::Untrustworthy);
    }
}

#[tokio::test]
async fn larger_committees_bear_more() {
    let (stack, client, nodes) = start(7, 3).await;
    let stored = one_of_each(&stack);
    nodes.behave(&[(1, Conduct::Lies), (6, Conduct::Silent)]);
    read(&client, &stored).await.unwrap();
    nodes.behave(&[(1, Conduct::Lies), (6, Conduct::Lies)]);
    read(&client, &stored).await.unwrap();
    nodes.behave(&[(1, Conduct::Lies), (6, Conduct::Lies), (7, Conduct::Silent)]);
    assert!(matches!(read(&client, &stored).await, Err(ClientError::Shares { .. })));
}

#[tokio::test]
async fn the_answer_of_one_node_is_no_answer_of_a_committee() {
    let (stack, client, _) = start(4, 2).await;
    let stored = [(stack.store(1, FheType::Uint64, U256::from(42)), U256::from(42))];
    // The gateway has a single node of its own answer, and registers with nobody.
    *stack.committee.lock().unwrap() = None;
    assert!(matches!(read(&client, &stored).await, Err(ClientError::Shares { .. })));
}

#[tokio::test]
async fn registered_nodes_that_cannot_be_a_committee_are_refused_before_anything_is_sent() {
    let (stack, client, nodes) = start(4, 2).await;
    let stored = [(stack.store(1, FheType::Uint64, U256::from(42)), U256::from(42))];
    for count in [0, 2, 3, 16] {
        *stack.kms_signers.lock().unwrap() = (0..count).map(Address::with_last_byte).collect();
        let error = read(&client, &stored).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Committee(found) if found == usize::from(count)),
            "{error}"
        );
    }
    // Somebody took another node's place on the chain: only three are left, which is enough.
    let mut members = nodes.addresses();
    members[1] = Address::with_last_byte(9);
    *stack.kms_signers.lock().unwrap() = members;
    read(&client, &stored).await.unwrap();
    // In another order they are other parties.
    let mut members = nodes.addresses();
    members.reverse();
    *stack.kms_signers.lock().unwrap() = members;
    let error = read(&client, &stored).await.unwrap_err().to_string();
    assert!(error.contains("number differs"), "{error}");
}

#[tokio::test]
async fn public_values_need_the_chains_threshold_of_different_nodes() {
    let (stack, client, nodes) = start(4, 3).await;
    let handle = stack.store(1, FheType::Uint64, U256::from(42));
    let decrypt = async || client.public_decrypt(&[handle]).await;
    assert_eq!(decrypt().await.unwrap().proof[0], 4);
    for conduct in [Conduct::Silent, Conduct::Lies, Conduct::Impostor] {
        nodes.behave(&[(3, conduct)]);
        let answer = decrypt().await.unwrap();
        assert_eq!(answer.values[0].1.to_u256(), U256::from(42));
        assert_eq!(
            (answer.proof[0], answer.proof.len()),
            (3, 1 + 3 * 65),
            "what does not count is left out"
        );
    }
    for two in [
        [(1, Conduct::Silent), (2, Conduct::Twice), (3, Conduct::Silent)],
        [(1, Conduct::Lies), (2, Conduct::Silent), (3, Conduct::Honest)],
        [(1, Conduct::Impostor), (2, Conduct::Impostor), (3, Conduct::Twice)],
    ] {
        nodes.behave(&two);
        let error = decrypt().await.unwrap_err();
        assert!(matches!(error, ClientError::Verification { .. }), "{two:?}: {error}");
        assert!(error.to_string().contains("2 of 3"), "{error}");
    }
}
