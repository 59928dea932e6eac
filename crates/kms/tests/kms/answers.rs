//! What the KMS answers, on the clear backend and on real TFHE with toy parameters.

use crate::support::{CONTRACT, Keys, NOW, World, context_id, epoch_id, key};
use cipherloom_kms::audit::verify;
use cipherloom_primitives::{
    Address, FheType, Handle, U256,
    decryption::{UserDecryptionRequest, abi_words},
    eip712::recover_signer,
};
use cipherloom_signcryption::{AnswerContext, UserKeypair, node_address, open};

const BACKENDS: [Keys; 2] = [Keys::Clear, Keys::Toy];

fn one_of_each(world: &World) -> (Vec<Handle>, Vec<U256>) {
    FheType::ALL
        .into_iter()
        .map(|ty| {
            let value = ty.max_value() - (ty.max_value() >> 3);
            (world.store(ty.id(), ty, value), value)
        })
        .unzip()
}

fn open_with(world: &World, request: &UserDecryptionRequest, share: &cipherloom_primitives::decryption::UserDecryptionShare) -> Vec<U256> {
    let handles = request.handles();
    let context = AnswerContext {
        domains: &world.domains,
        public_key: world.user_keys.public_key(),
        user: request.user,
        extra_data: &request.extra_data,
    };
    open(&context, &handles, share, &world.user_keys, world.node.address()).unwrap()
}

#[tokio::test]
async fn public_decryptions_are_signed_words_in_the_order_of_the_handles() {
    for keys in BACKENDS {
        let world = World::new(keys);
        let (handles, values) = one_of_each(&world);
        handles.iter().for_each(|handle| world.make_public(*handle));
        let request = world.public_request(&handles);
        let answer = world.node.public_decrypt(request.clone()).await.unwrap();
        assert_eq!(answer.decrypted_result, abi_words(&values));
        assert_eq!(answer.extra_data, request.extra_data);
        let digest = world.domains.public_decryption_digest(&handles, &answer.decrypted_result, &[]);
        assert_eq!(answer.signatures.len(), 1);
        assert_eq!(recover_signer(digest, &answer.signatures[0]), Some(world.node.address()));
    }
}

#[tokio::test]
async fn user_decryptions_open_with_the_users_key_only() {
    for keys in BACKENDS {
        let world = World::new(keys);
        let (handles, values) = one_of_each(&world);
        handles.iter().for_each(|handle| world.allow(*handle));
        let request = world.request(&handles);
        let share = world.node.user_decrypt(request.clone()).await.unwrap();
        assert_eq!(open_with(&world, &request, &share), values);
        assert_eq!(share.extra_data, request.extra_data);

        let other = UserKeypair::generate().unwrap();
        let context = AnswerContext {
            domains: &world.domains,
            public_key: world.user_keys.public_key(),
            user: request.user,
            extra_data: &request.extra_data,
        };
        assert!(open(&context, &handles, &share, &other, world.node.address()).is_err());
    }
}

#[tokio::test]
async fn delegates_read_what_was_delegated_to_them() {
    for keys in BACKENDS {
        let world = World::new(keys);
        let delegator = node_address(&key(0x55));
        let handle = world.store(1, FheType::Uint64, U256::from(77));
        {
            let mut chain = world.chain.lock().unwrap();
            chain.allowed.extend([(handle, delegator), (handle, CONTRACT)]);
            chain.delegated.insert((delegator, world.user_address(), CONTRACT), NOW + 1);
        }
        let request = world.sign(world.unsigned_with(&[handle], |permit| permit.delegator = Some(delegator)));
        let share = world.node.user_decrypt(request.clone()).await.unwrap();
        assert_eq!(open_with(&world, &request, &share), [U256::from(77)]);
    }
}

#[tokio::test]
async fn requests_may_name_the_current_context_and_epoch() {
    let world = World::new(Keys::Clear);
    let handle = world.store(1, FheType::Uint8, U256::from(5));
    world.allow(handle);
    world.make_public(handle);
    let version_1 = [&[1], context_id().as_slice()].concat();
    let version_2 = [&[2], context_id().as_slice(), epoch_id().as_slice()].concat();
    for extra_data in [vec![], vec![0], version_1, version_2] {
        let request = world.sign(UserDecryptionRequest {
            extra_data: extra_data.clone().into(),
            ..world.unsigned_request(&[handle])
        });
        let share = world.node.user_decrypt(request.clone()).await.unwrap();
        assert_eq!(open_with(&world, &request, &share), [U256::from(5)]);

        let mut request = world.public_request(&[handle]);
        request.extra_data = extra_data.clone().into();
        let answer = world.node.public_decrypt(request).await.unwrap();
        let digest = world
            .domains
            .public_decryption_digest(&[handle], &answer.decrypted_result, &extra_data);
        assert_eq!(recover_signer(digest, &answer.signatures[0]), Some(world.node.address()));
    }
}

#[tokio::test]
async fn every_answer_is_in_the_audit_log_and_no_plaintext_is() {
    let world = World::new(Keys::Clear);
    let secret = U256::from(0x00c0_ffee_1234_5678_u64);
    let handle = world.store(1, FheType::Uint64, secret);
    world.allow(handle);
    world.make_public(handle);
    world.node.user_decrypt(world.request(&[handle])).await.unwrap();
    world.node.public_decrypt(world.public_request(&[handle])).await.unwrap();
    // A refused request leaves no record.
    let foreign = world.sign_with(world.unsigned_request(&[handle]), &key(0x66), &world.domains);
    world.node.user_decrypt(foreign).await.unwrap_err();

    let text = world.audit_text();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["kind"], &lines[1]["kind"]), (&"user".into(), &"public".into()));
    assert_eq!(
        lines[0]["requester"].as_str().unwrap().parse::<Address>().unwrap(),
        world.user_address()
    );
    assert_eq!(lines[0]["handles"][0], handle.to_string());
    assert!(lines[1]["requester"].is_null());
    assert!(!text.contains("c0ffee12345678") && !text.contains(&secret.to_string()), "{text}");
    assert_eq!(
        verify(&world.directory.path().join("audit.jsonl")).unwrap(),
        world.node.audit().head()
    );
}
